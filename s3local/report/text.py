"""The figures of a run as tables of plain text. Reads the run folder's result; computes nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from s3local.exceptions import RunError
from s3local.runner.state import RESULT_FILE, RunFolder

MEASURES = (
    ("auc", "AUC"),
    ("mmd", "MMD²"),
    ("coverage", "cover"),
    ("distinct_2", "dist-2"),
    ("self_bleu", "BLEU"),
    ("neighbour_distance", "apart"),
)
"""Keys of a round's gap (see ``evaluation.gap``), and the heads of their columns."""

UNDIVIDED = "dev has no two rows of one label that could be kept apart"
"""Why neither guard nor label check is possible."""
AS_ASKED = "all rows keep the label that they were asked for"
"""What becomes of labels that were not checked."""


def read_result(folder: Path) -> dict[str, Any]:
    """The figures of a finished run. Raises ``RunError`` if the folder holds none."""
    result = RunFolder(folder).read(RESULT_FILE) if folder.is_dir() else None
    if result is None:
        raise RunError(f"{folder} holds no finished run (there is no {RESULT_FILE}); run the same 's3local run' again")
    return result


def render(result: Mapping[str, Any], folder: Path) -> RenderableType:
    """How good each stage's student is, the gap to gold, rows dropped by reason, and where the time went."""
    parts: list[RenderableType] = [
        _accuracy(result),
        *_guard(result),
        *_label_check(result),
        _gap(result),
        _dropped(result),
        _time(result),
    ]
    return Group(*parts, _where(result, folder))


def _accuracy(result: Mapping[str, Any]) -> Table:
    spans = result.get("kind") == "extractive_qa"
    headline, second = ("f1", "exact_match") if spans else ("accuracy", "macro_f1")
    title, other = ("F1 of the answers", "exact") if spans else ("accuracy", "F1")
    table = Table(
        Column("stage", no_wrap=True), box=SIMPLE_HEAD, title=f"{result['task']}: {title}", title_justify="left"
    )
    for name in ("rows", "dev", f"dev {other}", "test", f"test {other}", "95 % interval"):
        table.add_column(name, justify="right")
    for entry in result["rounds"]:
        name = "round-0 (seed)" if entry["stage"] == "round-0" else entry["stage"]
        table.add_row(name, *_scores(entry["metrics"], result["test"].get(entry["stage"]), headline, second))
    seen = result["with_gold"]
    name = "final (+ dev)" if seen else "final"
    table.add_row(name, *_scores(result["final"], result["test"].get("final"), headline, second, seen=seen))
    if "gold" in result:
        table.add_row("dev alone", *_scores(result["gold"], result["test"].get("gold"), headline, second, seen=True))
    if "averaged" in result:
        mean = result["averaged"]
        table.add_row("mean of both", *_scores(mean, result["test"].get("averaged"), headline, second, seen=True))
    return table


def _scores(
    metrics: Mapping[str, Any], test: Mapping[str, Any] | None, headline: str, second: str, *, seen: bool = False
) -> list[str]:
    dev = metrics["dev"]
    cells = [
        f"{metrics['rows']:,}",
        *(["seen", "seen"] if seen else [_percent(dev[headline]), _percent(dev[second])]),
    ]
    if test is None:
        return [*cells, "-", "-", "-"]
    interval = f"{100 * test[f'{headline}_low']:.0f} to {100 * test[f'{headline}_high']:.0f} %"
    return [*cells, _percent(test[headline]), _percent(test[second]), interval]


def _guard(result: Mapping[str, Any]) -> list[Text]:
    """The verdict of the guard in words, or why there is none; nothing if it was not asked."""
    if "guard" not in result:
        return []
    guard = result["guard"]
    if guard is None:
        return [Text(f"Guard: none, {UNDIVIDED}; nothing tells whether the synthetic rows help.\n")]
    measure = "F1" if result.get("kind") == "extractive_qa" else "right"
    share = guard["share"]
    if share == 0:
        verdict = "the synthetic rows do not help: the student of dev alone is handed over, both are kept"
    else:
        verdict = f"the mean of the weights of both is handed over, {100 * share:.0f} % from the final student"
    compared = (
        f"Guard: cross-validated on {guard['n_rows']} dev rows, {measure} {_percent(guard['final'])} with synthetic "
        f"rows, {_percent(guard['gold'])} without, {_percent(guard['chosen'])} ({100 * guard['low']:.0f} to "
        f"{100 * guard['high']:.0f} %) in what is handed over;"
    )
    if guard["evidence"]:
        factor = math.exp(guard["evidence"])
        compared += f" it finds right labels {100 * (factor - 1):.0f} % more probable than without;"
    return [Text(f"{compared}\n{verdict}.\n")]


