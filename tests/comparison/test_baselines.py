"""Baselines: the teacher predicts the label under which a text is likeliest, and sees gold rows of that label alone."""

from __future__ import annotations

from pathlib import Path

from small_world import make_task

from s3local.comparison import baselines
from s3local.comparison.baselines import BASELINES
from s3local.comparison.methods import METHODS
from s3local.progress import Silent
from s3local.synthesis.prompts import Prompts
from s3local.task.rows import load_dev, load_rows
from s3local.teacher.fake import FakeTeacher


def test_every_method_has_a_run_or_a_baseline() -> None:
    assert set(BASELINES) == {method.name for method in METHODS.values() if method.run is None}


def test_the_teacher_decides_for_the_label_under_which_a_text_is_likeliest(tmp_path: Path) -> None:
    task = make_task(tmp_path)
    assert task.test is not None
    test, dev = load_rows(task.test, task), load_dev(task)
    moods = {"that praise": ("good", "great", "fine"), "that complain": ("bad", "awful", "poor")}

    def weigh(prompt: str, text: str) -> float:
        phrase = next(phrase for phrase in moods if phrase in prompt)
        return -1.0 if any(word in text for word in moods[phrase]) else -2.0

    teacher = FakeTeacher(weigh=weigh)
    prompts = Prompts(task, "list", 1, teacher.chat)
    for gold in ([], dev):
        predicted = baselines.classify_by_teacher(teacher, prompts, gold, test, 0, Silent())
        assert predicted == [row.label for row in test]
    zero_shot, few_shot = teacher.scored[0][0], teacher.scored[-1][0]
    assert not any(row.text in zero_shot for row in dev)
    assert any(row.text in few_shot for row in dev if row.label == "positive")
    assert not any(row.text in few_shot for row in dev if row.label == "negative")
