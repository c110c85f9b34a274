"""The teacher as a judge: what it reads, it scores under the label's prompt; what it does not read, it is not asked."""

from __future__ import annotations

import numpy as np
import pytest
from small_world import make_task

from s3local.relabelling.teacher_likelihood import label_logprobs
from s3local.synthesis.prompts import Prompts
from s3local.teacher.fake import FakeTeacher

TEXTS = ["one", "two words", "and three words"]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Prompts:
    return Prompts(make_task(tmp_path_factory.mktemp("toy")), "list", 40, FakeTeacher().chat)


def weigh(prompt: str, text: str) -> float:
    return -float(len(text) + (10 if "that praise" in prompt else 0))


def test_each_text_is_read_under_each_label(prompts: Prompts) -> None:
    done: list[int] = []
    said = label_logprobs(FakeTeacher(weigh=weigh), prompts, TEXTS, advance=done.append)
    lengths = [len(prompts.entry(text)) for text in TEXTS]
    assert said.tolist() == [[-length, -length - 10] for length in lengths]
    assert sum(done) == 6
    assert label_logprobs(FakeTeacher(weigh=weigh), prompts, []).shape == (0, 2)


def test_an_unlikely_label_is_not_read(prompts: Prompts) -> None:
    likely = np.array([[True, True], [False, True], [True, False]])
    done: list[int] = []
    teacher = FakeTeacher(weigh=weigh)
    said = label_logprobs(teacher, prompts, TEXTS, likely=likely, advance=done.append)
    one, two, three = (len(prompts.entry(text)) for text in TEXTS)
    np.testing.assert_equal(said, [[-one, -one - 10], [np.nan, -two - 10], [-three, np.nan]])
    assert len(teacher.scored) == sum(done) == 4
