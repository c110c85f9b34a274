"""The batched llama.cpp engine: thousands of short texts sampled side by side on one machine.

One call of ``generate`` decodes its requests from an empty cache, so that the texts depend on the requests, the model
and the settings alone. This file chooses the sizes and opens the cache; ``batch.py`` runs a call. Knows nothing of
labels, tasks, rounds or files other than the model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3local.exceptions import TeacherError
from s3local.hardware import available_memory_bytes, physical_cores, total_memory_bytes
from s3local.progress import Advance, ignore
from s3local.teacher.account import EngineAccount
from s3local.teacher.batch import Batch
from s3local.teacher.llama_cache import SMALLER_CACHE, STREAM_ROUNDING, CacheType, LlamaModel, StreamCache, max_streams
from s3local.teacher.protocol import Completion, Request, Score
from s3local.teacher.scheduler import Prompts
from s3local.teacher.scoring import score_continuations

DEFAULT_SLOTS = 64
"""Beyond this many texts side by side, two cores gain less than 5 % and memory keeps growing."""

CACHE_SHARE_OF_MEMORY = 4
"""The cache may take one part in this many of the machine's memory, when ``slots`` is left to the engine."""

SCORE_ROWS = 128
"""Rows of logits that scoring asks for at once; each is as wide as the vocabulary."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the engine uses the machine. None chooses by itself.

    ``slots``: texts decoded side by side. ``threads``: physical cores. ``gpu_layers``: all, if the build has a GPU.
    ``context``: the most tokens of prompt and text together; what the model was trained for.
    ``batch_tokens``: tokens computed in one step, prompts and texts together.
    ``cache_type``: "f16", or "q8_0" for half the memory.
    """

    slots: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    context: int | None = None
    batch_tokens: int = 512
    flash_attention: bool = True
    cache_type: CacheType = "f16"

    def __post_init__(self) -> None:
        for name, least in {"slots": 1, "threads": 1, "gpu_layers": 0, "context": 1, "batch_tokens": 1}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if self.cache_type == "q8_0" and not self.flash_attention:
            raise ValueError("the cache type q8_0 needs flash_attention")


