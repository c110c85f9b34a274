"""Error extrapolation: new data from the rows that the student got wrong (S3, section 3.2).

Each prompt shows other rows of the error's label and then the error itself; several texts are sampled from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s3local.records import Example
from s3local.synthesis.planning import (
    Planned,
    another_label,
    in_turn,
    length_of,
    random_generator,
    request_seeds,
    sample,
)
from s3local.synthesis.prompts import Prompts
from s3local.teacher.protocol import Sampling


def plan_extrapolation(
    prompts: Prompts,
    wanted: Mapping[str, int],
    errors: Sequence[Example],
    gold: Mapping[str, Sequence[Example]],
    *,
    shots: int,
    samples: int,
    sampling: Sampling,
    seed: Sequence[int],
    length_like: Sequence[str] = (),
    contrast: float = 0.0,
) -> list[Planned]:
    """Plan ``wanted`` texts of each label, ``samples`` from each prompt, on the label's errors in turn.

    ``gold`` holds the rows of each label; each prompt shows ``shots`` of them, drawn anew. The order of the errors is
    drawn as well, so that several calls reach all of them. A new row keeps the error's source fields and answers.
    ``length_like`` are texts whose lengths the new texts get, in turn. ``contrast`` is the weight of the contrast
    prompt (``Contrast.gamma``), which shows rows of another label; it is ignored where rows have no labels.
    Raises ``ValueError`` for a label without errors.
    """
    generator = random_generator(seed)
    seeds = iter(request_seeds(seed, sum(wanted.values())))
    planned = []
    lengths = in_turn(length_like, generator)
    for error, count in _turns(wanted, errors, samples, generator):
        shown = sample([row for row in gold[error.label] if row.id != error.id], shots, generator)
        origin: dict[str, Any] = {"error": error.id, "shots": [row.id for row in shown]}
        source = {name: error.fields[name] for name in prompts.task.source_fields}
        other, against = None, []
        if contrast and prompts.task.labels:
            other = another_label(prompts.task.label_names, error.label, generator)
            against = sample(gold.get(other, ()), shots + 1, generator)
            origin["against"] = [row.id for row in against]
        for request_seed in itertools.islice(seeds, count):
            like = next(lengths, None)
            contrast_prompt = None if other is None else prompts.contrast(other, against, source, like)
            prompt = prompts.extrapolation(error.label, shown, error, like)
            request = prompt.request(request_seed, sampling, contrast_prompt, contrast)
            planned.append(Planned(request, error.label, origin | length_of(like), source, error.answers))
    return planned


def _turns(
    wanted: Mapping[str, int], errors: Sequence[Example], samples: int, generator: np.random.Generator
) -> list[tuple[Example, int]]:
    """The error of each prompt, and its number of texts: ``samples``, or the rest for a label's last prompt."""
    turns = []
    for label, rows in wanted.items():
        mine = [error for error in errors if error.label == label]
        if rows and not mine:
            raise ValueError(f"there is no error of the label {label!r} to extrapolate")
        order = generator.permutation(len(mine))
        for turn, begin in enumerate(range(0, rows, samples)):
            turns.append((mine[int(order[turn % len(mine)])], min(samples, rows - begin)))
    return turns
