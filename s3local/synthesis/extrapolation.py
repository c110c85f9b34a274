"""Error extrapolation: new data from the rows that the student got wrong (S3, section 3.2).

Each prompt shows other rows of the error's label and then the error itself; several texts are sampled from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
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

SHARED_SHOTS = 8
"""The most prompts of a label in a row that show the same rows before the error."""


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

    ``gold`` holds the rows of each label; each prompt shows ``shots`` of them. Up to ``SHARED_SHOTS`` prompts show the
    same ones and differ in the error alone, which comes last: the teacher reads their common beginning once. The order
    of the errors is drawn, so that several calls reach all of them. A new row keeps the error's source fields and
    answers. ``length_like`` are texts whose lengths the new texts get, in turn. ``contrast`` is the weight of the
    contrast prompt (``Contrast.gamma``), which shows rows of another label, drawn for each prompt, and the same rows
    each time; it is ignored where rows have no labels.
    Raises ``ValueError`` for a label without errors.
    """
    generator = random_generator(seed)
    seeds = iter(request_seeds(seed, sum(wanted.values())))
    planned = []
    lengths = in_turn(length_like, generator)
    of_contrast: dict[str, list[Example]] = {}
    for together in _turns(wanted, errors, gold, samples, shots, generator):
        label, shown_last = together[0][0].label, {error.id for error, _ in together}
        shown = sample([row for row in gold[label] if row.id not in shown_last], shots, generator)
        for error, count in together:
            source = {name: error.fields[name] for name in prompts.task.source_fields}
            origin: dict[str, Any] = {"error": error.id, "shots": [row.id for row in shown]}
            other, against = None, []
            if contrast and prompts.task.labels:
                other = another_label(prompts.task.label_names, label, generator)
                if other not in of_contrast:
                    of_contrast[other] = sample(gold.get(other, ()), shots + 1, generator)
                against = of_contrast[other]
                origin["against"] = [row.id for row in against]
            for request_seed in itertools.islice(seeds, count):
                like = next(lengths, None)
                contrast_prompt = None if other is None else prompts.contrast(other, against, source, like)
                prompt = prompts.extrapolation(label, shown, error, like)
                request = prompt.request(request_seed, sampling, contrast_prompt, contrast)
                planned.append(Planned(request, label, origin | length_of(like), source, error.answers))
    return planned


def _turns(
    wanted: Mapping[str, int],
    errors: Sequence[Example],
    gold: Mapping[str, Sequence[Example]],
    samples: int,
    shots: int,
    generator: np.random.Generator,
) -> Iterator[list[tuple[Example, int]]]:
    """The prompts that show the same rows: the error of each, and its number of texts, ``samples`` or, for a label's
    last prompt, the rest. They are so few that ``shots`` rows of the label are left beside their errors."""
    for label, rows in wanted.items():
        mine = [error for error in errors if error.label == label]
        if rows and not mine:
            raise ValueError(f"there is no error of the label {label!r} to extrapolate")
        order = generator.permutation(len(mine))
        turns = [
            (mine[int(order[turn % len(mine)])], min(samples, rows - begin))
            for turn, begin in enumerate(range(0, rows, samples))
        ]
        size = max(1, min(SHARED_SHOTS, len(gold[label]) - shots)) if turns else 1
        yield from (turns[begin : begin + size] for begin in range(0, len(turns), size))
