"""The gap between synthetic and gold texts in embedding space, and the diversity of texts.

The S3 paper claims that error extrapolation closes the gap between the two distributions, but does not measure it.
Texts are split into words, or into characters in scripts without spaces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s3local.embedder import Vectors
from s3local.text import units_of, writes_without_spaces

MAX_ROWS = 2000
"""The most rows of either side that are compared; larger sets are sampled, so that all pairs fit into memory."""
AUC_FOLDS = 5
COVERAGE_NEIGHBOURS = 5
DIVERSITY_TEXTS = 100
"""Diversity depends on the number of texts, so it is measured on samples of at most this size."""
BLEU_WEIGHTS = (0.25, 0.25, 0.25, 0.25)

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gap:
    """The distance between synthetic and gold texts; None where there are too few of them.

    ``auc``: how well a linear classifier separates the two on held-out rows, from 0.5 (not at all) to 1.
    ``mmd``: the unbiased squared maximum mean discrepancy; its mean is 0 for equal distributions, and it can be
    negative. ``coverage``: the share of gold rows with a synthetic row in their neighbourhood, from 0 to 1; it grows
    with the number of synthetic rows.
    """

    auc: float | None
    mmd: float | None
    coverage: float | None


@dataclass(frozen=True, slots=True)
class Diversity:
    """How diverse texts are, on a sample of at most ``DIVERSITY_TEXTS``; None where there are too few.

    ``distinct_1``, ``distinct_2``: distinct words and word bigrams as a share of all. ``self_bleu``: the mean BLEU-4 of
    each text against the others, from 0 to 1 (all copies). ``neighbour_distance``: the mean of 1 minus the cosine to
    the nearest other text.
    """

    distinct_1: float | None
    distinct_2: float | None
    self_bleu: float | None
    neighbour_distance: float | None


def measure_gap(synthetic: Vectors, gold: Vectors, seed: int = 0) -> Gap:
    """The gap between unit rows (n_synthetic, dim) and (n_gold, dim); ``seed`` determines samples and folds."""
    synthetic, gold = (rows[_sample(len(rows), MAX_ROWS, seed)] for rows in (synthetic, gold))
    return Gap(two_sample_auc(synthetic, gold, seed), squared_mmd(synthetic, gold), coverage(synthetic, gold))


def measure_diversity(texts: Sequence[str], vectors: Vectors, seed: int = 0) -> Diversity:
    """The diversity of ``texts`` with their unit rows (n_texts, dim); ``seed`` determines the sample."""
    chosen = _sample(len(texts), DIVERSITY_TEXTS, seed)
    texts, vectors = [texts[row] for row in chosen.tolist()], vectors[chosen]
    by_character = writes_without_spaces(texts)
    units = [units_of(text, by_character) for text in texts]
    return Diversity(distinct(units, 1), distinct(units, 2), self_bleu(units), neighbour_distance(vectors))


def two_sample_auc(synthetic: Vectors, gold: Vectors, seed: int = 0) -> float | None:
    """The cross-validated area under the ROC curve of a logistic regression that separates the two sets.

    Equal rows share a fold, so that copies cannot leak. Source: Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample
    Tests", 2017; with AUC instead of accuracy, because the two sets differ in size.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold

    rows = np.concatenate([synthetic, gold])
    is_gold = np.repeat([0, 1], [len(synthetic), len(gold)])
    groups = np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)
    n_folds = min(AUC_FOLDS, len(np.unique(groups[is_gold == 0])), len(np.unique(groups[is_gold == 1])))
    if n_folds < 2:
        return None
    areas = []
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
    for fitted, judged in folds.split(rows, is_gold, groups):
        if len(set(is_gold[fitted])) == len(set(is_gold[judged])) == 2:
            model = LogisticRegression(class_weight="balanced", max_iter=1000).fit(rows[fitted], is_gold[fitted])
            areas.append(roc_auc_score(is_gold[judged], model.decision_function(rows[judged])))
    return float(np.mean(areas)) if areas else None


def squared_mmd(synthetic: Vectors, gold: Vectors) -> float | None:
    """The unbiased squared maximum mean discrepancy with a Gaussian kernel.

    The kernel's width is the median distance between gold rows. It depends on gold alone, so that rounds and methods
    with the same gold can be compared. Source: Gretton et al., "A Kernel Two-Sample Test", 2012, lemma 6.
    """
    n, m = len(synthetic), len(gold)
    if min(n, m) < 2:
        return None
    among_gold = _squared_distances(gold, gold)
    width = float(np.median(among_gold[np.triu_indices(m, 1)]))
    if width == 0:
        return None
    within_gold = np.exp(-among_gold / (2 * width))
    within = np.exp(-_squared_distances(synthetic, synthetic) / (2 * width))
    across = np.exp(-_squared_distances(synthetic, gold) / (2 * width))
    return float(
        (within.sum() - np.trace(within)) / (n * (n - 1))
        + (within_gold.sum() - np.trace(within_gold)) / (m * (m - 1))
        - 2 * across.mean()
    )


def coverage(synthetic: Vectors, gold: Vectors) -> float | None:
    """The share of gold rows with a synthetic row that is not farther away than their k-th nearest gold row.

    k is ``COVERAGE_NEIGHBOURS``, or the number of other gold rows if there are fewer. Source: Naeem et al., "Reliable
    Fidelity and Diversity Metrics for Generative Models", 2020, section 3.2.
    """
    if len(gold) < 2 or not len(synthetic):
        return None
    among_gold = _squared_distances(gold, gold)
    np.fill_diagonal(among_gold, np.inf)
    k = min(COVERAGE_NEIGHBOURS, len(gold) - 1)
    radii = np.sort(among_gold, axis=1)[:, k - 1]  # (n_gold,)
    nearest = _squared_distances(gold, synthetic).min(axis=1)
    return float((nearest <= radii).mean())


def distinct(units: Sequence[Sequence[str]], n: int) -> float | None:
    """Distinct n-grams as a share of all n-grams, over all texts. Source: Li et al., 2016 (distinct-n)."""
    runs = [tuple(text[start : start + n]) for text in units for start in range(len(text) - n + 1)]
    return len(set(runs)) / len(runs) if runs else None


def self_bleu(units: Sequence[Sequence[str]]) -> float | None:
    """The mean BLEU-4 of each text against all others. Source: Zhu et al., "Texygen", 2018."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    texts = [list(text) for text in units if text]
    if len(texts) < 2:
        return None
    smooth = SmoothingFunction().method1
    scores = [
        sentence_bleu([*texts[:place], *texts[place + 1 :]], text, BLEU_WEIGHTS, smoothing_function=smooth)
        for place, text in enumerate(texts)
    ]
    return float(np.mean(scores))


def neighbour_distance(vectors: Vectors) -> float | None:
    """The mean of 1 minus the cosine to the nearest other row of ``vectors``, unit rows (n, dim)."""
    if len(vectors) < 2:
        return None
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    return float((1 - cosines.max(axis=1)).mean())


def _sample(n_rows: int, most: int, seed: int) -> NDArray[np.int64]:
    """At most ``most`` distinct indices of ``n_rows`` rows, in ascending order."""
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, most, replace=False))


def _squared_distances(first: Vectors, second: Vectors) -> Floats:
    """Squared Euclidean distances between unit rows, (n_first, n_second)."""
    return np.maximum(2 - 2 * (first.astype(np.float64) @ second.astype(np.float64).T), 0)
