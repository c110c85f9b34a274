"""``predict`` on files: every row with its prediction, in order and in bounded memory.

Rows of any format of ``sources`` keep all their columns, and are written as CSV, TSV or JSON Lines. Plain text has one
text a line.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, tee
from pathlib import Path
from typing import IO, Literal, TypeAlias, get_args

from s3local.exceptions import InputError, S3LocalError
from s3local.progress import Advance, ignore
from s3local.records import Row
from s3local.sources import TABLES, Reading, Source, SourceRow, format_of, open_rows, open_text
from s3local.storage import atomic_write, refuse_same_file, standard_output
from s3local.student.inference import Classifier
from s3local.student.reader import Reader
from s3local.tables import row_writer
from s3local.text import is_blank, one_line
from s3local.wording import listed, shown, unknown

Format = Literal["jsonl", "json", "csv", "tsv", "txt", "xlsx", "parquet", "dataset"]
TargetFormat = Literal["jsonl", "csv", "tsv", "txt"]
TARGET_FORMATS: tuple[str, ...] = get_args(TargetFormat)

ABSTAIN = "abstain"
"""What stands in place of the label of a row whose probability is below the threshold."""

LABEL_COLUMN = "predicted"
PROBABILITY_COLUMN = "probability"
START_COLUMN = "predicted_start"


@dataclass(frozen=True, slots=True)
class Predicted:
    """How many rows were predicted, and for how many of them the classifier abstained."""

    rows: int
    abstained: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of each row.

    ``threshold``: the classifier abstains where its probability is lower. ``top``: how many labels, the likeliest
    first. ``all_probabilities``: the probability of every label. ``prefix`` begins the names of the columns that rows
    gain.
    """

    threshold: float = 0.0
    top: int = 1
    all_probabilities: bool = False
    prefix: str = ""


Gained: TypeAlias = "tuple[str | int | float, ...]"
"""What a row gains: the predicted label or answer first."""


def predict_file(
    student: Classifier | Reader,
    source: Path | None,
    target: Path | None,
    *,
    source_format: Format | None = None,
    target_format: TargetFormat | None = None,
    reading: Reading | None = None,
    columns: Mapping[str, str] | None = None,
    wanted: Wanted | None = None,
    advance: Advance = ignore,
) -> Predicted:
    """Predict every row of ``source`` into ``target``; the number of rows.

    None is standard input or output. A format that is None follows the file's ending; for standard input it is JSON
    Lines, for standard output the format of the input if that can be written, else JSON Lines. ``reading`` says how
    ``source`` is read; a table that is written in the same format has the same separator. ``columns`` maps the
    student's fields to other column names. ``wanted`` says what rows gain.
    A file is checked completely before the first prediction. A target file appears whole or not at all.
    Raises ``InputError`` with file and line for a row that cannot be read, has no text, has a column of a name that
    rows gain, or has a key that the table to be written has no column for; ``S3LocalError`` for what the model cannot
    give; ``StorageError`` if the target cannot be written.
    """
    read_as = source_format or _source_format(source)
    if target_format is not None:
        write_as = target_format
    elif target is not None:
        write_as = _target_format(target)
    else:
        write_as = read_as if read_as in TARGET_FORMATS else "jsonl"  # type: ignore[assignment]
    if source is not None and target is not None:
        refuse_same_file(source, target)
    wanted = wanted or Wanted()
    new = _new_columns(student, wanted)
    rows = _Input(
        source,
        read_as,
        reading or Reading(),
        _columns_of(student, columns or {}, source),
        keys_are_columns=write_as in TABLES,
        reserved=frozenset() if write_as == "txt" else frozenset(new),
    )
    if source is not None:
        with rows.open() as checked:
            for _ in checked.rows:
                pass
    with rows.open() as checked, _opened_target(target) as out:
        first, second = tee(checked.rows)
        predictions = _predictions(student, (rows.texts(row) for row in first), wanted, advance)
        write = _writer(out, write_as, checked.header, new, checked.separator if write_as == read_as else None)
        count = abstained = 0
        for row, gained in zip(second, predictions, strict=True):
            write(row, gained)
            count += 1
            abstained += wanted.threshold > 0 and gained[0] == ABSTAIN
    return Predicted(count, abstained)


