"""The figures of a run as tables of plain text. Reads the run folder's result; computes nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from s3local.evaluation.squad import AnswerMetrics
from s3local.exceptions import RunError
from s3local.results import (
    RESULT_FILE,
    CellRound,
    GapResult,
    Metrics,
    RunSummary,
    StudentResult,
    read_result,
)

MEASURES: tuple[tuple[Callable[[GapResult | CellRound], float | None], str], ...] = (
    (lambda entry: entry.gap.auc, "AUC"),
    (lambda entry: entry.gap.mmd, "MMD²"),
    (lambda entry: entry.gap.coverage, "cover"),
    (lambda entry: entry.diversity.distinct_2, "dist-2"),
    (lambda entry: entry.diversity.self_bleu, "BLEU"),
    (lambda entry: entry.diversity.neighbour_distance, "apart"),
)
"""A round's measures of gap and diversity (see ``evaluation.gap``), and the heads of their columns."""

UNDIVIDED = "dev has no two rows of one label that could be kept apart"
"""Why neither guard nor label check is possible."""
AS_ASKED = "all rows keep the label that they were asked for"
"""What becomes of labels that were not checked."""


def read_summary(folder: Path) -> RunSummary:
    """The figures of a finished run. Raises ``RunError`` if the folder holds none."""
    file = folder / RESULT_FILE
    if not file.is_file():
        raise RunError(f"{folder} holds no finished run (there is no {RESULT_FILE}); run the same 's3local run' again")
    return read_result(file, RunSummary)


def render(summary: RunSummary, folder: Path) -> RenderableType:
    """How good each stage's student is, the gap to gold, rows dropped by reason, and where the time went."""
    parts: list[RenderableType] = [
        _accuracy(summary),
        *_guard(summary),
        *_label_check(summary),
        _gap(summary),
        _dropped(summary),
        _time(summary),
    ]
    return Group(*parts, _where(summary, folder))


def _accuracy(summary: RunSummary) -> Table:
    title, other = ("F1 of the answers", "exact") if _has_answers(summary) else ("accuracy", "F1")
    table = Table(
        Column("stage", no_wrap=True), box=SIMPLE_HEAD, title=f"{summary.task}: {title}", title_justify="left"
    )
    for name in ("rows", "dev", f"dev {other}", "test", f"test {other}", "95 % interval"):
        table.add_column(name, justify="right")
    for entry in summary.rounds:
        table.add_row("round-0 (seed)" if entry.stage == "round-0" else entry.stage, *_scores(entry.student))
    seen = summary.with_gold
    table.add_row("final (+ dev)" if seen else "final", *_scores(summary.final, seen=seen))
    if summary.gold_only is not None:
        table.add_row("dev alone", *_scores(summary.gold_only, seen=True))
    if summary.averaged is not None:
        table.add_row("mean of both", *_scores(summary.averaged, seen=True))
    return table


def _has_answers(summary: RunSummary) -> bool:
    return isinstance(summary.final.dev, AnswerMetrics)


def _scores(student: StudentResult, *, seen: bool = False) -> list[str]:
    """Rows, dev's figures (``seen``: the student was trained on dev) and test's figures of a student."""
    cells = [f"{student.training.rows:,}", *(["seen", "seen"] if seen else _figures(student.dev)[:2])]
    return [*cells, *(["-", "-", "-"] if student.test is None else _figures(student.test))]


def _figures(metrics: Metrics) -> tuple[str, str, str]:
    """The headline figure, the second one, and the interval of the first."""
    if isinstance(metrics, AnswerMetrics):
        values = metrics.f1, metrics.exact_match, metrics.f1_low, metrics.f1_high
    else:
        values = metrics.accuracy, metrics.macro_f1, metrics.accuracy_low, metrics.accuracy_high
    first, second, low, high = values
    return _percent(first), _percent(second), f"{100 * low:.0f} to {100 * high:.0f} %"


def _guard(summary: RunSummary) -> list[Text]:
    """The verdict of the guard in words, or why there is none; nothing if it was not asked."""
    if summary.model_selection.outcome == "undivided":
        return [Text(f"Guard: none, {UNDIVIDED}; nothing tells whether the synthetic rows help.\n")]
    found = summary.model_selection.verdict
    if found is None:
        return []
    measure = "F1" if _has_answers(summary) else "right"
    if found.share == 0:
        verdict = "the synthetic rows do not help: the student of dev alone is handed over, both are kept"
    else:
        verdict = f"the mean of the weights of both is handed over, {100 * found.share:.0f} % from the final student"
    compared = (
        f"Guard: cross-validated on {found.n_rows} dev rows, {measure} {_percent(found.final)} with synthetic "
        f"rows, {_percent(found.gold_only)} without, {_percent(found.selected)} ({100 * found.low:.0f} to "
        f"{100 * found.high:.0f} %) in what is handed over;"
    )
    if found.gain:
        factor = math.exp(found.gain)
        compared += f" it finds right labels {100 * (factor - 1):.0f} % more probable than without;"
    return [Text(f"{compared}\n{verdict}.\n")]


