"""The figures of a run as tables of plain text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from s3local.evaluation.squad import AnswerMetrics
from s3local.exceptions import RunError
from s3local.executor import JOBS_DONE
from s3local.results import (
    RESULT_FILE,
    CellRound,
    GapResult,
    Metrics,
    QuickResult,
    RunSummary,
    StudentResult,
    read_result,
)
from s3local.runner.state import RunFolder
from s3local.wording import counted

MEASURES: tuple[tuple[Callable[[GapResult | CellRound], float | None], str], ...] = (
    (lambda entry: entry.gap.auc, "AUC"),
    (lambda entry: entry.gap.mmd, "MMD²"),
    (lambda entry: entry.gap.coverage, "cover"),
    (lambda entry: entry.diversity.distinct_2, "dist-2"),
    (lambda entry: entry.diversity.self_bleu, "BLEU"),
    (lambda entry: entry.diversity.neighbour_distance, "apart"),
)
"""A round's measures of gap and diversity (see ``evaluation.gap``), and the heads of their columns."""

UNDIVIDED = "dev has no two rows of one label for different folds"
"""Why neither model selection nor label check is possible."""
AS_REQUESTED = "all rows keep their requested label"
"""The outcome of a label check that changes nothing."""


def read_summary(folder: Path) -> RunSummary:
    """The figures of a finished run. Raises ``RunError`` if the folder holds none."""
    file = folder / RESULT_FILE
    if not file.is_file():
        raise RunError(f"{folder} holds no finished run (there is no {RESULT_FILE}); run the same 's3local run' again")
    return read_result(file, RunSummary)


def render(summary: RunSummary, folder: Path) -> RenderableType:
    """Scores of each stage's student, model selection and label check in words, the gap to gold, drops and time."""
    parts: list[RenderableType] = [
        _accuracy(summary),
        *_model_selection(summary),
        *_label_check(summary),
        _gap(summary),
        _dropped(summary),
        *_leakage(summary),
        _time(summary),
        *_workers(folder),
    ]
    return Group(*parts, _where(summary, folder))


def _accuracy(summary: RunSummary) -> Table:
    title, other = ("F1 of the answers", "exact") if _has_answers(summary) else ("accuracy", "F1")
    table = Table(
        Column("stage", no_wrap=True), box=SIMPLE_HEAD, title=heading(f"{summary.task}: {title}"), title_justify="left"
    )
    for name in ("rows", "dev", f"dev {other}", "test", f"test {other}", "95 % interval"):
        table.add_column(name, justify="right")
    for entry in summary.rounds:
        table.add_row("round-0 (seed)" if entry.stage == "round-0" else entry.stage, *_scores(entry.student))
    seen = summary.with_gold
    table.add_row("final (+ dev)" if seen else "final", *_scores(summary.final, seen=seen))
    if summary.gold_only is not None:
        table.add_row("gold-only", *_scores(summary.gold_only, seen=True))
    if summary.averaged is not None:
        table.add_row("average", *_scores(summary.averaged, seen=True))
    if summary.large is not None:
        table.add_row("large", *_scores(summary.large, seen=summary.with_gold))
    return table


def _has_answers(summary: RunSummary) -> bool:
    return isinstance(summary.final.dev, AnswerMetrics)


def _scores(student: StudentResult, *, seen: bool = False) -> list[str]:
    """The rows of a student, its scores on dev (``seen``: it was trained on dev) and on test."""
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


def _model_selection(summary: RunSummary) -> list[Text]:
    """The verdict of model selection in words, or why there is none; nothing if it was not asked for."""
    if summary.model_selection.outcome == "undivided":
        return [Text(f"Model selection: skipped, {UNDIVIDED}; it is unknown whether the synthetic rows help.\n")]
    verdict = summary.model_selection.verdict
    if verdict is None:
        return []
    measure = "F1" if _has_answers(summary) else "accuracy"
    found = (
        f"Model selection: cross-validated {measure} on {verdict.n_rows} dev rows {_percent(verdict.final)} with "
        f"synthetic rows, {_percent(verdict.gold_only)} gold-only, {_percent(verdict.selected)} "
        f"({100 * verdict.low:.0f} to {100 * verdict.high:.0f} %) selected"
    )
    if verdict.gain:
        found += f", which assigns the correct labels {math.exp(verdict.gain):.2f} times the probability of gold-only"
    if verdict.share == 0:
        selected = "the gold-only model, because the synthetic rows do not help; both models are kept"
    else:
        selected = f"the average of the weights, {100 * verdict.share:.0f} % final and the rest gold-only"
    return [Text(f"{found}.\nSelected: {selected}.\n")]


