"""Rows of users: gold rows and unlabelled contexts of a task, in JSON Lines, CSV or TSV.

Every row that does not fit the task raises an ``InputError`` with file and line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from s3local.exceptions import InputError
from s3local.records import SPAN, Answer, Example, Row, read_jsonl
from s3local.storage import decoded_lines, translated_errors
from s3local.tables import open_table
from s3local.task.model import ROW_SUFFIXES, TASK_FILE, Task
from s3local.text import composed, is_blank
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

    A row without an id gets one from its file and line, such as "dev-1". Labels are compared as text in Unicode NFC: a
    JSON 1 or true is the label "1" or "true". Where the task asks for spans, a row has an answer (in JSON also a list
    of correct answers) and answer_start, the character of the context where the answer begins, from 0. Without
    answer_start, the answer's first place in the context counts.
    Raises ``InputError`` with the line of the first row that does not fit the task.
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
    """The source texts of a .jsonl, .csv or .tsv file, each once, in order; other columns are ignored.

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


def load_unlabelled(path: str | Path, task: Task) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, the text of each field) for each row of a .jsonl, .csv, .tsv or .txt file; a label is ignored.

    A .txt file has one text a line; blank lines are no rows. Raises ``InputError`` with the line of the first row that
    has no text, and for a .txt file where a row has two texts.
    """
    path = Path(path)
    plain = path.suffix.lower() == ".txt"
    if plain and len(task.fields) > 1:
        raise InputError(
            path, f"plain text has one text a line, a row has {' and '.join(task.fields)}; use .jsonl or .csv"
        )
    for line, row in _plain_lines(path, task) if plain else _numbered(path, task, task.fields):
        yield line, _unlabelled(row, task, path, line)


def _unlabelled(row: Row, task: Task, path: Path, line: int) -> dict[str, str]:
    try:
        for name in task.fields:
            if row.get(task.column(name)) is None:
                raise ValueError(_missing_column(name, [key for key in row if row[key] is not None], task))
        return {name: _text(row[task.column(name)], task.column(name)) for name in task.fields}
    except ValueError as exc:
        raise InputError(path, str(exc), line=line) from exc


def _plain_lines(path: Path, task: Task) -> Iterator[tuple[int, Row]]:
    if not path.exists():
        raise InputError(path, "no such file; one text a line belongs here")
    with translated_errors(path, "read"), path.open("rb") as stream:
        for number, line in enumerate(decoded_lines(stream, path), start=1):
            if not is_blank(line):
                yield number, {task.column(task.fields[0]): line.strip()}


def _numbered(path: Path, task: Task, needed: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """(line, row) for each row of a file; ``needed`` are the fields and targets that a table must have columns for.

    The names of columns are in Unicode NFC, as those of the task are.
    """
    if _suffix(path) == ".jsonl":
        for line, row in read_jsonl(path):
            yield line, {composed(key): value for key, value in row.items()}
        return
    with open_table(path, advice="save the file with commas, or with tabs as .tsv") as table:
        columns = [composed(name) for name in table.columns]
        for key in needed if columns else ():
            if task.column(key) not in columns:
                raise InputError(path, _missing_column(key, columns, task), line=table.line)
        for line, cells in table.rows:
            yield line, dict(zip(columns, cells.values(), strict=True))


def read_rows(path: Path, delimiter: str | None = None) -> Iterator[tuple[int, Row]]:
    """Yield (line, row) for each row of a .jsonl, .csv or .tsv file, with all its columns.

    ``delimiter`` separates the columns of a table; None takes the usual one.
    Raises ``InputError`` with the line for what is not such a file.
    """
    if _suffix(path) != ".jsonl":
        with open_table(path, delimiter) as table:
            yield from table.rows
    elif delimiter is None:
        yield from read_jsonl(path)
    else:
        raise InputError(path, "JSON Lines have no separator of columns; leave out --delimiter")


def _suffix(path: Path) -> str:
    """One of ``ROW_SUFFIXES``. Raises ``InputError`` for any other."""
    suffix = path.suffix.lower()
    if suffix not in ROW_SUFFIXES:
        raise InputError(path, f"rows belong in a file whose name ends in {', '.join(ROW_SUFFIXES)}")
    return suffix


def _to_example(row: Mapping[str, object], task: Task, default_id: str) -> Example:
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
    label = composed(_name(row[task.column("label")], task.column("label")).strip())
    if label not in task.label_names:
        raise ValueError(unknown("label", label, task.label_names))
    return Example(row_id, fields, label)


def _answers(row: Mapping[str, object], task: Task, context: str) -> tuple[Answer, ...]:
    """The answers of a row, each of which stands in ``context`` where the row says. Raises ``ValueError``."""
    column, start_column = task.column(SPAN), task.column("answer_start")
    texts, starts = _as_list(row[column]), _as_list(row.get(start_column))
    if starts in ([None], [""]):
        starts = [None] * len(texts)
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


def _as_list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _whole_number(value: object, column: str) -> int:
    """A number as JSON or a table holds it. Raises ``ValueError``."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"{column}: found {shown(value)}, a whole number belongs here")


def _text(value: object, column: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{column}: found {shown(value)}, a text in quotes belongs here")
    if is_blank(value):
        raise ValueError(f"{column}: the text is empty")
    if len(value) > MAX_TEXT_CHARACTERS:
        raise ValueError(f"{column}: {len(value):,} characters, at most {MAX_TEXT_CHARACTERS:,} are allowed")
    _refuse_nul(value, column)
    return value


def _name(value: object, column: str) -> str:
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