def _columns_of(student: Classifier | Reader, columns: Mapping[str, str], source: Path | None) -> dict[str, str]:
    """The column that holds each field of the student, in its order."""
    for name in columns:
        if name not in student.fields:
            raise InputError(source or "standard input", unknown("field of the model", name, student.fields))
    return {name: columns.get(name, name) for name in student.fields}


def _new_columns(student: Classifier | Reader, wanted: Wanted) -> list[str]:
    """The names of the columns that rows gain; the first holds the label or the answer."""
    names = [LABEL_COLUMN, PROBABILITY_COLUMN]
    if isinstance(student, Reader):
        names = [LABEL_COLUMN, START_COLUMN, PROBABILITY_COLUMN]
        options = {
            "--probabilities": wanted.all_probabilities,
            "--top": wanted.top > 1,
            "--threshold": wanted.threshold > 0,
        }
        if option := next((option for option, used in options.items() if used), None):
            raise S3LocalError(f"{option} needs a classifier; this model answers questions")
    else:
        if wanted.top > len(student.labels):
            raise S3LocalError(f"--top {wanted.top} is more than the model's {len(student.labels)} labels")
        if wanted.threshold > 0 and ABSTAIN in student.labels:
            raise S3LocalError(
                f"a label is called {shown(ABSTAIN)}, as rows below the threshold are; use --probabilities"
            )
        for place in range(2, wanted.top + 1):
            names += [f"{LABEL_COLUMN}_{place}", f"{PROBABILITY_COLUMN}_{place}"]
        if wanted.all_probabilities:
            names += [f"{PROBABILITY_COLUMN}_{label}" for label in student.labels]
    return [wanted.prefix + name for name in names]


def _predictions(
    student: Classifier | Reader, texts: Iterable[Sequence[str]], wanted: Wanted, advance: Advance
) -> Iterator[Gained]:
    """What each row gains, in the order of ``_new_columns``."""
    if isinstance(student, Reader):
        for answer in student.predict_stream(((context, question) for context, question in texts), advance):
            yield answer.text, answer.start, round(answer.probability, 4)
        return
    inputs = (fields[0] if len(fields) == 1 else (fields[0], fields[1]) for fields in texts)
    for prediction in student.predict_stream(inputs, advance):
        label = ABSTAIN if prediction.probability < wanted.threshold else prediction.label
        gained: list[str | int | float] = [label, round(prediction.probability, 4)]
        if wanted.top > 1:
            ranked = sorted(range(len(student.labels)), key=lambda its: -prediction.probabilities[its])
            for place in ranked[1 : wanted.top]:
                gained += [student.labels[place], round(prediction.probabilities[place], 4)]
        if wanted.all_probabilities:
            gained += [round(value, 4) for value in prediction.probabilities]
        yield tuple(gained)


def _source_format(path: Path | None) -> Format:
    if path is None:
        return "jsonl"
    if path.suffix.lower() == ".txt" and not path.is_dir():
        return "txt"
    try:
        return format_of(path)
    except InputError as exc:
        raise InputError(path, f"{exc.problem}, .txt; or name one with --format") from exc


def _target_format(path: Path) -> TargetFormat:
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in TARGET_FORMATS:
        known = ", ".join(f".{name}" for name in TARGET_FORMATS)
        problem = f"the ending {shown(path.suffix)} names no format to write; use one of {known}, or --output-format"
        raise InputError(path, problem)
    return suffix  # type: ignore[return-value]


def _opened_target(target: Path | None) -> contextlib.AbstractContextManager[IO[str]]:
    return standard_output() if target is None else atomic_write(target)


# Reading


@dataclass(frozen=True, slots=True)
class _Checked:
    """The columns of a table (those of the first row, if it is none), its separator, and the rows as they come."""

    header: list[str]
    separator: str | None
    rows: Iterator[Row]


