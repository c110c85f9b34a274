"""Whether synthetic rows help, told by cross-validation on gold rows. Knows nothing of students."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from s3local.evaluation.comparison import mean_interval
from s3local.student.inference import fit_temperature


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison of students with and without synthetic rows, on gold rows that neither learned from.

    ``final`` and ``gold`` are the means of both, ``low`` and ``high`` the 95 % bootstrap interval of ``final``;
    ``gain`` is final minus gold, ``error`` its standard error. ``evidence`` is by how many nats a row the final student
    explains the labels better, None where there are no label probabilities; ``passed`` says that the student of all
    rows is handed over. ``synthetic_rows`` are those that the students of each fold could learn from: the others
    descend from the fold, so that ``final`` rather understates the real one.
    """

    final: float
    gold: float
    low: float
    high: float
    gain: float
    error: float
    evidence: float | None
    passed: bool
    n_rows: int
    synthetic_rows: tuple[int, ...]


def weigh(
    with_rows: NDArray[np.float64],
    alone: NDArray[np.float64],
    synthetic_rows: Sequence[int],
    evidence: float | None = None,
) -> Verdict:
    """The verdict on scores from 0 to 1 (n_rows,) with synthetic rows, and by gold rows alone.

    Synthetic rows fail if they cost anything: if ``evidence`` is below 0, or, where there is none, the gain. Right and
    wrong on a few dozen rows have an error of several points; how probable the right labels were found tells more.
    Raises ``ValueError`` for no rows.
    """
    n_rows = len(with_rows)
    if not n_rows:
        raise ValueError("there are no rows to compare on")
    difference = with_rows - alone
    # two rows more, one for each side, so that a few rows that all agree do not look like certainty
    padded = np.concatenate([difference, [1.0, -1.0]])
    error = float(padded.std(ddof=1) / np.sqrt(len(padded)))
    mean, gain = float(with_rows.mean()), float(difference.mean())
    low, high = mean_interval(with_rows[None])
    return Verdict(
        final=mean,
        gold=float(alone.mean()),
        low=low,
        high=high,
        gain=gain,
        error=error,
        evidence=evidence,
        passed=(gain if evidence is None else evidence) >= 0,
        n_rows=n_rows,
        synthetic_rows=tuple(synthetic_rows),
    )


def log_likelihood(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The mean log-probability (nats) of the rows' own ``labels``, numbers (n_rows,), by ``logits`` (n_rows, n_labels).

    At the temperature at which it is highest: a student that is right must not lose because it is too sure, or not
    sure enough, which is mended when it is exported.
    """
    scores = logits / fit_temperature(logits, labels)
    scores = scores - scores.max(axis=1, keepdims=True)
    return float((scores[np.arange(len(labels)), labels] - np.log(np.exp(scores).sum(axis=1))).mean())
