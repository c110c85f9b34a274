"""The helper of the driver: what it is told of jobs, and answers that can only be those of their own job."""

from __future__ import annotations

import dataclasses
import importlib.util

import pytest

from s3local.ray_worker import Answer, Helper


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def helper(clock: Clock) -> Helper:
    return Helper({}, clock)


def test_only_a_job_that_runs_is_silent_and_a_sign_of_life_ends_it(helper: Helper, clock: Clock) -> None:
    for place in (0, 1, 2):
        helper.begun(7, place, "a")
    clock.now = 10
    helper.advanced(7, 1, 0)
    helper.ended(7, 2, 1)
    clock.now = 15
    report = helper.report(7)
    assert report.silent == {0: 15, 1: 5} and report.longest == 10
    assert helper.given_up(7, 0) == "a"
    assert 0 not in helper.report(7).silent
    helper.advanced(7, 0, 5)  # it wakes up too late
    assert helper.report(7).done == 1


def test_a_job_that_begins_again_was_lost_and_counts_anew(helper: Helper) -> None:
    helper.begun(0, 3, "a")
    helper.advanced(0, 3, 4)
    helper.begun(0, 3, "b")
    assert helper.report(0).lost == ("a",) and helper.report(0).done == 0
    helper.ended(0, 3, 6)
    assert helper.report(0).done == 6 and helper.report(1).done == 0
    helper.given_up(0, 3)  # its answer was wrong
    helper.begun(0, 3, "a")
    assert helper.report(0).lost == ("a",)


def test_each_machine_has_the_jobs_that_ended_there_and_their_time(helper: Helper, clock: Clock) -> None:
    helper.begun(0, 0, "a")
    helper.begun(0, 1, "b")
    clock.now = 2
    helper.ended(0, 0, 30)
    helper.begun(0, 2, "a")
    clock.now = 5
    helper.ended(0, 2, 10)
    helper.advanced(0, 1, 4)
    clock.now = 8
    shares = helper.report(0).shares
    assert dataclasses.astuple(shares["a"]) == (2, 40, 5, 5)
    assert dataclasses.astuple(shares["b"]) == (0, 4, 8, 8)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the package ray")
def test_an_answer_is_taken_for_its_own_job_alone_and_whole() -> None:
    answer = Answer.of(3, 5, {"rows": [1, 2]})
    assert answer.result(3, 5) == {"rows": [1, 2]}
    for batch, place in ((3, 4), (2, 5)):
        with pytest.raises(ValueError, match="came for"):
            answer.result(batch, place)
    for place in range(len(answer.content)):
        damaged = bytes(byte ^ (number == place) for number, byte in enumerate(answer.content))
        with pytest.raises(ValueError, match="checksum"):
            dataclasses.replace(answer, content=damaged).result(3, 5)
