"""A comparison as tables, CSV and plots: every method has its row, and everything that is missing is said."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console
from some_results import AWKWARD, GOLD_SIZES, TEST_ROWS, compare_summary

from s3local.report.compare import CSV_FILE, GAP_PLOT, GOLD_PLOT, ROWS_PLOT, render, save
from s3local.results import CompareSummary

NAMES = ("gold", "teacher-few-shot", "zerogen", "s3", "s3+gold")


@pytest.fixture(scope="module")
def summary() -> CompareSummary:
    return compare_summary(*NAMES)


def text_of(summary: CompareSummary) -> str:
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(render(summary, Path("runs/toy/compare/default")))
    return console.export_text()


def test_every_method_has_its_row_for_every_number_of_gold_rows(summary: CompareSummary) -> None:
    text = text_of(summary)
    for size in GOLD_SIZES:
        assert f"{size} gold rows, {TEST_ROWS} test rows" in text
    for name in NAMES:
        assert sum(line.split()[:1] == [name] or line.split()[:1] == [f"{name}*"] for line in text.splitlines()) >= 2
    assert "After each round" in text and "on this test set" in text


def test_what_is_missing_is_said(summary: CompareSummary) -> None:
    rows = tuple(dataclasses.replace(row, shortfall=3.0) for row in summary.summary)
    text = text_of(dataclasses.replace(summary, summary=rows))
    assert "s3, 6 gold rows: 3 synthetic rows are missing." in text
    assert "setfit is left out" in text
    assert "* on 30 of the test rows." in text


@pytest.mark.parametrize("name", [*AWKWARD, "2 $ and 3 $x^", "a $\\\\frac{1$"])
def test_a_task_name_is_shown_as_it_is(summary: CompareSummary, tmp_path: Path, name: str) -> None:
    named = dataclasses.replace(summary, task=name)
    assert f"{name}: 6 gold rows" in text_of(named)
    save(named, tmp_path)


def test_files(summary: CompareSummary, tmp_path: Path) -> None:
    written = save(summary, tmp_path)
    assert [path.name for path in written] == [CSV_FILE, ROWS_PLOT, GOLD_PLOT, GAP_PLOT]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in written[1:])
    with (tmp_path / CSV_FILE).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["method"], row["test_accuracy"]) for row in rows] == [
        (cell.method, str(cell.test_accuracy)) for cell in summary.cells
    ]


def test_without_synthetic_rows_there_is_no_plot_of_rounds(tmp_path: Path) -> None:
    written = save(compare_summary("gold", "probe"), tmp_path)
    assert [path.name for path in written] == [CSV_FILE, GOLD_PLOT]
