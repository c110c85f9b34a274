import numpy as np
import pytest

from s3local.relabelling.label_model import (
    LIKELY,
    LIKELY_LABELS,
    JudgePredictions,
    check_labels,
    combine_with_requested,
    evidence,
    fit_pool_weights,
    in_question,
    joint,
    tempered,
)

N_LABELS = 3


def judge_of(true: np.ndarray, sure: float, right: float, seed: int) -> np.ndarray:
    """Probabilities (n, n_labels) of a judge that gives ``sure`` to the true label with probability ``right``."""
    chance = np.random.default_rng(seed)
    said = np.where(chance.random(len(true)) < right, true, chance.integers(N_LABELS, size=len(true)))
    rows = np.full((len(true), N_LABELS), (1 - sure) / (N_LABELS - 1))
    rows[np.arange(len(true)), said] = sure
    return rows


@pytest.fixture
def gold() -> np.ndarray:
    return np.repeat(np.arange(N_LABELS), 20)


@pytest.fixture
def true() -> np.ndarray:
    return np.repeat(np.arange(N_LABELS), 200)


def accuracy(targets: np.ndarray, true: np.ndarray) -> float:
    return float((targets.argmax(axis=1) == true).mean())


def test_targets_are_probabilities_one_row_a_candidate(gold: np.ndarray, true: np.ndarray) -> None:
    judges = {"a": JudgePredictions(judge_of(gold, 0.8, 0.7, 1), judge_of(true, 0.8, 0.7, 2))}
    check = check_labels(judges, gold, true)
    assert check.targets.shape == (len(true), N_LABELS)
    assert check.targets.sum(axis=1) == pytest.approx(1.0)
    assert (check.targets >= 0).all()
    assert ((check.correct > 0) & (check.correct < 1)).all()
    assert 0 <= check.scale <= 1


def test_the_better_judge_has_more_weight_and_one_of_chance_hardly_any(gold: np.ndarray) -> None:
    good, poor = judge_of(gold, 0.8, 0.9, 1), judge_of(gold, 0.8, 0.0, 2)
    pool_weights = fit_pool_weights([good, poor], gold)
    assert pool_weights[0] > 0.5
    assert pool_weights[1] < pool_weights[0] / 4


def test_a_single_judge_that_is_too_sure_is_calibrated(gold: np.ndarray) -> None:
    (pool_weights,) = fit_pool_weights([judge_of(gold, 0.999, 0.6, 1)], gold)
    assert pool_weights < 0.5


def test_a_teacher_with_shuffled_labels_counts_for_nothing(gold: np.ndarray, true: np.ndarray) -> None:
    asked = np.random.default_rng(3).permutation(true)
    judges = {"a": JudgePredictions(judge_of(gold, 0.9, 0.8, 1), judge_of(true, 0.9, 0.8, 2))}
    check = check_labels(judges, gold, asked)
    alone = joint(list(check.pool_weights.values()), [judges["a"].candidates])
    assert combine_with_requested(alone, asked, 1.0).correct == pytest.approx(np.full(N_LABELS, 1 / N_LABELS), abs=0.1)
    assert check.correct.max() < 0.55
    assert accuracy(check.targets, true) >= accuracy(alone, true) - 0.03


def test_a_teacher_who_is_right_makes_the_true_label_likelier(gold: np.ndarray, true: np.ndarray) -> None:
    judges = {"a": JudgePredictions(judge_of(gold, 0.7, 0.6, 1), judge_of(true, 0.7, 0.6, 2))}
    rows = np.arange(len(true))
    with_teacher = check_labels(judges, gold, true).targets[rows, true]
    shuffled = check_labels(judges, gold, np.random.default_rng(3).permutation(true)).targets[rows, true]
    assert np.log(with_teacher).mean() > np.log(shuffled).mean() + 0.1


def test_a_teacher_who_always_means_another_label_is_overruled(gold: np.ndarray, true: np.ndarray) -> None:
    judges = {"a": JudgePredictions(judge_of(gold, 0.8, 0.8, 1), judge_of(true, 0.8, 0.8, 2))}
    check = check_labels(judges, gold, (true + 1) % N_LABELS)
    assert accuracy(check.targets, true) >= accuracy(judges["a"].candidates, true) - 0.01


