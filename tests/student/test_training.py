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
from s3local.student.optimisation import embed
from s3local.student.training import (
    TrainedStudent,
    TrainingSettings,
    _row_weights,
    averaged,
    train,
)

SHORT = dataclasses.replace(SETTINGS, passes=64)


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
    trained = tiny_student.model.body.state_dict()
    still = {name for name, value in body.state_dict().items() if torch.equal(value, trained[name])}
    assert "embeddings.word_embeddings.weight" in still
    assert "transformer.layer.0.ffn.lin2.weight" not in still
    assert "embeddings.position_embeddings.weight" not in still


def test_soft_targets_overrule_labels(tiny_bert: Path) -> None:
    turned = np.array([[0.08, 0.92] if row.label == "negative" else [0.92, 0.08] for row in reviews()])
    student = train(tiny_bert, reviews(), LABELS, SETTINGS, seed=1, soft_targets=turned)
    assert accuracy(student) == 0.0
    # a target of 0.92 asks for no more certainty than that, where the label alone asks for all of it
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


def test_the_head_learns_gold_alone_where_gold_holds_every_label(tiny_bert: Path) -> None:
    gold = reviews()
    wrong = [dataclasses.replace(row, id=f"s{n}", label=LABELS[row.label == LABELS[0]]) for n, row in enumerate(gold)]
    frozen = dataclasses.replace(SETTINGS, passes=0)
    student = train(tiny_bert, [*wrong, *gold], LABELS, frozen, seed=1, n_gold=len(gold))
    alone = train(tiny_bert, gold, LABELS, frozen, seed=1)
    assert torch.equal(student.model.head.weight, alone.model.head.weight)
    negative = [row for row in gold if row.label == "negative"]
    torn = train(tiny_bert, [*wrong, *negative], LABELS, frozen, seed=1, n_gold=len(negative))
    assert not torch.equal(torn.model.head.weight, alone.model.head.weight)


def test_progress_adds_up_to_the_passes(tiny_bert: Path) -> None:
    seen: list[int] = []
    train(tiny_bert, reviews(), LABELS, SHORT, seed=1, advance=seen.append)
    assert sum(seen) == SHORT.passes_for(len(reviews())) == 64


@pytest.mark.parametrize("n_rows", [1, 60, 500, 20_000])
def test_the_number_of_rows_decides_the_passes_unless_the_settings_do(n_rows: int) -> None:
    assert TrainingSettings(passes=7).passes_for(n_rows) == 7
    whole, brief = TrainingSettings().passes_for(n_rows), TrainingSettings(brief=True).passes_for(n_rows)
    assert 0 < brief == whole // 2


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


def test_rows_of_uncertain_labels_are_not_contrasted(tiny_bert: Path) -> None:
    """Nor is anything where one label alone is certain; the head learns all the same."""
    rows = reviews()
    own = np.array([LABELS.index(row.label) for row in rows])
    unsure = np.where(np.arange(2) == own[:, None], 0.8, 0.2).astype(np.float32)
    body = build_classifier(tiny_bert, LABELS)[0].body.transformer.layer[0].attention.q_lin.weight
    untouched = train(tiny_bert, rows, LABELS, SHORT, seed=1, soft_targets=unsure)
    assert torch.equal(_layer(untouched), body)
    assert untouched.model.head.weight.abs().max() > 0
    one_label = unsure.copy()
    one_label[own == 0] = [1, 0]
    assert torch.equal(_layer(train(tiny_bert, rows, LABELS, SHORT, seed=1, soft_targets=one_label)), body)
    unsure[::2] = np.eye(2, dtype=np.float32)[own[::2]]
    assert not torch.equal(_layer(train(tiny_bert, rows, LABELS, SHORT, seed=1, soft_targets=unsure)), body)


def test_the_contrast_gets_the_certain_rows_and_what_describes_the_labels(
    tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = reviews()
    numbers = np.array([LABELS.index(row.label) for row in rows])
    targets = np.eye(2, dtype=np.float32)[numbers]
    targets[::3] = 0.5  # these take no part, and may not shift the labels of the others
    told: list[tuple[Any, Any]] = []
    monkeypatch.setattr(
        training, "fine_tune_by_contrast", lambda body, tokens, labels, *others: told.append((tokens, labels))
    )
    train(tiny_bert, rows, LABELS, SHORT, seed=1, soft_targets=targets, further=[("a bad film", "negative")])
    ((tokens, labels),) = told
    chosen = [place for place in range(len(rows)) if place % 3]
    assert tokens == encode(tiny_tokenizer(), [*(rows[place] for place in chosen), "a bad film"], 32)
    assert labels.tolist() == [*numbers[chosen].tolist(), 0]


def test_a_label_without_rows_is_never_predicted(tiny_bert: Path) -> None:
    student = train(tiny_bert, reviews(), (*LABELS, "mixed"), SETTINGS, seed=1)
    assert set(student.predict(UNSEEN)) == set(LABELS)
    only = [row for row in reviews() if row.label == "negative"]
    assert set(train(tiny_bert, only, LABELS, SETTINGS, seed=1).predict(UNSEEN)) == {"negative"}


def test_two_labels_get_the_probabilities_of_the_regression(tiny_bert: Path) -> None:
    """The head of two labels has the log odds that scikit-learn computes from the same embeddings."""
    from sklearn.linear_model import LogisticRegression

    frozen = dataclasses.replace(SETTINGS, passes=0, precision="fp32")
    student = train(tiny_bert, reviews(), LABELS, frozen, seed=1)
    tokens = encode(tiny_tokenizer(), reviews(), 32)
    vectors = embed(student.model.body, student.model.pool, tokens, half=False)
    own = [LABELS.index(row.label) for row in reviews()]
    odds = LogisticRegression(C=10.0, max_iter=2000).fit(vectors, own).decision_function(vectors)
    logits = student.predict_logits(reviews())
    assert np.allclose(logits[:, 1] - logits[:, 0], odds, atol=0.02)


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
    return weights_of(student)["body.transformer.layer.0.attention.q_lin.weight"]
