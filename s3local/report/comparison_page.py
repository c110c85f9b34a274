"""The report of a comparison as one HTML page: which method is better, by how much, and from how many rows on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from s3local.report import charts
from s3local.report.charts import Chart, Entry, Estimate
from s3local.report.compare import cells_of, methods_with_rounds, stages_of
from s3local.report.page import percent, points
from s3local.results import CompareSummary, MethodComparison, MethodSummary
from s3local.wording import counted

STYLES = 10
"""Colours of the style sheet; further methods have the same colours with dashed lines."""
NAMES, TEXTS = 128.0, 44.0
"""Widths of the names of methods and of the texts in a chart of rows."""
VERDICTS: Mapping[str, str] = {
    "likely better": "likely better than",
    "likely worse": "likely worse than",
    "cannot tell": "cannot be told from",
}


@dataclass(frozen=True, slots=True)
class Size:
    """The results with one number of gold rows: in a sentence, as charts and as the rows of a table (a method, and the
    reference against it; None for the reference itself)."""

    gold_rows: int
    sentence: str
    accuracies: Chart
    forest: Chart | None
    table: Sequence[tuple[MethodSummary, MethodComparison | None]]


def comparison_values(summary: CompareSummary) -> dict[str, Any]:
    """What the template comparison.html shows."""
    sizes = list(dict.fromkeys(row.gold_rows for row in summary.summary))
    styles = _styles(summary)
    return {
        "summary": summary,
        "title": f"{summary.task}: comparison of methods",
        "sizes": [_size(summary, size, styles) for size in sizes],
        "seeds": max((row.seeds for row in summary.summary), default=0),
        "learning_curve": _learning_curve(summary, sizes, styles),
        "rounds_chart": _rounds_chart(summary, sizes[-1], styles) if sizes else None,
        "gap_chart": _gap_chart(summary, sizes[-1], styles) if sizes else None,
        "meanings": {row.method: row.meaning for row in summary.summary},
        "verdicts": VERDICTS,
    }


def _styles(summary: CompareSummary) -> dict[str, str]:
    """A style for each method, the same in all charts; the reference has the first."""
    names = dict.fromkeys([summary.reference, *(row.method for row in summary.summary)])
    return {name: f"s{place % STYLES}" + (" dashed" if place >= STYLES else "") for place, name in enumerate(names)}


def _size(summary: CompareSummary, size: int, styles: Mapping[str, str]) -> Size:
    rows = [row for row in summary.summary if row.gold_rows == size]
    comparisons = {row.method: row for row in summary.comparisons if row.gold_rows == size}
    ordered = sorted(rows, key=lambda row: -row.accuracy)
    estimates = [
        Estimate(
            row.method,
            row.accuracy,
            row.accuracy_low,
            row.accuracy_high,
            percent(row.accuracy, 1),
            _strong(summary, row, styles),
        )
        for row in ordered
    ]
    limits, ticks = charts.percent_axis(value for row in ordered for value in (row.accuracy_low, row.accuracy_high))
    accuracies = charts.estimates(
        f"Accuracy with {size:,} labelled rows",
        "; ".join(f"{row.name} {row.text}" for row in estimates),
        estimates,
        limits=limits,
        ticks=ticks,
        names=NAMES,
        texts=TEXTS,
    )
    return Size(
        size,
        _sentence(summary, ordered, list(comparisons.values())),
        accuracies,
        _forest(summary, size, [comparisons[row.method] for row in ordered if row.method in comparisons], styles),
        [(row, comparisons.get(row.method)) for row in ordered],
    )


def _strong(summary: CompareSummary, row: MethodSummary, styles: Mapping[str, str]) -> str:
    return f"{styles[row.method]} strong" if row.method == summary.reference else styles[row.method]


def _sentence(
    summary: CompareSummary, ordered: Sequence[MethodSummary], comparisons: Sequence[MethodComparison]
) -> str:
    """How good the reference is, than how many other methods it is better, and which method is best."""
    best = ordered[0]
    reference = next((row for row in ordered if row.method == summary.reference), None)
    if reference is None or not comparisons:
        said = f"{best.method} has the highest accuracy, {percent(best.accuracy, 1)}"
        return f"With {best.gold_rows:,} labelled rows, {said} ({_interval(best)})."
    counts = {name: sum(row.verdict == name for row in comparisons) for name in VERDICTS}
    parts = [f"{words} {counts[name]}" for name, words in VERDICTS.items() if counts[name]]
    text = (
        f"With {reference.gold_rows:,} labelled rows, {reference.method} is right on {percent(reference.accuracy, 1)} "
        f"of test rows ({_interval(reference)}). Of {counted(len(comparisons), 'other method')}, it is "
        f"{', '.join(parts)}."
    )
    if best.method != reference.method:
        text += f" The highest accuracy has {best.method}, {percent(best.accuracy, 1)} ({_interval(best)})."
    return text


def _interval(row: MethodSummary) -> str:
    return f"{100 * row.accuracy_low:.0f} to {percent(row.accuracy_high)}"


def _forest(
    summary: CompareSummary, size: int, rows: Sequence[MethodComparison], styles: Mapping[str, str]
) -> Chart | None:
    """The reference less each method, with intervals: right of 0 the reference is better."""
    if not rows:
        return None
    estimates = [
        Estimate(
            row.method,
            row.difference,
            row.low,
            row.high,
            points(row.difference),
            "muted" if row.verdict == "cannot tell" else "s0" if row.verdict == "likely better" else "s1",
        )
        for row in rows
    ]
    low, high = min(0.0, *(row.low for row in rows)), max(0.0, *(row.high for row in rows))
    ticks = charts.nice_ticks(low, high, 4)
    chart = charts.estimates(
        f"{summary.reference} less each method, points of accuracy, {size:,} labelled rows",
        "; ".join(f"{row.name} {row.text}" for row in estimates),
        estimates,
        limits=(ticks[0], ticks[-1]),
        ticks=[(tick, f"{100 * tick:+.0f}".replace("-", "−") if tick else "0") for tick in ticks],
        mark=0.0,
        names=NAMES,
        texts=TEXTS,
    )
    chart.legend = [
        Entry("s0", f"{summary.reference} is likely better"),
        Entry("muted", "cannot tell"),
        Entry("s1", f"{summary.reference} is likely worse"),
    ]
    return chart


def _learning_curve(summary: CompareSummary, sizes: Sequence[int], styles: Mapping[str, str]) -> Chart | None:
    """Accuracy against gold rows; the sizes stand at equal distances, as on a logarithmic axis."""
    if len(sizes) < 2:
        return None
    series = {
        name: {row.gold_rows: row for row in summary.summary if row.method == name}
        for name in dict.fromkeys(row.method for row in summary.summary)
    }
    limits, ticks = charts.percent_axis(row.accuracy for row in summary.summary)
    found = charts.plot(
        "Learning curves",
        "; ".join(
            f"{name}: {', '.join(percent(row.accuracy) for row in rows.values())}" for name, rows in series.items()
        ),
        x=(0, len(sizes) - 1),
        y=limits,
        x_ticks=[(place, f"{size:,}") for place, size in enumerate(sizes)],
        y_ticks=ticks,
        x_label="labelled rows",
        y_label="test accuracy",
    )
    for name, rows in series.items():
        spots = [(float(place), rows[size]) for place, size in enumerate(sizes) if size in rows]
        found.line([(x, row.accuracy) for x, row in spots], styles[name], name)
        for x, row in spots:
            tip = f"{name}, {row.gold_rows:,} labelled rows: {percent(row.accuracy, 1)} ({_interval(row)})"
            found.chart.dot(*found.at(x, row.accuracy), styles[name], tip)
    found.chart.legend = [Entry(styles[name], name) for name in series]
    return found.chart


def _rounds_chart(summary: CompareSummary, size: int, styles: Mapping[str, str]) -> Chart | None:
    """Test accuracy after each round against the synthetic rows so far."""
    series = {
        name: [
            (fmean(stage.rows for stage in group), fmean(stage.test_accuracy for stage in group))
            for group in stages_of(cells_of(summary, name, size))
        ]
        for name in methods_with_rounds(summary)
    }
    series = {name: spots for name, spots in series.items() if spots}
    if not series:
        return None
    ends = {row.method: row for row in summary.summary if row.gold_rows == size and row.synthetic_rows}
    most = max([x for spots in series.values() for x, _ in spots] + [row.synthetic_rows for row in ends.values()])
    limits, y_ticks = charts.percent_axis(
        [y for spots in series.values() for _, y in spots] + [row.accuracy for row in ends.values()]
    )
    ticks = charts.nice_ticks(0, most, 4)
    found = charts.plot(
        f"Accuracy after each round, {size:,} labelled rows",
        "; ".join(f"{name}: {', '.join(percent(y) for _, y in spots)}" for name, spots in series.items()),
        x=(0, ticks[-1]),
        y=limits,
        x_ticks=[(tick, f"{tick:,.0f}") for tick in ticks],
        y_ticks=y_ticks,
        x_label="synthetic rows",
        y_label="test accuracy",
    )
    for name, spots in series.items():
        found.line(spots, styles[name], name)
        for x, y in spots:
            found.chart.dot(*found.at(x, y), styles[name], f"{name}: {percent(y, 1)} with {x:,.0f} synthetic rows")
    for name, row in ends.items():
        tip = f"{name}, final: {percent(row.accuracy, 1)}"
        found.chart.diamond(*found.at(row.synthetic_rows, row.accuracy), styles[name], tip)
    found.chart.legend = [Entry(styles[name], name) for name in dict.fromkeys([*series, *ends])]
    found.chart.legend.append(Entry("muted diamond", "final classifier"))
    return found.chart


def _gap_chart(summary: CompareSummary, size: int, styles: Mapping[str, str]) -> Chart | None:
    """Test accuracy after each round against the gap of its rows to gold."""
    series: dict[str, list[tuple[float, float]]] = {}
    for name in methods_with_rounds(summary):
        for group in stages_of(cells_of(summary, name, size)):
            known = [(stage.gap.auc, stage.test_accuracy) for stage in group if stage.gap.auc is not None]
            if known:
                spot = fmean(auc for auc, _ in known), fmean(accuracy for _, accuracy in known)
                series.setdefault(name, []).append(spot)
    if not series:
        return None
    across = [x for spots in series.values() for x, _ in spots]
    limits, y_ticks = charts.percent_axis(y for spots in series.values() for _, y in spots)
    ticks = charts.nice_ticks(min(across), max(max(across), min(across) + 0.01), 4)
    found = charts.plot(
        f"Accuracy and gap after each round, {size:,} labelled rows",
        "; ".join(f"{name}: {', '.join(f'{x:.2f}' for x, _ in spots)}" for name, spots in series.items()),
        x=(ticks[0], ticks[-1]),
        y=limits,
        x_ticks=[(tick, f"{tick:.2f}") for tick in ticks],
        y_ticks=y_ticks,
        x_label="AUC of telling synthetic from real rows; 0.5 is no gap",
        y_label="test accuracy",
    )
    for name, spots in series.items():
        found.line(spots, styles[name], name)
        for number, (x, y) in enumerate(spots):
            mark = found.chart.diamond if not number else found.chart.dot
            mark(*found.at(x, y), styles[name], f"{name}, round {number}: AUC {x:.2f}, {percent(y, 1)}")
    found.chart.legend = [*(Entry(styles[name], name) for name in series), Entry("muted diamond", "first round")]
    return found.chart
