"""Error extrapolation: new data from the rows that the student got wrong (S3, section 3.2).

Each prompt shows rows of the error's label and the error last; several texts are sampled from it. Knows nothing of
how errors are found or which of them are chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s3local.records import Example
from s3local.synthesis import Planned, another_label, request_seeds
from s3local.synthesis.prompts import Prompts
from s3local.teacher import Sampling


def plan_extrapolation(
    prompts: Prompts,
    errors: Sequence[Example],
    gold: Mapping[str, Sequence[Example]],
    *,
    shots: int,
    samples: int,
    count: int,
    sampling: Sampling,
    seed: Sequence[int],
    contrast: float = 0.0,
) -> list[Planned]:
    """``count`` requests or a few more: the errors in turn, ``samples`` texts from each prompt.

    ``gold`` holds the rows of each label to draw ``shots`` others from, anew for each prompt. Which error the turn
    begins with is drawn as well, so that several calls reach all of them. What an error's text was written on, and
    its answers, stay as they are. With a ``contrast``, a text is set against what the teacher would write after rows
    of another label (``Contrast.gamma``); not where rows have no labels.
    """
    chance = np.random.default_rng(list(seed))
    order = chance.permutation(len(errors))
    n_prompts = -(-count // samples)
    seeds = request_seeds(seed, n_prompts * samples)
    planned = []
    for turn in range(n_prompts):
        error = errors[int(order[turn % len(errors)])]
        shown = _drawn([row for row in gold[error.label] if row.id != error.id], shots, chance)
        prompt = prompts.extrapolation(error.label, shown, error)
        origin: dict[str, Any] = {"error": error.id, "shots": [row.id for row in shown]}
        given = {name: error.fields[name] for name in prompts.task.given}
        rival = None
        if contrast and prompts.task.labels:
            other = another_label(prompts.task.label_names, error.label, chance)
            against = _drawn(gold.get(other, ()), shots + 1, chance)
            origin["against"] = [row.id for row in against]
            rival = prompts.rival(other, against, given)
        mine = seeds[turn * samples : (turn + 1) * samples]
        planned += [
            Planned(prompt.request(request_seed, sampling, rival, contrast), error.label, origin, given, error.answers)
            for request_seed in mine
        ]
    return planned


def _drawn(rows: Sequence[Example], count: int, chance: np.random.Generator) -> list[Example]:
    places = chance.choice(len(rows), min(count, len(rows)), replace=False).tolist() if rows else []
    return [rows[int(place)] for place in places]
