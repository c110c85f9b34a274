"""Whether synthetic rows help, and how far, told by cross-validation on gold rows.

Between the student of gold rows alone and that of all rows lie the means of their weights: an average of two models
that began as one is itself a model, often better than both (Wortsman et al., "Model soups", 2022). How much of each
goes into what is handed over is decided here. Knows nothing of how students are trained or averaged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from s3local.evaluation.metrics import share_interval
from s3local.results import Verdict

GOLD_ALONE, ALL_ROWS = 0.0, 1.0
SHARES = (GOLD_ALONE, 0.25, 0.5, 0.75, ALL_ROWS)
"""The means that are compared, by how much of the final student's weights is in them."""
MOST_SHARE = 0.75
"""The share that is handed over, at most. Cross-validation cannot tell this: its students of gold alone
lack a fold, which costs them more than the others. On other rows of the pool (60 gold rows, 1,000 synthetic ones), this
mean was right on 1.0 point more than the final student on trec (five trainings on three draws: 0.6 to 1.7), 0.6 more on
ag_news (two: -0.5 and 1.7) and 0.2 less on sst2 (three: -0.7 to 0.6)."""


def weigh(
    scores: Mapping[float, NDArray[np.float64]],
    synthetic_rows: Sequence[int],
    likelihoods: Mapping[float, float] | None = None,
) -> Verdict:
    """The verdict on scores from 0 to 1 (n_rows,) of each share, gold alone and all rows among them.

    Of those up to ``MOST_SHARE``, the share with the highest of ``likelihoods`` (nats a row) is chosen or, where there
    are none, that with the highest mean score; of equal ones that with less of the synthetic rows. Right and wrong on
    a few dozen rows have an error of several points; how probable the right labels were found tells more.
    Raises ``ValueError`` for no rows.
    """
    n_rows = len(scores[GOLD_ALONE])
    if not n_rows:
        raise ValueError("there are no rows to compare on")
    means = {share: float(values.mean()) for share, values in scores.items()}
    merits = means if likelihoods is None else likelihoods
    share = max(sorted(its for its in merits if its <= MOST_SHARE), key=lambda its: merits[its])
    low, high = share_interval(means[share], n_rows)
    return Verdict(
        share=share,
        final=means[ALL_ROWS],
        gold_only=means[GOLD_ALONE],
        selected=means[share],
        low=low,
        high=high,
        gain=None if likelihoods is None else likelihoods[share] - likelihoods[GOLD_ALONE],
        n_rows=n_rows,
        synthetic_rows=tuple(synthetic_rows),
    )
