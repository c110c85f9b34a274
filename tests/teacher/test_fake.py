"""The scripted teacher keeps the promises of the real one."""

from __future__ import annotations

import pytest

from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Request, Teacher


def test_default_texts_depend_on_seed_and_prompt_alone() -> None:
    requests = [Request("A", seed=1), Request("B", seed=1), Request("A", seed=2), Request("A", seed=1)]
    texts = [completion.text for completion in FakeTeacher().generate(requests)]
    assert texts[0] == texts[3]
    assert len(set(texts)) == 3
    assert texts == [completion.text for completion in FakeTeacher().generate(requests)]


def test_script_stop_and_cap() -> None:
    teacher = FakeTeacher(lambda request: f" One {request.prompt} two.\nThree four")
    advanced: list[int] = []
    ended, stopped, capped = teacher.generate(
        [Request("p", 0), Request("p", 0, stop=("\nT", "\n")), Request("p", 0, max_tokens=2)], advanced.append
    )
    assert (ended.text, ended.finish, ended.n_tokens) == (" One p two.\nThree four", "end", 6)
    assert (stopped.text, stopped.finish, stopped.n_tokens) == (" One p two.", "stop", 4)
    assert (capped.text, capped.finish, capped.n_tokens) == (" One p", "length", 2)
    assert advanced == [1, 1, 1]
    assert [request.max_tokens for request in teacher.requests] == [128, 128, 2]


def test_a_text_that_may_not_end_yet_goes_on() -> None:
    teacher = FakeTeacher(lambda request: " One.\nTwo.\n")
    (text,) = teacher.generate([Request("p", 0, stop=("\n",), min_tokens=4)])
    assert (text.text, text.finish, text.n_tokens) == (" One. again again again", "end", 5)


def test_scores() -> None:
    teacher = FakeTeacher()
    first, empty = teacher.score("prompt", [" a good film", ""])
    assert first.logprob == pytest.approx(sum(first.token_logprobs))
    assert len(first.token_logprobs) == teacher.count_tokens(" a good film") == 3
    assert empty.logprob == 0.0 and empty.token_logprobs == ()
    assert teacher.score("prompt", [" a good film"]) == [first]
    assert teacher.score("other", [" a good film"]) != [first]
    assert FakeTeacher(weigh=lambda prompt, text: -7.0).score("", ["x y"])[0].token_logprobs == (-3.5, -3.5)
    assert teacher.n_calls == 3
    assert teacher.scored[0] == ("prompt", " a good film")


def test_is_a_teacher_that_closes() -> None:
    teacher: Teacher = FakeTeacher()
    assert teacher.chat([{"role": "user", "content": "Hello"}]) == "user: Hello\nassistant:"
    teacher.close()
    teacher.close()
    with pytest.raises(ValueError, match="closed"):
        teacher.generate([])