class LlamaTeacher:
    """A ``Teacher`` on a GGUF file, for one call at a time. After ``close``, any use raises ``ValueError``.

    Raises ``ModelError`` if the file is missing, damaged or unknown to this build of llama.cpp.
    """

    def __init__(self, path: Path, settings: EngineSettings = EngineSettings()) -> None:
        self.settings = settings
        self.account = EngineAccount()
        self._model = LlamaModel(path, settings.gpu_layers)
        self._cache: StreamCache | None = None

    def generate(self, requests: Sequence[Request], advance: Advance = ignore) -> list[Completion]:
        """See ``Teacher.generate``. Raises ``TeacherError`` if a prompt is too long or the memory too small."""
        if not requests:
            return []
        started, busy = time.perf_counter(), self._busy_seconds()
        prompts = self._tokenized(requests)
        n_tracks = max(len(tracks) for tracks in prompts)
        lengths = [
            max(map(len, tracks)) + request.max_tokens for tracks, request in zip(prompts, requests, strict=True)
        ]
        n_lanes, cache = self._cache_for(len(requests), max(lengths), n_tracks)
        completions = Batch(self._model, cache, self.account, requests, prompts, n_lanes).run(advance)
        self.account.seconds_python += time.perf_counter() - started - (self._busy_seconds() - busy)
        return completions

    def score(self, prompt: str, continuations: Sequence[str]) -> list[Score]:
        """See ``Teacher.score``. Raises ``TeacherError`` if prompt and continuation do not fit the context."""
        started = time.perf_counter()
        start = self._model.prompt_tokens(prompt, special=False)
        ends = [self._continuation(prompt, start, text) for text in continuations]
        longest = max((len(end) for end in ends), default=0)
        self._check_length(len(start), longest, "a continuation")
        if longest == 0:
            return [Score(0.0, ()) for _ in ends]
        _, cache = self._cache_for(len(ends), len(start) + longest)
        scores = score_continuations(cache, start, ends, can_cut=self._model.can_share)
        self.account.tokens_scored += sum(len(end) for end in ends)
        self.account.seconds_scoring += time.perf_counter() - started
        return scores

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """See ``Teacher.chat``."""
        return self._model.chat_prompt(messages)

    def count_tokens(self, text: str) -> int:
        """How many of this model's tokens ``text`` has."""
        return len(self._model.tokenize(text, begin=False))

    def close(self) -> None:
        """Give all memory back, the GPU's too. Calling it again does nothing."""
        self._drop_cache()
        self._model.close()

    def _tokenized(self, requests: Sequence[Request]) -> list[Prompts]:
        """The token ids of each request's prompts; one that only differs in chance is tokenised once."""
        known: dict[tuple[str, bool], tuple[int, ...]] = {}

        def tokens(prompt: str, special: bool) -> tuple[int, ...]:
            key = (prompt, special)
            if key not in known:
                known[key] = tuple(self._model.prompt_tokens(prompt, special))
            return known[key]

        prompts: list[Prompts] = []
        for request in requests:
            tracks = [tokens(request.prompt, request.special)]
            if request.contrast is not None and request.contrast.gamma != 0:
                tracks.append(tokens(request.contrast.prompt, request.special))
            self._check_length(max(map(len, tracks)), request.max_tokens, "a text of up to")
            prompts.append(tuple(tracks))
        return prompts

    def _check_length(self, n_prompt: int, n_text: int, what: str) -> None:
        limit = self.settings.context or self._model.trained_context
        if n_prompt + n_text > limit:
            raise TeacherError(
                f"a prompt of {n_prompt} tokens and {what} {n_text} do not fit the context of {limit} tokens; shorten "
                f"the examples, show fewer of them, or choose a teacher with a longer context"
            )

    def _continuation(self, prompt: str, start: list[int], text: str) -> list[int]:
        """The tokens of ``text`` after ``prompt``, as the model would read both in one go where that is possible."""
        together = self._model.prompt_tokens(prompt + text, special=False)
        if together[: len(start)] == start:
            return together[len(start) :]
        return self._model.tokenize(text, begin=False)

    def _cache_for(self, n_texts: int, cells: int, n_tracks: int = 1) -> tuple[int, StreamCache]:
        """How many of ``n_texts`` go side by side, each of ``cells`` tokens in ``n_tracks`` streams, and a cache for
        them.

        How much a graphics card has left is not known beforehand: half as many are tried where the cache does not fit.
        """
        n_lanes = min(self._slots(cells, n_tracks), n_texts)
        try:
            return n_lanes, self._empty_cache(n_lanes * n_tracks, cells)
        except TeacherError:
            if not self._model.on_gpu or self.settings.slots is not None or n_lanes == 1:
                raise
        return self._cache_for(n_lanes // 2, cells, n_tracks)

    def _slots(self, cells: int, n_tracks: int) -> int:
        """How many texts of ``cells`` tokens go side by side: as set, or the default as far as the memory allows."""
        if self.settings.slots is not None:
            return self.settings.slots
        per_slot = self._model.cache_bytes_per_token(self.settings.cache_type) * _rounded(cells) * n_tracks
        fitting = total_memory_bytes() // CACHE_SHARE_OF_MEMORY // max(1, per_slot)
        return max(1, min(DEFAULT_SLOTS, fitting))

    def _empty_cache(self, n_streams: int, cells: int) -> StreamCache:
        """An empty cache of exactly this shape: made anew if the present one has another.

        The shape decides how llama.cpp adds up its sums, so that it may not depend on earlier calls.
        """
        cells = _rounded(cells)
        cache = self._cache
        if cache is None or (cache.n_streams, cache.stream_cells) != (n_streams, cells):
            self._drop_cache()
            self._check_memory(n_streams, cells)
            self._cache = cache = StreamCache(
                self._model,
                n_streams=n_streams,
                stream_cells=cells,
                batch_tokens=max(self.settings.batch_tokens, n_streams),
                max_rows=max(n_streams, SCORE_ROWS),
                threads=self.settings.threads or physical_cores(),
                cache_type=self.settings.cache_type,
                flash_attention=self.settings.flash_attention,
            )
        cache.clear()
        return cache

    def _check_memory(self, n_streams: int, cells: int) -> None:
        """Systems promise more memory than they have and then kill the program: better to look first."""
        if n_streams > max_streams():
            raise TeacherError(f"{n_streams} streams asked for, this llama.cpp allows {max_streams()}; lower --slots")
        available = available_memory_bytes()
        needed = self._model.cache_bytes_per_token(self.settings.cache_type) * n_streams * cells
        if available is not None and needed > available and not self._model.on_gpu:
            raise TeacherError(
                f"no memory for a cache of {n_streams} streams of {cells} tokens: it needs {needed >> 20:,} MiB, "
                f"{available >> 20:,} MiB are free; {SMALLER_CACHE}"
            )

    def _drop_cache(self) -> None:
        cache, self._cache = self._cache, None
        if cache is not None:
            cache.close()

    def _busy_seconds(self) -> float:
        account = self.account
        return account.seconds_prefill + account.seconds_decode + account.seconds_sampling


def _rounded(cells: int) -> int:
    return -(-cells // STREAM_ROUNDING) * STREAM_ROUNDING
