"""Rows of users: gold rows, unlabelled rows and contexts of a task, in any format of ``sources``.

Every row that does not fit the task raises an ``InputError`` with file and line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from s3local.exceptions import InputError
from s3local.labelling_tools import single_label
from s3local.records import SPAN, Answer, Example
from s3local.sources import Source, SourceRow, format_of, open_rows, open_text
from s3local.task.model import TASK_FILE, Task
from s3local.text import composed, is_blank
from s3local.wording import counted, listed, shown, unknown

MAX_TEXT_CHARACTERS = 100_000
"""The longest text of a row; what is longer is a broken file more often than a text."""
MAX_NAMED_ROWS = 5
"""Of rows that are skipped, how many are named."""


def load_dev(task: Task, skipped: list[str] | None = None) -> list[Example]:
    """The dev rows. Raises ``InputError`` as ``load_rows`` does, and if a label has no row."""
    rows = load_rows(task.dev, task, skipped)
    found = {row.label for row in rows}
    for name in task.groups:
        if name not in found:
            raise InputError(task.dev, f"no row has the label {shown(name)}; each label needs at least one dev row")
    return rows


def load_rows(path: str | Path, task: Task, skipped: list[str] | None = None) -> list[Example]:
    """The rows of a file, in order, in any format of ``sources``; columns that the task does not name are ignored.

    A row without an id gets one from its file and number, such as "dev-1". Labels are compared as text in Unicode NFC:
    a JSON 1 or true is the label "1" or "true". Where the task asks for spans, a row has an answer (in JSON also a list
    of correct answers) and answer_start, the character of the context where the answer begins, from 0. Without
    answer_start, the answer's first place in the context counts.
    Rows of labelling tools that nobody answered, that were rejected or that have several answers are left out;
    ``skipped`` gets a sentence on them, if there are any.
    Raises ``InputError`` with the line of the first row that does not fit the task.
    """
    path = Path(path)
    rows: list[Example] = []
    numbers: dict[str, int] = {}
    unanswered: list[tuple[int, str]] = []
    with _opened(path, task, (*task.fields, task.targets[0])) as source:
        for row in source.rows:
            target = row.values.get(task.column(task.targets[0]))
            answer, reason = (target, "") if task.kind == "extractive_qa" else single_label(target)
            if answer is None and (row.unanswered or reason):
                unanswered.append((row.number, row.unanswered or reason))
                continue
            try:
                values = {**row.values, task.column(task.targets[0]): answer}
                example = _to_example(values, task, default_id=f"{path.stem}-{row.number}")
            except ValueError as exc:
                raise source.error(str(exc), row.number) from exc
            if numbers.setdefault(example.id, row.number) != row.number:
                problem = f"the id {shown(example.id)} is on {source.unit} {numbers[example.id]} already"
                raise source.error(problem, row.number)
            rows.append(example)
    if unanswered and skipped is not None:
        skipped.append(_skipped(path, source.unit, unanswered))
    if not rows:
        left = f", {_without_answer(len(unanswered))}" if unanswered else ""
        raise InputError(path, f"no rows{left}; one labelled text a line belongs here")
    return rows


def _without_answer(count: int) -> str:
    return f"{counted(count, 'row')} without a single accepted answer"


def _skipped(path: Path, unit: str, unanswered: Sequence[tuple[int, str]]) -> str:
    """How many rows were skipped, and the numbers and reasons of the first of them."""
    named = [f"{unit} {number} ({reason})" for number, reason in unanswered[:MAX_NAMED_ROWS]]
    more = len(unanswered) - len(named)
    rest = f", and {more:,} more" if more else ""
    return f"{path}: skipped {_without_answer(len(unanswered))}: {', '.join(named)}{rest}"


def load_contexts(path: str | Path, task: Task) -> list[str]:
    """The source texts of a file of rows, each once, in order; other columns are ignored.

    Raises ``InputError`` with the line of the first row that has none.
    """
    (given,) = task.source_fields
    path = Path(path)
    texts: dict[str, None] = {}
    with _opened(path, task, (given,)) as source:
        for row in source.rows:
            try:
                if row.values.get(task.column(given)) is None:
                    found = [name for name in row.values if row.values[name] is not None]
                    raise ValueError(_missing_column(given, found, task))
                text = _text(row.values[task.column(given)], task.column(given))
            except ValueError as exc:
                raise source.error(str(exc), row.number) from exc
            texts[text] = None
    if not texts:
        raise InputError(path, f"no rows; one {given} a line belongs here")
    return list(texts)


def load_unlabelled(path: str | Path, task: Task) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line or row, the text of each field) for each row of a file of rows or a .txt file; labels are ignored.

    A .txt file has one text a line; blank lines are no rows. Raises ``InputError`` with the line of the first row that
    has no text, and for a .txt file where a row has two texts.
    """
    path = Path(path)
    if path.suffix.lower() == ".txt":
        if len(task.fields) > 1:
            fields = " and ".join(task.fields)
            raise InputError(path, f"plain text has one text a line, a row has {fields}; use .jsonl or .csv")
        with open_text(path, task.reading.fitting("txt")) as lines:
            for number, line in enumerate(lines, start=1):
                if not is_blank(line):
                    try:
                        yield number, {task.fields[0]: _text(line.strip(), "text")}
                    except ValueError as exc:
                        raise InputError(path, str(exc), line=number) from exc
        return
    with _opened(path, task, task.fields) as source:
        for row in source.rows:
            try:
                for name in task.fields:
                    if row.values.get(task.column(name)) is None:
                        found = [key for key in row.values if row.values[key] is not None]
                        raise ValueError(_missing_column(name, found, task))
                texts = {name: _text(row.values[task.column(name)], task.column(name)) for name in task.fields}
            except ValueError as exc:
                raise source.error(str(exc), row.number) from exc
            yield row.number, texts


@contextlib.contextmanager
def _opened(path: Path, task: Task, needed: Sequence[str]) -> Iterator[Source]:
    """The rows of a file; ``needed`` are the fields and targets that a table must have columns for.

    The names of columns are in Unicode NFC, as those of the task are.
    """
    with open_rows(path, task.reading.fitting(format_of(path))) as source:
        if source.columns:
            columns = [composed(name) for name in source.columns]
            for key in needed:
                if task.column(key) not in columns:
                    raise source.error(_missing_column(key, columns, task), source.number)
        rows = (
            SourceRow(row.number, {composed(key): value for key, value in row.values.items()}, row.unanswered)
            for row in source.rows
        )
        yield dataclasses.replace(source, rows=rows)


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
