"""Laws of the cache: what was computed once comes back, and nothing else does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from toys import LABELS, UNSEEN, reviews

from s3local.comparison.cache import JudgeCache, SharedTeacher
from s3local.exceptions import RunError
from s3local.progress import ignore
from s3local.relabelling.judge import JudgeSettings, train_judge
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


def test_a_judge_is_trained_once_for_the_same_rows_and_settings(tiny_bert: Path) -> None:
    taken: list[str] = []
    rows, short = reviews(), JudgeSettings(passes=32, batch_size=16, max_length=32)
    judge = JudgeCache(train_judge).trainer(lambda key, seconds: taken.append(key))
    first = judge(tiny_bert, rows, LABELS, short, 3, ignore)
    assert judge(tiny_bert, rows, LABELS, short, 3, ignore) is first and len(taken) == 1
    others = [(rows[1:], short, 3), (rows, dataclasses.replace(short, passes=48), 3), (rows, short, 4)]
    assert all(judge(tiny_bert, some, LABELS, chosen, seed, ignore) is not first for some, chosen, seed in others)
    same = train_judge(tiny_bert, rows, LABELS, short, 3)
    assert (first.predict_proba(UNSEEN) == same.predict_proba(UNSEEN)).all() and len(taken) == 1
