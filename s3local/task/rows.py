"""Rows as users bring them: gold rows and unlabelled contexts of a task, in JSON Lines, CSV or TSV.

Whatever does not belong there ends as an ``InputError`` with file and line. Knows nothing of models or runs.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from s3local.exceptions import InputError
from s3local.records import SPAN, Answer, Example, read_jsonl
from s3local.storage import read_utf8
from s3local.task.model import ROW_SUFFIXES, TASK_FILE, Task
from s3local.wording import listed, shown, unknown

MAX_TEXT_CHARACTERS = 100_000
"""The longest text of a row; what is longer is a broken file more often than a text."""


def load_dev(task: Task) -> list[Example]:
    """The dev rows. Raises ``InputError`` as ``load_rows`` does, and if a label has no row."""
    rows = load_rows(task.dev, task)
    found = {row.label for row in rows}
    for name in task.groups:
        if name not in found:
            raise InputError(task.dev, f"no row has the label {shown(name)}; each label needs at least one dev row")
    return rows


def load_rows(path: str | Path, task: Task) -> list[Example]:
    """The rows of a .jsonl, .csv or .tsv file, in order; columns that the task does not name are ignored.

    A row without an id is called after its file and line, such as "dev-1". Labels are compared as text: a JSON 1 or
    true is the label "1" or "true". Where the task asks for spans, a row has an answer, in JSON also a list of
    equally right ones, and answer_start, the character of the context where it begins, from 0; without
    answer_start, the answer's first place in the context is taken.
    Raises ``InputError`` with the line of the first row that is not as the task wants it.
    """
    path = Path(path)
    numbered = _numbered(path, task, (*task.fields, task.targets[0]))
    rows: list[Example] = []
    lines: dict[str, int] = {}
    for line, row in numbered:
        try:
            example = _to_example(row, task, default_id=f"{path.stem}-{line}")
        except ValueError as exc:
            raise InputError(path, str(exc), line=line) from exc
        if lines.setdefault(example.id, line) != line:
            raise InputError(path, f"the id {shown(example.id)} is on line {lines[example.id]} already", line=line)
        rows.append(example)
    if not rows:
        raise InputError(path, "no rows; one labelled text a line belongs here")
    return rows


def load_contexts(path: str | Path, task: Task) -> list[str]:
    """The given texts of a .jsonl, .csv or .tsv file, each once, in order; other columns are ignored.

    Raises ``InputError`` with the line of the first row that has none.
    """
    (given,) = task.source_fields
    path = Path(path)
    texts: dict[str, None] = {}
    for line, row in _numbered(path, task, (given,)):
        try:
            if row.get(task.column(given)) is None:
                raise ValueError(_missing_column(given, [name for name in row if row[name] is not None], task))
            text = _text(row[task.column(given)], task.column(given))
        except ValueError as exc:
            raise InputError(path, str(exc), line=line) from exc
        texts[text] = None
    if not texts:
        raise InputError(path, f"no rows; one {given} a line belongs here")
    return list(texts)


def _numbered(path: Path, task: Task, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, row) for each row of a file of any kind; ``needed`` are the keys that a table's header must have."""

    def check(line: int, header: list[str]) -> None:
        for key in needed:
            if task.column(key) not in header:
                raise InputError(path, _missing_column(key, header, task), line=line)

    return read_rows(path, check)


