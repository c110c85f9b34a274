"""Seed synthesis: the first data, zero-shot, each example led by rationales of its label (S3, section 3.1).

Knows nothing of gold rows, students or what is done with the examples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from s3local.synthesis import Planned, request_seeds
from s3local.synthesis.prompts import Prompts
from s3local.teacher import Sampling


def plan_seed(
    prompts: Prompts,
    labels: Sequence[str],
    rationales: Mapping[str, Sequence[str]],
    *,
    shown: int,
    count: int,
    sampling: Sampling,
    seed: Sequence[int],
) -> list[Planned]:
    """``count`` requests, each for a label drawn uniformly from ``labels`` and ``shown`` of its rationales."""
    chance = np.random.default_rng(list(seed))
    planned = []
    for request_seed in request_seeds(seed, count):
        name = labels[int(chance.integers(len(labels)))]
        reasons = rationales.get(name, ())
        drawn = chance.choice(len(reasons), min(shown, len(reasons)), replace=False).tolist() if reasons else []
        chosen = [reasons[int(place)] for place in drawn]
        prompt = prompts.seed(prompts.task.label(name), chosen)
        planned.append(Planned(prompt.request(request_seed, sampling), name, {"rationales": chosen}))
    return planned
