"""The prompt style of an imported teacher follows from what it writes, not from the template in its file."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from small_world import BagOfWords

from s3local.exceptions import TeacherError
from s3local.progress import Silent
from s3local.runner.prompt_style import GOLD, LEAST_GAIN, StyleScore, best_style, choose_style, measure_styles
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Request
from s3local.weights.manifest import Model, WeightFile, load_manifest


class WithoutTemplate(FakeTeacher):
    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        raise TeacherError("no chat template")


def good_text(request: Request) -> str:
    """A gold text of the label that is asked for, and a few more words."""
    asked = request.prompt.lower()
    label = next(name for name, texts in GOLD.items() if texts[-1].lower() in asked)
    return f"{random.Random(request.seed).choice(GOLD[label])} Please look into it."


def one_that(chats: str, lists: str) -> FakeTeacher:
    """A teacher whose texts are good, or which only has the lead-in "Sure! Here is one:", in either way of asking."""

    def write(request: Request) -> str:
        how = chats if request.special else lists
        return {"well": f" {good_text(request)}\n", "badly": f"Sure! Here is one: {good_text(request)}"}[how]

    return FakeTeacher(write)


def scores_of(teacher: FakeTeacher) -> dict[str, float]:
    return {score.style: score.good for score in measure_styles(teacher, BagOfWords())}


def test_each_style_is_scored_by_its_good_texts() -> None:
    scores = scores_of(one_that(chats="badly", lists="well"))
    assert scores["chat"] == scores["prefill"] == 0 < 0.5 < scores["list"]
    assert best_style(measure_styles(one_that(chats="well", lists="badly"), BagOfWords())).style == "prefill"


def test_a_model_without_a_template_continues_lists() -> None:
    assert set(scores_of(WithoutTemplate(good_text))) == {"list"}


def test_a_later_style_must_be_clearly_better() -> None:
    near = [StyleScore("list", 0.5), StyleScore("prefill", 0.5 + LEAST_GAIN / 2), StyleScore("chat", 0.5)]
    assert best_style(near).style == "list"
    assert best_style([*near[:2], StyleScore("chat", 0.5 + 2 * LEAST_GAIN)]).style == "chat"


class Heard(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)


def test_what_is_not_measured_is_said() -> None:
    heard = Heard()
    known = next(model for model in load_manifest().values() if "teacher" in model.roles)
    assert choose_style(known, heard) is known
    huge = Model(
        id="huge",
        roles=("teacher",),
        licence="MIT",
        files=(WeightFile(path="m.gguf", size=10**10),),
        prompt_style="chat",
    )
    assert choose_style(huge, heard) is huge
    assert "as the manifest says" in heard.lines[0] and "not measured" in heard.lines[1]
    encoder = Model(id="e", roles=("encoder",), licence="MIT", files=(WeightFile(path="a"),))
    assert choose_style(encoder, heard) is encoder
    assert len(heard.lines) == 2
