"""Rows of users in the formats that they have, one at a time: tables of text, JSON, workbooks, Parquet, ``datasets``.

``open_rows`` is the one reader of ``check``, ``run``, ``predict`` and ``data draw``.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import BaseModel, ConfigDict, field_validator

from s3local.encodings import checked_encoding, text_lines
from s3local.exceptions import InputError
from s3local.labelling_tools import plain_row
from s3local.records import Row, check_row, parse_jsonl
from s3local.storage import inner_name, parsed_json, sha256_of, sha256_of_folder, translated_errors
from s3local.tables import named_columns, read_table
from s3local.text import is_blank
from s3local.wording import listed, unknown

SourceFormat = Literal["jsonl", "json", "csv", "tsv", "xlsx", "parquet", "dataset"]
"""What rows are read from; "dataset" is a folder that the library ``datasets`` saved."""
ROW_SUFFIXES = (".jsonl", ".csv", ".tsv", ".json", ".xlsx", ".parquet")
"""Endings of row files, in the order in which they are looked for."""
TABLES = {"csv": ",", "tsv": "\t"}
"""The usual separator of each format of tables."""

STANDARD_INPUT = Path("standard input")

STATE_FILE, SPLITS_FILE = "state.json", "dataset_dict.json"
"""Files of a folder that ``datasets`` saved: of one split, and of several."""

PANDAS_INDEX = "__index_level_"
"""Beginning of the columns of a Parquet file that hold an index of pandas."""


class Reading(BaseModel):
    """How a file is read where the file does not say it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    encoding: str | None = None
    """A name that Python knows, such as cp1252. Without it: UTF-8."""
    separator: str | None = None
    """The character between the columns of a table, or the word tab. Without it: the one of the header."""
    sheet: str | None = None
    """The sheet of a workbook. Without it: the only one that is not empty."""

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str | None) -> str | None:
        return None if name is None else checked_encoding(name)

    @field_validator("separator")
    @classmethod
    def _one_character(cls, name: str | None) -> str | None:
        character = {"tab": "\t", "\\t": "\t"}.get(name or "", name)
        if character is not None and (len(character) != 1 or character in '\r\n"'):
            raise ValueError("one character belongs here, or the word tab")
        return character

    def fitting(self, form: str) -> Reading:
        """Those of the settings that a file of this format has; for a task, whose files may differ."""
        return Reading(
            encoding=self.encoding if form in ("jsonl", "json", "txt", *TABLES) else None,
            separator=self.separator if form in TABLES else None,
            sheet=self.sheet if form == "xlsx" else None,
        )

    def refuse_unfitting(self, form: str, path: Path) -> None:
        """Raise ``InputError`` for a setting that a file of this format has no use for."""
        fitting = self.fitting(form)
        for name, what in (("separator", "separator of columns"), ("sheet", "sheets"), ("encoding", "encoding")):
            if getattr(self, name) is not None and getattr(fitting, name) is None:
                raise InputError(path, f"a file of the format {form} has no {what}; leave out --{name}")


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row and its number in the file; ``unanswered`` says why a labelling tool gave it no label that counts."""

    number: int
    values: Row
    unanswered: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """An open file of rows.

    ``unit`` is what rows are counted by: the "line" on which a row begins, or the "row" where a file has no lines, from
    1. ``columns`` are those of a table, None where each row has its own keys; ``number`` is that of the header.
    ``separator`` divides the columns of a table of text.
    """

    path: Path
    unit: Literal["line", "row"]
    rows: Iterator[SourceRow]
    columns: tuple[str, ...] | None = None
    number: int | None = None
    separator: str | None = None

    def error(self, problem: str, number: int | None) -> InputError:
        """The error of the row with this number."""
        return InputError(self.path, problem, **{self.unit: number})


def is_source(path: Path) -> bool:
    """Whether ``path`` is a file, or a folder that ``datasets`` saved."""
    return path.is_file() or (path.is_dir() and any((path / name).is_file() for name in (STATE_FILE, SPLITS_FILE)))


def format_of(path: Path) -> SourceFormat:
    """The format of rows that a path names. Raises ``InputError`` if it names none."""
    if path.is_dir():
        return "dataset"
    suffix = path.suffix.lower()
    if suffix == ".xls":
        raise InputError(path, "an old workbook; save it as .xlsx or .csv")
    if suffix not in ROW_SUFFIXES:
        raise InputError(path, f"rows belong in a file whose name ends in {', '.join(ROW_SUFFIXES)}")
    return suffix.removeprefix(".")  # type: ignore[return-value]


def rows_hash(path: Path) -> str:
    """The SHA-256 of a file of rows, or of a folder that ``datasets`` saved."""
    return sha256_of_folder(path) if path.is_dir() else sha256_of(path)


@contextlib.contextmanager
def open_rows(path: Path | None, reading: Reading | None = None, form: SourceFormat | None = None) -> Iterator[Source]:
    """The rows of a file, read one at a time while the block runs; ``path`` None is standard input.

    ``form`` None follows the ending of the name; for standard input it is JSON Lines. Rows of labelling tools come out
    plain (see ``labelling_tools``). Values are those of JSON; those of tables and workbooks are texts.
    Raises ``InputError`` with line or row for what cannot be read, ``StorageError`` for a file that may not be read.
    """
    reading = reading or Reading()
    name = path or STANDARD_INPUT
    form = form or (format_of(path) if path is not None else "jsonl")
    reading.refuse_unfitting(form, name)
    if form not in ("xlsx", "parquet", "dataset"):
        with open_text(path, reading) as lines:
            yield _table(lines, name, form, reading) if form in TABLES else _json(lines, name)
    elif path is None:
        raise InputError(name, f"the format {form} is read from a file, not from standard input")
    elif form == "dataset":
        with translated_errors(path, "read"):
            yield _dataset(path)
    else:
        with _opened(path) as stream:
            if form == "parquet":
                yield _parquet(stream, path)
            else:
                with _workbook(stream, path, reading.sheet) as source:
                    yield source


@contextlib.contextmanager
def open_text(path: Path | None, reading: Reading) -> Iterator[Iterator[str]]:
    """The lines of a text file; ``path`` None is standard input. Raises as ``open_rows``."""
    if path is None:
        if sys.stdin is None:
            raise InputError(STANDARD_INPUT, "it is closed; rows belong here")
        yield text_lines(sys.stdin.buffer, STANDARD_INPUT, reading.encoding)
        return
    with _opened(path) as stream:
        yield _readable(text_lines(stream, path, reading.encoding), path)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if not path.exists():
        raise InputError(path, "no such file; rows belong here")
    with translated_errors(path, "read"):
        stream = path.open("rb")
    with stream:
        yield stream


def _readable(lines: Iterator[str], path: Path) -> Iterator[str]:
    with translated_errors(path, "read"):
        yield from lines


# Text


def _table(lines: Iterable[str], path: Path, form: SourceFormat, reading: Reading) -> Source:
    table = read_table(lines, path, TABLES[form], reading.separator)
    rows = (SourceRow(line, dict(values)) for line, values in table.rows)
    return Source(path, "line", rows, table.columns, table.line, table.separator)


def _json(lines: Iterator[str], path: Path) -> Source:
    """JSON Lines, or one array of objects; the first character that is not blank says which."""
    held = []
    for line in lines:
        held.append(line)
        if line.strip():
            break
    whole = chain(held, lines)
    if held and held[-1].lstrip().startswith("["):
        return Source(path, "row", _plain(_array("".join(whole), path), path, "row"))
    return Source(path, "line", _plain(parse_jsonl(whole, path), path, "line"))


def _plain(rows: Iterable[tuple[int, Row]], path: Path, unit: Literal["line", "row"]) -> Iterator[SourceRow]:
    for number, row in rows:
        try:
            plain = plain_row(row)
        except ValueError as exc:
            place = {"line": number} if unit == "line" else {"row": number}
            raise InputError(path, str(exc), **place) from exc
        yield SourceRow(number, plain.values, plain.unanswered)


def _array(text: str, path: Path) -> Iterator[tuple[int, Row]]:
    """The objects of a JSON array, one at a time, with their places from 1. The text is in memory as a whole."""
    decoder = json.JSONDecoder()
    place = _after_blanks(text, text.index("[") + 1)
    number = 0
    while not text.startswith("]", place):
        number += 1
        try:
            row, place = decoder.raw_decode(text, place)
        except json.JSONDecodeError as exc:
            problem = f"not valid JSON: {exc.msg.removesuffix(' at')} at column {exc.colno}"
            raise InputError(path, problem, line=exc.lineno) from exc
        except (ValueError, RecursionError) as exc:
            problem = "JSON with a number too long, or brackets nested too deeply"
            raise InputError(path, problem, row=number) from exc
        yield number, check_row(row, path, row=number)
        place = _after_blanks(text, place)
        if text.startswith(",", place):
            place = _after_blanks(text, place + 1)
        elif not text.startswith("]", place):
            raise InputError(path, "not valid JSON: a comma or ] belongs after this row", row=number)
    if text[place + 1 :].strip():
        raise InputError(path, "not valid JSON: something stands behind the array", line=text.count("\n", 0, place) + 1)


def _after_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


# Workbooks


@contextlib.contextmanager
def _workbook(stream: Any, path: Path, sheet: str | None) -> Iterator[Source]:
    """A sheet of an Excel workbook; its first row that is not empty is the header. Formulas count by their results."""
    import openpyxl

    try:
        book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
    except Exception as exc:  # of zipfile, of its XML, of openpyxl
        raise InputError(path, f"not a workbook (.xlsx), or damaged: {exc}") from exc
    with contextlib.closing(book):
        names = [its.title for its in book.worksheets]
        if sheet is not None and sheet not in names:
            raise InputError(path, unknown("sheet", sheet, names))
        filled = [sheet] if sheet is not None else [name for name in names if next(_cells(book[name]), None)]
        if len(filled) > 1:
            raise InputError(path, f"the workbook has several sheets, {listed(filled)}; name one with --sheet")
        cells = _cells(book[filled[0]]) if filled else iter(())
        number, header = next(cells, (1, []))
        columns = named_columns(header, path, row=number)
        places = [place for place, name in enumerate(header) if not is_blank(name)]
        rows = (
            SourceRow(row, {header[place]: values[place] if place < len(values) else "" for place in places})
            for row, values in cells
        )
        yield Source(path, "row", rows, columns, number)


def _cells(sheet: Any) -> Iterator[tuple[int, list[str]]]:
    """The number and the cells, as texts, of each row of a sheet that is not empty."""
    for number, values in enumerate(sheet.iter_rows(values_only=True), start=1):
        texts = [_cell_text(value) for value in values]
        if any(texts):
            yield number, texts


def _cell_text(value: object) -> str:
    """A cell as a text: an empty one as "", 3.0 as "3", a date as 2024-05-31."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if hasattr(value, "isoformat"):
        return str(value.isoformat()).removesuffix("T00:00:00")
    return str(value)


