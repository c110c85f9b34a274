"""One token drawn from one row of logits, exactly, without sorting the vocabulary.

The tail of a language model's distribution is long and almost weightless. A draw therefore looks at the few
likely tokens first and lowers the bar only until the cuts are certain to lie above it: the same result as a full
sort, at a fraction of its time. What remains is mostly two exponentials over the vocabulary (of 49,152 tokens: 25
microseconds each, of about 100 for a draw): one for the log-probability, one for the temperature.
Knows nothing of models, texts or stop strings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from s3local.teacher.protocol import Sampling

BARS = (1e-3, 1e-4, 1e-5)
"""Weights relative to the likeliest token, tried in turn before all of the vocabulary is sorted."""

PENALTY_WINDOW = 64
"""How many of the last tokens, the prompt's included, the repetition penalty looks at."""

Row = NDArray[np.float32]
"""A number for each token of the vocabulary."""


def log_probability(logits: Row, token: int, scratch: Row) -> float:
    """The natural log-probability of ``token``. ``scratch`` is overwritten, its shape is that of ``logits``."""
    peak = logits.max()
    np.subtract(logits, peak, out=scratch)
    np.exp(scratch, out=scratch)
    return float(logits[token] - peak) - math.log(scratch.sum())


def draw(
    logits: Row,
    sampling: Sampling,
    uniform: float,
    scratch: NDArray[np.float32],
    *,
    recent: Iterable[int] = (),
    contrast: tuple[Row, float] | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[int, float]:
    """Draw one token: its id, and its natural log-probability under the untouched ``logits``.

    ``uniform`` is a number in [0, 1), all the chance there is. ``recent`` are the last tokens, for the penalty.
    ``contrast`` holds the logits under the contrasting prompt and gamma. ``allowed`` is true for the tokens that a
    grammar permits, of which there must be one; the cuts apply to those.
    ``scratch`` is overwritten, its shape is (2, vocabulary).
    """
    shifted, weights = scratch
    peak = logits.max()
    np.subtract(logits, peak, out=shifted)
    np.exp(shifted, out=weights)
    total = float(weights.sum())
    log_total = float(peak) + math.log(total)

    adjusted = _adjust(logits, sampling, recent, allowed)
    if sampling.temperature == 0:
        token = int(adjusted.argmax())
        return token, float(logits[token]) - log_total

    if adjusted is not logits:
        np.subtract(adjusted, adjusted.max(), out=shifted)
    if adjusted is not logits or sampling.temperature != 1:
        np.multiply(shifted, np.float32(1 / sampling.temperature), out=shifted)
        np.exp(shifted, out=weights)
        total = float(weights.sum())
    ids, kept = _cut(weights, total, sampling)
    if contrast is not None:
        other, gamma = contrast
        tilt = gamma * (logits[ids] - other[ids]).astype(np.float64)
        kept = kept * np.exp(tilt - tilt.max())
    cumulative = np.cumsum(kept, dtype=np.float64)
    # rounding must not reach the sum itself: no token lies beyond it
    point = min(uniform * cumulative[-1], np.nextafter(cumulative[-1], 0))
    token = int(ids[cumulative.searchsorted(point, side="right")])
    return token, float(logits[token]) - log_total


def _adjust(logits: Row, sampling: Sampling, recent: Iterable[int], allowed: NDArray[np.bool_] | None) -> Row:
    """The logits with penalty, bias and grammar; the same array if there is none of them."""
    seen = np.array(sorted(set(recent))) if sampling.repetition_penalty != 1 else np.empty(0, np.intp)
    if not len(seen) and not sampling.logit_bias and allowed is None:
        return logits
    adjusted = logits.copy()
    if len(seen):
        values = adjusted[seen]
        penalty = np.float32(sampling.repetition_penalty)
        adjusted[seen] = np.where(values > 0, values / penalty, values * penalty)
    for token, bias in sampling.logit_bias.items():
        adjusted[token] += bias
    if allowed is not None:
        adjusted[~allowed] = -np.inf
    return adjusted


def _cut(weights: Row, total: float, sampling: Sampling) -> tuple[NDArray[np.intp], Row]:
    """Token ids that remain after top-k, top-p and min-p, with their weights (the largest is 1, their sum is open).

    ``total`` is the sum of ``weights``. Without top-k and top-p the ids come in their own order, else the likeliest
    first; equal weights go by id.
    """
    if sampling.top_k == 0 and sampling.top_p == 1:
        if sampling.min_p == 0:
            return np.arange(len(weights)), weights
        ids = np.flatnonzero(weights >= sampling.min_p)
        return ids, weights[ids]
    for bar in BARS:
        ids = np.flatnonzero(weights >= bar)
        kept = weights[ids]
        if len(ids) >= sampling.top_k if sampling.top_k else kept.sum() >= sampling.top_p * total:
            break
    else:
        ids = np.flatnonzero(weights > 0)
        kept = weights[ids]
    order = np.argsort(-kept, kind="stable")
    if sampling.top_k:
        order = order[: sampling.top_k]
        total = float(kept[order].sum())
    ids, kept = ids[order], kept[order]
    if sampling.top_p < 1:
        reached = int(np.cumsum(kept, dtype=np.float64).searchsorted(sampling.top_p * total)) + 1
        ids, kept = ids[:reached], kept[:reached]
    if sampling.min_p:
        n_likely = int(np.count_nonzero(kept >= sampling.min_p))
        ids, kept = ids[:n_likely], kept[:n_likely]
    return ids, kept
