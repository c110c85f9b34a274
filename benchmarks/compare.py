"""S3 against its baselines on a dataset: `s3local compare` with gold rows from the pool, scored on the test rows.

    python benchmarks/compare.py trec --json benchmarks/results/compare-trec.json
    python benchmarks/compare.py ag_news --seeds 0 --test 2000 --json benchmarks/results/compare-ag_news.json

The gold rows of each seed are drawn from the pool, balanced over the labels. ``--test`` draws that many of the test
rows, always the same ones. Cells that the file has from an earlier call with the same options are kept: only missing
ones are computed, so that seeds and methods can be added later. With ``--work`` an interrupted call goes on where it
stopped. Needs ../shared/datasets, and the package setfit for that baseline.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from shared import CHECKOUT, DATASETS, known_figures

from s3local.comparison.compare import CompareSettings, compare
from s3local.comparison.methods import METHODS
from s3local.progress import Silent
from s3local.records import read_jsonl, write_jsonl
from s3local.report.compare import render
from s3local.results import CompareSummary, read_result, to_plain
from s3local.runner.settings import RunSettings
from s3local.storage import write_text
from s3local.task.model import Task, load_task

NAMES = ("trec", "sst2", "ag_news", "imdb", "rte", "qnli")
SAME = ("rows", "rounds", "test", "unlabelled")
"""Options that all cells of a file have in common."""


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
        pool = [row for _, row in read_jsonl(source / "pool.jsonl")]
        chosen = np.random.default_rng(1).permutation(len(pool))[: options.unlabelled]
        write_jsonl(unlabelled, ({**pool[place], "label": None} for place in sorted(chosen.tolist())))
    task = load_task(preset, source / "pool.jsonl", folder / "test.jsonl", unlabelled=unlabelled)
    if not task.source_fields:
        return task
    (given,) = task.source_fields
    texts = dict.fromkeys(row[given] for _, row in read_jsonl(source / "pool.jsonl"))
    write_jsonl(folder / "contexts.jsonl", ({given: text} for text in list(texts)[: options.contexts]))
    return load_task(preset, source / "pool.jsonl", folder / "test.jsonl", folder / "contexts.jsonl", unlabelled)


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
    parser.add_argument("--json", type=Path, required=True, help="file with the cells, read and written")
    parser.add_argument("--work", type=Path, help="folder for the runs, to go on with them (a temporary one)")
    options = parser.parse_args()
    if not options.datasets.is_dir():
        parser.error(f"{options.datasets} is not here; the benchmark data belongs there")
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