# Parquet and Arrow


def _parquet(stream: Any, path: Path) -> Source:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(stream)
        schema = file.schema_arrow
    except Exception as exc:  # of pyarrow, and of Python for names that are not UTF-8
        raise InputError(path, f"not a Parquet file, or damaged: {_first_line(exc)}") from exc
    return _arrow_source(path, schema, file.iter_batches(), pyarrow, _class_labels(schema.metadata))


def _dataset(folder: Path) -> Source:
    """One split of a folder that ``datasets`` saved."""
    import pyarrow

    if (folder / SPLITS_FILE).is_file():
        try:
            names = [inner_name(name) for name in _read_json(folder / SPLITS_FILE)["splits"]]
        except DAMAGED as exc:
            raise InputError(folder / SPLITS_FILE, f"damaged: {_first_line(exc)}") from exc
        if len(names) != 1:
            found = f"the splits {listed(names)}" if names else "no split"
            raise InputError(folder, f"a dataset with {found}; name one, such as {folder / (names or ['train'])[0]}")
        folder = folder / names[0]
    if not (folder / STATE_FILE).is_file():
        raise InputError(folder, f"a folder without {STATE_FILE}; one that the library datasets saved belongs here")
    try:
        files = [folder / inner_name(entry["filename"]) for entry in _read_json(folder / STATE_FILE)["_data_files"]]
        schema = pyarrow.ipc.open_stream(pyarrow.memory_map(str(files[0]))).schema
        labels = _names_of(_read_json(folder / "dataset_info.json").get("features"))
    except (*DAMAGED, OSError, pyarrow.ArrowException) as exc:
        raise InputError(folder, f"not a dataset, or damaged: {_first_line(exc)}") from exc
    batches = (batch for file in files for batch in pyarrow.ipc.open_stream(pyarrow.memory_map(str(file))))
    return _arrow_source(folder, schema, batches, pyarrow, labels)


