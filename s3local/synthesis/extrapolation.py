"""Error extrapolation: new data from the rows that the student got wrong (S3, section 3.2).

Each prompt shows rows of the error's label and the error last; several texts are sampled from it. Knows nothing of
how errors are found or which of them are chosen.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from s3local.records import Example
from s3local.synthesis.planning import Planned, another_label, drawn, in_turn, length_of, request_seeds
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
    models: Sequence[str] = (),
    contrast: float = 0.0,
) -> list[Planned]:
    """Requests for so many texts of each label as ``wanted`` says: its errors in turn, ``samples`` from each prompt.

    ``gold`` holds the rows of each label to draw ``shots`` others from, anew for each prompt. The order of the turn is
    drawn as well, so that several calls reach all errors. What an error's text was written on, and its answers, stay
    as they are. ``models`` are texts whose lengths the new ones shall have, in turn. With a ``contrast``,
    a text is set against what the teacher would write after rows of another label (``Contrast.gamma``);
    not where rows have no labels. Raises ``ValueError`` for a label without errors.
    """
    chance = np.random.default_rng(list(seed))
    seeds = iter(request_seeds(seed, sum(wanted.values())))
    planned = []
    lengths = in_turn(models, chance)
    for error, count in _turns(wanted, errors, samples, chance):
        shown = drawn([row for row in gold[error.label] if row.id != error.id], shots, chance)
        origin: dict[str, Any] = {"error": error.id, "shots": [row.id for row in shown]}
        given = {name: error.fields[name] for name in prompts.task.source_fields}
        other, against = None, []
        if contrast and prompts.task.labels:
            other = another_label(prompts.task.label_names, error.label, chance)
            against = drawn(gold.get(other, ()), shots + 1, chance)
            origin["against"] = [row.id for row in against]
        for request_seed in itertools.islice(seeds, count):
            model = next(lengths, None)
            rival = None if other is None else prompts.rival(other, against, given, model)
            prompt = prompts.extrapolation(error.label, shown, error, model)
            request = prompt.request(request_seed, sampling, rival, contrast)
            planned.append(Planned(request, error.label, origin | length_of(model), given, error.answers))
    return planned


def _turns(
    wanted: Mapping[str, int], errors: Sequence[Example], samples: int, chance: np.random.Generator
) -> list[tuple[Example, int]]:
    """The error of each prompt, and how many texts it is to bring: ``samples``, the last of a label what is left."""
    turns = []
    for label, rows in wanted.items():
        mine = [error for error in errors if error.label == label]
        if rows and not mine:
            raise ValueError(f"there is no error of the label {label!r} to extrapolate")
        order = chance.permutation(len(mine))
        for turn, begin in enumerate(range(0, rows, samples)):
            turns.append((mine[int(order[turn % len(mine)])], min(samples, rows - begin)))
    return turns
