"""A comparison as tables of plain text, as compare.csv and as plots. Reads compare.json's content; computes only means.

Knows nothing of how the figures were made.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from s3local.report.text import MEASURES, decimals
from s3local.results import CellResult, CellRound, CompareSummary, MethodComparison
from s3local.storage import atomic_write, write_text

CSV_FILE = "compare.csv"
ROWS_PLOT = "accuracy_by_synthetic_rows.png"
GOLD_PLOT = "accuracy_by_gold_rows.png"
GAP_PLOT = "accuracy_by_gap.png"

CSV_COLUMNS = (
    "dataset",
    "method",
    "seed",
    "gold_rows",
    "synthetic_rows",
    "shortfall",
    "test_rows",
    "test_accuracy",
    "test_macro_f1",
    "test_low",
    "test_high",
    "seconds",
)
PLOT_INCHES = (6.4, 4.8)
PLOT_DPI = 150

NOTES = (
    "±: standard deviation over seeds. 95 %: interval over test rows and seeds.",
    "Gap of the rows so far to gold: AUC of telling them apart (0.5: nobody can),",
    "MMD² (0: none), cover (share of gold with a synthetic neighbour). Diversity:",
    "dist-2, self-BLEU, apart. docs/compare.md explains each.",
)
SHORT = {"likely better": "better", "likely worse": "worse", "cannot tell": "cannot tell"}


def render(result: CompareSummary, folder: Path) -> RenderableType:
    """One table of methods for each number of gold rows, one of the rounds, the verdicts in words, and the files."""
    sizes = list(dict.fromkeys(row.gold_rows for row in result.summary))
    parts: list[RenderableType] = [_methods(result, size) for size in sizes]
    if any(cell.rounds for cell in result.cells):
        parts.append(_rounds(result, sizes[-1]))
    parts += [Text(line, style="dim") for line in _notes(result)]
    if result.comparisons:
        parts.append(Text())
    for row in result.comparisons:
        parts.append(Text(f"{row.gold_rows} gold rows: {row.in_words}"))
    parts += [Text(line) for line in result.skipped.values()]
    parts.append(Text(f"\nfigures, table and plots: {folder}"))
    return Group(*parts)


def save(result: CompareSummary, folder: Path) -> list[Path]:
    """Write compare.csv and the plots that the cells have something for; their paths. Raises ``StorageError``."""
    write_text(folder / CSV_FILE, _csv(result.cells))
    written = [folder / CSV_FILE]
    plots = ((ROWS_PLOT, _plot_rows(result)), (GOLD_PLOT, _plot_gold(result)), (GAP_PLOT, _plot_gap(result)))
    for name, figure in plots:
        if figure is not None:
            with atomic_write(folder / name, "wb") as stream:
                figure.savefig(stream, format="png", dpi=PLOT_DPI, metadata={"Software": None})
            written.append(folder / name)
    return written


def _notes(result: CompareSummary) -> list[str]:
    """How to read the tables, and what is not as it should be."""
    judged = min(row.test_rows for row in result.summary)
    some = [f"* on {judged:,} of the test rows."] if judged < result.test_rows else []
    missing = [
        f"{row.method}, {row.gold_rows:,} gold rows: {row.shortfall:,.0f} synthetic rows are missing."
        for row in result.summary
        if row.shortfall
    ]
    return [*NOTES, *some, *missing]


# Tables


def _methods(result: CompareSummary, size: int) -> Table:
    comparisons = {row.method: row for row in result.comparisons if row.gold_rows == size}
    rows = [row for row in result.summary if row.gold_rows == size]
    table = Table(
        Column("method", no_wrap=True),
        box=SIMPLE_HEAD,
        padding=0,
        title=f"{result.task}: {size:,} gold rows, {result.test_rows:,} test rows",
        title_justify="left",
    )
    for name in ("accuracy", "95 %", "F1", "rows", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(f"{result.reference}, likely" if comparisons else "", no_wrap=True)
    for row in rows:
        some = "*" if row.test_rows < result.test_rows else ""
        table.add_row(
            row.method + some,
            f"{100 * row.accuracy:.1f}" + ("" if row.accuracy_std is None else f" ± {100 * row.accuracy_std:.1f}"),
            f"{100 * row.accuracy_low:.0f} to {100 * row.accuracy_high:.0f}",
            f"{100 * row.macro_f1:.1f}",
            f"{row.synthetic_rows:,.0f}" if row.synthetic_rows else "",
            f"{row.seconds:,.0f}",
            _verdict(comparisons.get(row.method)),
        )
    return table


def _verdict(row: MethodComparison | None) -> str:
    return "" if row is None else f"{SHORT[row.verdict]} {100 * row.difference:+.1f}"


def _rounds(result: CompareSummary, size: int) -> Table:
    """Accuracy and gap after each round, means over seeds."""
    table = Table(
        "method",
        "round",
        box=SIMPLE_HEAD,
        padding=0,
        title=f"After each round, {size:,} gold rows",
        title_justify="left",
    )
    for name in ("rows", "dev", "test", *(head for _, head in MEASURES)):
        table.add_column(name, justify="right")
    for method in _methods_with_rounds(result):
        for number, stages in enumerate(_stages(_cells(result, method, size))):
            table.add_row(
                "" if number else method,
                stages[0].stage.removeprefix("round-"),
                f"{fmean(stage.rows for stage in stages):,.0f}",
                f"{100 * fmean(stage.dev_accuracy for stage in stages):.1f}",
                f"{100 * fmean(stage.test_accuracy for stage in stages):.1f}",
                *(_measure(stages, measure) for measure, _ in MEASURES),
            )
    return table


def _measure(stages: Sequence[CellRound], measure: Callable[[CellRound], float | None]) -> str:
    known = [value for stage in stages if (value := measure(stage)) is not None]
    return decimals(fmean(known) if known else None)


# What tables and plots pick from the cells


def _methods_with_rounds(result: CompareSummary) -> list[str]:
    """Methods with synthetic rows, those apart that share another's rounds and differ in the final student alone."""
    names = dict.fromkeys(cell.method for cell in result.cells if cell.rounds)
    return [name for name in names if not (name.endswith("+gold") and name.removesuffix("+gold") in names)]


