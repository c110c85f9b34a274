"""Laws of tables: what a table holds comes back, in any separator, and what is no table is named with its line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.exceptions import InputError
from s3local.tables import MAX_CELL_CHARACTERS, read_table, row_writer

PATH = Path("table.csv")
cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(
    st.lists(st.lists(cells, min_size=3, max_size=3), max_size=5),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_table_holds_comes_back_with_its_lines(rows: list[list[str]], delimiter: str, end: str) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    lines = []
    for row in [["a", "b", "c"], *rows]:
        lines.append(len(io.StringIO(stream.getvalue(), newline=None).read().split("\n")))
        writer.writerow(row)
    table = read_table(io.StringIO(stream.getvalue(), newline="\n"), PATH, ",", delimiter)
    assert (table.columns, table.line) == (("a", "b", "c"), 1)
    assert list(table.rows) == [
        (line, dict(zip("abc", row, strict=True))) for line, row in zip(lines[1:], rows, strict=True)
    ]


def test_rows_are_read_one_at_a_time() -> None:
    def lines() -> object:
        yield "text\n"
        yield "one\n"
        pytest.fail("a line was read before its row was asked for")

    table = read_table(lines(), PATH, ",")  # type: ignore[arg-type]
    assert next(table.rows) == (2, {"text": "one"})


def test_an_empty_file_has_no_columns() -> None:
    table = read_table(["\n", "\r\n"], PATH, ",")
    assert (table.columns, list(table.rows)) == ((), [])


@pytest.mark.parametrize("usual", [",", "\t"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_of_the_header_is_taken_unless_another_one_is_named(usual: str, separator: str) -> None:
    lines = ["\n", f"text{separator}label\n", f"a{separator}b\n"]
    table = read_table(lines, PATH, usual)
    assert (table.columns, table.separator) == (("text", "label"), separator)
    assert list(table.rows) == [(3, {"text": "a", "label": "b"})]
    other = "," if separator != "," else ";"
    assert len(read_table(lines, PATH, usual, other).columns) == 1


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("a,b,,\n1,2,,\n", [{"a": "1", "b": "2"}]),
        (",a,b\n0,1,2\n", [{"a": "1", "b": "2"}]),
        ("a,,b\n1,x,2\n", [{"a": "1", "b": "2"}]),
        ("a,b,,\n1,2\n", [{"a": "1", "b": "2"}]),
        ("a,b\n1,2,,\n", [{"a": "1", "b": "2"}]),
    ],
)
def test_columns_without_a_name_are_left_out(content: str, rows: list[dict[str, str]]) -> None:
    table = read_table(io.StringIO(content), PATH, ",")
    assert [row for _, row in table.rows] == rows


@pytest.mark.parametrize("content", ["a,b\n1,2,3\n", "a,b,\n1\n", "a,,b\n1,2\n"])
def test_a_cell_too_many_or_too_few_is_told(content: str) -> None:
    with pytest.raises(InputError, match=r"line 2: the row has . columns, the header has ., divided by a comma"):
        list(read_table(io.StringIO(content), PATH, ",").rows)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("cell", ["a\rb", "a\nb", 'a"b', "a,b;c\td", "", " a "])
def test_what_is_written_is_read_again(cell: str, separator: str) -> None:
    stream = io.StringIO(newline="")
    write = row_writer(stream, separator)
    write(["text", "n"])
    write([cell, 1])
    stream.seek(0)
    table = read_table(stream, PATH, separator)
    assert [row for _, row in table.rows] == [{"text": cell, "n": "1"}]


def test_a_header_needs_a_name() -> None:
    with pytest.raises(InputError, match="line 1: the header has no names"):
        read_table(io.StringIO(",,\n1,2,3\n"), PATH, ",")


def test_a_header_of_several_columns_may_hold_other_separators() -> None:
    assert read_table(["a;b,c\td\n"], PATH, ",").columns == ("a;b", "c\td")


def test_a_quotation_mark_that_never_closes_does_not_read_without_end() -> None:
    read = 0

    def lines() -> object:
        nonlocal read
        yield 'text\n"one\n'
        while True:
            read += 1
            yield "x" * 99_999 + "\n"

    table = read_table(lines(), PATH, ",")  # type: ignore[arg-type]
    with pytest.raises(
        InputError, match=r"line 2: no valid row begins here: .*; a quotation mark that opens must close"
    ):
        next(table.rows)
    assert read <= MAX_CELL_CHARACTERS // 100_000 + 1
