"""Labelled rows at the end of a task's dev file.

A row is one line more, on the disk before anyone is told. Undoing takes exactly these bytes out again. What the user
wrote is never touched.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping

from s3local.exceptions import InputError
from s3local.review.decisions import Decision, Decisions
from s3local.sources import TABLES, format_of, open_rows
from s3local.storage import atomic_write, translated_errors
from s3local.tables import row_writer
from s3local.task.model import Task
from s3local.text import composed
from s3local.wording import shown


class DevFile:
    """The dev file of ``task``, to which labelled rows are appended."""

    def __init__(self, task: Task) -> None:
        """The first row creates a file that is missing.

        Raises ``InputError`` for a file that takes no more rows, or a table that lacks a field or the label.
        """
        self._task = task
        self.path = task.dev
        self._columns: tuple[str, ...] | None = None
        self._separator = ","
        form = format_of(self.path)
        if form in TABLES:
            with open_rows(self.path, task.reading.fitting(form)) as source:
                assert source.columns is not None and source.separator is not None  # of a table
                self._columns, self._separator = source.columns, source.separator
            names = [composed(name) for name in self._columns]
            for name in (*task.fields, "label"):
                if task.column(name) not in names:
                    problem = f"no column {shown(task.column(name))}; labelled rows need it, so put it into the header"
                    raise InputError(self.path, problem, line=1)
        elif form != "jsonl":
            raise InputError(self.path, "rows can be added to .jsonl, .csv and .tsv files; save the dev rows as one")

    def apply(self, before: Decision | None, after: Decision | None) -> None:
        """Let the file hold the row of ``after`` in place of that of ``before``; doing it again changes nothing.

        Raises ``StorageError`` if the file cannot be written; then it is as it was.
        """
        old, new = self._line(before), self._line(after)
        if old == new and new is None:
            return
        with translated_errors(self.path):
            content = self.path.read_bytes() if self.path.exists() else None
            if content is None:
                if new is not None:
                    self._write(new)
                return
            kept = content if old is None or old == new else _without(content, old)
            if new is not None and _find(kept, new) < 0:
                added = (b"" if not kept or kept.endswith(b"\n") else b"\n") + new
                if kept is content:
                    self._append(added)
                    return
                kept += added
            if kept is not content:
                self._write(kept)

    def finish(self, decisions: Decisions) -> None:
        """Do again what the last decision meant for the file: a killed program may have written the decision alone."""
        if decisions.entries:
            last = decisions.entries[-1]
            undone = last.action == "undo"
            self.apply(decisions.undone(last.row) if undone else decisions.before(last.row), decisions.of(last.row))

    def _write(self, content: bytes) -> None:
        with atomic_write(self.path, "wb") as stream:
            stream.write(content)

    def _append(self, added: bytes) -> None:
        with self.path.open("ab") as stream:
            end = stream.tell()
            try:
                stream.write(added)
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                stream.truncate(end)
                raise

    def _line(self, decision: Decision | None) -> bytes | None:
        """The bytes of the row that a decision adds; None if it adds none."""
        if decision is None or decision.action != "label" or decision.label is None:
            return None
        task = self._task
        values = {task.column(name): decision.fields[name] for name in task.fields}
        values[task.column("label")] = decision.label
        if self._columns is not None:
            return self._as_table(values)
        note: Mapping[str, object] = {"labelled": decision.time, **decision.note}
        row = {task.column("id"): decision.row, **values, "origin": note}
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"

    def _as_table(self, values: Mapping[str, str]) -> bytes:
        assert self._columns is not None
        line = io.StringIO()
        row_writer(line, self._separator)([values.get(composed(name), "") for name in self._columns])
        return line.getvalue().encode(self._task.reading.encoding or "utf-8")


def _find(content: bytes, line: bytes) -> int:
    """Where the last line ``line`` begins in ``content``; -1 if there is none."""
    place = content.rfind(line)
    while place > 0 and content[place - 1 : place] != b"\n":
        place = content.rfind(line, 0, place)
    return place


def _without(content: bytes, line: bytes) -> bytes:
    place = _find(content, line)
    return content if place < 0 else content[:place] + content[place + len(line) :]
