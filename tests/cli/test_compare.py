"""``compare``: what cannot be compared is told in one line, and the help knows every method."""

from __future__ import annotations

from pathlib import Path

import pytest
from program import call, complains

from s3local.comparison.methods import GROUPS, METHODS

BAD_COMPARISONS = {
    "an unknown method": (["--methods", "gold,s4"], "s4", "s3-no-ees"),
    "an unknown reference": (["--reference", "best"], "best"),
    "a seed that is no number": (["--seeds", "0,one"], "--seeds", "one"),
    "more gold rows than there are": (["--gold", "20,600"], "dev.jsonl", "600"),
}


@pytest.mark.parametrize("name", BAD_COMPARISONS)
def test_a_comparison_that_cannot_be_is_told_in_one_line(task: Path, name: str, tmp_path: Path) -> None:
    options, *parts = BAD_COMPARISONS[name]
    complains(call("compare", str(task), "--out", str(tmp_path / "out"), *options), *parts)
    assert not (tmp_path / "out").exists()


def test_compare_help_tells_of_every_method() -> None:
    text = call("compare", "--help").output.partition("Options:")[0]
    told = {name.strip(",") for name in text.split()}
    missing = set(METHODS) - set(GROUPS["teacher"]) - told
    assert not missing and set(GROUPS) <= told


def test_a_comparison_of_question_answering_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "qa"
    call("init", str(folder), "--kind", "extractive_qa")
    complains(call("compare", str(folder), "--out", str(tmp_path / "out")), "a comparison needs", "labels")
