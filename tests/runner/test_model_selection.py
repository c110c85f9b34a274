"""Model selection: the selected share is the one that explains gold best, and no fold's student has seen its fold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_world import Watched, rows_of

from s3local.evaluation.calibration import log_likelihood
from s3local.records import Candidate, Example
from s3local.results import SHARES, FoldResult, read_result
from s3local.runner.loop import RunResult
from s3local.runner.model_selection import MOST_SHARE, ancestors, choose_share
from s3local.task.model import Task
from s3local.task.rows import load_dev

Scores = NDArray[np.float64]


def of(right: int, wrong: int) -> Scores:
    return np.array([1.0] * right + [0.0] * wrong)


def between(final: Scores, gold: Scores) -> dict[float, Scores]:
    """Scores of all shares, the greatest mean as good as ``final``, the others as bad as it gets."""
    return {share: {0.0: gold, MOST_SHARE: final, 1.0: final}.get(share, np.zeros(len(gold))) for share in SHARES}


def test_rows_that_change_nothing_are_not_used() -> None:
    verdict = choose_share(between(of(30, 10), of(30, 10)), [5, 5])
    assert verdict.share == 0
    assert (verdict.final, verdict.gold_only, verdict.selected, verdict.n_rows) == (0.75, 0.75, 0.75, 40)
    assert verdict.low < 0.75 < verdict.high


def test_rows_that_help_are_used_and_rows_that_harm_are_not() -> None:
    good, bad = of(36, 4), of(20, 20)
    helps, harms = choose_share(between(good, bad), []), choose_share(between(bad, good), [])
    assert (helps.share, helps.final, helps.gold_only, helps.selected) == (MOST_SHARE, 0.9, 0.5, 0.9)
    assert (harms.share, harms.final, harms.gold_only, harms.selected) == (0, 0.5, 0.9, 0.9)


def test_there_must_be_rows() -> None:
    with pytest.raises(ValueError, match="no rows"):
        choose_share(between(of(0, 0), of(0, 0)), [])


@given(st.lists(st.floats(-3, 0), min_size=len(SHARES), max_size=len(SHARES)))
def test_the_likelihood_decides_where_it_is_known(values: list[float]) -> None:
    likelihoods = dict(zip(SHARES, values, strict=True))
    verdict = choose_share(between(of(21, 19), of(20, 20)), [], likelihoods)
    allowed = [share for share in SHARES if share <= MOST_SHARE]
    highest = max(likelihoods[share] for share in allowed)
    assert verdict.share == min(share for share in allowed if likelihoods[share] == highest)
    assert verdict.gain == likelihoods[verdict.share] - likelihoods[0]


def test_confidence_is_no_merit_by_itself() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 3))
    labels = np.where(np.arange(50) < 35, logits.argmax(axis=1), logits.argmin(axis=1))
    as_it_is = log_likelihood(logits, labels)
    assert log_likelihood(5 * logits, labels) == pytest.approx(as_it_is, abs=1e-6)
    assert log_likelihood(logits[::-1], labels) < as_it_is < 0


def folds_of(result: RunResult) -> list[FoldResult]:
    return [read_result(path, FoldResult) for path in sorted((result.folder / "model-selection").glob("fold-*.json"))]


def test_each_dev_row_is_scored_once_by_students_without_its_descendants(task: Task, finished: RunResult) -> None:
    folds, dev = folds_of(finished), load_dev(task)
    assert sorted(name for fold in folds for name in fold.ids) == sorted(row.id for row in dev)
    dataset = [Candidate.from_row(row) for row in rows_of(finished.dataset)]
    found = finished.summary.model_selection.verdict
    assert found is not None
    for fold, used in zip(folds, found.synthetic_rows, strict=True):
        assert used == sum(not set(fold.ids) & set(ancestors(candidate)) for candidate in dataset)


def test_the_verdict_is_that_of_the_scores_on_all_folds(task: Task, finished: RunResult) -> None:
    folds, by_id = folds_of(finished), {row.id: task.label_names.index(row.label) for row in load_dev(task)}
    labels = np.array([by_id[name] for fold in folds for name in fold.ids])
    found = finished.summary.model_selection.verdict
    assert found is not None
    likelihoods = {}
    for place, share in enumerate(SHARES):
        logits = np.concatenate([fold.logits[place] for fold in folds if fold.logits is not None])
        scores = np.concatenate([fold.scores[place] for fold in folds])
        assert (logits.argmax(axis=1) == labels).tolist() == scores.astype(bool).tolist()
        likelihoods[share] = log_likelihood(logits, labels)
        if share == found.share:
            assert found.selected == scores.mean()
    allowed = [share for share in SHARES if share <= MOST_SHARE]
    assert found.share == max(allowed, key=lambda share: likelihoods[share])
    assert found.gain == likelihoods[found.share] - likelihoods[0.0]


def test_no_student_of_a_fold_was_trained_on_it(task: Task, watched: Watched) -> None:
    dev = {row.id for row in load_dev(task)}
    origins = {row["id"]: row["origin"] for row in rows_of(watched.result.dataset)}
    for number, fold in enumerate(folds_of(watched.result)):
        held = set(fold.ids)
        final, gold_only = watched.fold_rows[2 * number : 2 * number + 2]
        heirs = {name for name, its in origins.items() if held & {its.get("error"), *its.get("shots", ())}}
        assert heirs
        assert {row.id for row in gold_only.rows} == dev - held
        assert {row.id for row in final.rows} == (dev - held) | (set(origins) - heirs)
        assert final.seed == gold_only.seed
    n_free = sum("error" not in its for its in origins.values())  # the seed's rows stand in front, in both folds
    first, second = (watched.fold_rows[place].targets for place in (0, 2))
    assert first is not None and second is not None
    assert not np.allclose(first[:n_free], second[:n_free])
    assert [share for _, _, share in watched.averages] == [*SHARES] * 2
    assert all(n_final > n_gold for n_final, n_gold, _ in watched.averages)


def test_ancestors_are_what_the_prompt_showed() -> None:
    origin = {"error": "a", "context": "b", "shots": ["c"], "against": ["d"]}
    assert ancestors(Candidate(Example("x", {"text": "y"}, "z"), origin)) == ["a", "b", "c"]
