"""The task's unlabelled rows: real texts, which no synthetic one resembles as well.

Each round takes rows from them before the teacher is asked: at random in the first round, in later ones the nearest to
the errors. The judges say which label a row has, and a label takes no more rows than its quota, so that a common label
does not drown the others. What the rows do not fill, the teacher writes.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from s3local.curation.rules import sift
from s3local.exceptions import InputError
from s3local.records import UNLABELLED, Candidate, Dropped, Example
from s3local.results import UnlabelledResult
from s3local.runner.context import UNLABELLED_ROWS, RunContext
from s3local.runner.generation import Curation
from s3local.runner.relabel import Relabeller
from s3local.task.rows import load_unlabelled

LOOKED_AT = 4
"""At most this many rows are looked at for each row that is wanted."""
BLOCK = 256
"""Rows that are checked and predicted at a time."""
SCOPE_QUANTILE = 0.02
"""A row is out of scope if its nearest dev row is further than that of all but this share of the dev rows."""


class UnlabelledRows:
    """The unlabelled rows of a run that are not taken yet.

    ``relabeller`` has the judges, ``curation`` drops what breaks the rules or repeats a row.
    """

    def __init__(self, context: RunContext, relabeller: Relabeller, curation: Curation) -> None:
        self._context = context
        self._relabeller = relabeller
        self._curation = curation
        self._rows: list[Example] = []
        self._vectors: NDArray[np.float32] = np.zeros((0, 1), np.float32)
        self._gold: NDArray[np.float32] = np.zeros((0, 1), np.float32)
        self._least_similarity = -1.0
        self._place_of: dict[str, int] = {}

    @property
    def exist(self) -> bool:
        """Whether the run has unlabelled rows that judges can label."""
        used = self._context.settings.use_unlabelled and self._context.task.unlabelled is not None
        return used and self._relabeller.prepare().applied

    def take(
        self, number: int, quotas: Mapping[str, int], errors: Sequence[Example], before: Sequence[Candidate]
    ) -> tuple[list[Candidate], UnlabelledResult | None]:
        """The rows that round ``number`` takes: at most ``quotas`` of each label, none that repeats one of ``before``.

        ``errors`` are the dev rows whose neighbours are wanted; none: any rows. Writes unlabelled.jsonl and
        dropped-unlabelled.jsonl. None where the run has no unlabelled rows, or judges cannot label them.
        """
        if not self.exist:
            return [], None
        state, stage = self._context.state, f"round-{number}"
        result = state.once(
            f"{stage}/unlabelled.json", UnlabelledResult, lambda: self._take(number, quotas, errors, before)
        )
        return [Candidate.from_row(row) for row in state.read_rows(f"{stage}/unlabelled.jsonl")], result

    def _take(
        self, number: int, quotas: Mapping[str, int], errors: Sequence[Example], before: Sequence[Candidate]
    ) -> UnlabelledResult:
        context, stage, wanted = self._context, f"round-{number}", sum(quotas.values())
        self._load()
        self._curation.begin(before)
        gone = {row.example.id for row in before}
        taken: list[Candidate] = []
        dropped: list[Dropped] = []
        counts: Counter[str] = Counter()
        looked = 0
        order = [place for place in self._order(number, errors) if self._rows[place].id not in gone]
        order = order[: LOOKED_AT * wanted]
        with context.progress.step(f"{stage}: unlabelled rows", len(order), "texts") as advance:
            for start in range(0, len(order), BLOCK):
                if all(counts[label] >= quota for label, quota in quotas.items()):
                    break
                block = order[start : start + BLOCK]
                result = sift([Candidate(self._rows[place], {"method": UNLABELLED}) for place in block], self._in_scope)
                result = result.then(self._curation.filter)
                dropped += result.dropped
                chosen, labels = [], self._labels([candidate.example for candidate in result.kept])
                for candidate, label in zip(result.kept, labels, strict=True):
                    if counts[label] < quotas.get(label, 0):
                        counts[label] += 1
                        example = dataclasses.replace(candidate.example, label=label)
                        chosen.append(Candidate(example, candidate.origin))
                taken += chosen
                self._curation.keep_only([*before, *taken])
                looked += len(block)
                advance(len(block))
        context.state.write_rows(f"{stage}/unlabelled.jsonl", (row.to_row() for row in taken))
        context.state.write_rows(f"{stage}/dropped-unlabelled.jsonl", (drop.to_row() for drop in dropped))
        return UnlabelledResult(
            rows=len(self._rows),
            looked_at=looked,
            taken_per_label={label: counts[label] for label in quotas},
            dropped_by_reason=dict(Counter(drop.reason for drop in dropped).most_common()),
        )

    def _load(self) -> None:
        """Read and embed the rows, once."""
        if self._rows:
            return
        context = self._context
        assert context.task.unlabelled is not None
        file = context.task.unlabelled
        self._rows = [
            Example(f"{file.stem}-{number}", fields, "") for number, fields in load_unlabelled(file, context.task)
        ]
        if not self._rows:
            raise InputError(file, "no rows; one text a line belongs here")
        with context.progress.step("embedding the unlabelled rows", len(self._rows), "texts") as advance:
            self._vectors = context.models.embedder.embed([row.text for row in self._rows], advance)
        self._gold = context.models.embedder.embed([row.text for row in context.dev])
        among_gold = self._gold @ self._gold.T
        np.fill_diagonal(among_gold, -1.0)
        self._least_similarity = float(np.quantile(among_gold.max(axis=1), SCOPE_QUANTILE, method="lower"))
        self._place_of = {row.id: place for place, row in enumerate(self._rows)}

    def _in_scope(self, candidate: Candidate) -> tuple[str, float, str] | None:
        nearest = float((self._gold @ self._vectors[self._place_of[candidate.example.id]]).max())
        if nearest >= self._least_similarity:
            return None
        return "out_of_scope", nearest, f"the nearest dev row has a cosine below {self._least_similarity:.2f}"

    def _order(self, number: int, errors: Sequence[Example]) -> Iterator[int]:
        """All rows: in random order, or the nearest to the errors first, each error in turn."""
        if not errors:
            seed = self._context.seed_for(UNLABELLED_ROWS, number)
            return iter(np.random.default_rng(seed).permutation(len(self._rows)).tolist())
        vectors = self._context.models.embedder.embed([error.text for error in errors])
        depth = min(len(self._rows), math.ceil(LOOKED_AT * self._context.settings.rows / len(errors)) + 1)
        nearest = np.argsort(-(vectors @ self._vectors.T), axis=1, kind="stable")[:, :depth]  # (n_errors, depth)
        return iter(dict.fromkeys(nearest.T.ravel().tolist()))

    def _labels(self, rows: Sequence[Example]) -> list[str]:
        """The label that the judges find likeliest for each row."""
        if not rows:
            return []
        labels = self._context.task.label_names
        return [labels[best] for best in self._relabeller.predict(rows).mean(axis=0).argmax(axis=1).tolist()]
