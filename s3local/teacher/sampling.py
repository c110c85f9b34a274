"""One token drawn from one row of logits, exactly, without sorting the vocabulary.

The tail of a language model's distribution is long and almost weightless. A draw therefore looks at the few
likely tokens first and lowers the bar only until the cuts are certain to lie above it: the same result as a full
sort, at a fraction of its time. Knows nothing of models, texts or stop strings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from s3local.teacher import Sampling

BARS = (1e-2, 1e-3, 1e-4, 1e-6, 0.0)
"""Weights relative to the likeliest token, tried in turn; 0 takes in the whole vocabulary."""

PENALTY_WINDOW = 64
"""How many of the last tokens, the prompt's included, the repetition penalty looks at."""

Row = NDArray[np.float32]


def log_probability(logits: Row, token: int, scratch: Row) -> float:
    """The natural log-probability of ``token``. ``scratch`` is overwritten, its shape is (vocabulary,)."""
    peak = logits.max()
    np.subtract(logits, peak, out=scratch)
    np.exp(scratch, out=scratch)
    return float(logits[token] - peak) - math.log(float(scratch.sum()))


def draw(
    logits: Row,
    sampling: Sampling,
    uniform: float,
    scratch: Row,
    *,
    recent: Sequence[int] = (),
    contrast: tuple[Row, float] | None = None,
    allowed: NDArray[np.bool_] | None = None,
) -> tuple[int, float]:
    """Draw one token: its id, and its log-probability under the untouched ``logits``.

    ``uniform`` is a number in [0, 1), all the chance there is. ``recent`` are the tokens so far, for the penalty.
    ``contrast`` holds the logits under the contrasting prompt and gamma. ``allowed`` is true for the tokens that a
    grammar permits; the cuts apply to those.
    ``scratch`` is overwritten. Shapes: (vocabulary,).
    """
    peak = float(logits.max())
    np.subtract(logits, peak, out=scratch)
    np.exp(scratch, out=scratch)
    log_total = math.log(float(scratch.sum())) + peak

    adjusted = _adjust(logits, sampling, recent)
    if allowed is not None:
        adjusted = np.where(allowed, adjusted, np.float32(-np.inf))
    if sampling.temperature == 0:
        token = int(adjusted.argmax())
        return token, float(logits[token]) - log_total

    if adjusted is not logits or sampling.temperature != 1.0:
        np.subtract(adjusted, adjusted.max(), out=scratch)
        np.multiply(scratch, np.float32(1 / sampling.temperature), out=scratch)
        np.exp(scratch, out=scratch)
    ids, weights = _cut(scratch, sampling)
    if contrast is not None:
        other, gamma = contrast
        tilt = gamma * (logits[ids] - other[ids]).astype(np.float64)
        weights = weights * np.exp(tilt - tilt.max())
    cumulative = np.cumsum(weights, dtype=np.float64)
    place = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    token = int(ids[min(place, len(ids) - 1)])
    return token, float(logits[token]) - log_total


def _adjust(logits: Row, sampling: Sampling, recent: Sequence[int]) -> Row:
    """The logits with penalty and bias; the same array if there is neither."""
    penalised = sampling.repetition_penalty != 1.0 and len(recent) > 0
    if not penalised and not sampling.logit_bias:
        return logits
    adjusted = logits.copy()
    if penalised:
        seen = np.unique(np.asarray(recent[-PENALTY_WINDOW:]))
        values = adjusted[seen]
        penalty = np.float32(sampling.repetition_penalty)
        adjusted[seen] = np.where(values > 0, values / penalty, values * penalty)
    for token, bias in sampling.logit_bias.items():
        adjusted[token] += bias
    return adjusted


def _cut(weights: Row, sampling: Sampling) -> tuple[NDArray[np.intp], Row]:
    """Token ids that remain after top-k, top-p and min-p, with their weights (not normalised, the largest is 1).

    Without any cut the ids come in their own order, else the likeliest first; equal weights go by id.
    """
    if sampling.top_k == 0 and sampling.top_p == 1.0:
        ids = np.flatnonzero(weights >= sampling.min_p) if sampling.min_p else np.arange(len(weights))
        return ids, weights[ids]
    total = float(weights.sum())
    for bar in BARS:
        ids = np.flatnonzero(weights >= bar)
        enough = len(ids) >= sampling.top_k if sampling.top_k else weights[ids].sum() >= sampling.top_p * total
        if enough:
            break
    kept = weights[ids]
    order = np.argsort(-kept, kind="stable")
    if sampling.top_k:
        order = order[: sampling.top_k]
        total = float(kept[order].sum())
    ids, kept = ids[order], kept[order]
    if sampling.top_p < 1.0:
        reached = int(np.searchsorted(np.cumsum(kept, dtype=np.float64), sampling.top_p * total)) + 1
        ids, kept = ids[:reached], kept[:reached]
    if sampling.min_p:
        likely = kept >= sampling.min_p
        ids, kept = ids[likely], kept[likely]
    return ids, kept
