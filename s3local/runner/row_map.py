"""The map of a run's rows, for its report: where gold and synthetic rows lie, and which of them are nearest.

Writes dev.jsonl, the dev rows as the run read them, and a line for each row in map/. Test is not on the map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from s3local.evaluation.projection import nearest_rows, principal_plane
from s3local.records import Candidate, Example
from s3local.results import DEV_FILE, MAP_FILE, MAP_OF_DEV, MAP_OF_SYNTHETIC, MapResult, Place
from s3local.runner.context import RunContext


def map_rows(context: RunContext, candidates: Sequence[Candidate]) -> MapResult:
    """Map dev and ``candidates``, the synthetic rows of the run.

    Rows lie where the embedder puts their whole text. Neighbours are nearest in the field that the teacher writes: two
    rows on one source text are no copies of each other.
    """

    def compute() -> MapResult:
        state, target = context.state, context.task.target_field
        synthetic = [candidate.example for candidate in candidates]
        with context.progress.step("mapping the rows", len(synthetic) + len(context.dev), "texts") as advance:
            embed = context.models.embedder.embed
            plane = principal_plane(
                embed([row.text for row in context.dev], advance), embed([row.text for row in synthetic], advance)
            )
            gold_targets = embed([row.fields[target] for row in context.dev])
            targets = embed([row.fields[target] for row in synthetic])
        state.write_rows(DEV_FILE, (row.to_row() for row in context.dev))
        for name, rows, others, positions, found in (
            (MAP_OF_DEV, context.dev, synthetic, plane.gold, nearest_rows(gold_targets, targets)),
            (MAP_OF_SYNTHETIC, synthetic, context.dev, plane.synthetic, nearest_rows(targets, gold_targets)),
        ):
            state.write_rows(name, (place.to_row() for place in _places(rows, others, positions, *found)))
        return MapResult(explained=plane.explained)

    return context.state.once(MAP_FILE, MapResult, compute)


def _places(
    rows: Sequence[Example],
    others: Sequence[Example],
    positions: NDArray[np.float64],
    cosines: NDArray[np.float32],
    places: NDArray[np.int64],
) -> Iterator[Place]:
    for row, (x, y), cosine, place in zip(rows, positions.tolist(), cosines.tolist(), places.tolist(), strict=True):
        yield Place(row.id, x, y, others[place].id, cosine)