def _cells(result: CompareSummary, method: str, size: int) -> list[CellResult]:
    """A method's cells with that many gold rows, or with none if it uses none."""
    return [cell for cell in result.cells if cell.method == method and cell.gold_rows in (size, 0)]


def _stages(cells: Sequence[CellResult]) -> list[list[CellRound]]:
    """The rounds of all seeds, grouped by their place; a run that stopped early is not in the last groups."""
    longest = max((len(cell.rounds) for cell in cells), default=0)
    return [[cell.rounds[place] for cell in cells if len(cell.rounds) > place] for place in range(longest)]


def _csv(cells: Sequence[CellResult]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(dataclasses.asdict, cells))
    return out.getvalue()


# Plots


def _figure(panels: int) -> tuple[Any, list[Any]]:
    """A figure with as many panels side by side, drawn without any window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((PLOT_INCHES[0] * panels, PLOT_INCHES[1]), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False, sharey=True)[0])


def _colours(result: CompareSummary) -> dict[str, Any]:
    """One colour a method, the same in all plots; ten strong ones first, then their light sisters."""
    from matplotlib import colormaps

    palette = [colormaps["tab20"](number) for number in range(20)]
    names = dict.fromkeys(row.method for row in result.summary)
    return dict(zip(names, [*palette[0::2], *palette[1::2]], strict=False))


def _finish(axes: Any, result: CompareSummary, title: str, label: str) -> None:
    axes.set_title(f"{result.task}, {title}")
    axes.set_xlabel(label)
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _plot_rows(result: CompareSummary) -> Any | None:
    """Accuracy after each round against the synthetic rows so far; a star is a final student.

    Methods without synthetic rows are level lines.
    """
    sizes = list(dict.fromkeys(row.gold_rows for row in result.summary))
    with_rounds = _methods_with_rounds(result)
    if not with_rounds:
        return None
    figure, panels = _figure(len(sizes))
    colours = _colours(result)
    for axes, size in zip(panels, sizes, strict=True):
        for row in result.summary:
            name, colour = row.method, colours[row.method]
            if row.gold_rows != size:
                continue
            if not row.synthetic_rows:
                axes.axhline(100 * row.accuracy, color=colour, linestyle="--", label=name)
                continue
            if name in with_rounds:
                groups = _stages(_cells(result, name, size))
                rows = [fmean(stage.rows for stage in group) for group in groups]
                accuracies = [100 * fmean(stage.test_accuracy for stage in group) for group in groups]
                axes.plot(rows, accuracies, marker="o", color=colour)
            axes.plot(row.synthetic_rows, 100 * row.accuracy, "*", markersize=12, color=colour, label=name)
        _finish(axes, result, f"{size:,} gold rows", "synthetic rows")
    return figure


def _plot_gold(result: CompareSummary) -> Any | None:
    """The learning curve: accuracy against gold rows, with the spread over seeds."""
    sizes = list(dict.fromkeys(row.gold_rows for row in result.summary))
    if len(sizes) < 2:
        return None
    figure, (axes,) = _figure(1)
    for name, colour in _colours(result).items():
        rows = [row for row in result.summary if row.method == name]
        means, spreads = [100 * row.accuracy for row in rows], [100 * (row.accuracy_std or 0) for row in rows]
        axes.errorbar(sizes, means, spreads, marker="o", capsize=3, color=colour, label=name)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    _finish(axes, result, f"{result.synthetic_rows:,} synthetic rows", "gold rows")
    return figure


def _plot_gap(result: CompareSummary) -> Any | None:
    """Accuracy after each round against how well its rows are told from gold: does a smaller gap go with accuracy?"""
    sizes = list(dict.fromkeys(row.gold_rows for row in result.summary))
    lines = []
    for method in _methods_with_rounds(result):
        points = []
        for group in _stages(_cells(result, method, sizes[-1])):
            known = [(stage.gap.auc, stage.test_accuracy) for stage in group if stage.gap.auc is not None]
            if known:
                points.append((fmean(auc for auc, _ in known), 100 * fmean(accuracy for _, accuracy in known)))
        if points:
            lines.append((method, points))
    if not lines:
        return None
    figure, (axes,) = _figure(1)
    colours = _colours(result)
    for name, points in lines:
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", color=colours[name], label=name)
        axes.annotate("first", points[0], fontsize="x-small", textcoords="offset points", xytext=(4, 4))
    _finish(axes, result, f"{sizes[-1]:,} gold rows", "synthetic told from gold: AUC, 0.5 is no gap")
    return figure