def _label_check(result: Mapping[str, Any]) -> list[Text]:
    """What the judges get right on dev rows that they did not learn from, or why there are none; nothing where labels
    were not to be checked."""
    check = result["final"]["label_check"]
    if few := check.get("too_few"):
        found = f"dev has {few['rows']} of {few['label']!r}, and judges need {few['least']} rows of each label"
        return [Text(f"Label check: none, {found}; {AS_ASKED}.\n")]
    if check.get("undivided"):
        return [Text(f"Label check: none, {UNDIVIDED}; {AS_ASKED}.\n")]
    judges = check["judges"] or check.get("left_out", 0)
    if not judges:
        return []
    who = f"{judges} judges and the teacher" if check["teacher"] else f"{judges} judges"
    done = f"too few to tell from chance, so that {AS_ASKED}"
    if check["judges"]:
        seems = f"{_percent(check['rows_right'])} of all rows seem to be what they were asked for"
        done = f"{seems}, {check['relabelled']:,} rows relabelled"
    right = _percent(check["dev_accuracy"])
    return [Text(f"Label check: {who}, right on {right} of the dev rows that they did not learn from; {done}.\n")]


def _gap(result: Mapping[str, Any]) -> Table:
    table = Table("rows so far", box=SIMPLE_HEAD, title="Gap to dev (docs/compare.md)", title_justify="left")
    for _, head in MEASURES:
        table.add_column(head, justify="right")
    for entry in result["rounds"]:
        table.add_row(entry["stage"], *(decimals(entry["gap"]["all"][key]) for key, _ in MEASURES))
    return table


def decimals(value: float | None) -> str:
    """A measure of the gap; a dash where there were too few rows for it."""
    return "-" if value is None else f"{value:.3f}"


def _dropped(result: Mapping[str, Any]) -> Table:
    stages = [entry["stage"] for entry in result["rounds"]]
    table = Table("texts", *stages, box=SIMPLE_HEAD, title="What became of the teacher's texts", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    counts = [Counter(entry["synthesis"]["dropped_by_reason"]) for entry in result["rounds"]]
    table.add_row("kept", *(f"{entry['synthesis']['kept']:,}" for entry in result["rounds"]))
    for reason, _ in sum(counts, Counter()).most_common():
        table.add_row(
            f"dropped: {reason.replace('_', ' ')}", *(f"{count[reason]:,}" if count[reason] else "" for count in counts)
        )
    if any(entry["synthesis"]["shortfall"] for entry in result["rounds"]):
        table.add_row("missing", *(f"{entry['synthesis']['shortfall']:,}" for entry in result["rounds"]))
    return table


def _time(result: Mapping[str, Any]) -> Table:
    table = Table("seconds", box=SIMPLE_HEAD, title="Time", title_justify="left")
    for name in ("teacher", "tokens", "tokens/s", "training", "all"):
        table.add_column(name, justify="right")
    for entry in result["rounds"]:
        synthesis, metrics = entry["synthesis"], entry["metrics"]
        teacher = synthesis["teacher_seconds"]
        table.add_row(
            entry["stage"],
            f"{teacher:.0f}",
            f"{synthesis['tokens']:,}",
            f"{synthesis['tokens'] / teacher:.0f}" if teacher else "-",
            f"{metrics['training_seconds']:.0f}",
            f"{max(teacher, synthesis['seconds']) + metrics['seconds']:.0f}",
        )
    final = result["final"]
    table.add_row("label check", "", "", "", "", f"{final['label_check']['seconds']:.0f}")
    table.add_row("final", "", "", "", f"{final['training_seconds']:.0f}", f"{final['seconds']:.0f}")
    if result.get("guard"):
        table.add_row("guard", "", "", "", "", f"{_guard_seconds(result):.0f}")
    return table


def _guard_seconds(result: Mapping[str, Any]) -> float:
    stages = [result[stage]["seconds"] for stage in ("gold", "averaged") if stage in result]
    return float(result["guard"]["seconds"] + sum(stages))


def _where(result: Mapping[str, Any], folder: Path) -> Text:
    lines = [
        f"model:    {folder / result['selected'] / 'student'}",
        f"dataset:  {folder / 'final' / 'dataset.jsonl'} ({result['rows']:,} synthetic rows, "
        f"sha256 {result['dataset_sha256'][:16]}...)",
        f"predict:  s3local predict {folder} your-file.csv",
    ]
    return Text("\n".join(lines))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
