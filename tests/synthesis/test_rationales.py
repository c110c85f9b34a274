"""Rationales: the likeliest whole and distinct reasons, in any script."""

from __future__ import annotations

from s3local.synthesis.prompts import Prompts
from s3local.synthesis.rationales import SAMPLES_PER_KEPT, plan_rationales, select_rationales
from s3local.task.model import Label, Task
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Completion, FinishReason, Sampling


def completions(*texts: str, finish: FinishReason = "stop") -> list[Completion]:
    return [Completion(text, 4, finish, -float(place)) for place, text in enumerate(texts)]


def test_the_likeliest_distinct_ones_stay() -> None:
    some = completions("the screen stays dark.", "the screen stays dark again", "a noise at night", "short", "no: list")
    assert select_rationales(some, 3) == ["the screen stays dark", "a noise at night"]
    assert select_rationales(some, 1) == ["the screen stays dark"]
    assert select_rationales(completions("the screen stays", finish="length"), 3) == []


def test_scripts_without_spaces_have_reasons_too() -> None:
    some = completions("服务态度很差", "服务态度很差啊", "菜不新鲜", "差", "等了一个小时")
    assert select_rationales(some, 4) == ["服务态度很差", "菜不新鲜", "等了一个小时"]


def test_labels_with_reasons_of_their_own_are_not_asked_for() -> None:
    labels = (
        Label(name="a", description="x", rationales=("the acting moved the writer",)),
        Label(name="b", description="y"),
    )
    teacher = FakeTeacher()
    prompts = Prompts(Task(name="t", texts="texts", labels=labels), "list", 40, teacher.chat)
    planned = plan_rationales(prompts, 2, Sampling(), [0])
    assert {item.label for item in planned} == {"b"}
    assert len(planned) == 2 * SAMPLES_PER_KEPT