def read_rows(
    path: Path, check_header: Callable[[int, list[str]], None] = lambda line, header: None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, row) for each row of a .jsonl, .csv or .tsv file, with all its columns.

    ``check_header`` is given the line and the columns of a table's header.
    Raises ``InputError`` with the line for what is not such a file.
    """
    suffix = path.suffix.lower()
    if suffix not in ROW_SUFFIXES:
        raise InputError(path, f"rows belong in a file that ends in {', '.join(ROW_SUFFIXES)}")
    if suffix == ".jsonl":
        return read_jsonl(path)
    return _read_table(path, "," if suffix == ".csv" else "\t", check_header)


def _to_example(row: Mapping[str, Any], task: Task, default_id: str) -> Example:
    """Raises ``ValueError`` saying what is wrong with the row."""
    for key in (*task.fields, task.targets[0]):
        if row.get(task.column(key)) is None:
            raise ValueError(_missing_column(key, [name for name in row if row[name] is not None], task))
    fields = {name: _text(row[task.column(name)], task.column(name)) for name in task.fields}
    given_id = row.get(task.column("id"))
    row_id = default_id if given_id is None or given_id == "" else _name(given_id, task.column("id"))
    if task.kind == "extractive_qa":
        (given,) = task.source_fields
        return Example(row_id, fields, SPAN, _answers(row, task, fields[given]))
    label = _name(row[task.column("label")], task.column("label")).strip()
    if label not in task.label_names:
        raise ValueError(unknown("label", label, task.label_names))
    return Example(row_id, fields, label)


def _answers(row: Mapping[str, Any], task: Task, context: str) -> tuple[Answer, ...]:
    """The answers of a row, each of which stands in ``context`` where the row says. Raises ``ValueError``."""
    column, start_column = task.column(SPAN), task.column("answer_start")
    texts = row[column] if isinstance(row[column], list) else [row[column]]
    starts = row.get(start_column)
    if starts is None or starts == "":
        starts = [None] * len(texts)
    elif not isinstance(starts, list):
        starts = [starts]
    if not texts or len(starts) != len(texts):
        raise ValueError(
            f"{column} holds {len(texts)} answers, {start_column} {len(starts)}; one for each belongs here"
        )
    answers: dict[Answer, None] = {}
    for value, place in zip(texts, starts, strict=True):
        text = _text(value, column)
        start = context.find(text) if place is None else _whole_number(place, start_column)
        answer = Answer(text, start)
        if not answer.stands_in(context):
            there = context.find(text)
            if there < 0:
                raise ValueError(f"{column}: {shown(text)} does not stand in the {task.source_fields[0]}")
            found = shown(context[max(0, start) :][: len(text)])
            raise ValueError(f"{start_column}: at character {start} stands {found}, {shown(text)} begins at {there}")
        answers[answer] = None
    return tuple(answers)


def _whole_number(value: Any, column: str) -> int:
    """A number as JSON or a table holds it. Raises ``ValueError``."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"{column}: found {shown(value)}, a whole number belongs here")


def _text(value: Any, column: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{column}: found {shown(value)}, a text in quotes belongs here")
    if not value.strip():
        raise ValueError(f"{column}: the text is empty")
    if len(value) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"{column}: {len(value):,} characters, at most {MAX_TEXT_CHARACTERS:,} are allowed")
    _refuse_nul(value, column)
    return value


def _name(value: Any, column: str) -> str:
    """An id or a label as text: 1 is "1", true is "true", as they are written in JSON."""
    if not isinstance(value, str | int | float):
        raise ValueError(f"{column}: found {shown(value)}, a name belongs here")
    name = value if isinstance(value, str) else json.dumps(value)
    _refuse_nul(name, column)
    return name


def _refuse_nul(text: str, column: str) -> None:
    if "\0" in text:
        raise ValueError(f"{column}: found a NUL character at position {text.index(chr(0)) + 1}; remove it")


def _missing_column(key: str, found: Sequence[str], task: Task) -> str:
    return (
        f"no {shown(task.column(key))} here, found {listed(found) or 'nothing'}; "
        f"if another column holds the {key}, name it in {TASK_FILE} under columns"
    )


def _read_table(
    path: Path, delimiter: str, check_header: Callable[[int, list[str]], None]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line on which the row begins, row) of a table with a header. Raises ``InputError``."""
    if not path.exists():
        raise InputError(path, "no such file; a table with a header and one labelled text a row belongs here")
    text = read_utf8(path)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(path, "found a NUL byte; save the table as UTF-8 text", line=line)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as exc:
            hint = f"a quote that opens must close, and a text has at most {MAX_TEXT_CHARACTERS:,} characters"
            raise InputError(path, f"no valid row begins here: {exc}; {hint}", line=line) from exc
        if cells is None:
            return
        if not cells:  # an empty line
            continue
        if header is None:
            header = cells
            for index, name in enumerate(header):
                if name in header[:index]:
                    raise InputError(path, f"the column {shown(name)} is there twice", line=line)
            check_header(line, header)
        elif len(cells) != len(header):
            hint = "put a text that holds the separator or a line break in quotes"
            raise InputError(path, f"{len(cells)} columns, the header has {len(header)}; {hint}", line=line)
        else:
            yield line, dict(zip(header, cells, strict=True))
