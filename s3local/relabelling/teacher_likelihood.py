"""The teacher as a judge: the likelihood of a text under each label.

A noisy channel: the text is scored after a prompt that names the label. So the teacher need not say the label itself,
and each prompt is computed once for all texts. Source: Min et al., "Noisy Channel Language Model Prompting for Few-Shot
Text Classification", 2022.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from s3local.progress import Advance, ignore
from s3local.synthesis.prompts import Prompts
from s3local.teacher.protocol import Teacher


def label_logprobs(
    teacher: Teacher,
    prompts: Prompts,
    texts: Sequence[str],
    shots: Mapping[str, Sequence[str]] | None = None,
    likely: NDArray[np.bool_] | None = None,
    advance: Advance = ignore,
) -> NDArray[np.float64]:
    """The log-probability (nats) of each text under each of the task's labels: (n_texts, n_labels).

    A text beyond the length of a prompt is cut. ``shots`` are texts of each label that its prompt shows. Where
    ``likely`` (n_texts, n_labels) is False, a text is not scored, and the value is NaN. ``advance`` is called with the
    number of texts done, for each label.
    """
    entries = [prompts.entry(text) for text in texts]
    read = np.ones((len(entries), len(prompts.task.labels)), dtype=bool) if likely is None else likely
    logprobs = np.full(read.shape, np.nan)
    for column, label in enumerate(prompts.task.labels):
        places = np.flatnonzero(read[:, column])
        if len(places):
            prompt = prompts.scoring(label, (shots or {}).get(label.name, ()))
            scores = teacher.score(prompt, [entries[place] for place in places])
            logprobs[places, column] = [score.logprob for score in scores]
            advance(len(places))
    return logprobs
