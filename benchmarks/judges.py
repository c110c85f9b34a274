"""Judges of a few gold rows: how often they are right, how far their probabilities hold, and what they cost.

    python benchmarks/judges.py --json benchmarks/results/judges.json
    python benchmarks/judges.py --only sst2 --seeds 0 --variants default minilm --json benchmarks/results/judges.json

Gold rows are drawn from each pool, balanced over the labels, and judges are trained on them as in a run. Other rows of
the pool say how good they are: accuracy, mean log-likelihood of the true label (nats) and expected calibration error,
of the mean of the judges' probabilities; "calibrated" applies the exponent that a run fits on held-out gold rows.
"single" is one judge of all gold rows, of which none is left to calibrate it. A variant with the settings of another
one gets its figures. Figures that the file has from an earlier call are kept: only missing ones are computed, so that
this can be run in pieces. The test rows of the datasets are not read. Needs ../shared/datasets.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shared import CHECKOUT, known_figures, parsed, parser_for, save

from s3local.comparison.cells import draw_gold
from s3local.evaluation.calibration import expected_calibration_error
from s3local.evaluation.cross_validation import NO_FOLD, divide_into_folds
from s3local.records import Example
from s3local.relabelling.judge import JudgeSettings, train_judges
from s3local.relabelling.label_model import LEAST_PROBABILITY, calibrate
from s3local.runner.context import JUDGES
from s3local.runner.settings import RunSettings
from s3local.runner.task_kinds import kind_of
from s3local.seeds import derive_seed
from s3local.task.model import Task, load_task
from s3local.task.rows import load_dev
from s3local.text import normal_form
from s3local.weights.store import find_encoder, find_judge

NAMES = ("trec", "sst2", "ag_news")
SAME = ("rows", "passes")
"""Options that all figures of a file must share."""
FIGURES = ("accuracy", "log_likelihood", "calibration_error")


@dataclass(frozen=True, slots=True)
class Variant:
    """How judges are trained: with which settings, on the embedded sentence encoder in place of the judges' own, with
    the labels' descriptions, and in folds or as one judge of all gold rows."""

    settings: JudgeSettings = field(default_factory=JudgeSettings)
    minilm: bool = False
    descriptions: bool = True
    folds: bool = True


VARIANTS: Mapping[str, Variant] = {
    "default": Variant(),
    "minilm": Variant(minilm=True),
    **{f"passes-{passes}": Variant(JudgeSettings(passes=passes)) for passes in (200, 400, 800)},
    **{f"layers-{layers}": Variant(JudgeSettings(trained_layers=layers)) for layers in (4, 6, 12)},
    "no-descriptions": Variant(descriptions=False),
    "single": Variant(folds=False),
}


@dataclass(frozen=True, slots=True)
class Draw:
    """The gold rows of one seed, and other rows of the pool."""

    task: Task
    gold: Sequence[Example]
    others: Sequence[Example]
    seed: int

    def numbers(self, rows: Sequence[Example]) -> NDArray[np.int64]:
        """The number of each row's label, (n_rows,)."""
        return np.array([self.task.label_names.index(row.label) for row in rows], dtype=np.int64)


def drawn(task: Task, pool: Sequence[Example], seed: int, options: argparse.Namespace) -> Draw:
    """Gold rows as a comparison draws them, and ``--rows`` others with other texts."""
    gold = draw_gold(pool, options.gold, seed)
    shown = {normal_form(row.text) for row in gold}
    rest = [row for row in pool if normal_form(row.text) not in shown]
    order = np.random.default_rng(seed).permutation(len(rest))[: options.rows]
    return Draw(task, gold, [rest[place] for place in order.tolist()], seed)


def encoder_of(variant: Variant) -> Path:
    """The folder of the variant's encoder; ends the program if the judges' one was not fetched."""
    folder = find_encoder() if variant.minilm else find_judge()
    if folder is None:
        sys.exit("the embedded judge is not here: run s3local models fetch, or choose --variants minilm")
    return folder


