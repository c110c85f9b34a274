"""What people decided on rows, as an append-only file: one JSON object a line, on the disk before anyone is told.

A row's decisions are a stack. "undo" takes the last one off; the file keeps both. So nothing is ever lost, and the file
alone says what holds now.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout

from s3local.exceptions import RunError
from s3local.storage import make_folder, parsed_json, sync_folder, translated_errors

DECISIONS_FILE = "decisions.jsonl"

Action = Literal["keep", "drop", "relabel", "edit", "label", "skip", "undo"]
"""Of a synthetic row: it is right, it is wrong, it has another label, or another text. Of a real text: it has this
label, or none of them. And: the last decision on this row does not hold."""

ACTIONS: tuple[str, ...] = get_args(Action)
REJECTIONS = ("drop", "skip")
"""Actions after which a row is used nowhere."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision on the row with the id ``row``.

    ``label`` and ``fields`` are those that the row has from now on; ``fields`` is empty if no text was edited, and
    ``label`` None if the row is rejected. ``time`` is UTC, in seconds since 1970. ``note`` holds plain JSON values:
    where a real text comes from, and what the model suggested if it was asked.
    """

    row: str
    action: Action
    label: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    time: float = field(default_factory=lambda: round(time.time(), 3))
    note: Mapping[str, Any] = field(default_factory=dict)

    def to_row(self) -> dict[str, Any]:
        """The decision as a line of the file."""
        row: dict[str, Any] = {"time": self.time, "row": self.row, "decision": self.action}
        if self.label is not None:
            row["label"] = self.label
        if self.fields:
            row["fields"] = dict(self.fields)
        return {**row, **self.note}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Decision:
        """The inverse of ``to_row``. Raises ``ValueError`` for what is not a decision."""
        known = ("time", "row", "decision", "label", "fields")
        name, action, label, fields = row.get("row"), row.get("decision"), row.get("label"), row.get("fields", {})
        if not isinstance(name, str) or action not in ACTIONS or not isinstance(fields, dict):
            raise ValueError("a decision has a row, and one of " + ", ".join(ACTIONS))
        if not isinstance(label, str | None) or not all(isinstance(text, str) for text in fields.values()):
            raise ValueError("a label is a text, and fields are texts by name")
        note = {key: value for key, value in row.items() if key not in known}
        return cls(name, action, label, fields, row.get("time", 0.0), note)


class Decisions:
    """All decisions in their order, ``entries``, and those that hold now, by row."""

    def __init__(self) -> None:
        self.entries: list[Decision] = []
        self._undone: dict[str, Decision] = {}
        self._stacks: dict[str, list[Decision]] = {}
        self._counts: dict[str, int] = {}

    def add(self, decision: Decision) -> None:
        """Add the next decision. Undoing a row without a decision changes nothing."""
        self.entries.append(decision)
        self._counts[decision.row] = self.count(decision.row) + 1
        stack = self._stacks.setdefault(decision.row, [])
        if decision.action != "undo":
            stack.append(decision)
        elif stack:
            self._undone[decision.row] = stack.pop()

    def of(self, row: str) -> Decision | None:
        """The decision on a row that holds now; None if there is none."""
        stack = self._stacks.get(row)
        return stack[-1] if stack else None

    def before(self, row: str) -> Decision | None:
        """The decision on a row that holds again after an undo."""
        stack = self._stacks.get(row, [])
        return stack[-2] if len(stack) > 1 else None

    def undone(self, row: str) -> Decision | None:
        """The decision on a row that was undone last."""
        return self._undone.get(row)

    def count(self, row: str) -> int:
        """How many entries a row has, undone ones and undos included: who has seen all of them knows its state."""
        return self._counts.get(row, 0)

    def holding(self) -> dict[str, Decision]:
        """The decisions that hold now, by row."""
        return {row: stack[-1] for row, stack in self._stacks.items() if stack}


def read_decisions(path: Path, about: str | None = None) -> Decisions:
    """The decisions in a file; none if there is no file.

    A last line without an end, which a killed program or a power cut left, does not count: nobody was told that it was
    written. ``about`` is the checksum of the rows decided on; None: the lines name none.
    Raises ``RunError`` for a line that is no decision, or is about other rows.
    """
    decisions = Decisions()
    if not path.is_file():
        return decisions
    with translated_errors(path, "read"):
        data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    for number, line in enumerate(whole.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = parsed_json(line)
            found = row.pop("dataset", None)
            decision = Decision.from_row(row)
        except (ValueError, TypeError, AttributeError) as exc:
            problem = f"{path}, line {number}: not a decision ({exc}); correct the line, or remove it"
            raise RunError(problem) from exc
        if found != about:
            raise RunError(
                f"{path}, line {number}: decides on rows of another dataset ({found}; present is {about}); "
                "move the file away to begin anew"
            )
        decisions.add(decision)
    return decisions


class DecisionLog:
    """The file of decisions, open for one process. Use ``DecisionLog.open``. The first decision creates the file."""

    def __init__(self, path: Path, about: str | None) -> None:
        self.path = path
        self.decisions = read_decisions(path, about)
        self._about = about
        self._stream: FileIO | None = None
        self._end = 0
        with translated_errors(path):
            if path.exists():
                self._stream = path.open("r+b", buffering=0)
                self._end = self._stream.read().rfind(b"\n") + 1
                self._stream.truncate(self._end)

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path, about: str | None = None) -> Iterator[DecisionLog]:
        """The log in ``path``, for as long as the block runs; see ``read_decisions`` for ``about``.

        Raises ``RunError`` if another process has it open, or it cannot be read; ``StorageError`` if it cannot be
        written.
        """
        lock_file = path.with_name(f".{path.name}.lock")
        with translated_errors(path):
            make_folder(path.parent)
            lock = FileLock(lock_file)
            try:
                lock.acquire(timeout=0)
            except Timeout as exc:
                message = f"another s3local has {path} open; use the page that it serves, or end it first"
                raise RunError(message) from exc
        log = None
        try:
            log = cls(path, about)
            yield log
        finally:
            if log is not None and log._stream is not None:
                log._stream.close()
            with contextlib.suppress(OSError):  # Windows: the file is open
                lock_file.unlink()
            lock.release()

    def append(self, decision: Decision) -> None:
        """Add a decision; it is on the disk when this returns. Raises ``StorageError``, and then nothing was added."""
        row = decision.to_row()
        if self._about is not None:
            row["dataset"] = self._about
        line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
        with translated_errors(self.path):
            if self._stream is None:
                self._stream = self.path.open("x+b", buffering=0)
                sync_folder(self.path.parent)
            try:
                self._stream.seek(self._end)
                written = 0
                while written < len(line):
                    written += self._stream.write(line[written:])
                os.fsync(self._stream.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    self._stream.truncate(self._end)
                raise
        self._end += len(line)
        self.decisions.add(decision)