DAMAGED = (ValueError, KeyError, IndexError, TypeError, AttributeError)
"""What reading JSON of another form raises."""


def _read_json(path: Path) -> Any:
    return parsed_json(path.read_text(encoding="utf-8"))


def _arrow_source(
    path: Path, schema: Any, batches: Iterator[Any], pyarrow: Any, labels: Mapping[str, Sequence[str]]
) -> Source:
    try:
        columns = tuple(name for name in schema.names if not name.startswith(PANDAS_INDEX))
    except ValueError as exc:  # a name that is not UTF-8
        raise InputError(path, f"damaged: the name of a column is {_first_line(exc)}") from exc

    def rows() -> Iterator[tuple[int, Row]]:
        number = 0
        try:
            for batch in batches:
                for values in batch.to_pylist():
                    number += 1
                    yield number, {name: _json_value(values[name], labels.get(name)) for name in columns}
        except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError) as exc:
            raise InputError(path, f"damaged after row {number}: {_first_line(exc)}") from exc

    return Source(path, "row", _plain(rows(), path, "row"), None, None)


def _class_labels(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """The names of the classes of each column that ``datasets`` wrote as numbers, by the column."""
    try:
        return _names_of(parsed_json((metadata or {})[b"huggingface"])["info"]["features"])
    except (KeyError, ValueError, TypeError):
        return {}


def _names_of(features: object) -> dict[str, list[str]]:
    found = {}
    for name, feature in features.items() if isinstance(features, Mapping) else ():
        if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel":
            found[name] = [str(its) for its in feature.get("names") or ()]
    return found


def _json_value(value: Any, names: Sequence[str] | None) -> Any:
    """A value of Arrow as one of JSON; the number of a class as its name, None where it is -1: no label."""
    if names and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None
    if isinstance(value, list):
        return [_json_value(entry, names) for entry in value]
    if isinstance(value, dict):
        return {key: _json_value(entry, None) for key, entry in value.items()}
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _first_line(exc: Exception) -> str:
    return str(exc).splitlines()[0] if str(exc) else type(exc).__name__
