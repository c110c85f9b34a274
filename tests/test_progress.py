"""Progress: a job says that it goes on, whatever its steps count."""

from __future__ import annotations

from s3local.progress import SignsOfLife


def test_whatever_a_step_reports_is_a_sign_of_life_without_units() -> None:
    told: list[int] = []
    progress = SignsOfLife(told.append)
    with progress.step("training", 100, "texts") as advance:
        begun = len(told)
        advance(64)
        advance(36)
        assert len(told) == begun + 2
    assert begun > 0 and len(told) > begun + 2 and set(told) == {0}
