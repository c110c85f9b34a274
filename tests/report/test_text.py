"""A run as text: every student has its line, and what was not done is said with its reason."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console
from some_results import ANSWERS, AWKWARD, run_summary, student

from s3local.exceptions import RunError
from s3local.report.text import read_summary, render
from s3local.results import (
    JudgesResult,
    LabelCheckResult,
    LabelModelFigures,
    ModelSelectionResult,
    RunSummary,
    Verdict,
    write_result,
)
from s3local.runner.state import RunFolder

FIGURES = LabelModelFigures(correct={"a": 0.7, "b": 0.8}, correct_overall=0.75, relabelled=1234)
VERDICT = Verdict(
    share=0.25, final=0.6, gold_only=0.55, selected=0.7, low=0.6, high=0.8, gain=0.1, n_rows=60, synthetic_rows=(5, 6)
)


def text_of(summary: RunSummary, folder: Path = Path("runs/toy/default")) -> str:
    console = Console(width=400, file=io.StringIO(), record=True)
    console.print(render(summary, folder))
    return console.export_text()


def test_every_student_has_its_line() -> None:
    text = text_of(dataclasses.replace(run_summary(), averaged=student("averaged")))
    for name in ("round-0 (seed)", "final (+ dev)", "gold-only", "average"):
        assert any(line.strip().startswith(name) for line in text.splitlines()), name
    assert "66.7 %" in text and "toy: accuracy" in text


@pytest.mark.parametrize("name", AWKWARD)
def test_names_and_labels_are_shown_as_they_are(name: str) -> None:
    summary = dataclasses.replace(run_summary(), task=name)
    console = Console(width=400, file=io.StringIO(), record=True)
    console.print(render(summary, Path("runs") / "[b]"))
    text = console.export_text()
    assert f"{name}: accuracy" in text
    assert str(Path("runs") / "[b]" / "gold" / "student") in text


def test_answers_have_their_own_figures() -> None:
    text = text_of(run_summary(ANSWERS))
    assert "F1 of the answers" in text and "dev exact" in text and "33.3 %" in text


def test_a_run_without_test_rows_has_dashes() -> None:
    summary = run_summary()
    rounds = (dataclasses.replace(summary.rounds[0], student=dataclasses.replace(student("round-0"), test=None)),)
    line = next(line for line in text_of(dataclasses.replace(summary, rounds=rounds)).splitlines() if "(seed)" in line)
    assert line.split()[-3:] == ["-", "-", "-"]


SELECTIONS = {
    "off": (ModelSelectionResult(outcome="off"), None),
    "undivided": (ModelSelectionResult(outcome="undivided"), "Model selection: skipped, dev has no two rows"),
    "average": (ModelSelectionResult(outcome="done", verdict=VERDICT), "Selected: the average of the weights, 25 %"),
    "gold-only": (
        ModelSelectionResult(outcome="done", verdict=dataclasses.replace(VERDICT, share=0.0)),
        "Selected: the gold-only model",
    ),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_model_selection_in_words(name: str) -> None:
    result, words = SELECTIONS[name]
    text = text_of(dataclasses.replace(run_summary(), model_selection=result))
    assert (words or "Selected") in text if words else "Selected" not in text
    if result.verdict is not None:
        assert "1.11 times the probability" in text and "60 to 80 %" in text


CHECKS = {
    "off": (LabelCheckResult(judges=JudgesResult(outcome="off")), None),
    "undivided": (LabelCheckResult(judges=JudgesResult(outcome="undivided")), "skipped, dev has no two rows"),
    "no gain": (LabelCheckResult(judges=JudgesResult(outcome="no_gain", judges=4)), "no better than chance"),
    "applied": (
        LabelCheckResult(judges=JudgesResult(outcome="applied", judges=4, accuracy=0.9), figures=FIGURES),
        "1,234 rows relabelled",
    ),
}


@pytest.mark.parametrize("name", CHECKS)
def test_the_label_check_in_words(name: str) -> None:
    result, words = CHECKS[name]
    text = text_of(dataclasses.replace(run_summary(), label_check=result))
    assert words in text if words else "Label check" not in text
    assert ("all rows keep their requested label" in text) == (name not in ("off", "applied"))


def test_workers_have_a_line_if_there_was_more_than_one_machine(tmp_path: Path) -> None:
    folder, summary = RunFolder(tmp_path), run_summary()
    folder.event("jobs done", host="[b]", jobs=3, units=700, seconds=60.2)
    assert "Workers" not in text_of(summary, tmp_path)
    folder.event("jobs done", host="a", jobs=1, units=256, seconds=1999.5)
    folder.event("jobs done", host="[b]", jobs=2, units=400, seconds=40)
    assert "Workers: [b] 5 jobs in 100 s; a 1 job in 2,000 s." in text_of(summary, tmp_path)


def test_a_folder_without_a_finished_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no finished run"):
        read_summary(tmp_path)
    write_result(tmp_path / "result.json", run_summary())
    assert read_summary(tmp_path) == run_summary()


@pytest.mark.parametrize(("accuracy", "said"), [(0.8, True), (0.7, False)])
def test_a_larger_student_is_named_only_if_it_would_score_more(accuracy: float, said: bool) -> None:
    judges = JudgesResult(outcome="applied", judges=4, n_rows=60, accuracy=accuracy)
    summary = dataclasses.replace(
        run_summary(),
        model_selection=ModelSelectionResult(outcome="done", verdict=VERDICT),
        label_check=LabelCheckResult(judges=judges, figures=FIGURES),
    )
    assert ("--student large" in text_of(summary)) == said
    assert "--student large" not in text_of(dataclasses.replace(summary, large=student("large")))
