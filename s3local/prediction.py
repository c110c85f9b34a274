"""``predict`` on files: every row with its prediction, in order and in bounded memory.

CSV, TSV and JSON Lines keep all their columns. Plain text has one text a line.
"""

from __future__ import annotations

import contextlib
import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, tee
from pathlib import Path
from typing import IO, Literal, TypeAlias, get_args

from s3local.exceptions import InputError, S3LocalError
from s3local.progress import Advance, ignore
from s3local.records import Row, parse_jsonl
from s3local.storage import atomic_write, decoded_lines, refuse_same_file, standard_output, translated_errors
from s3local.student.inference import Classifier
from s3local.student.reader import Reader
from s3local.tables import DELIMITERS, read_table
from s3local.text import is_blank, one_line
from s3local.wording import listed, shown, unknown

Format = Literal["jsonl", "csv", "tsv", "txt"]
FORMATS: tuple[str, ...] = get_args(Format)

LABEL_COLUMN = "predicted"
PROBABILITY_COLUMN = "probability"
START_COLUMN = "predicted_start"

Gained: TypeAlias = "tuple[str | int | float, ...]"
"""What a row gains: the predicted label or answer first."""


def predict_file(
    student: Classifier | Reader,
    source: Path | None,
    target: Path | None,
    *,
    source_format: Format | None = None,
    target_format: Format | None = None,
    delimiter: str | None = None,
    columns: Mapping[str, str] | None = None,
    prefix: str = "",
    all_probabilities: bool = False,
    advance: Advance = ignore,
) -> int:
    """Predict every row of ``source`` into ``target``; the number of rows.

    None is standard input or output. A format that is None follows the file's ending; for standard input it is JSON
    Lines, for standard output the format of the input. ``delimiter`` separates the columns of a table that is read,
    and of one that is written in the same format; None takes the usual one. ``columns`` maps the student's fields to
    other column names. ``prefix`` begins the names of the columns that rows gain.
    A file is checked completely before the first prediction. A target file appears whole or not at all.
    Raises ``InputError`` with file and line for a row that cannot be read, has no text, has a column of a name that
    rows gain, or has a key that the table to be written has no column for; ``S3LocalError`` for ``all_probabilities``
    of a model that answers questions; ``StorageError`` if the target cannot be written.
    """
    read_as = source_format or _format_of(source, "--format")
    write_as = target_format or (_format_of(target, "--output-format") if target else read_as)
    if source is not None and target is not None:
        refuse_same_file(source, target)
    new = _new_columns(student, prefix, all_probabilities)
    rows = _Source(
        source or Path("standard input"),
        read_as,
        delimiter,
        _columns_of(student, columns or {}, source),
        keys_are_columns=write_as in DELIMITERS,
        reserved=frozenset() if write_as == "txt" else frozenset(new),
    )
    if source is not None:
        with _opened(source) as stream:
            for _ in rows.read(stream)[1]:
                pass
    with _opened(source) as stream, _opened_target(target) as out:
        header, checked = rows.read(stream)
        first, second = tee(checked)
        predictions = _predictions(student, (rows.texts(row) for row in first), all_probabilities, advance)
        write = _writer(out, write_as, header, new, delimiter if write_as == read_as else None)
        count = 0
        for row, gained in zip(second, predictions, strict=True):
            write(row, gained)
            count += 1
    return count


def _columns_of(student: Classifier | Reader, columns: Mapping[str, str], source: Path | None) -> dict[str, str]:
    """The column that holds each field of the student, in its order."""
    for name in columns:
        if name not in student.fields:
            raise InputError(source or "standard input", unknown("field of the model", name, student.fields))
    return {name: columns.get(name, name) for name in student.fields}


def _new_columns(student: Classifier | Reader, prefix: str, all_probabilities: bool) -> list[str]:
    """The names of the columns that rows gain; the first holds the label or the answer."""
    names = [LABEL_COLUMN, PROBABILITY_COLUMN]
    if isinstance(student, Reader):
        names = [LABEL_COLUMN, START_COLUMN, PROBABILITY_COLUMN]
        if all_probabilities:
            raise S3LocalError("--probabilities needs a classifier; this model answers questions")
    elif all_probabilities:
        names += [f"{PROBABILITY_COLUMN}_{label}" for label in student.labels]
    return [prefix + name for name in names]


def _predictions(
    student: Classifier | Reader, texts: Iterable[Sequence[str]], all_probabilities: bool, advance: Advance
) -> Iterator[Gained]:
    """What each row gains, in the order of ``_new_columns``."""
    if isinstance(student, Reader):
        for answer in student.predict_stream(((context, question) for context, question in texts), advance):
            yield answer.text, answer.start, round(answer.probability, 4)
        return
    inputs = (fields[0] if len(fields) == 1 else (fields[0], fields[1]) for fields in texts)
    for prediction in student.predict_stream(inputs, advance):
        every = prediction.probabilities if all_probabilities else ()
        yield prediction.label, round(prediction.probability, 4), *(round(value, 4) for value in every)


def _format_of(path: Path | None, option: str) -> Format:
    if path is None:
        return "jsonl"
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise InputError(path, f"the ending {shown(path.suffix)} names no format; use one of {known}, or {option}")
    return suffix  # type: ignore[return-value]


