"""Tables of text with a header (CSV, TSV and others), read row by row in bounded memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from s3local.exceptions import InputError
from s3local.text import is_blank
from s3local.wording import shown

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}
"""The separators that are looked for in a header."""

MAX_CELL_CHARACTERS = 10_000_000
"""The longest cell. A longer one comes from a quotation mark that is never closed."""


@dataclass(frozen=True, slots=True)
class Table:
    """The columns of a table, the line of the header (from 1), and its rows: (line on which it begins, row).

    ``separator`` is the one that was found or named. A file without any line has no columns and no rows.
    """

    columns: tuple[str, ...]
    line: int
    separator: str
    rows: Iterator[tuple[int, dict[str, str]]]


def read_table(lines: Iterable[str], path: Path, usual: str, separator: str | None = None) -> Table:
    """The table of ``lines``; its header is read at once, its rows when they are asked for. ``path`` is for messages.

    ``separator`` divides the columns. None takes ``usual`` or, where that does not divide the header, the one of
    ``SEPARATORS`` that does. Columns without a name are left out, as spreadsheets write empty ones.
    Raises ``InputError`` with the line for a header without any name or with one that is there twice, for a row with
    more or fewer cells than the header, for a quotation mark that is not closed and for a NUL character.
    """
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_CHARACTERS))
    pieces = _Pieces(lines, path)
    if separator is None:
        separator = _sniffed(pieces.header(), usual)
    cells = _cells(pieces, path, separator)
    line, names = next(cells, (1, []))
    return Table(named_columns(names, path, line=line), line, separator, _rows(cells, path, names, separator))


def row_writer(stream: IO[str], separator: str = ",") -> Callable[[Sequence[object]], None]:
    """The function that writes a row of a table, with a line feed after it.

    Python before 3.13 does not quote a cell for a carriage return, which ends a line for most readers; all cells of
    such a row are quoted.
    """
    usual = csv.writer(stream, delimiter=separator, lineterminator="\n")
    quoting = csv.writer(stream, delimiter=separator, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(cells: Sequence[object]) -> None:
        (quoting if any(isinstance(cell, str) and "\r" in cell for cell in cells) else usual).writerow(cells)

    return write


def named_columns(
    names: Iterable[str], path: Path, *, line: int | None = None, row: int | None = None
) -> tuple[str, ...]:
    """The names of a header that are not blank. Raises ``InputError`` if none is left, or one is there twice."""
    names = list(names)
    named = [name for name in names if not is_blank(name)]
    if names and not named:
        raise InputError(path, "the header has no names; the names of the columns belong here", line=line, row=row)
    for number, name in enumerate(named):
        if name in named[:number]:
            raise InputError(path, f"the column {shown(name)} is there twice", line=line, row=row)
    return tuple(named)


def _rows(
    cells: Iterator[tuple[int, list[str]]], path: Path, names: list[str], separator: str
) -> Iterator[tuple[int, dict[str, str]]]:
    """Cells of columns without a name are left out, also where a row has more or fewer of them than the header."""
    named = [place for place, name in enumerate(names) if not is_blank(name)]
    for line, values in cells:
        if len(values) != len(names) and (len(values) <= named[-1] or any(values[len(names) :])):
            divides = SEPARATORS.get(separator, shown(separator))
            problem = (
                f"the row has {len(values)} columns, the header has {len(names)}, divided by {divides}; put a text "
                "that holds it or a line break in quotes, or name another --separator"
            )
            raise InputError(path, problem, line=line)
        yield line, {names[place]: values[place] for place in named}


def _sniffed(header: str, usual: str) -> str:
    """The separator of ``header``: ``usual`` if it is there, else the one that divides it into the most columns."""

    def columns(separator: str) -> int:
        try:
            return len(next(csv.reader([header], delimiter=separator, strict=True), []))
        except csv.Error:
            return 1

    if columns(usual) > 1:
        return usual
    best = max(SEPARATORS, key=columns)
    return best if columns(best) > 1 else usual


def _cells(lines: Iterable[str], path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line on which it begins, cells) of each row that is not empty, the header included."""
    reader = csv.reader(lines, delimiter=separator, strict=True)
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


class _Pieces:
    """Lines, also divided after a carriage return without a line feed: the end of a line in some tables."""

    def __init__(self, lines: Iterable[str], path: Path) -> None:
        self._pieces = self._divided(lines, path)
        self._held: list[str] = []

    def header(self) -> str:
        """The first line that is not empty; it is read again later."""
        for piece in self._pieces:
            self._held.append(piece)
            if piece.strip("\r\n"):
                return piece
        return ""

    def __iter__(self) -> Iterator[str]:
        yield from self._held
        yield from self._pieces

    @staticmethod
    def _divided(lines: Iterable[str], path: Path) -> Iterator[str]:
        for number, line in enumerate(lines, start=1):
            if "\0" in line:
                raise InputError(path, "found a NUL character; save the table as UTF-8 text", line=number)
            yield from io.StringIO(line, newline="")