def test_the_requested_label_has_half_the_weight_where_its_teacher_is_a_judge(
    gold: np.ndarray, true: np.ndarray
) -> None:
    asked = np.where(np.random.default_rng(5).random(len(true)) < 0.7, true, (true + 1) % N_LABELS)
    judges = {"a": JudgePredictions(judge_of(gold, 0.7, 0.6, 1), judge_of(true, 0.7, 0.6, 2))}
    rows = np.arange(len(true))
    apart, both = (check_labels(judges, gold, asked, teacher_judges=judge) for judge in (False, True))
    alone = 2 * both.targets - apart.targets
    assert alone.sum(axis=1) == pytest.approx(1.0)
    assert (alone >= 0).all()
    for label in range(N_LABELS):
        said = alone[judges["a"].candidates.argmax(axis=1) == label]
        assert said == pytest.approx(np.tile(said[0], (len(said), 1)))  # whatever was asked for
    assert both.targets[rows, asked].mean() < apart.targets[rows, asked].mean()
    assert both.correct == pytest.approx(apart.correct)


@pytest.mark.parametrize("right", [0.95, 0.7, 0.4])
def test_how_often_the_teacher_is_right_is_found_by_judges_that_are_unsure(true: np.ndarray, right: float) -> None:
    chance = np.random.default_rng(5)
    asked = np.where(
        chance.random(len(true)) < right, true, (true + chance.integers(1, N_LABELS, len(true))) % N_LABELS
    )
    pooled = judge_of(true, 0.6, 0.4, 6)  # right on 60 %, and as sure of it
    assert combine_with_requested(pooled, asked, 1.0).correct == pytest.approx(np.full(N_LABELS, right), abs=0.15)


def test_weak_judges_leave_a_good_teacher_its_labels(true: np.ndarray) -> None:
    gold = np.repeat(np.arange(N_LABELS), 7)
    asked = np.where(np.random.default_rng(5).random(len(true)) < 0.95, true, (true + 1) % N_LABELS)
    judges = {"a": JudgePredictions(judge_of(gold, 0.6, 0.4, 1), judge_of(true, 0.6, 0.4, 2))}
    check = check_labels(judges, gold, asked)
    assert accuracy(check.targets, true) > 0.9


def test_judges_that_overfit_gold_are_scaled_down_where_the_teacher_contradicts_them(true: np.ndarray) -> None:
    gold = np.repeat(np.arange(N_LABELS), 5)
    overfit = judge_of(gold, 0.8, 0.7, 1)
    agreeing, blind = (
        check_labels({"a": JudgePredictions(overfit, judge_of(true, 0.8, right, 2))}, gold, true)
        for right in (0.7, 0.0)
    )
    assert blind.scale < agreeing.scale
    assert accuracy(blind.targets, true) > 1 / N_LABELS


def test_a_label_without_candidates_has_the_share_that_is_expected_of_any(true: np.ndarray) -> None:
    pooled = judge_of(true, 0.8, 0.7, 2)
    combined = combine_with_requested(pooled[true != 0], true[true != 0], 1.0)
    assert combined.correct[0] == pytest.approx(0.5 + 0.5 / N_LABELS, abs=0.02)
    assert combine_with_requested(pooled[:0], true[:0], 1.0).targets.shape == (0, N_LABELS)


def test_the_order_of_labels_does_not_matter(gold: np.ndarray, true: np.ndarray) -> None:
    first, second = judge_of(gold, 0.8, 0.7, 1), judge_of(true, 0.8, 0.7, 2)
    new = np.array([2, 0, 1])  # the new number of each label
    back = np.argsort(new)
    check = check_labels({"a": JudgePredictions(first, second)}, gold, true)
    other = check_labels({"a": JudgePredictions(first[:, back], second[:, back])}, new[gold], new[true])
    assert other.targets[:, new] == pytest.approx(check.targets)


def test_no_judges_and_no_gold_are_refused(true: np.ndarray) -> None:
    with pytest.raises(ValueError, match="needs judges and gold"):
        check_labels({}, [0, 1], true)
    with pytest.raises(ValueError, match="needs judges and gold"):
        check_labels({"a": JudgePredictions(np.zeros((0, 3)), judge_of(true, 0.8, 0.7, 2))}, [], true)


