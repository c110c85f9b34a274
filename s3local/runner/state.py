"""A run folder: the configuration of a run, the artefacts of its stages, and a marker for each finished stage.

Artefacts are written first and a stage's marker last, each under its final name only when it is whole. So a marker
means that its stage is complete; a stage without a marker is done again, from its finished shards.

    runs/<task>/<name>/
        config.json          every setting, seed, checksum and version, and the machine; a resumed run needs the same
                             settings, models, rows and prompts
        events.jsonl         one line an event with its time, never rewritten
        rationales.json
        judges/              dev.jsonl  judges.json: the judges' probabilities of dev rows that they were not trained on
        unlabelled/          rows.jsonl  dropped.jsonl  rows.json  vectors/: the real rows that may be taken, embedded
        round-0/             the seed; round-1, round-2 ...: from the errors of the student before
            extrapolated.jsonl  from round-1 on: the dev rows that its rows are extrapolated from
            shards/          the teacher's raw completions, 0000.jsonl ...
            synthetic.jsonl  dropped.jsonl  synthesis.json
            gap.json         how far the rows are from dev
            unlabelled.jsonl  dropped-unlabelled.jsonl  unlabelled.json: real rows that were taken, if there are some
            looked-at/       the judges' probabilities of the real rows that were looked at, 0000.jsonl ...
            judged.jsonl  judged.json: the judges' probabilities of the round's rows
            student/         the exported student: ONNX, tokenizer, labels
            predictions.jsonl  errors.jsonl  metrics.json
            test_predictions.jsonl
        final/               dataset.jsonl  label_check.json  student/  metrics.json
        final-without-gold/  student/, metrics.json; only where both final students were asked for
        model-selection/     fold-0.json ...: scores of the students of each fold
        gold/                student/, metrics.json: the gold-only student
        averaged/            student/, metrics.json: the average of final and gold, unless gold was selected
        large/               student/, metrics.json: of the judges' encoder; only where it was asked for
        dev.jsonl            the dev rows as the run read them
        map/                 dev.jsonl  synthetic.jsonl  map.json: where rows lie in embedding space, nearest rows
        leakage.json         what the run gives away of its gold rows; final/leakage.jsonl has it row by row
        result.json          the last marker: the figures of the whole run
        report.html          everything in one page, written when the run has ended
        decisions.jsonl      what people decided on its rows (``s3local review``)
        retrained-1/ ...     the final students again, with the decisions of that time (``s3local retrain``)
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from s3local.exceptions import RunError
from s3local.interruption import stop_if_asked
from s3local.records import read_jsonl, write_jsonl
from s3local.results import FINAL, RESULT_FILE, RunSummary, StageResult, read_result, write_result
from s3local.storage import parsed_json, translated_errors, write_text

CONFIG_FILE = "config.json"
EVENTS_FILE = "events.jsonl"
LOCK_FILE = ".lock"
PROGRAM = "program"
"""The key of what the program itself adds to a dataset: its prompts, and the format of its files."""
FILES = "files"
"""The key of where the rows lay when the run began; they may move."""
OWNER_FILE = ".owner.json"
"""The process that holds the lock; it stays when the run ends."""

T = TypeVar("T")
S = TypeVar("S", bound=StageResult)
"""The result of a stage."""

MAX_SHOWN_DIFFERENCES = 3


class RunFolder:
    """One run's folder. Use ``RunFolder.open``; names of files are relative to it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, config: Mapping[str, Any]) -> Iterator[RunFolder]:
        """Begin or go on with the run in ``path``; no other process may have it open.

        Raises ``RunError`` if the folder's run has another configuration or other prompts, is open elsewhere, or holds
        something else; ``StorageError`` if it cannot be written.
        """
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file; a run needs a folder")
        config_file = path / CONFIG_FILE
        others = [entry for entry in path.iterdir() if not _is_begun(entry.name)] if path.is_dir() else []
        if others and not config_file.exists():
            raise RunError(f"{path} holds other files and no {CONFIG_FILE}; choose an empty folder or another --name")
        with translated_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            plain = json.loads(json.dumps(config))
            if config_file.exists():
                _require_same(config_file, plain)
            else:
                write_text(config_file, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")
            yield cls(path)

    def event(self, name: str, **facts: Any) -> None:
        """Add a line to the events: the time (UTC, seconds since 1970), the event's name and its facts."""
        line = json.dumps({"time": round(time.time(), 3), "event": name, **facts}, ensure_ascii=False)
        path = self.path / EVENTS_FILE
        with translated_errors(path), path.open("a+b") as stream:
            if stream.tell() > 0:
                stream.seek(-1, os.SEEK_END)
                if stream.read(1) != b"\n":  # a line that a killed run left unfinished
                    stream.write(b"\n")
            stream.write(line.encode() + b"\n")

    def events(self) -> list[dict[str, Any]]:
        """All events so far; a line that a killed run left unfinished is passed over."""
        events = []
        path = self.path / EVENTS_FILE
        for line in path.read_bytes().splitlines() if path.is_file() else []:
            with contextlib.suppress(ValueError):
                events.append(parsed_json(line))
        return events

    def read(self, name: str, kind: type[T]) -> T | None:
        """The content of a marker; None if it is not there, so that its stage is not done.

        Raises ``RunError`` as ``read_result`` does.
        """
        path = self.path / name
        return read_result(path, kind) if path.is_file() else None

    def write(self, name: str, result: object) -> None:
        """Write a marker: call it after all artefacts of its stage."""
        write_result(self.path / name, result)

    def once(self, name: str, kind: type[S], compute: Callable[[], S]) -> S:
        """The result in marker ``name``; computed, timed and written, if its stage is not done."""
        done = self.read(name, kind)
        if done is not None:
            return done
        self.event("stage begun", stage=name)
        started = time.perf_counter()
        result = compute()
        return self.record(name, result, time.perf_counter() - started)

    def record(self, name: str, result: S, seconds: float) -> S:
        """Write the marker ``name`` of a stage that took ``seconds``; the result with these seconds."""
        result = dataclasses.replace(result, seconds=round(seconds, 3))
        self.write(name, result)
        self.event("stage done", stage=name, seconds=result.seconds)
        stop_if_asked()
        return result

    def read_rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of a JSON Lines artefact."""
        return [row for _, row in read_jsonl(self.path / name)]

    def write_rows(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a JSON Lines artefact, whole or not at all. Raises ``StorageError``."""
        write_jsonl(self.path / name, rows)


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run. Raises ``RunError`` if the folder holds none, or a damaged one."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise RunError(f"{folder} holds no run: there is no {CONFIG_FILE}; name a folder such as runs/my_task/default")
    try:
        config = parsed_json(file.read_text(encoding="utf-8"))
        task = config["task"]
        named = [task["name"], *task["fields"], *(label["name"] for label in task["labels"])]
        described = [label["description"] for label in task["labels"]]
        if not task["fields"] or not all(isinstance(text, str) for text in (*named, *described)):
            raise ValueError("task: a name, fields, and labels with descriptions belong there")
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise RunError(f"{file} is damaged ({type(exc).__name__}: {exc}); run again under another --name") from exc
    found: dict[str, Any] = config
    return found


def selected_student(folder: Path) -> Path:
    """The folder of the student that the run in ``folder`` selected; of the final one, if the run has not ended."""
    result = RunFolder(folder).read(RESULT_FILE, RunSummary)
    return folder / (FINAL if result is None else result.selected) / "student"


def _is_begun(name: str) -> bool:
    """Whether a file of this name may lie in a folder without a configuration: what a run leaves that was killed
    before it had written its own."""
    return name in (LOCK_FILE, OWNER_FILE) or name.startswith((f".{CONFIG_FILE}.", f".{OWNER_FILE}."))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` for this process. The system gives the lock back when the process ends, however it ends."""
    lock = FileLock(folder / LOCK_FILE)
    with translated_errors(folder / LOCK_FILE, "lock"):
        try:
            lock.acquire(timeout=0)
        except Timeout as exc:
            message = f"{_owner(folder)} is working in {folder}; wait for it to end, or choose another --name"
            raise RunError(message) from exc
    try:
        write_text(folder / OWNER_FILE, json.dumps({"pid": os.getpid(), "host": platform.node()}) + "\n")
        yield
    finally:
        lock.release()


def _owner(folder: Path) -> str:
    """The process that holds the folder, in words."""
    try:
        owner = parsed_json((folder / OWNER_FILE).read_text(encoding="utf-8"))
        return f"another s3local (process {owner['pid']} on {owner['host']})"
    except (OSError, ValueError, TypeError, KeyError):  # it has not written that yet
        return "another s3local"


def _require_same(file: Path, config: Mapping[str, Any]) -> None:
    """Refuse a configuration that differs from the one in ``file``, naming the first differences."""
    try:
        before = parsed_json(file.read_text(encoding="utf-8"))
        if not isinstance(before, dict):
            raise ValueError("a JSON object belongs there")
    except (OSError, ValueError) as exc:
        raise RunError(f"{file} is damaged ({exc}); choose another --name") from exc
    if before.get(PROGRAM) != config.get(PROGRAM):
        then, now = (its.get("versions", {}).get("s3local", "unknown") for its in (before, config))
        raise RunError(
            f"{file.parent} was begun by another s3local (version {then}; this is {now}), whose prompts or files are "
            f"not the same; finish it with that version, or choose another --name"
        )
    differences = list(_differences(_compared(before), _compared(config)))
    if differences:
        shown = "; ".join(differences[:MAX_SHOWN_DIFFERENCES])
        more = (
            f"; and {len(differences) - MAX_SHOWN_DIFFERENCES} more" if len(differences) > MAX_SHOWN_DIFFERENCES else ""
        )
        raise RunError(
            f"{file.parent} was begun with other settings: {shown}{more}. Restore them or choose another --name"
        )


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without what is recorded but may change between two sittings: libraries, machine, places."""
    return {key: value for key, value in config.items() if key not in ("versions", "machine", FILES)}


def _differences(before: Any, now: Any, name: str = "") -> Iterator[str]:
    """Where two JSON values differ, as "name: was 1, now 2"."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield f"{name}: was {json.dumps(before, ensure_ascii=False)}, now {json.dumps(now, ensure_ascii=False)}"
