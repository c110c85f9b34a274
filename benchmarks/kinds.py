"""All three kinds on the seven benchmark datasets: 60 gold rows each, the embedded models, a small budget.

    python benchmarks/kinds.py --json benchmarks/results/kinds.json
    python benchmarks/kinds.py --only rte adversarial_qa --rows 64 --gold 24 --test 100

The two with long texts, imdb and adversarial_qa, get half of the synthetic rows and of the test rows.

For each dataset: draws gold rows from its pool, balanced over the labels, takes the other source texts of the pool as
unlabelled contexts, runs S3, and trains a gold-only student for comparison. Prints the test scores of the seed, of the
last round, of the final student (with gold) and of the gold-only student, with the time and the peak memory of the run.
Needs ../shared/datasets.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared import CHECKOUT, parsed, parser_for, save

from s3local.progress import Silent
from s3local.records import Example, read_jsonl, write_jsonl
from s3local.results import Metrics
from s3local.runner.loop import run
from s3local.runner.settings import RunSettings
from s3local.runner.task_kinds import Texts, TrainingSet, kind_of
from s3local.task.model import Task, load_task
from s3local.task.rows import load_dev, load_rows
from s3local.task.subsample import draw_rows
from s3local.weights.store import find_student_body

NAMES = ("trec", "sst2", "ag_news", "rte", "qnli", "imdb", "adversarial_qa")
LONG = ("imdb", "adversarial_qa")
"""Datasets with texts of hundreds of words, which cost several times as much a row."""


class Talking(Silent):
    """Prints a line for each round."""

    def say(self, message: str) -> None:
        print(f"    {message}", flush=True)


def prepared(name: str, folder: Path, datasets: Path, options: argparse.Namespace) -> Task:
    """The preset ``name`` with gold rows drawn from its pool, other contexts from there, and the first test rows."""
    source = datasets / name
    preset = CHECKOUT / "data" / name
    pool = source / "pool.jsonl"
    is_qa = "extractive_qa" in (preset / "task.yaml").read_text(encoding="utf-8")
    gold = draw_rows(pool, options.gold, options.seed, label_column=None if is_qa else "label")
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "dev.jsonl", gold)
    test = [row for _, row in read_jsonl(source / "test.jsonl")]
    write_jsonl(folder / "test.jsonl", test[: share(options.test, name)] if options.test else test)
    task = load_task(preset, folder / "dev.jsonl", folder / "test.jsonl")
    if not task.source_fields:
        return task
    (given,) = task.source_fields
    texts = dict.fromkeys(row[given] for _, row in read_jsonl(pool))
    write_jsonl(folder / "contexts.jsonl", ({given: text} for text in list(texts)[: options.contexts]))
    return load_task(preset, folder / "dev.jsonl", folder / "test.jsonl", folder / "contexts.jsonl")


def share(count: int, name: str) -> int:
    """The part of ``count`` rows that the dataset gets: half where texts are long."""
    return count // 2 if name in LONG else count


def gold_only(kind: Texts, dev: Sequence[Example], test: Sequence[Example], folder: Path, seed: int) -> Metrics:
    """The test scores of a gold-only student."""
    body = find_student_body(None)
    student = kind.train(body, TrainingSet(dev, seed), kind.training_settings(body))
    kind.export(student, folder, 1.0)
    return kind.evaluate(folder, test).metrics


def measure(name: str, datasets: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One dataset: its scores, time and memory."""
    task = prepared(name, folder / name, datasets, options)
    settings = RunSettings(
        seed=options.seed,
        rows=share(options.rows, name),
        rounds=options.rounds,
        label_check=not options.without_label_check,
        model_selection=options.model_selection,
    )
    dev, test = load_dev(task), load_rows(task.test, task) if task.test else []
    kind = kind_of(task, dev, test, settings)
    started = time.perf_counter()
    summary = run(task, settings, folder=folder / name / "run", progress=Talking()).summary
    seconds = time.perf_counter() - started
    first, last, alone = summary.rounds[0].student, summary.rounds[-1].student, summary.gold_only
    scores = {
        "seed": first.test,
        "last round": last.test,
        "final": summary.final.test,
        "gold only": alone.test if alone else gold_only(kind, dev, test, folder / name / "gold", options.seed),
    }
    return {
        "dataset": name,
        "kind": task.kind,
        "figure": kind.headline,
        "gold_rows": len(dev),
        "test_rows": len(test),
        "synthetic_rows": summary.rows,
        "rounds": len(summary.rounds) - 1,
        "max_length": summary.final.training.max_length,
        "texts_characters": median_length(folder / name / "run", task, dev),
        "scores": {place: short(metrics) for place, metrics in scores.items()},
        "model_selection": dataclasses.asdict(summary.model_selection),
        "dropped": [entry.synthesis.dropped_by_reason for entry in summary.rounds],
        "seconds": round(seconds, 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def median_length(run_folder: Path, task: Task, dev: Sequence[Example]) -> dict[str, int]:
    """The median length of the written texts, gold and synthetic, in characters."""
    rows = [row for _, row in read_jsonl(run_folder / "final" / "dataset.jsonl")]
    texts = {
        "gold": [row.fields[task.target_field] for row in dev],
        "synthetic": [row[task.target_field] for row in rows],
    }
    return {name: sorted(map(len, some))[len(some) // 2] for name, some in texts.items()}


def short(metrics: Metrics | None) -> dict[str, float]:
    """The figures that are single numbers."""
    figures = {} if metrics is None else dataclasses.asdict(metrics)
    return {name: round(value, 4) for name, value in figures.items() if isinstance(value, float)}


def table(measured: Sequence[dict[str, Any]]) -> str:
    """The scores as a Markdown table; for question answering, exact match / F1."""
    lines = ["| dataset | rows | seed | last round | final | gold only | time | memory |", "|---" * 8 + "|"]
    for entry in measured:
        cells = []
        for figures in entry["scores"].values():
            names = ("exact_match", "f1") if entry["figure"] == "f1" else (entry["figure"],)
            cells.append(" / ".join(f"{100 * figures[name]:.1f}" for name in names))
        cost = f"{entry['seconds']:.0f} s | {entry['peak_memory_mb'] / 1024:.1f} GiB"
        lines.append(f"| {entry['dataset']} | {entry['synthetic_rows']} | {' | '.join(cells)} | {cost} |")
    return "\n".join(lines)


def main() -> None:
    parser = parser_for(__doc__, NAMES)
    parser.add_argument("--rows", type=int, default=200, help="synthetic rows (200)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds of error extrapolation, at most (1)")
    parser.add_argument("--contexts", type=int, default=200, help="unlabelled contexts of the pool (200)")
    parser.add_argument("--test", type=int, default=500, help="test rows, the first so many; 0 takes all (500)")
    parser.add_argument(
        "--model-selection", action="store_true", help="cross-validate as well: as long again, for long texts"
    )
    parser.add_argument("--without-label-check", action="store_true", help="no judges: much faster for long texts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help="folder for the runs, to go on with them (a temporary one)")
    options = parsed(parser)
    measured = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in options.only:
            print(name, flush=True)
            with multiprocessing.get_context("spawn").Pool(1) as pool:  # each with a peak memory of its own
                folder = options.work or Path(temporary)
                measured.append(pool.apply(measure, (name, options.datasets, folder, options)))
            save(options, measured)
    print(table(measured))


if __name__ == "__main__":
    main()