def test_another_judge_is_evidence_if_it_knows_what_the_first_does_not(gold: np.ndarray) -> None:
    first = judge_of(gold, 0.8, 0.6, 1)
    assert evidence([first], [judge_of(gold, 0.8, 0.7, 2)], gold) > 0
    assert evidence([first], [first], gold) < 0
    assert evidence([first], [judge_of(gold, 0.8, 0.0, 3)], gold) < 0
    assert evidence([], [first], gold) > 0
    assert evidence([], [judge_of(gold, 0.8, 0.0, 3)], gold) < 0


@pytest.mark.parametrize("n_judges", [1, 2])
@pytest.mark.parametrize(("n_labels", "each"), [(2, 10), (6, 4), (6, 10)])
def test_judges_that_predict_at_random_hardly_ever_pass(n_judges: int, n_labels: int, each: int) -> None:
    chance, labels, n_cases = np.random.default_rng(0), np.repeat(np.arange(n_labels), each), 150
    passed = added = 0
    for _ in range(n_cases):
        judges = [chance.dirichlet(np.ones(n_labels), len(labels)) for _ in range(n_judges)]
        candidates = chance.dirichlet(np.ones(n_labels), 5)
        predictions = {str(n): JudgePredictions(judge, candidates) for n, judge in enumerate(judges)}
        passed += check_labels(predictions, labels, np.zeros(5, np.int64)).holds
        added += evidence(judges[:-1], judges[-1:], labels) > 0
    assert passed < 0.05 * n_cases and added < 0.05 * n_cases


def test_a_judge_that_knows_no_more_than_how_frequent_labels_are_does_not_pass() -> None:
    labels = np.repeat([0, 1], [50, 10])
    frequencies = np.tile([50 / 60, 10 / 60], (60, 1))
    assert evidence([], [frequencies], labels) < 0


@pytest.mark.parametrize("right", [0.0, 0.7])
def test_a_check_holds_only_if_its_judges_know_something(gold: np.ndarray, true: np.ndarray, right: float) -> None:
    judges = {"a": JudgePredictions(judge_of(gold, 0.8, right, 3), judge_of(true, 0.8, right, 4))}
    check = check_labels(judges, gold, true)
    assert check.holds is (right > 0)
    assert check.gain == evidence([], [judges["a"].gold], gold)


def test_a_text_is_no_likelier_of_a_label_that_makes_all_texts_likelier() -> None:
    logprobs = np.random.default_rng(0).normal(-30, 5, (20, 3))
    probabilities = tempered(logprobs)
    assert probabilities.sum(axis=1) == pytest.approx(1.0)
    assert probabilities == pytest.approx(tempered(logprobs + np.array([7.0, 0.0, -3.0])))
    assert probabilities == pytest.approx(tempered(logprobs - 50.0 * np.arange(20)[:, None]))
    assert probabilities[:, 0].argmax() == (logprobs[:, 0] - logprobs.mean(axis=1)).argmax()


def test_what_is_unknown_counts_as_the_least_likely_label_of_its_row() -> None:
    logprobs = np.random.default_rng(0).normal(-30, 5, (20, 3))
    logprobs[:5, 1] = np.nan
    probabilities = tempered(logprobs)
    assert np.isfinite(probabilities).all()
    assert probabilities[:5, 1] == pytest.approx(probabilities[:5].min(axis=1))


def test_a_slow_judge_is_asked_only_where_labels_are_in_question() -> None:
    chance = np.random.default_rng(0)
    probabilities = chance.dirichlet(np.full(6, 0.5), 200)
    chosen = in_question(probabilities)
    assert set(chosen.sum(axis=1).tolist()) == {0, *range(2, LIKELY_LABELS + 1)}
    for row, mask in zip(probabilities, chosen, strict=True):
        if mask.any():
            assert row[mask].min() >= LIKELY * row.max()
            assert row[mask].max() == row.max()
        else:
            assert sorted(row)[-2] < LIKELY * row.max()


def test_where_nothing_is_known_no_label_is_likelier() -> None:
    logprobs = np.array([[np.nan, np.nan, np.nan], [-3.0, -5.0, np.nan]])
    assert tempered(logprobs)[0] == pytest.approx(np.full(3, 1 / 3))
