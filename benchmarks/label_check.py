"""The label check on labels of which a known share is correct: real judges, and a simulated teacher.

    python benchmarks/label_check.py --json benchmarks/results/label_check.json
    python benchmarks/label_check.py --gold 20 --students --json benchmarks/results/label_check.json

Gold rows are drawn from each pool, balanced over the labels. Judges are trained on them as in a run; other rows of the
pool take the place of synthetic ones. Each has its true label with a given probability, else a random other one, like
texts of a teacher with that accuracy. Printed is the share of correct labels before and after the check and, with
``--students``, the accuracy of two students on further rows of the pool: one learned the requested labels, one the
checked ones. The teacher does not read here, and the rows are real: a teacher's mistakes are more like the judges'.
Figures that the file has from an earlier call are kept. The test rows of the datasets are not read. Needs
../shared/datasets.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shared import known_figures, parsed, parser_for, save

from s3local.evaluation.cross_validation import NO_FOLD, divide_into_folds
from s3local.records import Example, read_jsonl
from s3local.relabelling.judge import train_judge
from s3local.relabelling.label_model import JudgePredictions, check_labels
from s3local.runner.settings import RunSettings
from s3local.student.training import TrainingSettings, train
from s3local.task.subsample import draw_rows
from s3local.weights.store import find_student_body

NAMES = ("trec", "sst2", "ag_news")
SHARES = (0.98, 0.9, 0.8, 0.7, 0.5)
"""Accuracies of the simulated teacher."""
DRAWS = 10
"""Draws of the teacher's mistakes; their mean is reported."""
STUDENT_SHARES = (0.9, 0.7)
"""Accuracies for which students are trained, on the first draw."""
SAME = ("judged", "students_judged")


def measure(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One draw of gold rows: the accuracy of its judges, and of the checked labels for each teacher."""
    pool = options.datasets / name / "pool.jsonl"
    drawn = draw_rows(pool, options.gold, seed, label_column="label")
    gold = [Example(f"g{n}", {"text": row["text"]}, row["label"]) for n, row in enumerate(drawn)]
    shown = {row.text for row in gold}
    others = [row for _, row in read_jsonl(pool) if row["text"] not in shown]
    order = np.random.default_rng(seed).permutation(len(others))[: options.judged]
    more = np.random.default_rng(seed).permutation(len(others))[options.judged :][: options.students_judged]
    rows, tests = (
        [Example(f"r{n}", {"text": others[n]["text"]}, others[n]["label"]) for n in places.tolist()]
        for places in (order, more)
    )
    labels = sorted({row.label for row in gold})
    own, true = (np.array([labels.index(row.label) for row in some]) for some in (gold, rows))

    settings = RunSettings()
    started = time.perf_counter()
    folds = divide_into_folds([row.label for row in gold], settings.folds, seed, [row.text for row in gold])
    of_gold, of_rows = np.zeros((len(gold), len(labels))), []
    for fold in range(folds.max() + 1):
        outside = [row for row, its in zip(gold, folds, strict=True) if its != fold]
        judge = train_judge(find_student_body(), outside, labels, settings.judge, seed)
        of_gold[folds == fold] = judge.predict_proba(gold)[folds == fold]
        of_rows.append(judge.predict_proba(rows))
    judged = folds != NO_FOLD
    judges = {"judges": JudgePredictions(of_gold[judged], np.mean(of_rows, axis=0))}

    after: dict[str, float] = {}
    students: dict[str, dict[str, float]] = {}
    for share in SHARES:
        chance = np.random.default_rng(seed)
        right = []
        for draw in range(DRAWS):
            other = (true + chance.integers(1, len(labels), len(true))) % len(labels)
            asked = np.where(chance.random(len(true)) < share, true, other)
            check = check_labels(judges, own[judged], asked)
            hard = np.eye(len(labels))[asked]
            targets = check.targets if check.holds else hard
            right.append((targets.argmax(axis=1) == true).mean())
            if options.students and draw == 0 and share in STUDENT_SHARES:
                students[str(share)] = {
                    what: learned(rows, labels, some, tests, seed)
                    for what, some in (("asked", hard), ("checked", targets))
                }
        after[str(share)] = float(np.mean(right))
    return {
        "dataset": name,
        "gold": options.gold,
        "seed": seed,
        "holds": check.holds,
        "judges_right": float((judges["judges"].candidates.argmax(axis=1) == true).mean()),
        "checked_right": after,
        "students": students,
        "seconds": round(time.perf_counter() - started, 1),
    }


def learned(
    rows: Sequence[Example], labels: Sequence[str], targets: NDArray[Any], tests: Sequence[Example], seed: int
) -> float:
    """The accuracy on ``tests`` of a student that learned the label probabilities ``targets`` (n_rows, n_labels)."""
    student = train(find_student_body(), rows, labels, TrainingSettings(), seed, soft_targets=targets)
    said = student.predict_logits(tests).argmax(axis=1)
    return float(np.mean([labels[int(best)] == row.label for best, row in zip(said, tests, strict=True)]))


def table(measured: Sequence[Mapping[str, Any]]) -> str:
    """One line a draw of gold rows, as a Markdown table; shares in percent."""
    heads = ["dataset", "gold rows", "seed", "judges right", *(f"{100 * share:g} % right" for share in SHARES)]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for entry in measured:
        shares = [f"{100 * value:.1f}" for value in (entry["judges_right"], *entry["checked_right"].values())]
        lines.append(f"| {entry['dataset']} | {entry['gold']} | {entry['seed']} | " + " | ".join(shares) + " |")
    for entry in measured:
        for share, right in entry["students"].items():
            place = f"{entry['dataset']}, {entry['gold']} gold rows, {100 * float(share):g} % right"
            lines.append(f"students, {place}: {right['asked']:.1%} as requested, {right['checked']:.1%} checked")
    return "\n".join(lines)


def main() -> None:
    parser = parser_for(__doc__, NAMES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--judged", type=int, default=300, help="other rows of the pool that are checked (300)")
    parser.add_argument("--students", action="store_true", help="train students as well")
    parser.add_argument("--students-judged", type=int, default=1000, help="rows of the pool they are judged on (1000)")
    options = parsed(parser)
    measured = known_figures(options, SAME, "measured")
    known = {(entry["dataset"], entry["gold"], entry["seed"]) for entry in measured}
    for seed in options.seeds:
        for name in options.only:
            if (name, options.gold, seed) not in known:
                measured.append(measure(name, seed, options))
                save(options, measured)
    print(table(measured))


if __name__ == "__main__":
    main()
