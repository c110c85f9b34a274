"""Error extrapolation: new data from the rows that the student got wrong (S3, section 3.2).

Each prompt shows rows of the error's label and the error last; several texts are sampled from it. Knows nothing of
how errors are found or which of them are chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from s3local.records import Example
from s3local.synthesis import Planned, request_seeds
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
) -> list[Planned]:
    """``count`` requests or a few more: the errors in turn, ``samples`` texts from each prompt.

    ``gold`` holds the rows of each label to draw ``shots`` others from, anew for each prompt. Which error the turn
    begins with is drawn as well, so that several calls reach all of them. What an error's text was written on, and
    its answers, stay as they are.
    """
    chance = np.random.default_rng(list(seed))
    order = chance.permutation(len(errors))
    n_prompts = -(-count // samples)
    seeds = request_seeds(seed, n_prompts * samples)
    planned = []
    for turn in range(n_prompts):
        error = errors[int(order[turn % len(errors)])]
        others = [row for row in gold[error.label] if row.id != error.id]
        drawn = chance.choice(len(others), min(shots, len(others)), replace=False).tolist() if others else []
        shown = [others[int(place)] for place in drawn]
        prompt = prompts.extrapolation(error.label, shown, error)
        origin = {"error": error.id, "shots": [row.id for row in shown]}
        given = {name: error.fields[name] for name in prompts.task.given}
        mine = seeds[turn * samples : (turn + 1) * samples]
        planned += [
            Planned(prompt.request(request_seed, sampling), error.label, origin, given, error.answers)
            for request_seed in mine
        ]
    return planned
