"""``predict`` on files: rows in, the same rows with a label or an answer and its probability out, in bounded memory.

CSV, TSV and JSON Lines keep all their columns; plain text has one text a line. Knows nothing of runs or training.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import tee
from pathlib import Path
from typing import IO, Any, Literal, get_args

from s3local.exceptions import InputError
from s3local.progress import Advance, ignore
from s3local.records import parse_row
from s3local.storage import atomic_write, translated_errors
from s3local.student.inference import Classifier
from s3local.student.reader import Reader
from s3local.wording import shown

Format = Literal["jsonl", "csv", "tsv", "txt"]
FORMATS: tuple[str, ...] = get_args(Format)

LABEL_COLUMN = "predicted"
PROBABILITY_COLUMN = "probability"
START_COLUMN = "predicted_start"

_DELIMITERS = {"csv": ",", "tsv": "\t"}


def predict_file(
    student: Classifier | Reader,
    source: Path | None,
    target: Path | None,
    *,
    source_format: Format | None = None,
    target_format: Format | None = None,
    columns: Mapping[str, str] | None = None,
    all_probabilities: bool = False,
    advance: Advance = ignore,
) -> int:
    """Predict every row of ``source`` into ``target``; the number of rows.

    None is standard input or output. A format that is None follows the file's ending, and for standard input and
    output it is JSON Lines. ``columns`` maps the student's fields to other column names. A target file appears
    whole or not at all. Raises ``InputError`` with file and line, ``StorageError`` if the target cannot be written.
    """
    read_as = source_format or _format_of(source)
    write_as = target_format or (_format_of(target) if target else read_as)
    names = {name: (columns or {}).get(name, name) for name in student.fields}
    with _opened(source) as stream:
        rows = _rows(stream, source or Path("standard input"), read_as, student.fields)
        first, second = tee(_checked(rows, names, source or Path("standard input")))
        texts = (_text(row, names) for _, row in first)
        predictions = _predictions(student, texts, all_probabilities, advance)
        with _target(target) as out:
            writer = _Writer(out, write_as)
            count = 0
            for (_, row), prediction in zip(second, predictions, strict=True):
                writer.write({**row, **prediction})
                count += 1
            return count


def _predictions(
    student: Classifier | Reader, texts: Iterator[Any], all_probabilities: bool, advance: Advance
) -> Iterator[dict[str, Any]]:
    """The columns that each row gains."""
    if isinstance(student, Reader):
        for answer in student.predict_stream(texts, advance):
            probability = round(answer.probability, 4)
            yield {LABEL_COLUMN: answer.text, START_COLUMN: answer.start, PROBABILITY_COLUMN: probability}
        return
    for prediction in student.predict_stream(texts, advance):
        columns = {LABEL_COLUMN: prediction.label, PROBABILITY_COLUMN: round(prediction.probability, 4)}
        if all_probabilities:
            for label, value in zip(student.labels, prediction.probabilities, strict=True):
                columns[f"{PROBABILITY_COLUMN}_{label}"] = round(value, 4)
        yield columns


def _format_of(path: Path | None) -> Format:
    if path is None:
        return "jsonl"
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise InputError(path, f"the ending {path.suffix!r} tells no format; use one of {known}, or say --format")
    return suffix  # type: ignore[return-value]


@contextlib.contextmanager
def _opened(source: Path | None) -> Iterator[IO[str]]:
    if source is None:
        yield io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8-sig", newline="")
        return
    if not source.is_file():
        raise InputError(source, "no such file; the rows to predict belong here")
    with translated_errors(source, "read"):
        stream = source.open(encoding="utf-8-sig", newline="")
    with stream:
        yield stream


@contextlib.contextmanager
def _target(target: Path | None) -> Iterator[IO[str]]:
    if target is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    with atomic_write(target) as stream:
        yield stream


def _rows(stream: IO[str], name: Path, form: Format, fields: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, row) for each row of the file."""
    try:
        if form in _DELIMITERS:
            reader = csv.DictReader(stream, delimiter=_DELIMITERS[form], strict=True)
            twice = [column for column, times in Counter(reader.fieldnames or ()).items() if times > 1]
            if twice:
                raise InputError(name, f"the column {shown(twice[0])} is there twice", line=reader.line_num)
            for row in reader:
                if None in row or None in row.values():
                    expected = len(reader.fieldnames or ())
                    raise InputError(name, f"{expected} columns belong here, as in the header", line=reader.line_num)
                yield reader.line_num, row
            return
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            if form == "txt":
                yield number, {fields[0]: line.strip()}
                continue
            yield number, parse_row(line, name, number)
    except UnicodeDecodeError as exc:
        raise InputError(name, f"byte {exc.object[exc.start]:#04x} is not UTF-8; save the file as UTF-8") from exc
    except csv.Error as exc:
        raise InputError(name, f"not a valid table: {exc}", line=reader.line_num) from exc


def _checked(
    rows: Iterator[tuple[int, dict[str, Any]]], names: Mapping[str, str], file: Path
) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, row in rows:
        for column in names.values():
            if not isinstance(row.get(column), str):
                found = ", ".join(map(str, row)) or "nothing"
                raise InputError(file, f"the column {column!r} with a text belongs here, found: {found}", line=line)
        yield line, row


def _text(row: Mapping[str, Any], names: Mapping[str, str]) -> str | tuple[str, str]:
    texts = [row[column] for column in names.values()]
    return texts[0] if len(texts) == 1 else (texts[0], texts[1])


class _Writer:
    """Rows to a stream in one of the formats; a table's header comes from the first row."""

    def __init__(self, stream: IO[str], form: Format) -> None:
        self._stream = stream
        self._form = form
        self._table: csv.DictWriter[str] | None = None

    def write(self, row: Mapping[str, Any]) -> None:
        if self._form == "jsonl":
            self._stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        elif self._form == "txt":
            self._stream.write(f"{row[LABEL_COLUMN]}\n")
        else:
            if self._table is None:
                delimiter = _DELIMITERS[self._form]
                self._table = csv.DictWriter(
                    self._stream, list(row), delimiter=delimiter, lineterminator="\n", restval=""
                )
                self._table.writeheader()
            self._table.writerow({key: row.get(key, "") for key in self._table.fieldnames})