def _label_check(summary: RunSummary) -> list[Text]:
    """What the judges get right on dev rows that they did not learn from, or why there are none; nothing where labels
    were not to be checked."""
    check = summary.label_check
    if check.scarce is not None:
        few = check.scarce
        found = f"dev has {few.rows} of {few.label!r}, and judges need {few.least} rows of each label"
        return [Text(f"Label check: none, {found}; {AS_ASKED}.\n")]
    if check.outcome == "undivided":
        return [Text(f"Label check: none, {UNDIVIDED}; {AS_ASKED}.\n")]
    figures = check.figures
    if figures is None:
        return []
    who = f"{check.judges} judges and the teacher" if figures.teacher_used else f"{check.judges} judges"
    done = f"too few to tell from chance, so that {AS_ASKED}"
    if check.applied:
        seems = f"{_percent(figures.correct_overall)} of all rows seem to be what they were asked for"
        done = f"{seems}, {figures.relabelled:,} rows relabelled"
    right = _percent(figures.dev_accuracy)
    return [Text(f"Label check: {who}, right on {right} of the dev rows that they did not learn from; {done}.\n")]


def _gap(summary: RunSummary) -> Table:
    table = Table("rows so far", box=SIMPLE_HEAD, title="Gap to dev (docs/compare.md)", title_justify="left")
    for _, head in MEASURES:
        table.add_column(head, justify="right")
    for entry in summary.rounds:
        table.add_row(entry.stage, *(decimals(measure(entry.gap)) for measure, _ in MEASURES))
    return table


def decimals(value: float | None) -> str:
    """A measure of the gap; a dash where there were too few rows for it."""
    return "-" if value is None else f"{value:.3f}"


def _dropped(summary: RunSummary) -> Table:
    stages = [entry.stage for entry in summary.rounds]
    table = Table("texts", *stages, box=SIMPLE_HEAD, title="What became of the teacher's texts", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    counts = [Counter(entry.synthesis.dropped_by_reason) for entry in summary.rounds]
    table.add_row("kept", *(f"{entry.synthesis.kept:,}" for entry in summary.rounds))
    for reason, _ in sum(counts, Counter()).most_common():
        table.add_row(
            f"dropped: {reason.replace('_', ' ')}", *(f"{count[reason]:,}" if count[reason] else "" for count in counts)
        )
    if any(entry.synthesis.shortfall for entry in summary.rounds):
        table.add_row("missing", *(f"{entry.synthesis.shortfall:,}" for entry in summary.rounds))
    return table


def _time(summary: RunSummary) -> Table:
    table = Table("seconds", box=SIMPLE_HEAD, title="Time", title_justify="left")
    for name in ("teacher", "tokens", "tokens/s", "training", "all"):
        table.add_column(name, justify="right")
    for entry in summary.rounds:
        synthesis, student = entry.synthesis, entry.student
        teacher = synthesis.teacher_seconds
        table.add_row(
            entry.stage,
            f"{teacher:.0f}",
            f"{synthesis.tokens:,}",
            f"{synthesis.tokens / teacher:.0f}" if teacher else "-",
            f"{student.training.seconds:.0f}",
            f"{max(teacher, synthesis.seconds) + student.seconds:.0f}",
        )
    final = summary.final
    table.add_row("label check", "", "", "", "", f"{summary.label_check.seconds:.0f}")
    table.add_row("final", "", "", "", f"{final.training.seconds:.0f}", f"{final.seconds:.0f}")
    if summary.model_selection.outcome == "done":
        others = [student for student in (summary.gold_only, summary.averaged) if student is not None]
        seconds = summary.model_selection.seconds + sum(student.seconds for student in others)
        table.add_row("guard", "", "", "", "", f"{seconds:.0f}")
    return table


def _where(summary: RunSummary, folder: Path) -> Text:
    lines = [
        f"model:    {folder / summary.selected / 'student'}",
        f"dataset:  {folder / 'final' / 'dataset.jsonl'} ({summary.rows:,} synthetic rows, "
        f"sha256 {summary.dataset_sha256[:16]}...)",
        f"predict:  s3local predict {folder} your-file.csv",
    ]
    return Text("\n".join(lines))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