def measure(draw: Draw, variant: Variant, settings: JudgeSettings) -> dict[str, Any]:
    """The figures of one variant's judges on one draw."""
    labels, gold = draw.task.label_names, draw.gold
    kind = kind_of(draw.task, gold, [], RunSettings())
    folds, seeds = np.full(len(gold), NO_FOLD, dtype=np.int64), [derive_seed(draw.seed, JUDGES)]
    if variant.folds:
        groups = [normal_form(row.text) or row.text for row in gold]
        folds = divide_into_folds([row.label for row in gold], RunSettings().folds, seeds[0], groups)
        seeds = [derive_seed(draw.seed, JUDGES, fold) for fold in range(folds.max() + 1)]
    further = kind.descriptions() if variant.descriptions else []
    started = time.perf_counter()
    judges = train_judges(encoder_of(variant), gold, labels, folds, settings, seeds, further)
    trained = time.perf_counter()
    probabilities = judges.predict_proba(draw.others).mean(axis=0, dtype=np.float64)
    read = time.perf_counter()
    true = draw.numbers(draw.others)
    found: dict[str, Any] = {
        "judges": len(seeds),
        **figures(probabilities, true),
        "training_seconds": round(trained - started, 1),
        "reading_seconds": round(read - trained, 1),
    }
    if variant.folds:
        places = np.flatnonzero(folds != NO_FOLD)
        unseen = judges.predict_proba(gold)[folds[places], places]
        calibration = calibrate(unseen, draw.numbers(gold)[places])
        powers = np.maximum(probabilities, LEAST_PROBABILITY) ** calibration.exponent
        found["calibration"] = dataclasses.asdict(calibration)
        found["calibrated"] = figures(powers / powers.sum(axis=1, keepdims=True), true)
    return found


def figures(probabilities: NDArray[np.float64], true: NDArray[np.int64]) -> dict[str, float]:
    """``FIGURES`` of ``probabilities`` (n_rows, n_labels) for rows with the ``true`` labels (n_rows,)."""
    own = np.maximum(probabilities[np.arange(len(true)), true], LEAST_PROBABILITY)
    values = (
        (probabilities.argmax(axis=1) == true).mean(),
        np.log(own).mean(),
        expected_calibration_error(probabilities, true),
    )
    return {name: round(float(value), 4) for name, value in zip(FIGURES, values, strict=True)}


def table(measured: Sequence[Mapping[str, Any]]) -> str:
    """The mean over the draws of each variant on each dataset, as a Markdown table."""
    heads = ["dataset", "gold rows", "variant", "draws", *FIGURES, "training_seconds", "reading_seconds"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    keys = dict.fromkeys((entry["dataset"], entry["gold"], entry["variant"]) for entry in measured)
    for key in keys:
        mine = [entry for entry in measured if (entry["dataset"], entry["gold"], entry["variant"]) == key]
        means = [f"{np.mean([entry[name] for entry in mine]):.3f}" for name in heads[4:]]
        lines.append("| " + " | ".join([*map(str, key), str(len(mine)), *means]) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = parser_for(__doc__, NAMES)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=500, help="other rows of the pool that judges predict (500)")
    parser.add_argument("--passes", type=int, help="training texts of every variant, for a short try (its own)")
    options = parsed(parser)
    measured = known_figures(options, SAME, "measured")
    for name in options.only:
        task = load_task(CHECKOUT / "data" / name, options.datasets / name / "pool.jsonl", None)
        pool = load_dev(task)
        for seed in options.seeds:
            draw = drawn(task, pool, seed, options)
            for variant in options.variants:
                where = {"dataset": name, "gold": options.gold, "seed": seed}
                here = [entry for entry in measured if where.items() <= entry.items()]
                if any(entry["variant"] == variant for entry in here):
                    continue
                settings = VARIANTS[variant].settings
                if options.passes is not None:
                    settings = dataclasses.replace(settings, passes=options.passes)
                setting = {**dataclasses.asdict(VARIANTS[variant]), "settings": dataclasses.asdict(settings)}
                found = next((entry for entry in here if entry["setting"] == setting), None)
                found = found or measure(draw, VARIANTS[variant], settings)
                entry = {**found, **where, "variant": variant, "setting": setting}
                measured.append(entry)
                save(options, measured)
                print(
                    f"{name}, seed {seed}, {variant}: accuracy {entry['accuracy']:.1%}, log-likelihood "
                    f"{entry['log_likelihood']:.3f}, calibration error {entry['calibration_error']:.3f}, "
                    f"{entry['training_seconds']:.0f} + {entry['reading_seconds']:.0f} s",
                    flush=True,
                )
    print(table(measured))


if __name__ == "__main__":
    main()