def _label_check(summary: RunSummary) -> list[Text]:
    """The judges' accuracy and what they changed, or why there are none; nothing if no check was asked for."""
    check, judges = summary.label_check, summary.label_check.judges
    if judges.outcome == "undivided":
        return [Text(f"Label check: skipped, {UNDIVIDED}; {AS_REQUESTED}.\n")]
    if judges.outcome == "off":
        return []
    done = f"they explain dev no better than chance, so that {AS_REQUESTED}"
    if check.figures is not None:
        carrying = f"{_percent(check.figures.correct_overall)} of all rows are expected to carry their requested label"
        done = f"{carrying}, {check.figures.relabelled:,} rows relabelled"
    found = f"{judges.judges} judges, cross-validated accuracy {_percent(judges.accuracy)} on dev"
    return [Text(f"Label check: {found}; {done}.\n{_larger_student(summary)}")]


def _larger_student(summary: RunSummary) -> str:
    """What a student of the judges' encoder would score, if that is more than the selected one does: a judge is such a
    student, trained on a part of dev alone."""
    verdict, accuracy = summary.model_selection.verdict, summary.label_check.judges.accuracy
    if summary.large is not None or verdict is None or accuracy <= verdict.selected:
        return ""
    return (
        f"A student of the judges' encoder (--student large) would score about {_percent(accuracy)} where the selected "
        f"one scores {_percent(verdict.selected)}, and be slower.\n"
    )


def _gap(summary: RunSummary) -> Table:
    table = Table("rows so far", box=SIMPLE_HEAD, title="Gap to dev (docs/compare.md)", title_justify="left")
    for _, head in MEASURES:
        table.add_column(head, justify="right")
    for entry in summary.rounds:
        table.add_row(entry.stage, *(decimals(measure(entry.gap)) for measure, _ in MEASURES))
    return table


def heading(title: str) -> Text:
    """The title of a table. A task's name is shown as it is: rich reads "[b]" or ":bug:" in a string as markup."""
    return Text(title, style="table.title")


def decimals(value: float | None) -> str:
    """A measure of the gap; a dash where there were too few rows for it."""
    return "-" if value is None else f"{value:.3f}"


