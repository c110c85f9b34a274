"""The judge: a few rows suffice, a seed decides all of it, and no row is judged by a judge that has seen it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import LABELS, UNSEEN, reviews

from s3local.exceptions import ModelError
from s3local.relabelling import judge as judge_module
from s3local.relabelling.judge import JudgeSettings, train_judge
from s3local.student.contrastive import contrastive_loss

SETTINGS = JudgeSettings(passes=600, batch_size=16, learning_rate=2e-3, max_length=32)
SHORT = JudgeSettings(passes=32, batch_size=16, max_length=32)


def test_a_judge_learns_what_the_rows_say(tiny_bert: Path) -> None:
    judge = train_judge(tiny_bert, reviews(), LABELS, SETTINGS, seed=3)
    probabilities = judge.predict_proba(UNSEEN)
    assert probabilities.sum(axis=1) == pytest.approx(1.0)
    assert [LABELS[best] for best in probabilities.argmax(axis=1)] == [row.label for row in UNSEEN]
    assert judge.predict_proba([]).shape == (0, 2)


def test_a_seed_decides_the_judge_whatever_came_before(tiny_bert: Path) -> None:
    torch.manual_seed(1)
    first = train_judge(tiny_bert, reviews(), LABELS, SHORT, seed=3).predict_proba(UNSEEN)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    same = train_judge(tiny_bert, reviews(), LABELS, SHORT, seed=3).predict_proba(UNSEEN)
    assert torch.equal(before, torch.get_rng_state())
    assert (first == same).all()
    assert (first != train_judge(tiny_bert, reviews(), LABELS, SHORT, seed=4).predict_proba(UNSEEN)).any()


def test_the_loss_is_the_one_of_the_paper() -> None:
    chance = np.random.default_rng(0)
    rows = chance.normal(size=(5, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = np.array([0, 0, 1, 1, 2])  # the last has no other of its label
    expected = 0.0
    for i in range(5):
        powers = {a: math.exp(rows[i] @ rows[a] / 0.3) for a in range(5) if a != i}
        alike = [p for p in powers if labels[p] == labels[i]]
        expected -= sum(math.log(powers[p] / sum(powers.values())) for p in alike) / max(len(alike), 1)
    assert float(contrastive_loss(torch.from_numpy(rows), labels, 0.3)) == pytest.approx(expected / 5)


def test_a_judge_needs_every_label(tiny_bert: Path) -> None:
    with pytest.raises(ValueError, match="'positive' has none"):
        train_judge(tiny_bert, [row for row in reviews() if row.label == "negative"], LABELS, SHORT, seed=1)


def test_a_card_without_room_for_a_judge_is_one_clear_line(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object) -> None:
        raise torch.OutOfMemoryError("2 GiB wanted")

    judge = train_judge(tiny_bert, reviews(), LABELS, SHORT, seed=3)
    monkeypatch.setattr(judge_module, "forward", no_room)
    with pytest.raises(ModelError, match=r"no room left for a judge.*--gpu-layers"):
        judge.predict_proba(UNSEEN)
