"""Which rows to label: random ones, diverse ones, or a few and then those that `suggest` names.

    python benchmarks/suggest.py trec --seeds 0 1 2 3 4 --json benchmarks/results/suggest-trec.json

The pool's labels answer for the person who labels. ``--gold`` rows are random; or chosen as `data draw --diverse`
chooses; or ``--first`` diverse rows, to which `suggest` then adds the rest, without a run ("suggested") or with the
student of the first rows ("suggested, unsure"). All are drawn without a look at their labels. Each set trains the
gold-only student of `compare`, and the test rows say how good it is; ``--on-pool`` takes other rows of the pool in
their place, for trying out other rules. Figures that the file has from an earlier call are kept. Needs
../shared/datasets.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from shared import CHECKOUT, DATASETS, known_figures, save

from s3local.embedder import CachedEmbedder, LazyEmbedder, Vectors
from s3local.evaluation.cross_validation import divide_into_folds
from s3local.records import Example
from s3local.review.selection import Doubts, doubts_of, rank, rank_in_two_steps
from s3local.runner.context import STUDENT
from s3local.runner.settings import RunSettings
from s3local.runner.task_kinds import TrainingSet, kind_of
from s3local.seeds import derive_seed
from s3local.student.training import TrainedStudent
from s3local.task.model import Task, load_task
from s3local.task.rows import load_dev, load_rows
from s3local.text import normal_form
from s3local.weights.store import find_encoder, find_student_body

SAME = ("gold", "first", "pool", "test", "on_pool")
"""Options that all figures of a file must share."""
DOUBT_FOLDS = 4
"""Folds of the first rows that say which of them the student gets wrong."""


class Pool:
    """The pool's rows, each text once, with embeddings (n, dim)."""

    def __init__(self, task: Task, rows: Sequence[Example], embedder: CachedEmbedder) -> None:
        self.task = task
        self.rows = list({normal_form(row.text): row for row in reversed(rows)}.values())[::-1]
        self.vectors: Vectors = embedder.embed([row.text for row in self.rows])

    def student(self, rows: Sequence[Example], seed: int, brief: bool = False) -> Any:
        """The gold-only student of these rows."""
        kind, body = kind_of(self.task, rows, [], RunSettings()), find_student_body()
        settings = dataclasses.replace(kind.training_settings(body), brief=brief)
        return kind.train(body, TrainingSet(rows, derive_seed(seed, STUDENT, 0)), settings)


def random_rows(pool: Pool, options: argparse.Namespace, seed: int) -> list[int]:
    return np.random.default_rng(seed).permutation(len(pool.rows))[: options.gold].tolist()  # type: ignore[no-any-return]


def diverse_rows(pool: Pool, options: argparse.Namespace, seed: int) -> list[int]:
    return first_rows(pool, options.gold, seed)


def first_rows(pool: Pool, count: int, seed: int) -> list[int]:
    return [place for place, _ in rank(pool.vectors, pool.vectors[:0], count, seed)]


def suggested_rows(pool: Pool, options: argparse.Namespace, seed: int) -> list[int]:
    return rank_in_two_steps(pool.vectors, options.first, options.gold, seed)


def doubtful_rows(pool: Pool, options: argparse.Namespace, seed: int) -> list[int]:
    """``--first`` rows, and those that are suggested then, with a student of the first ones."""
    first = first_rows(pool, options.first, seed)
    doubts = student_doubts(pool, first, seed)
    more = rank(pool.vectors, pool.vectors[first], options.gold - len(first), seed, doubts)
    return [*first, *(place for place, _ in more)]


def student_doubts(pool: Pool, first: Sequence[int], seed: int) -> Doubts:
    """What the student of the first rows is unsure of; which of them it gets wrong, cross-validation says."""
    rows = [pool.rows[place] for place in first]
    whole = pool.student(rows, seed)
    logits = whole.predict_logits(pool.rows)
    known = np.array([label in {row.label for row in rows} for label in pool.task.label_names])
    odds = np.exp(logits - logits.max(axis=1, keepdims=True)) * known
    wrong = np.zeros(len(rows), np.bool_)
    folds = divide_into_folds([row.label for row in rows], DOUBT_FOLDS, seed)
    for fold in range(folds.max() + 1):
        inside = np.flatnonzero(folds == fold)
        student: TrainedStudent = pool.student([rows[n] for n in np.flatnonzero(folds != fold)], seed, brief=True)
        for place, guess in zip(inside, student.predict([rows[n] for n in inside]), strict=True):
            wrong[place] = guess != rows[place].label
    vectors = pool.vectors[list(first)]
    return doubts_of(odds / odds.sum(axis=1, keepdims=True), pool.vectors, vectors[wrong], vectors[~wrong])


WAYS: Mapping[str, Callable[[Pool, argparse.Namespace, int], list[int]]] = {
    "random": random_rows,
    "diverse": diverse_rows,
    "suggested": suggested_rows,
    "suggested, unsure": doubtful_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=("trec", "sst2", "ag_news", "imdb"))
    parser.add_argument("--datasets", type=Path, default=DATASETS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--gold", type=int, default=60, help="labelled rows (60)")
    parser.add_argument("--first", type=int, default=20, help="labelled rows before the suggestions (20)")
    parser.add_argument("--pool", type=int, default=3000, help="rows of the pool to choose from, at most (3000)")
    parser.add_argument("--test", type=int, default=2000, help="test rows, at most (2000)")
    parser.add_argument("--on-pool", action="store_true", help="score on other rows of the pool, not on test")
    parser.add_argument("--json", type=Path, help="file with the figures, read and written")
    options = parser.parse_args()
    if not options.datasets.is_dir():
        parser.error(f"{options.datasets} is not here; the benchmark data belongs there")
    source = options.datasets / options.dataset
    task = load_task(CHECKOUT / "data" / options.dataset, source / "pool.jsonl", source / "test.jsonl")
    rows, chance = load_dev(task), np.random.default_rng(0)
    if options.on_pool:
        order = chance.permutation(len(rows))
        test, rows = ([rows[n] for n in its] for its in (order[: options.test], np.sort(order[options.test :])))
    else:
        assert task.test is not None
        test = load_rows(task.test, task)
        test = [test[n] for n in np.sort(chance.permutation(len(test))[: options.test])]
    rows = [rows[n] for n in np.sort(chance.permutation(len(rows))[: options.pool])]
    pool = Pool(task, rows, CachedEmbedder(LazyEmbedder(find_encoder())))
    measured = known_figures(options, SAME, "measured")
    known = {(entry["way"], entry["seed"]) for entry in measured}
    for seed in options.seeds:
        for way in options.ways:
            if (way, seed) in known:
                continue
            started = time.perf_counter()
            chosen = [pool.rows[place] for place in WAYS[way](pool, options, seed)]
            took = time.perf_counter() - started
            student = pool.student(chosen, seed)
            right = [guess == row.label for guess, row in zip(student.predict(test), test, strict=True)]
            entry = {
                "dataset": options.dataset,
                "way": way,
                "seed": seed,
                "rows": len(chosen),
                "labels": len({row.label for row in chosen}),
                "test_rows": len(test),
                "test_accuracy": float(np.mean(right)),
                "seconds_to_choose": round(took, 1),
            }
            measured.append(entry)
            print(
                f"{way}, seed {seed}: {entry['test_accuracy']:.3f}, {entry['labels']} labels, {took:.0f} s", flush=True
            )
            save(options, measured)


if __name__ == "__main__":
    main()
