"""Planned requests: as many as asked for, and set against another label where that is wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from s3local.records import SPAN, Answer, Example
from s3local.synthesis.extrapolation import plan_extrapolation
from s3local.synthesis.planning import Planned, another_label
from s3local.synthesis.prompts import Prompts
from s3local.synthesis.seed import Context, plan_seed, plan_seed_on
from s3local.task.model import Label, Task
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Sampling

LABELS = tuple(Label(name=name, description=f"About {name}.", phrase=f"on {name}") for name in ("sun", "rain", "wind"))
TEXTS = Task(name="w", texts="weather notes", labels=LABELS)
WANTED = {"sun": 8, "rain": 12}
PAIRS = Task(name="p", kind="pair", texts="claims", fields=("note", "claim"), labels=LABELS)
SPANS = Task(name="s", kind="extractive_qa", texts="questions", fields=("note", "question"))


def prompts(task: Task) -> Prompts:
    teacher = FakeTeacher()
    return Prompts(task, "list", 40, teacher.chat, teacher.count_tokens)


def rows_of(task: Task) -> list[Example]:
    answers = () if task.labels else (Answer("note", 0),)
    return [
        Example(f"{label}-{n}", {name: f"{name} {n} of {label}" for name in task.fields}, label, answers)
        for label in task.groups
        for n in range(6)
    ]


def seeds(contrast: float) -> list[Planned]:
    reasons = {label.name: [f"reason {n} of {label.name}" for n in range(4)] for label in LABELS}
    return plan_seed(prompts(TEXTS), WANTED, reasons, shown=2, sampling=Sampling(), seed=[1], contrast=contrast)


def pair_seeds(contrast: float) -> list[Planned]:
    contexts = [Context(f"c{n}", f"the note {n}") for n in range(3)]
    return plan_seed_on(prompts(PAIRS), WANTED, contexts, sampling=Sampling(), seed=[1], contrast=contrast)


def extrapolated(task: Task) -> Callable[[float], list[Planned]]:
    rows = rows_of(task)
    gold = {label: [row for row in rows if row.label == label] for label in task.groups}

    def plan(contrast: float) -> list[Planned]:
        return plan_extrapolation(
            prompts(task),
            WANTED if task.labels else {SPAN: 20},
            rows[:8],
            gold,
            shots=2,
            samples=5,
            sampling=Sampling(),
            seed=[1],
            contrast=contrast,
        )

    return plan


PLANS = {
    "seed": seeds,
    "pair seed": pair_seeds,
    "extrapolation": extrapolated(TEXTS),
    "pair extrapolation": extrapolated(PAIRS),
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_text_is_set_against_another_label_and_only_where_that_is_wanted(
    plan: Callable[[float], list[Planned]],
) -> None:
    plain, planned = plan(0.0), plan(0.5)
    assert plan(0.5) == planned
    assert Counter(item.label for item in plain) == Counter(item.label for item in planned) == WANTED
    assert not any(item.request.contrast for item in plain)
    against = set()
    for item in planned:
        contrast = item.request.contrast
        assert contrast is not None
        assert contrast.gamma == 0.5
        named = [label.name for label in LABELS if f"on {label.name}" in contrast.prompt]
        assert len(named) == 1
        assert named != [item.label]
        assert f"on {item.label}" in item.request.prompt
        shown = [line for line in contrast.prompt.splitlines() if not line.startswith("Note: ")]
        assert not any(f"of {label.name}" in line for line in shown for label in LABELS if [label.name] != named)
        against.add(named[0])
    assert len(against) > 1


def test_errors_take_turns_and_each_prompt_brings_its_samples() -> None:
    planned = extrapolated(TEXTS)(0.0)
    texts_of = [Counter(item.origin["error"] for item in planned if item.label == label) for label in WANTED]
    assert [sorted(texts.values()) for texts in texts_of] == [[3, 5], [5, 7]]  # of "rain", two rows are errors
    assert len({item.request.seed for item in planned}) == 20
    with pytest.raises(ValueError, match="no error of the label 'wind'"):
        plan_extrapolation(prompts(TEXTS), {"wind": 1}, [], {}, shots=2, samples=5, sampling=Sampling(), seed=[1])


def test_the_contrast_prompt_of_a_pair_ends_with_the_same_source_text() -> None:
    for item in extrapolated(PAIRS)(0.5):
        assert item.request.contrast is not None
        assert item.request.contrast.prompt.endswith(f"\n\nNote: {item.source_fields['note']}\n-")
        assert f"Note: {item.source_fields['note']}\n- " in item.request.prompt


def test_questions_have_no_label_to_be_set_against() -> None:
    contexts = [Context("c", "the note", {"words": [Answer("note", 4)]})]
    seed = plan_seed_on(prompts(SPANS), {SPAN: 4}, contexts, sampling=Sampling(), seed=[1], contrast=0.5)
    assert not any(item.request.contrast for item in [*seed, *extrapolated(SPANS)(0.5)])


def test_another_label_is_never_the_same() -> None:
    chance = np.random.default_rng(0)
    drawn = {another_label(["a", "b", "c"], "b", chance) for _ in range(50)}
    assert drawn == {"a", "c"}
    with pytest.raises(ValueError, match="no label other than"):
        another_label(["a"], "a", chance)


def test_a_contrast_prompt_that_is_too_long_loses_its_longest_rows() -> None:
    teacher = FakeTeacher()
    short, long = Example("s", {"text": "mild"}, "sun"), Example("l", {"text": "word " * 200}, "sun")
    tight = Prompts(TEXTS, "list", 40, teacher.chat, teacher.count_tokens, 60)
    text = tight.contrast("sun", [short, long], {}).text
    assert "mild" in text
    assert "word" not in text


@pytest.mark.parametrize("stage", ["seed", "extrapolation"])
def test_the_lengths_of_gold_rows_are_taken_in_turn(stage: str) -> None:
    models = ["word " * count for count in (3, 5, 8, 13)]
    if stage == "seed":
        planned = plan_seed(prompts(TEXTS), WANTED, {}, shown=0, sampling=Sampling(), seed=[1], length_like=models)
    else:
        rows = rows_of(TEXTS)
        gold = {label: [row for row in rows if row.label == label] for label in TEXTS.groups}
        planned = plan_extrapolation(
            prompts(TEXTS), WANTED, rows, gold, shots=2, samples=8, sampling=Sampling(), seed=[1], length_like=models
        )
    assert Counter(item.origin["characters"] for item in planned) == {len(model): 5 for model in models}
    for item in planned:
        words = item.origin["characters"] // len("word ")
        assert words - 2 <= item.request.min_tokens <= words + 1 <= item.request.max_tokens <= words + 3
    for error in {item.origin.get("error") for item in planned}:  # one prompt, whose computation its texts share
        assert len({item.request.prompt for item in planned if item.origin.get("error") == error}) == (
            len(models) * len(WANTED) if stage == "seed" else 1
        )
