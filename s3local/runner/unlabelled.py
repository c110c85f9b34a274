"""The task's unlabelled rows: real texts, which no synthetic one resembles as well.

Each round takes rows from them before the teacher is asked: at random in the first round, in later ones the nearest to
the errors. The judges say which label a row has, and a label takes no more rows than its quota, so that a common label
does not drown the others. What the rows do not fill, the teacher writes.

How much of the budget goes to either is not chosen by cross-validation: of 600 rows, none, a quarter, half, three
quarters or all were unlabelled ones, the others S3's, with label probabilities of MiniLM judges and a linear model on
embeddings as the student (60 gold rows, three draws each of trec and sst2, scored on 800 other rows of the pool). All
unlabelled gave 71.3 % on average, the share that cross-validation on gold chose 71.2 %, the best share of each draw
72.1 %, and none 69.4 %.

Rows are looked at block by block. What the judges say of a block is written before the next one begins, so that a
killed run goes on with the block that it was at. Memory: that of ``UnlabelledPool``, and the text and the embedding of
each row that was looked at, of which there are at most ``LOOKED_AT`` for each row of the budget.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from s3local.curation.rules import Finding, sift
from s3local.embedder import CachedEmbedder, Vectors
from s3local.records import UNLABELLED, Candidate, Dropped, Example
from s3local.results import UnlabelledResult
from s3local.runner.context import UNLABELLED_ROWS, RunContext
from s3local.runner.generation import Curation
from s3local.runner.relabel import Relabeller
from s3local.runner.unlabelled_pool import UnlabelledPool

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
        self._pool = UnlabelledPool(context, curation)

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
        for block in range(math.ceil(result.looked_at / BLOCK)):
            self._relabeller.recall(_judged_file(stage, block))
        return [Candidate.from_row(row) for row in state.read_rows(f"{stage}/unlabelled.jsonl")], result

    def _take(
        self, number: int, quotas: Mapping[str, int], errors: Sequence[Example], before: Sequence[Candidate]
    ) -> UnlabelledResult:
        context, stage, wanted = self._context, f"round-{number}", sum(quotas.values())
        self._pool.open()
        self._curation.begin(before)
        in_scope = _Scope(context.models.embedder.embed([row.text for row in context.dev]))
        gone = {row.example.id for row in before}
        taken: list[Candidate] = []
        dropped: list[Dropped] = []
        counts: Counter[str] = Counter()
        looked = 0
        order = [place for place in self._order(number, errors) if self._pool.ids[place] not in gone]
        order = order[: LOOKED_AT * wanted]
        with context.progress.step(f"{stage}: unlabelled rows", len(order), "texts") as advance:
            for start in range(0, len(order), BLOCK):
                if all(counts[label] >= quota for label, quota in quotas.items()):
                    break
                places = order[start : start + BLOCK]
                rows, vectors = self._pool.rows(places), self._pool.vectors(places)
                if isinstance(context.models.embedder, CachedEmbedder):
                    context.models.embedder.remember([row.text for row in rows], vectors)
                result = sift(
                    [Candidate(row, {"method": UNLABELLED}) for row in rows], in_scope.checking(rows, vectors)
                )
                result = result.then(self._curation.filter)
                dropped += result.dropped
                chosen, labels = [], self._labels(_judged_file(stage, start // BLOCK), result.kept)
                for candidate, label in zip(result.kept, labels, strict=True):
                    if counts[label] < quotas.get(label, 0):
                        counts[label] += 1
                        example = dataclasses.replace(candidate.example, label=label)
                        chosen.append(Candidate(example, candidate.origin))
                taken += chosen
                self._curation.keep_only([*before, *taken])
                looked += len(places)
                advance(len(places))
        context.state.write_rows(f"{stage}/unlabelled.jsonl", (row.to_row() for row in taken))
        context.state.write_rows(f"{stage}/dropped-unlabelled.jsonl", (drop.to_row() for drop in dropped))
        return UnlabelledResult(
            rows=len(self._pool),
            looked_at=looked,
            taken_per_label={label: counts[label] for label in quotas},
            dropped_by_reason=dict(Counter(drop.reason for drop in dropped).most_common()),
        )

    def _order(self, number: int, errors: Sequence[Example]) -> list[int]:
        """The places of all rows in random order, or of the nearest to the errors, each error in turn."""
        context = self._context
        if not errors:
            seed = context.seed_for(UNLABELLED_ROWS, number)
            return np.random.default_rng(seed).permutation(len(self._pool)).tolist()  # type: ignore[no-any-return]
        vectors = context.models.embedder.embed([error.text for error in errors])
        depth = math.ceil(LOOKED_AT * context.settings.rows / len(errors)) + 1
        return list(dict.fromkeys(self._pool.nearest(vectors, depth).T.ravel().tolist()))

    def _labels(self, file: str, candidates: Sequence[Candidate]) -> list[str]:
        """The label that the judges find likeliest for each row; their predictions are in ``file``, or are written."""
        labels = self._context.task.label_names
        predictions = self._relabeller.predict_into(file, [candidate.example for candidate in candidates])
        return [labels[best] for best in predictions.mean(axis=0).argmax(axis=1).tolist()]


class _Scope:
    """How near a text must be to dev, whose embeddings are ``gold`` (n_dev, dim)."""

    def __init__(self, gold: Vectors) -> None:
        self._gold = gold
        among_gold = gold @ gold.T
        np.fill_diagonal(among_gold, -1.0)
        self.least_similarity = float(np.quantile(among_gold.max(axis=1), SCOPE_QUANTILE, method="lower"))

    def checking(self, rows: Sequence[Example], vectors: Vectors) -> Callable[[Candidate], Finding | None]:
        """What ``sift`` asks about each of ``rows``."""
        nearest = (vectors @ self._gold.T).max(axis=1)
        cosines = {row.id: float(cosine) for row, cosine in zip(rows, nearest, strict=True)}

        def check(candidate: Candidate) -> Finding | None:
            cosine = cosines[candidate.example.id]
            if cosine >= self.least_similarity:
                return None
            return "out_of_scope", cosine, f"the nearest dev row has a cosine below {self.least_similarity:.2f}"

        return check


def _judged_file(stage: str, block: int) -> str:
    return f"{stage}/looked-at/{block:04d}.jsonl"
