"""Training: the same seed gives the same student, labels are balanced, and every row and step counts."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys import LABELS, SETTINGS, UNSEEN, reviews, tiny_tokenizer

from s3local.exceptions import ModelError
from s3local.records import Example
from s3local.student import training
from s3local.student.body import build_classifier
from s3local.student.encoding import encode
from s3local.student.training import TrainedStudent, TrainingSettings, _row_weights, _shuffled_batches, averaged, train

SHORT = dataclasses.replace(SETTINGS, epochs=2)


def weights_of(student: TrainedStudent) -> dict[str, Any]:
    state: dict[str, Any] = student.model.state_dict()
    return state


def accuracy(student: TrainedStudent) -> float:
    pairs = zip(student.predict(UNSEEN), UNSEEN, strict=True)
    return sum(label == example.label for label, example in pairs) / len(UNSEEN)


def test_it_learns_what_the_rows_say(tiny_student: TrainedStudent) -> None:
    assert accuracy(tiny_student) == 1.0
    assert tiny_student.labels == LABELS
    assert tiny_student.fields == ("text",)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_seed_decides_every_bit(tiny_bert: Path, precision: Any) -> None:
    settings = dataclasses.replace(SHORT, precision=precision)
    first, same = (weights_of(train(tiny_bert, reviews(), LABELS, settings, seed=5)) for _ in range(2))
    other = weights_of(train(tiny_bert, reviews(), LABELS, settings, seed=6))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_the_callers_random_state_neither_matters_nor_changes(tiny_bert: Path) -> None:
    torch.manual_seed(1)
    first = weights_of(train(tiny_bert, reviews(), LABELS, SHORT, seed=5))
    torch.manual_seed(2)
    np.random.seed(2)
    random.seed(2)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    second = weights_of(train(tiny_bert, reviews(), LABELS, SHORT, seed=5))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    assert random.getstate() == before[2]
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_word_embeddings_stay_and_the_rest_moves(tiny_bert: Path, tiny_student: TrainedStudent) -> None:
    from s3local.student.body import load_body

    body, _ = load_body(tiny_bert)
    trained = tiny_student.model.distilbert.state_dict()
    still = {name for name, value in body.state_dict().items() if torch.equal(value, trained[name])}
    assert "embeddings.word_embeddings.weight" in still
    assert "transformer.layer.0.ffn.lin2.weight" not in still
    assert "embeddings.position_embeddings.weight" not in still


def test_soft_targets_overrule_labels(tiny_bert: Path) -> None:
    turned = np.array([[0.3, 0.7] if row.label == "negative" else [0.7, 0.3] for row in reviews()])
    student = train(tiny_bert, reviews(), LABELS, SETTINGS, seed=1, soft_targets=turned)
    assert accuracy(student) == 0.0
    # a target of 0.7 asks for no more certainty than that, where the label alone asks for all of it
    softest = np.abs(np.diff(student.predict_logits(UNSEEN), axis=1)).mean()
    hard = train(tiny_bert, reviews(), LABELS, SETTINGS, seed=1)
    assert softest < np.abs(np.diff(hard.predict_logits(UNSEEN), axis=1)).mean()


def test_hard_soft_targets_are_labels(tiny_bert: Path) -> None:
    targets = np.array([[row.label == label for label in LABELS] for row in reviews()], dtype=float)
    soft = weights_of(train(tiny_bert, reviews(), LABELS, SHORT, seed=1, soft_targets=targets))
    hard = weights_of(train(tiny_bert, reviews(), LABELS, SHORT, seed=1))
    assert all(torch.equal(soft[name], hard[name]) for name in soft)


def test_balance_gives_every_label_the_same_say() -> None:
    targets = np.eye(3, dtype=np.float32)[[0] * 9 + [1] * 3]  # label 2 has no rows
    balanced = _row_weights(targets, balance=True)
    assert balanced[:9].sum() == pytest.approx(balanced[9:].sum())
    assert balanced.mean() == pytest.approx(1.0)
    assert (_row_weights(targets, balance=False) == 1).all()


def test_an_epoch_holds_every_row_once() -> None:
    lengths = [int(length) for length in np.random.default_rng(0).integers(3, 60, 501)]
    batches = _shuffled_batches(lengths, 16, np.random.default_rng(1))
    assert sorted(np.concatenate(batches)) == list(range(501))
    padded = sum(len(batch) * max(lengths[row] for row in batch) for batch in batches)
    arrival = sum(len(part) * max(part) for part in (lengths[at : at + 16] for at in range(0, 501, 16)))
    assert padded < 0.75 * arrival
    again = _shuffled_batches(lengths, 16, np.random.default_rng(1))
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_progress_adds_up_to_rows_times_epochs(tiny_bert: Path) -> None:
    seen: list[int] = []
    student = train(tiny_bert, reviews(), LABELS, SHORT, seed=1, advance=seen.append)
    assert sum(seen) == 2 * len(reviews())
    assert student.steps == len(seen) == 2 * 6


@pytest.mark.parametrize("n_rows", [1, 60, 500, 1000, 20_000])
def test_rules_fill_in_what_is_open_and_nothing_else(n_rows: int) -> None:
    settings = TrainingSettings().resolved(n_rows)
    assert settings.learning_rate and settings.epochs and settings.batch_size
    mine = TrainingSettings(learning_rate=1e-3, epochs=7, batch_size=3)
    assert mine.resolved(n_rows) == mine


def test_prediction_does_not_depend_on_order(tiny_student: TrainedStudent) -> None:
    texts = [row.text + " and" * (number % 7) for number, row in enumerate(reviews())]
    logits = tiny_student.predict_logits(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    assert np.allclose(tiny_student.predict_logits([texts[i] for i in order]), logits[order], atol=1e-5)


def test_pairs_train_too(tiny_bert: Path) -> None:
    rows = [
        Example(f"{i}", {"question": "was it fine", "answer": row.text}, row.label) for i, row in enumerate(reviews())
    ]
    student = train(tiny_bert, rows, LABELS, SETTINGS, seed=1)
    assert student.fields == ("question", "answer")
    assert student.predict([("was it fine", "the book was quite bad")]) == ["negative"]


def test_misuse_is_named(tiny_bert: Path) -> None:
    rows = reviews()
    stranger = Example("s9", {"text": "a film"}, "neutral")
    other_fields = Example("s9", {"review": "a film"}, "positive")
    for message, arguments in {
        "no rows": {"rows": []},
        "'s9' has the label 'neutral'": {"rows": [*rows, stranger]},
        r"'s9' has the fields \['review'\]": {"rows": [*rows, other_fields]},
        r"soft_targets has shape \(48, 3\), expected \(48, 2\)": {"soft_targets": np.ones((48, 3)) / 3},
        "must be probabilities": {"soft_targets": np.ones((48, 2))},
    }.items():
        with pytest.raises(ValueError, match=message):
            train(tiny_bert, **{"rows": rows, "labels": LABELS, "settings": SHORT, "seed": 1, **arguments})
    with pytest.raises(ModelError, match=r"max_length is 100, but .* reads 64 tokens"):
        train(tiny_bert, rows, LABELS, TrainingSettings(max_length=100), seed=1)


WARM = dataclasses.replace(SHORT, contrast_passes=100)


def test_the_warm_up_moves_the_body_and_counts_as_progress(tiny_bert: Path) -> None:
    seen: list[int] = []
    warm = train(tiny_bert, reviews(), LABELS, WARM, seed=1, advance=seen.append)
    assert sum(seen) == WARM.passes(len(reviews())) == 100 + 2 * len(reviews())
    plain, again = (train(tiny_bert, reviews(), LABELS, settings, seed=1) for settings in (SHORT, WARM))
    assert not torch.equal(_layer(warm), _layer(plain))
    assert torch.equal(_layer(warm), _layer(again))


def test_rows_of_uncertain_labels_take_no_part_in_the_warm_up(tiny_bert: Path) -> None:
    """Nor does anything where one label alone is certain."""
    rows = reviews()
    unsure = np.tile(np.array([0.6, 0.4], np.float32), (len(rows), 1))
    frozen = dataclasses.replace(WARM, learning_rate=1e-12, epochs=1)
    untouched = train(tiny_bert, rows, LABELS, frozen, seed=1, soft_targets=unsure)
    body = build_classifier(tiny_bert, LABELS, seed=1)[0].distilbert.transformer.layer[0].attention.q_lin.weight
    assert torch.allclose(_layer(untouched), body, atol=1e-6)
    one_label = unsure.copy()
    one_label[[row.label == LABELS[0] for row in rows]] = [1, 0]
    alone = train(tiny_bert, rows, LABELS, frozen, seed=1, soft_targets=one_label)
    assert torch.allclose(_layer(alone), body, atol=1e-6)
    unsure[::2] = np.eye(2, dtype=np.float32)[[LABELS.index(row.label) for row in rows[::2]]]
    moved = train(tiny_bert, rows, LABELS, frozen, seed=1, soft_targets=unsure)
    assert not torch.allclose(_layer(moved), body, atol=1e-6)


def test_the_warm_up_gets_the_certain_rows_with_their_labels(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = reviews()
    numbers = np.array([LABELS.index(row.label) for row in rows])
    targets = np.eye(2, dtype=np.float32)[numbers]
    targets[::3] = 0.5  # these take no part, and may not shift the labels of the others
    told: list[tuple[Any, Any]] = []
    monkeypatch.setattr(
        training, "fine_tune_by_contrast", lambda body, tokens, labels, *others: told.append((tokens, labels))
    )
    train(tiny_bert, rows, LABELS, dataclasses.replace(WARM, epochs=1), seed=1, soft_targets=targets)
    ((tokens, labels),) = told
    chosen = [place for place in range(len(rows)) if place % 3]
    assert tokens == encode(tiny_tokenizer(), [rows[place] for place in chosen], 32)
    assert labels.tolist() == numbers[chosen].tolist()


def test_a_mean_of_two_students_lies_between_them(tiny_bert: Path) -> None:
    first, second = (train(tiny_bert, rows, LABELS, SHORT, seed=5) for rows in (reviews(), reviews()[::2]))
    before = weights_of(first)
    for share, same in ((1.0, first), (0.0, second)):
        mean = weights_of(averaged(first, second, share))
        assert all(torch.equal(mean[name], value) for name, value in weights_of(same).items())
    half, others = weights_of(averaged(first, second, 0.5)), weights_of(second)
    assert all(torch.allclose(half[name], (before[name] + others[name]) / 2, atol=1e-6) for name in half)
    assert all(torch.equal(before[name], value) for name, value in weights_of(first).items())


def _layer(student: TrainedStudent) -> Any:
    return weights_of(student)["distilbert.transformer.layer.0.attention.q_lin.weight"]
