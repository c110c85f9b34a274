"""S3 against its baselines on a dataset: `s3local compare` with gold rows from the pool, scored on the test rows.

    python benchmarks/compare.py trec --json benchmarks/results/compare-trec.json
    python benchmarks/compare.py ag_news --seeds 0 --test 2000 --json benchmarks/results/compare-ag_news.json
    python benchmarks/compare.py trec --unlabelled 2000 --thin numeric --methods gold self-training s3+unlabelled ...
    python benchmarks/compare.py trec --unlabelled 2000 --off-topic imdb --methods gold self-training s3+unlabelled ...

The gold rows of each seed are drawn from the pool, balanced over the labels. ``--test`` draws that many of the test
rows, always the same ones. ``--unlabelled`` gives the methods that use them that many rows of the pool without their
labels; ``--thin`` leaves out nine of ten of those with one label, ``--off-topic`` takes a third of them from another
dataset. Cells that the file has from an earlier call with the same options are kept: only missing
ones are computed, so that seeds and methods can be added later. With ``--work`` an interrupted call goes on where it
stopped. Needs ../shared/datasets, and the package setfit for that baseline.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from shared import CHECKOUT, DATASETS, known_figures

from s3local.comparison.compare import CompareSettings, compare
from s3local.comparison.methods import METHODS
from s3local.progress import Silent
from s3local.records import Row, read_jsonl, write_jsonl
from s3local.report.compare import render
from s3local.results import CompareSummary, read_result, to_plain
from s3local.runner.settings import RunSettings
from s3local.storage import write_text
from s3local.task.model import Task, load_task
from s3local.task.subsample import text_of

PAIRS = ("rte", "qnli")
NAMES = ("trec", "sst2", "ag_news", "imdb", *PAIRS)
SAME = ("rows", "rounds", "test", "unlabelled", "thin", "off_topic")
"""Options that all cells of a file have in common."""
THIN_SHARE = 0.1
OFF_TOPIC_SHARE = 1 / 3


class Talking(Silent):
    """Prints which cell is computed."""

    def say(self, message: str) -> None:
        if message.startswith("cell "):
            print(message, flush=True)


def prepared(options: argparse.Namespace, folder: Path) -> Task:
    """The preset with the whole pool as dev, from which gold rows are drawn, and the drawn test rows."""
    source = options.datasets / options.dataset
    preset = CHECKOUT / "data" / options.dataset
    test = [row for _, row in read_jsonl(source / "test.jsonl")]
    chosen = np.random.default_rng(0).permutation(len(test))[: options.test or len(test)]
    write_jsonl(folder / "test.jsonl", [test[place] for place in sorted(chosen.tolist())])
    unlabelled = None
    if options.unlabelled:
        unlabelled = folder / "unlabelled.jsonl"
        write_jsonl(unlabelled, unlabelled_rows(options))
    task = load_task(preset, source / "pool.jsonl", folder / "test.jsonl", unlabelled=unlabelled)
    if not task.source_fields:
        return task
    (given,) = task.source_fields
    texts = dict.fromkeys(row[given] for _, row in read_jsonl(source / "pool.jsonl"))
    write_jsonl(folder / "contexts.jsonl", ({given: text} for text in list(texts)[: options.contexts]))
    return load_task(preset, source / "pool.jsonl", folder / "test.jsonl", folder / "contexts.jsonl", unlabelled)


def unlabelled_rows(options: argparse.Namespace) -> list[Row]:
    """``options.unlabelled`` rows without labels, or as many as there are, in the order of their files."""
    chance = np.random.default_rng(1)
    n_foreign = round(options.unlabelled * OFF_TOPIC_SHARE) if options.off_topic else 0
    rows = _drawn(options, options.dataset, options.unlabelled - n_foreign, chance)
    if options.off_topic:
        (field,) = rows[0].keys() - {"id", "label"}
        for number, row in enumerate(_drawn(options, options.off_topic, n_foreign, chance)):
            text = text_of(row, "label").replace("\n", " ")
            rows.append({"id": f"off-topic-{number}", field: text})
    return [{**row, "label": None} for row in rows]


def _drawn(options: argparse.Namespace, name: str, count: int, chance: np.random.Generator) -> list[Row]:
    """``count`` random rows of a dataset's pool; of those with the label ``options.thin``, one in ten may be drawn."""
    pool = [row for _, row in read_jsonl(options.datasets / name / "pool.jsonl")]
    order = chance.permutation(len(pool)).tolist()
    if options.thin is not None and name == options.dataset:
        thin = [place for place in order if pool[place]["label"] == options.thin]
        if not thin:
            sys.exit(f"--thin {options.thin}: no row of {name} has this label")
        left_out = set(thin[round(len(thin) * THIN_SHARE) :])
        order = [place for place in order if place not in left_out]
    return [pool[place] for place in sorted(order[:count])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=NAMES)
    parser.add_argument("--datasets", type=Path, default=DATASETS)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--gold", nargs="+", type=int, default=[60], help="numbers of gold rows (60)")
    parser.add_argument("--rows", type=int, default=1000, help="synthetic rows (1000)")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of error extrapolation, at most (2)")
    parser.add_argument("--test", type=int, default=0, help="test rows, drawn at random; 0 takes all (0)")
    parser.add_argument("--contexts", type=int, default=200, help="unlabelled contexts of the pool, for pairs (200)")
    parser.add_argument("--unlabelled", type=int, default=0, help="rows of the pool to use without their labels (0)")
    parser.add_argument("--thin", metavar="LABEL", help="keep one in ten of the unlabelled rows with this label")
    parser.add_argument("--off-topic", choices=NAMES, help="take a third of the unlabelled rows from this dataset")
    parser.add_argument("--json", type=Path, required=True, help="file with the cells, read and written")
    parser.add_argument("--work", type=Path, help="folder for the runs, to go on with them (a temporary one)")
    options = parser.parse_args()
    if not options.datasets.is_dir():
        parser.error(f"{options.datasets} is not here; the benchmark data belongs there")
    if (options.thin or options.off_topic) and not options.unlabelled:
        parser.error("--thin and --off-topic say which unlabelled rows there are; say --unlabelled too")
    if options.off_topic and (options.dataset in PAIRS or options.off_topic == options.dataset):
        parser.error("--off-topic names another dataset, for a task of single texts")
    known = read_result(options.json, CompareSummary).cells if known_figures(options, SAME, "cells") else ()
    methods, seeds, gold = tuple(options.methods), tuple(options.seeds), tuple(options.gold)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        task = prepared(options, work)
        run = RunSettings(rows=options.rows, rounds=options.rounds)
        settings = CompareSettings(methods, seeds, gold, run=run)
        result = compare(task, settings, folder=work / "compare", progress=Talking(), known=known)
        chosen = {key: value for key, value in vars(options).items() if not isinstance(value, Path)}
        kept = [cell for cell in known if cell not in result.summary.cells]
        whole = dataclasses.replace(result.summary, cells=(*result.summary.cells, *kept))
        write_text(options.json, json.dumps({"options": chosen, **to_plain(whole)}, indent=1) + "\n")
        Console().print(render(result.summary, result.folder))


if __name__ == "__main__":
    main()
