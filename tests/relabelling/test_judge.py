"""Judges: a few rows suffice, a seed decides all of it, and no judge has seen its own fold."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import LABELS, UNSEEN, reviews

from s3local.exceptions import ModelError
from s3local.relabelling import judge as module
from s3local.relabelling.judge import JudgeSettings, train_judges

SETTINGS = JudgeSettings(passes=600, batch_size=16, learning_rate=2e-3, max_length=32)
SHORT = dataclasses.replace(SETTINGS, passes=32)
ROWS = reviews()
FOLDS = np.arange(len(ROWS)) % 2


@pytest.mark.parametrize("trained_layers", [1, 6])
def test_judges_learn_what_the_rows_say(tiny_bert: Path, trained_layers: int) -> None:
    settings = dataclasses.replace(SETTINGS, trained_layers=trained_layers)
    nobody = np.full(len(ROWS), -1)
    probabilities = train_judges(tiny_bert, ROWS, LABELS, nobody, settings, [3, 4]).predict_proba(UNSEEN)
    assert probabilities.shape == (2, len(UNSEEN), 2)
    assert probabilities.sum(axis=2) == pytest.approx(1.0)
    right = probabilities.argmax(axis=2) == [LABELS.index(row.label) for row in UNSEEN]
    assert right.mean() >= (0.9 if trained_layers > 1 else 0.7)


def test_a_seed_decides_the_judges_whatever_came_before(tiny_bert: Path) -> None:
    def judged(seed: int) -> np.ndarray:
        return train_judges(tiny_bert, ROWS, LABELS, FOLDS, SHORT, [seed, 9]).predict_proba(UNSEEN)

    torch.manual_seed(1)
    first = judged(3)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    same, other = judged(3), judged(4)
    assert torch.equal(before, torch.get_rng_state())
    assert (first == same).all()
    assert (first[0] != other[0]).any()
    assert (first[1] == other[1]).all(), "a judge depends on its own seed alone"


def test_a_judge_does_not_depend_on_the_rows_of_its_fold(tiny_bert: Path) -> None:
    flipped = [
        dataclasses.replace(row, label=LABELS[1 - LABELS.index(row.label)]) if fold == 0 else row
        for row, fold in zip(ROWS, FOLDS, strict=True)
    ]
    first, second = (
        train_judges(tiny_bert, rows, LABELS, FOLDS, SHORT, [3, 4]).predict_proba(UNSEEN) for rows in (ROWS, flipped)
    )
    assert (first[0] == second[0]).all()
    assert (first[1] != second[1]).any()


def test_descriptions_are_seen_by_the_contrast(tiny_bert: Path) -> None:
    plain = train_judges(tiny_bert, ROWS, LABELS, FOLDS, SHORT, [3]).predict_proba(UNSEEN)
    further = [("what a poor film", "negative"), ("what a good film", "positive")]
    assert (train_judges(tiny_bert, ROWS, LABELS, FOLDS, SHORT, [3], further).predict_proba(UNSEEN) != plain).any()


def test_how_many_texts_are_read_at_a_time_makes_no_difference(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judges = train_judges(tiny_bert, ROWS, LABELS, FOLDS, SHORT, [3])
    told: list[int] = []
    whole = judges.predict_proba(ROWS, told.append)
    monkeypatch.setattr(module, "READING_ROWS", 7)
    assert judges.predict_proba(ROWS, told.append) == pytest.approx(whole, abs=1e-5)
    assert sum(told) == 2 * len(ROWS)
    assert judges.predict_proba([]).shape == (1, 0, 2)


def test_every_pass_is_told(tiny_bert: Path) -> None:
    told: list[int] = []
    train_judges(tiny_bert, ROWS, LABELS, FOLDS, SHORT, [3, 4], advance=told.append)
    assert sum(told) == 2 * SHORT.passes


def test_a_label_without_rows_is_refused(tiny_bert: Path) -> None:
    folds = np.array([0 if row.label == "negative" else 1 for row in ROWS])
    with pytest.raises(ValueError, match="'negative' has none"):
        train_judges(tiny_bert, ROWS, LABELS, folds, SHORT, [3, 4])


def test_a_folder_without_an_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        train_judges(tmp_path, ROWS, LABELS, FOLDS, SHORT, [3])


def test_a_layer_is_trained_at_least() -> None:
    with pytest.raises(ValueError, match="trained_layers"):
        JudgeSettings(trained_layers=0)
