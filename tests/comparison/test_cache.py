"""Laws of the cache: what was computed once comes back, and nothing else does."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from toys import LABELS, UNSEEN, reviews

from s3local.comparison.cache import JudgeCache, SharedTeacher
from s3local.exceptions import RunError
from s3local.executor import InThisProcess
from s3local.progress import ignore
from s3local.records import Example
from s3local.relabelling.judge import Judges, JudgeSettings, train_judges
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Request


def test_a_shared_teacher_repeats_a_call_from_disk_and_no_other(tmp_path: Path) -> None:
    taken: list[str] = []
    requests = [Request("A list", seed=seed, max_tokens=5) for seed in range(3)]
    inner = FakeTeacher()

    def shared() -> SharedTeacher:
        return SharedTeacher(lambda: inner, tmp_path, lambda key, seconds: taken.append(key))

    first = shared().generate(requests)
    assert shared().generate(requests) == first and len(taken) == 1
    assert shared().generate(requests[:2]) == first[:2] and len(taken) == 1
    assert inner.n_calls == 2
    next(tmp_path.glob("*.json")).write_text("{")
    with pytest.raises(RunError, match="is damaged"):
        for wanted in (requests, requests[:2]):
            shared().generate(wanted)


def test_judges_are_trained_once_for_the_same_rows_and_settings(tiny_bert: Path) -> None:
    taken: list[str] = []
    rows, short = reviews(), JudgeSettings(passes=32, batch_size=16, max_length=32)
    folds, further = np.arange(len(rows)) % 2, [("a good film", "positive")]
    train = JudgeCache(train_judges).trainer(lambda key, seconds: taken.append(key))

    def judges(
        some: Sequence[Example], fold_of: NDArray[np.int64], chosen: JudgeSettings, seed: int, more: Any = further
    ) -> Judges:
        return train(tiny_bert, some, LABELS, fold_of, chosen, [seed, 9], more, ignore, InThisProcess())

    first = judges(rows, folds, short, 3)
    assert judges(rows, folds, short, 3) is first and len(taken) == 1
    longer = dataclasses.replace(short, passes=48)
    assert judges(rows[1:], folds[1:], short, 3) is not first
    for others in ((rows, 1 - folds, short, 3), (rows, folds, longer, 3), (rows, folds, short, 4)):
        assert judges(*others) is not first
    assert judges(rows, folds, short, 3, []) is not first
    same = train_judges(tiny_bert, rows, LABELS, folds, short, [3, 9], further)
    assert (first.predict_proba(UNSEEN) == same.predict_proba(UNSEEN)).all() and len(taken) == 1
