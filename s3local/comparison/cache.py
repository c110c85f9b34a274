"""A cache of the teacher's calls and of judges, so that methods that ask for the same thing compute it once.

The completions of a call depend only on its requests and the teacher's settings, so a call is kept on disk under the
checksum of its requests. Rationales and shards that several methods plan alike are thereby generated once. A judge
depends only on gold rows and settings; judges stay in memory.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3local.exceptions import RunError
from s3local.executor import Executor
from s3local.progress import Advance, ignore
from s3local.records import Example
from s3local.relabelling.judge import Judges, JudgeSettings, JudgeTrainer
from s3local.storage import parsed_json, write_text
from s3local.teacher.protocol import Completion, Request, Score, Teacher

OnCacheHit = Callable[[str, float], None]
"""Called with the checksum of what was found in the cache, and the seconds that it took when it was computed."""

MOST_JUDGES = 2
"""Label checks whose judges are in memory: 0.7 GB each with the embedded judge."""


class SharedTeacher:
    """A ``Teacher`` that keeps the calls of ``generate`` in ``folder``; ``opener`` loads the teacher behind it."""

    def __init__(self, opener: Callable[[], Teacher], folder: Path, on_cache_hit: OnCacheHit) -> None:
        self._opener = opener
        self._folder = folder
        self._on_cache_hit = on_cache_hit
        self._teacher: Teacher | None = None

    def generate(self, requests: Sequence[Request], advance: Advance = ignore) -> list[Completion]:
        """See ``Teacher.generate``. Raises ``RunError`` if a kept call is damaged."""
        key = _checksum([dataclasses.asdict(request) for request in requests])
        path = self._folder / f"{key}.json"
        if path.is_file():
            completions, seconds = _read(path)
            self._on_cache_hit(key, seconds)
            advance(len(completions))
            return completions
        teacher = self._open()
        started = time.perf_counter()
        completions = teacher.generate(requests, advance)
        content = {
            "seconds": round(time.perf_counter() - started, 3),
            "completions": [dataclasses.asdict(completion) for completion in completions],
        }
        write_text(path, json.dumps(content, ensure_ascii=False) + "\n")
        return completions

    def score(self, prompt: str, continuations: Sequence[str]) -> list[Score]:
        """See ``Teacher.score``; not kept."""
        return self._open().score(prompt, continuations)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """See ``Teacher.chat``."""
        return self._open().chat(messages)

    def count_tokens(self, text: str) -> int:
        """See ``Teacher.count_tokens``."""
        return self._open().count_tokens(text)

    def close(self) -> None:
        """See ``Teacher.close``."""
        if self._teacher is not None:
            self._teacher.close()
            self._teacher = None

    def _open(self) -> Teacher:
        if self._teacher is None:
            self._teacher = self._opener()
        return self._teacher


class JudgeCache:
    """The judges that ``train`` made last, by the checksum of its arguments."""

    def __init__(self, train: JudgeTrainer) -> None:
        self._train = train
        self._judges: dict[str, tuple[Judges, float]] = {}

    def trainer(self, on_cache_hit: OnCacheHit) -> JudgeTrainer:
        """Trains judges as ``train`` does, unless they are in the cache."""

        def judges(
            folder: Path,
            rows: Sequence[Example],
            labels: Sequence[str],
            fold_of: NDArray[np.int64],
            settings: JudgeSettings,
            seeds: Sequence[int],
            further: Sequence[tuple[str, str]],
            advance: Advance,
            executor: Executor,
        ) -> Judges:
            arguments = [str(folder), [row.to_row() for row in rows], list(labels), fold_of.tolist()]
            key = _checksum([*arguments, dataclasses.asdict(settings), list(seeds), [list(pair) for pair in further]])
            if key in self._judges:
                made, seconds = self._judges[key]
                on_cache_hit(key, seconds)
                advance(settings.passes * len(seeds))
                return made
            started = time.perf_counter()
            made = self._train(folder, rows, labels, fold_of, settings, seeds, further, advance, executor)
            self._judges[key] = made, time.perf_counter() - started
            while len(self._judges) > MOST_JUDGES:
                del self._judges[next(iter(self._judges))]
            return made

        return judges


def _checksum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(path: Path) -> tuple[list[Completion], float]:
    try:
        content = parsed_json(path.read_text(encoding="utf-8"))
        return [Completion(**row) for row in content["completions"]], content["seconds"]
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise RunError(f"{path} is damaged ({exc}); delete it, and run the same command again") from exc