def _dropped(summary: RunSummary) -> Table:
    stages = [entry.stage for entry in summary.rounds]
    table = Table(
        "texts", *stages, box=SIMPLE_HEAD, title="The teacher's texts, kept and dropped", title_justify="left"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    counts = [Counter(entry.synthesis.dropped_by_reason) for entry in summary.rounds]
    if any(entry.unlabelled for entry in summary.rounds):
        taken = (entry.unlabelled.taken if entry.unlabelled else 0 for entry in summary.rounds)
        table.add_row("real, unlabelled rows", *(f"{count:,}" for count in taken))
    table.add_row("kept", *(f"{entry.synthesis.kept:,}" for entry in summary.rounds))
    for reason, _ in sum(counts, Counter()).most_common():
        table.add_row(
            f"dropped: {reason.replace('_', ' ')}", *(f"{count[reason]:,}" if count[reason] else "" for count in counts)
        )
    cuts = [Counter(entry.synthesis.cleaned_by_rule) for entry in summary.rounds]
    for rule, _ in sum(cuts, Counter()).most_common():
        table.add_row(
            f"cut off: {rule.replace('_', ' ')}", *(f"{count[rule]:,}" if count[rule] else "" for count in cuts)
        )
    if any(entry.synthesis.shortfall for entry in summary.rounds):
        table.add_row("missing", *(f"{entry.synthesis.shortfall:,}" for entry in summary.rounds))
    return table


def _leakage(summary: RunSummary) -> list[Text]:
    """What the run gives away of its gold rows, in words."""
    found = summary.leakage
    if found is None:
        return []
    own, gold = found.synthetic, found.gold
    beside = f" (two gold rows: {gold.median_run:g} and {gold.longest_run})" if gold else ""
    lines = [
        f"Leakage: the {found.unit} in a row that a synthetic row shares with a gold row: {own.median_run:g} at the "
        f"median, {own.longest_run} at most{beside}. Cosine to the nearest gold row: {own.median_similarity:.2f} at "
        f"the median, {own.highest_similarity:.2f} at most"
        + (f" (two gold rows: {gold.median_similarity:.2f} and {gold.highest_similarity:.2f})." if gold else "."),
        f"{found.copies_dropped:,} copies of gold rows and {found.personal_dropped:,} texts with personal data of gold "
        "rows were dropped. " + _redacted(found.redacted),
    ]
    if found.membership is not None:
        attack, baseline = found.membership.selected, found.membership.gold_only
        beside = f"; gold-only classifier: {_percent(baseline.auc)}" if baseline else ""
        lines.append(
            f"Membership: of a gold row that the classifier was trained on and one that it was not, its confidence "
            f"tells which is which in {_percent(attack.auc)} of cases ({100 * attack.low:.0f} to "
            f"{100 * attack.high:.0f} %; guessing: 50 %{beside})."
        )
    return [Text("\n".join(lines) + "\n")]


def _redacted(counts: Mapping[str, int] | None) -> str:
    if counts is None:
        return "Prompts showed gold rows as they are (--redact replaces personal data)."
    kinds = ", ".join(f"{kind.replace('_', ' ')} {count:,}" for kind, count in counts.items())
    return f"Prompts showed invented values in place of {sum(counts.values()):,} ({kinds or 'nothing was found'})."


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
    table.add_row("label check", "", "", "", "", f"{_label_check_seconds(summary):.0f}")
    table.add_row("final", "", "", "", f"{final.training.seconds:.0f}", f"{final.seconds:.0f}")
    if summary.model_selection.outcome == "done":
        others = [student for student in (summary.gold_only, summary.averaged) if student is not None]
        seconds = summary.model_selection.seconds + sum(student.seconds for student in others)
        table.add_row("model selection", "", "", "", "", f"{seconds:.0f}")
    if summary.large is not None:
        table.add_row("large", "", "", "", f"{summary.large.training.seconds:.0f}", f"{summary.large.seconds:.0f}")
    return table


def _workers(folder: Path) -> list[Text]:
    """What the workers of each machine have done, if there was more than one machine, as the run's events say."""
    jobs, seconds = Counter[str](), Counter[str]()
    for event in RunFolder(folder).events():
        if event.get("event") == JOBS_DONE:
            jobs[event["host"]] += event["jobs"]
            seconds[event["host"]] += event["seconds"]
    if len(jobs) < 2:
        return []
    done = (f"{host} {counted(jobs[host], 'job')} in {seconds[host]:,.0f} s" for host in sorted(jobs))
    return [Text(f"Workers: {'; '.join(done)}.\n")]


def render_quick(result: QuickResult, folder: Path) -> RenderableType:
    """What a student of dev alone scores, where it lies, and what comes next."""
    measure = "F1" if isinstance(result.test, AnswerMetrics) else "accuracy"
    lines = [f"{result.task}: a classifier of {counted(result.rows, 'dev row')}, without synthetic rows"]
    if result.score is None or result.low is None or result.high is None:
        lines.append(f"cross-validation: skipped, {UNDIVIDED}")
    else:
        interval = f"{100 * result.low:.0f} to {100 * result.high:.0f} %"
        lines.append(f"cross-validated: {_percent(result.score)} ({interval}) on {result.scored} dev rows")
    if result.test is not None:
        first, _, interval = _figures(result.test)
        lines.append(f"test {measure}:   {first} ({interval})")
    lines += [
        f"model:    {folder} ({result.seconds:.0f} seconds)",
        f"predict:  s3local predict {folder} your-file.csv",
        "next:     the same command without --quick writes rows and selects a better classifier, if it finds one",
    ]
    return Text("\n".join(lines))


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


def _label_check_seconds(summary: RunSummary) -> float:
    return summary.label_check.judges.seconds + sum(entry.reading.seconds for entry in summary.rounds if entry.reading)