@contextlib.contextmanager
def _opened(source: Path | None) -> Iterator[Iterable[bytes]]:
    if source is None:
        if sys.stdin is None:
            raise InputError("standard input", "it is closed; rows belong here")
        yield sys.stdin.buffer
        return
    if not source.is_file():
        raise InputError(source, "no such file; the rows to predict belong here")
    with translated_errors(source, "read"):
        stream = source.open("rb")
    with stream:
        yield stream


def _opened_target(target: Path | None) -> contextlib.AbstractContextManager[IO[str]]:
    return standard_output() if target is None else atomic_write(target)


# Reading


@dataclass(frozen=True, slots=True)
class _Source:
    """The rows that are read: where, how, and what each must hold.

    ``columns`` maps a field of the student to its column. ``keys_are_columns``: rows become a table, so that none may
    have a key that the first has not. ``reserved`` are the names of columns that rows gain.
    """

    name: Path
    form: Format
    delimiter: str | None
    columns: Mapping[str, str]
    keys_are_columns: bool
    reserved: frozenset[str]

    def read(self, stream: Iterable[bytes]) -> tuple[list[str], Iterator[Row]]:
        """The columns of a table (those of the first row, if it is none), and the rows, checked as they come."""
        lines = decoded_lines(stream, self.name)
        if self.delimiter is not None and self.form not in DELIMITERS:
            raise InputError(self.name, f"{self.form} has no separator of columns; leave out --delimiter")
        if self.form in DELIMITERS:
            table = read_table(lines, self.name, DELIMITERS[self.form], self.delimiter)
            if not table.columns:
                raise InputError(self.name, "the file is empty; a table with a header belongs here")
            self._check_names(dict.fromkeys(table.columns, ""), table.line)
            return list(table.columns), self._checked(table.rows, set(table.columns))
        rows = self._plain(lines) if self.form == "txt" else parse_jsonl(lines, self.name)
        first = next(rows, None)
        if first is None:
            return list(self.columns.values()), iter(())
        return list(first[1]), self._checked(chain([first], rows), set(first[1]))

    def texts(self, row: Row) -> list[str]:
        """The texts of a row in the order of the student's fields."""
        return [row[column] for column in self.columns.values()]

    def _plain(self, lines: Iterable[str]) -> Iterator[tuple[int, Row]]:
        """One text a line; blank lines at the end of the file are no rows."""
        if len(self.columns) > 1:
            problem = f"plain text has one text a line, the model needs {' and '.join(self.columns)}"
            raise InputError(self.name, f"{problem}; use .jsonl, .csv or .tsv")
        (column,) = self.columns.values()
        blank: list[int] = []
        for number, line in enumerate(lines, start=1):
            if is_blank(line):
                blank.append(number)
                continue
            if blank:
                raise InputError(self.name, "the line is blank; every line needs a text", line=blank[0])
            yield number, {column: line.strip()}

    def _checked(self, rows: Iterable[tuple[int, Row]], keys: set[str]) -> Iterator[Row]:
        for line, row in rows:
            self._check_names(row, line)
            for column in self.columns.values():
                if not isinstance(row[column], str):
                    problem = f"{column}: found {shown(row[column])}, a text in quotes belongs here"
                    raise InputError(self.name, problem, line=line)
                if is_blank(row[column]):
                    raise InputError(self.name, f"{column}: the text is empty; every row needs a text", line=line)
            if self.keys_are_columns and not row.keys() <= keys:
                extra = next(key for key in row if key not in keys)
                problem = f"the key {shown(extra)} is not in the first row, whose keys are the columns of the table"
                raise InputError(self.name, f"{problem}; write JSON Lines with --output-format jsonl", line=line)
            yield row

    def _check_names(self, row: Mapping[str, object], line: int) -> None:
        for field, column in self.columns.items():
            if column not in row:
                problem = f"no {shown(column)} here, found {listed(list(row)) or 'nothing'}"
                advice = f"if another column holds the {field}, name it with --column {field}=COLUMN"
                raise InputError(self.name, f"{problem}; {advice}", line=line)
        if taken := next((name for name in row if name in self.reserved), None):
            problem = f"there is a column {shown(taken)} already, which the prediction would replace"
            raise InputError(self.name, f"{problem}; name new columns with --prefix, as in --prefix new_", line=line)


# Writing


def _writer(
    stream: IO[str], form: Format, header: Sequence[str], new: Sequence[str], delimiter: str | None
) -> Callable[[Row, Gained], None]:
    """The function that writes a row and what it gains; the header of a table is written at once."""
    if form == "txt":
        return lambda row, gained: print(one_line(str(gained[0])), file=stream)
    if form == "jsonl":
        return lambda row, gained: print(
            json.dumps({**row, **dict(zip(new, gained, strict=True))}, ensure_ascii=False), file=stream
        )
    table = csv.writer(stream, delimiter=delimiter or DELIMITERS[form], lineterminator="\n")
    table.writerow([*header, *new])
    return lambda row, gained: table.writerow([*(_cell(row.get(name)) for name in header), *gained])


def _cell(value: object) -> str:
    """A JSON value as a cell: a text as it is, nothing for null, all else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)
