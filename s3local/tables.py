"""Tables with a header (CSV and TSV), read row by row in bounded memory."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from s3local.exceptions import InputError
from s3local.storage import decoded_lines, translated_errors
from s3local.wording import shown

DELIMITERS = {"csv": ",", "tsv": "\t"}
"""The usual separator of columns in each format."""

MAX_CELL_CHARACTERS = 10_000_000
"""The longest cell. A longer one comes from a quotation mark that is never closed."""

CHOOSE_DELIMITER = "choose another separator with --delimiter"

_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a table, the line of the header (from 1), and its rows: (line on which it begins, row).

    A file without any line has no columns and no rows.
    """

    columns: tuple[str, ...]
    line: int
    rows: Iterator[tuple[int, dict[str, str]]]


@contextlib.contextmanager
def open_table(path: Path, delimiter: str | None = None, *, advice: str = CHOOSE_DELIMITER) -> Iterator[Table]:
    """The table of a .csv or .tsv file, for as long as the block runs; see ``read_table``.

    Raises ``InputError`` if there is no such file, ``StorageError`` if it cannot be read.
    """
    if not path.exists():
        raise InputError(path, "no such file; a table with a header belongs here")
    usual = DELIMITERS[path.suffix.lower().removeprefix(".")]
    with translated_errors(path, "read"), path.open("rb") as stream:
        yield read_table(decoded_lines(stream, path), path, usual, delimiter, advice=advice)


def read_table(
    lines: Iterable[str], path: Path, usual: str, delimiter: str | None = None, *, advice: str = CHOOSE_DELIMITER
) -> Table:
    """The table of ``lines``; its header is read at once, its rows when they are asked for. ``path`` is for messages.

    ``delimiter`` separates the columns. None takes ``usual``, and refuses a header that has another separator instead;
    ``advice`` ends that message.
    Raises ``InputError`` with the line for that, for a column name that is there twice, for a row with more or fewer
    cells than the header, for a quotation mark that is not closed and for a NUL character.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_CHARACTERS))
    cells = _cells(lines, path, delimiter or usual)
    line, columns = next(cells, (1, []))
    for number, name in enumerate(columns):
        if name in columns[:number]:
            raise InputError(path, f"the column {shown(name)} is there twice", line=line)
    if delimiter is None and len(columns) == 1:
        _refuse_other_separator(columns[0], path, line, usual, advice)
    return Table(tuple(columns), line, _rows(cells, path, columns))


def _rows(
    cells: Iterator[tuple[int, list[str]]], path: Path, columns: list[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    for line, values in cells:
        if len(values) != len(columns):
            hint = "put a text that holds the separator or a line break in quotes"
            problem = f"the row has {len(values)} columns, the header has {len(columns)}; {hint}"
            raise InputError(path, problem, line=line)
        yield line, dict(zip(columns, values, strict=True))


def _cells(lines: Iterable[str], path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """(line on which it begins, cells) of each row that is not empty, the header included."""
    reader = csv.reader(_pieces(lines, path), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            problem = f"no valid row begins here: {exc}; a quotation mark that opens must close"
            raise InputError(path, problem, line=line) from exc
        if cells:
            yield line, cells


def _pieces(lines: Iterable[str], path: Path) -> Iterator[str]:
    """``lines``, also divided after a carriage return without a line feed: the end of a line in some tables."""
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise InputError(path, "found a NUL character; save the table as UTF-8 text", line=number)
        yield from io.StringIO(line, newline="")


def _refuse_other_separator(header: str, path: Path, line: int, usual: str, advice: str) -> None:
    for separator, name in _SEPARATORS.items():
        if separator != usual and separator in header:
            problem = f"{name} separates the columns of the header {shown(header)}, {_SEPARATORS[usual]} belongs there"
            raise InputError(path, f"{problem}; {advice}", line=line)
