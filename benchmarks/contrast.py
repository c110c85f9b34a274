"""What the contrast between labels brings and costs: texts that carry the label they were asked for, and their time.

    python benchmarks/contrast.py --json benchmarks/results/contrast.json
    python benchmarks/contrast.py --only trec --texts 64

For each dataset: gold rows drawn from its pool, rationales written once, then the same seed prompts and the same
extrapolation prompts with each weight. A judge that was trained by contrast on other rows of the pool, far more than a
user has, says which texts are right. Nothing is filtered, and test is not read. Needs ../shared/datasets.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from shared import CHECKOUT, parsed, parser_for, save

from s3local.allocation import divide_rows
from s3local.evaluation.cross_validation import NO_FOLD
from s3local.evaluation.gap import distinct
from s3local.records import Example, read_jsonl, write_jsonl
from s3local.relabelling.judge import Judges, JudgeSettings, train_judges
from s3local.synthesis.extrapolation import plan_extrapolation
from s3local.synthesis.planning import Planned, Reply, read_candidates
from s3local.synthesis.prompts import Prompts, token_cap
from s3local.synthesis.rationales import plan_rationales, select_rationales
from s3local.synthesis.seed import plan_seed
from s3local.task.model import load_task
from s3local.task.rows import load_dev
from s3local.task.subsample import draw_rows
from s3local.teacher.engine import LlamaTeacher
from s3local.teacher.protocol import Sampling
from s3local.weights.store import find_encoder, find_judge, find_teacher

NAMES = ("trec", "sst2", "ag_news")
JUDGE_PASSES = 2400
SEED = 0


def trained_judge(pool: Path, labels: list[str], shown: set[str], rows: int) -> tuple[Judges, float]:
    """A judge that learned from ``rows`` rows of the pool, and its accuracy on as many others."""
    others = [row for _, row in read_jsonl(pool) if row["text"] not in shown]
    order = np.random.default_rng(SEED).permutation(len(others))[: 2 * rows]
    picked = [Example(str(place), {"text": others[place]["text"]}, others[place]["label"]) for place in order.tolist()]
    learned, unseen = picked[:rows], picked[rows:]
    encoder, no_fold = find_judge() or find_encoder(), np.full(len(learned), NO_FOLD)
    judge = train_judges(encoder, learned, labels, no_fold, JudgeSettings(passes=JUDGE_PASSES), [SEED])
    right = [said == row.label for said, row in zip(predicted(judge, labels, unseen), unseen, strict=True)]
    return judge, float(np.mean(right))


def predicted(judge: Judges, labels: list[str], rows: list[Example]) -> list[str]:
    """The judge's label of each row."""
    (probabilities,) = judge.predict_proba(rows)
    return [labels[int(best)] for best in probabilities.argmax(axis=1)]


def measure(name: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """A row for each stage and weight."""
    pool = options.datasets / name / "pool.jsonl"
    with tempfile.TemporaryDirectory() as folder:
        write_jsonl(Path(folder) / "dev.jsonl", draw_rows(pool, options.gold, SEED, label_column="label"))
        task = load_task(CHECKOUT / "data" / name, Path(folder) / "dev.jsonl", None)
        dev = load_dev(task)
    labels = list(task.label_names)
    judge, accuracy = trained_judge(pool, labels, {row.text for row in dev}, options.judge_rows)
    print(f"{name}: a judge of {options.judge_rows} rows is right on {accuracy:.1%} of as many others", flush=True)

    weights = find_teacher()
    teacher = LlamaTeacher(weights.path)
    cap = token_cap([row.text for row in dev], task.length_of_texts(dev), teacher.count_tokens)
    prompts = Prompts(task, weights.prompt_style, cap, teacher.chat, teacher.count_tokens)
    sampling = Sampling()
    asked = plan_rationales(prompts, 12, sampling, [SEED, 0])
    replies = teacher.generate([item.request for item in asked])
    rationales = {
        label: select_rationales([r for item, r in zip(asked, replies, strict=True) if item.label == label], 12)
        for label in labels
    }
    wanted = divide_rows(options.texts, dict.fromkeys(labels, 1.0))
    gold = {label: [row for row in dev if row.label == label] for label in labels}

    def planned(stage: str, contrast: float) -> list[Planned]:
        seed = [SEED, 1]
        if stage == "seed":
            return plan_seed(
                prompts, wanted, rationales, shown=2, samples=8, sampling=sampling, seed=seed, contrast=contrast
            )
        return plan_extrapolation(
            prompts, wanted, dev, gold, shots=4, samples=8, sampling=sampling, seed=seed, contrast=contrast
        )

    measured = []
    for stage in ("seed", "extrapolation"):
        for contrast in options.weights:
            plan = planned(stage, contrast)
            started = time.perf_counter()
            replies = teacher.generate([item.request for item in plan])
            seconds = time.perf_counter() - started
            answered = [Reply.to(item, reply) for item, reply in zip(plan, replies, strict=True)]
            read = read_candidates(answered, prefix="c", fields=task.fields, target_field=task.target_field)
            written = [candidate.example for candidate in read if candidate.text]
            right = [said == row.label for said, row in zip(predicted(judge, labels, written), written, strict=True)]
            entry = {
                "dataset": name,
                "stage": stage,
                "contrast": contrast,
                "texts": len(written),
                "right": round(float(np.mean(right)), 4),
                "distinct_2": distinct([row.text.split() for row in written], 2),
                "seconds": round(seconds, 1),
                "judge_accuracy": round(accuracy, 4),
            }
            measured.append(entry)
            print(
                f"  {stage}, contrast {contrast}: {entry['right']:.1%} right, distinct-2 {entry['distinct_2']:.3f}, "
                f"{seconds:.1f} s",
                flush=True,
            )
    teacher.close()
    return measured


def main() -> None:
    parser = parser_for(__doc__, NAMES)
    parser.add_argument("--weights", nargs="+", type=float, default=[0.0, 0.25, 0.5, 1.0])
    parser.add_argument("--texts", type=int, default=192, help="texts of each stage and weight (192)")
    parser.add_argument("--judge-rows", type=int, default=600, help="rows that the judge learns from (600)")
    options = parsed(parser)
    measured = [entry for name in options.only for entry in measure(name, options)]
    save(options, measured)


if __name__ == "__main__":
    main()
