"""One token drawn from one row of logits, exactly, without sorting the vocabulary.

Most tokens of the vocabulary have almost no probability. A draw therefore looks at the few likely tokens first and
lowers the threshold only until the nucleus lies above it. The result equals that of a full sort. Most of the time left
goes into two exponentials over the vocabulary (25 microseconds each for 49,152 tokens, of about 100 for a draw): one
for the log-probability, one for the temperature.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from s3local.teacher.protocol import Sampling

THRESHOLDS = (1e-3, 1e-4, 1e-5)
"""Weights relative to the most likely token, tried in turn before the whole vocabulary is sorted."""

PENALTY_WINDOW = 64
"""How many of the last tokens, including the prompt's, the repetition penalty applies to."""

Row = NDArray[np.float32]
"""A number for each token of the vocabulary, shape (vocabulary,)."""


def log_probability(logits: Row, token: int, scratch: Row) -> float:
    """The natural log-probability of ``token``. ``scratch`` has the shape of ``logits`` and is overwritten."""
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
    """Draw one token: its id, and its natural log-probability under the unmodified ``logits``.

    ``uniform`` is a random number in [0, 1), the only source of randomness. ``recent`` are the last tokens, for the
    repetition penalty. ``contrast`` holds the logits under the contrast prompt, and gamma. ``allowed``, shape
    (vocabulary,), is true for the tokens that may be drawn, at least one.
    ``scratch``, shape (2, vocabulary), is overwritten.
    """
    shifted, weights = scratch
    peak = logits.max()
    np.subtract(logits, peak, out=shifted)
    np.exp(shifted, out=weights)
    total = float(weights.sum())
    log_total = float(peak) + math.log(total)

    adjusted = _adjust(logits, sampling.repetition_penalty, recent, allowed)
    if sampling.temperature == 0:
        token = int(adjusted.argmax())
        return token, float(logits[token]) - log_total

    if adjusted is not logits:
        np.subtract(adjusted, adjusted.max(), out=shifted)
    if adjusted is not logits or sampling.temperature != 1:
        np.multiply(shifted, np.float32(1 / sampling.temperature), out=shifted)
        np.exp(shifted, out=weights)
        total = float(weights.sum())
    ids, kept = _nucleus(weights, total, sampling.top_p)
    if contrast is not None:
        other, gamma = contrast
        tilt = gamma * (logits[ids] - other[ids]).astype(np.float64)
        kept = kept * np.exp(tilt - tilt.max())
    cumulative = np.cumsum(kept, dtype=np.float64)
    # rounding must not reach the sum itself: no token lies beyond it
    point = min(uniform * cumulative[-1], np.nextafter(cumulative[-1], 0))
    token = int(ids[cumulative.searchsorted(point, side="right")])
    return token, float(logits[token]) - log_total


def _adjust(logits: Row, penalty: float, recent: Iterable[int], allowed: NDArray[np.bool_] | None) -> Row:
    """The logits after the repetition penalty and without forbidden tokens; the same array if neither applies."""
    seen = np.array(sorted(set(recent))) if penalty != 1 else np.empty(0, np.intp)
    if not len(seen) and allowed is None:
        return logits
    adjusted = logits.copy()
    if len(seen):
        values = adjusted[seen]
        factor = np.float32(penalty)
        adjusted[seen] = np.where(values > 0, values / factor, values * factor)
    if allowed is not None:
        adjusted[~allowed] = -np.inf
    return adjusted


def _nucleus(weights: Row, total: float, top_p: float) -> tuple[NDArray[np.intp], Row]:
    """The fewest most likely tokens that hold ``top_p`` of the ``total`` weight, and their weights.

    The most likely one comes first, equal weights are ordered by id. If ``top_p`` is 1, all tokens in order of id.
    """
    if top_p == 1:
        return np.arange(len(weights)), weights
    for threshold in THRESHOLDS:
        ids = np.flatnonzero(weights >= threshold)
        kept = weights[ids]
        if kept.sum() >= top_p * total:
            break
    else:
        ids = np.flatnonzero(weights > 0)
        kept = weights[ids]
    order = np.argsort(-kept, kind="stable")
    ids, kept = ids[order], kept[order]
    reached = int(np.cumsum(kept, dtype=np.float64).searchsorted(top_p * total)) + 1
    return ids[:reached], kept[:reached]
