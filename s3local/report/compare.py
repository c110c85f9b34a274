"""A comparison as tables of plain text, as compare.csv and as plots."""

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

from s3local.report.text import MEASURES, decimals, heading
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


def render(summary: CompareSummary, folder: Path) -> RenderableType:
    """One table of methods for each number of gold rows, one of the rounds, the verdicts in words, and the files."""
    sizes = list(dict.fromkeys(row.gold_rows for row in summary.summary))
    parts: list[RenderableType] = [_methods(summary, size) for size in sizes]
    if any(cell.rounds for cell in summary.cells):
        parts.append(_rounds(summary, sizes[-1]))
    parts += [Text(line, style="dim") for line in _notes(summary)]
    if summary.comparisons:
        parts.append(Text())
    for row in summary.comparisons:
        parts.append(Text(f"{row.gold_rows} gold rows: {row.in_words}"))
    parts += [Text(line) for line in summary.skipped.values()]
    parts.append(Text(f"\nfigures, table and plots: {folder}"))
    return Group(*parts)


def save(summary: CompareSummary, folder: Path) -> list[Path]:
    """Write compare.csv and the plots that the cells have something for; their paths. Raises ``StorageError``."""
    write_text(folder / CSV_FILE, _csv(summary.cells))
    written = [folder / CSV_FILE]
    plots = ((ROWS_PLOT, _plot_rows(summary)), (GOLD_PLOT, _plot_gold(summary)), (GAP_PLOT, _plot_gap(summary)))
    for name, figure in plots:
        if figure is not None:
            with atomic_write(folder / name, "wb") as stream:
                figure.savefig(stream, format="png", dpi=PLOT_DPI, metadata={"Software": None})
            written.append(folder / name)
    return written


def _notes(summary: CompareSummary) -> list[str]:
    """How to read the tables, and which rows are missing."""
    judged = min(row.test_rows for row in summary.summary)
    some = [f"* on {judged:,} of the test rows."] if judged < summary.test_rows else []
    missing = [
        f"{row.method}, {row.gold_rows:,} gold rows: {row.shortfall:,.0f} synthetic rows are missing."
        for row in summary.summary
        if row.shortfall
    ]
    return [*NOTES, *some, *missing]


# Tables


def _methods(summary: CompareSummary, size: int) -> Table:
    comparisons = {row.method: row for row in summary.comparisons if row.gold_rows == size}
    rows = [row for row in summary.summary if row.gold_rows == size]
    table = Table(
        Column("method", no_wrap=True),
        box=SIMPLE_HEAD,
        padding=0,
        title=heading(f"{summary.task}: {size:,} gold rows, {summary.test_rows:,} test rows"),
        title_justify="left",
    )
    for name in ("accuracy", "95 %", "F1", "rows", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(f"{summary.reference}, likely" if comparisons else "", no_wrap=True)
    for row in rows:
        some = "*" if row.test_rows < summary.test_rows else ""
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


def _rounds(summary: CompareSummary, size: int) -> Table:
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
    for method in methods_with_rounds(summary):
        for number, stages in enumerate(stages_of(cells_of(summary, method, size))):
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


def methods_with_rounds(summary: CompareSummary) -> list[str]:
    """Methods with synthetic rows, without those that share another's rounds and differ only in the final student."""
    names = dict.fromkeys(cell.method for cell in summary.cells if cell.rounds)
    return [name for name in names if not (name.endswith("+gold") and name.removesuffix("+gold") in names)]


def cells_of(summary: CompareSummary, method: str, size: int) -> list[CellResult]:
    """A method's cells with that many gold rows, or with none if it uses none."""
    return [cell for cell in summary.cells if cell.method == method and cell.gold_rows in (size, 0)]


def stages_of(cells: Sequence[CellResult]) -> list[list[CellRound]]:
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
    """A figure with ``panels`` side by side, drawn without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((PLOT_INCHES[0] * panels, PLOT_INCHES[1]), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False, sharey=True)[0])


def _colours(summary: CompareSummary) -> dict[str, Any]:
    """One colour a method, the same in all plots: ten strong colours first, then ten light ones."""
    from matplotlib import colormaps

    palette = [colormaps["tab20"](number) for number in range(20)]
    names = dict.fromkeys(row.method for row in summary.summary)
    return dict(zip(names, [*palette[0::2], *palette[1::2]], strict=False))


def _finish(axes: Any, summary: CompareSummary, title: str, label: str) -> None:
    axes.set_title(f"{summary.task}, {title}", parse_math=False)  # a dollar sign is no formula
    axes.set_xlabel(label)
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _plot_rows(summary: CompareSummary) -> Any | None:
    """Accuracy after each round against the synthetic rows so far; a star is a final student.

    Methods without synthetic rows are level lines.
    """
    sizes = list(dict.fromkeys(row.gold_rows for row in summary.summary))
    with_rounds = methods_with_rounds(summary)
    if not with_rounds:
        return None
    figure, panels = _figure(len(sizes))
    colours = _colours(summary)
    for axes, size in zip(panels, sizes, strict=True):
        for row in summary.summary:
            name, colour = row.method, colours[row.method]
            if row.gold_rows != size:
                continue
            if not row.synthetic_rows:
                axes.axhline(100 * row.accuracy, color=colour, linestyle="--", label=name)
                continue
            if name in with_rounds:
                groups = stages_of(cells_of(summary, name, size))
                rows = [fmean(stage.rows for stage in group) for group in groups]
                accuracies = [100 * fmean(stage.test_accuracy for stage in group) for group in groups]
                axes.plot(rows, accuracies, marker="o", color=colour)
            axes.plot(row.synthetic_rows, 100 * row.accuracy, "*", markersize=12, color=colour, label=name)
        _finish(axes, summary, f"{size:,} gold rows", "synthetic rows")
    return figure


def _plot_gold(summary: CompareSummary) -> Any | None:
    """The learning curve: accuracy against gold rows, with the spread over seeds."""
    sizes = list(dict.fromkeys(row.gold_rows for row in summary.summary))
    if len(sizes) < 2:
        return None
    figure, (axes,) = _figure(1)
    for name, colour in _colours(summary).items():
        rows = [row for row in summary.summary if row.method == name]
        means, spreads = [100 * row.accuracy for row in rows], [100 * (row.accuracy_std or 0) for row in rows]
        axes.errorbar(sizes, means, spreads, marker="o", capsize=3, color=colour, label=name)
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    _finish(axes, summary, f"{summary.synthetic_rows:,} synthetic rows", "gold rows")
    return figure


def _plot_gap(summary: CompareSummary) -> Any | None:
    """Accuracy after each round against the gap of its rows to gold."""
    sizes = list(dict.fromkeys(row.gold_rows for row in summary.summary))
    lines = []
    for method in methods_with_rounds(summary):
        points = []
        for group in stages_of(cells_of(summary, method, sizes[-1])):
            known = [(stage.gap.auc, stage.test_accuracy) for stage in group if stage.gap.auc is not None]
            if known:
                points.append((fmean(auc for auc, _ in known), 100 * fmean(accuracy for _, accuracy in known)))
        if points:
            lines.append((method, points))
    if not lines:
        return None
    figure, (axes,) = _figure(1)
    colours = _colours(summary)
    for name, points in lines:
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", color=colours[name], label=name)
        axes.annotate("first", points[0], fontsize="x-small", textcoords="offset points", xytext=(4, 4))
    _finish(axes, summary, f"{sizes[-1]:,} gold rows", "synthetic told from gold: AUC, 0.5 is no gap")
    return figure