@dataclass(frozen=True, slots=True)
class _Input:
    """The rows that are read: where, how, and what each must hold.

    ``path`` None is standard input. ``columns`` maps a field of the student to its column. ``keys_are_columns``: rows
    become a table, so that none may have a key that the first has not. ``reserved`` are the names of columns that rows
    gain.
    """

    path: Path | None
    form: Format
    reading: Reading
    columns: Mapping[str, str]
    keys_are_columns: bool
    reserved: frozenset[str]

    @contextlib.contextmanager
    def open(self) -> Iterator[_Checked]:
        """The rows, checked as they are asked for."""
        if self.form == "txt":
            with open_text(self.path, self.reading) as lines:
                name = self.path or Path("standard input")
                yield self._checked(Source(name, "line", self._plain(name, lines)))
            return
        with open_rows(self.path, self.reading, self.form) as source:
            yield self._checked(source)

    def texts(self, row: Row) -> list[str]:
        """The texts of a row in the order of the student's fields."""
        return [row[column] for column in self.columns.values()]

    def _checked(self, source: Source) -> _Checked:
        if source.columns is not None:
            if not source.columns:
                raise InputError(source.path, "the file is empty; a table with a header belongs here")
            self._check_names(dict.fromkeys(source.columns, ""), source, source.number)
            header = list(source.columns)
            return _Checked(header, source.separator, self._rows(source.rows, source, set(header)))
        first = next(source.rows, None)
        if first is None:
            return _Checked(list(self.columns.values()), None, iter(()))
        header = list(first.values)
        return _Checked(header, None, self._rows(chain([first], source.rows), source, set(header)))

    def _plain(self, name: Path, lines: Iterable[str]) -> Iterator[SourceRow]:
        """One text a line; blank lines at the end of the file are no rows."""
        if len(self.columns) > 1:
            problem = f"plain text has one text a line, the model needs {' and '.join(self.columns)}"
            raise InputError(name, f"{problem}; use .jsonl, .csv or .tsv")
        (column,) = self.columns.values()
        blank: list[int] = []
        for number, line in enumerate(lines, start=1):
            if is_blank(line):
                blank.append(number)
                continue
            if blank:
                raise InputError(name, "the line is blank; every line needs a text", line=blank[0])
            yield SourceRow(number, {column: line.strip()})

    def _rows(self, rows: Iterable[SourceRow], source: Source, keys: set[str]) -> Iterator[Row]:
        for numbered in rows:
            row, number = numbered.values, numbered.number
            self._check_names(row, source, number)
            for column in self.columns.values():
                if not isinstance(row[column], str):
                    problem = f"{column}: found {shown(row[column])}, a text in quotes belongs here"
                    raise source.error(problem, number)
                if is_blank(row[column]):
                    raise source.error(f"{column}: the text is empty; every row needs a text", number)
            if self.keys_are_columns and not row.keys() <= keys:
                extra = next(key for key in row if key not in keys)
                problem = f"the key {shown(extra)} is not in the first row, whose keys are the columns of the table"
                raise source.error(f"{problem}; write JSON Lines with --output-format jsonl", number)
            yield row

    def _check_names(self, row: Mapping[str, object], source: Source, number: int | None) -> None:
        for field, column in self.columns.items():
            if column not in row:
                problem = f"no {shown(column)} here, found {listed(list(row)) or 'nothing'}"
                advice = f"if another column holds the {field}, name it with --column {field}=COLUMN"
                raise source.error(f"{problem}; {advice}", number)
        if taken := next((name for name in row if name in self.reserved), None):
            problem = f"there is a column {shown(taken)} already, which the prediction would replace"
            raise source.error(f"{problem}; name new columns with --prefix, as in --prefix new_", number)


# Writing


def _writer(
    stream: IO[str], form: TargetFormat, header: Sequence[str], new: Sequence[str], separator: str | None
) -> Callable[[Row, Gained], None]:
    """The function that writes a row and what it gains; the header of a table is written at once."""
    if form == "txt":
        return lambda row, gained: print(one_line(str(gained[0])), file=stream)
    if form == "jsonl":
        return lambda row, gained: print(
            json.dumps({**row, **dict(zip(new, gained, strict=True))}, ensure_ascii=False), file=stream
        )
    table = row_writer(stream, separator or TABLES[form])
    table([*header, *new])
    return lambda row, gained: table([*(_cell(row.get(name)) for name in header), *gained])


def _cell(value: object) -> str:
    """A JSON value as a cell: a text as it is, nothing for null, all else as JSON."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)
