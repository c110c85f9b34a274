"""How each teacher is best asked: the texts that it writes in every style, with and without gold rows shown.

    python benchmarks/teachers.py smollm2-135m-instruct --only sst2 --json benchmarks/results/teachers.json
    python benchmarks/teachers.py qwen2.5-coder-1.5b-instruct --styles list prefill --texts 48

MODEL is an id or a .gguf file. Styles: "list", "chat", "prefill" (chat with the answer begun by a dash), "several" (a
chat answer with several texts, one a line). A judge that was trained on other rows of the pool says which texts carry
the label that was asked for; "right" is their share among the texts that remain after cleaning. "accepted" are texts
that the rules keep, once each. No contrast is used, and test is not read. With --json, what is there is not measured
again, so that the work can be done in pieces. Needs ../shared/datasets.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contrast import SEED, predicted
from numpy.typing import NDArray
from shared import CHECKOUT, known_figures, parsed, parser_for, save

from s3local.allocation import divide_rows
from s3local.curation.rules import check_rules
from s3local.embedder import LazyEmbedder
from s3local.evaluation.cross_validation import NO_FOLD
from s3local.evaluation.gap import distinct, measure_gap
from s3local.records import Candidate, Example, read_jsonl, write_jsonl
from s3local.relabelling.judge import Judges, JudgeSettings, train_judges
from s3local.synthesis.extrapolation import plan_extrapolation
from s3local.synthesis.planning import Reply, read_candidates, request_seeds
from s3local.synthesis.prompts import Prompts, token_cap
from s3local.synthesis.replies import cleaner_for
from s3local.synthesis.seed import plan_seed
from s3local.task.model import Task, load_task
from s3local.task.rows import load_dev
from s3local.task.subsample import draw_rows
from s3local.teacher.engine import EngineSettings, LlamaTeacher
from s3local.teacher.protocol import Completion, Request, Sampling
from s3local.text import normal_form
from s3local.weights.store import find_encoder, find_judge, find_teacher

NAMES = ("trec", "sst2", "ag_news")
STYLES = ("list", "chat", "prefill", "several")
SEVERAL = 5
"""Texts that one answer of the style "several" is asked for."""
SAME = ("texts", "gold", "judge_rows", "judge_passes", "judge")


def judge_of(pool: Path, labels: Sequence[str], shown: set[str], options: argparse.Namespace) -> tuple[Judges, float]:
    """A judge that learned from rows of the pool, and its accuracy on as many others."""
    others = [row for _, row in read_jsonl(pool) if row["text"] not in shown]
    order = np.random.default_rng(SEED).permutation(len(others))[: 2 * options.judge_rows]
    picked = [Example(str(place), {"text": others[place]["text"]}, others[place]["label"]) for place in order.tolist()]
    learned, unseen = picked[: options.judge_rows], picked[options.judge_rows :]
    encoder = find_encoder() if options.judge == "small" else find_judge() or find_encoder()
    folds: NDArray[np.int64] = np.full(len(learned), NO_FOLD)
    judge = train_judges(encoder, learned, labels, folds, JudgeSettings(passes=options.judge_passes), [SEED])
    found = predicted(judge, list(labels), unseen)
    return judge, float(np.mean([said == row.label for said, row in zip(found, unseen, strict=True)]))


def replies_of(
    teacher: LlamaTeacher, task: Task, dev: Sequence[Example], style: str, shown: bool, count: int
) -> tuple[list[dict[str, Any]], list[Completion]]:
    """The rows of ``count`` texts, divided over the labels, as of a shard, and the teacher's completions."""
    cap = token_cap([row.text for row in dev], task.length_of_texts(dev), teacher.count_tokens)
    wanted = divide_rows(count, dict.fromkeys(task.label_names, 1.0))
    if style == "several":
        return _several(teacher, task, dev, shown, wanted, cap)
    prompts = Prompts(task, style, cap, teacher.chat, teacher.count_tokens)  # type: ignore[arg-type]
    options: dict[str, Any] = {"sampling": Sampling(), "seed": [SEED, 1]}
    if shown:
        gold = {label: [row for row in dev if row.label == label] for label in task.label_names}
        planned = plan_extrapolation(prompts, wanted, dev, gold, shots=4, samples=4, **options)
    else:
        planned = plan_seed(prompts, wanted, {}, shown=0, samples=1, **options)
    completions = teacher.generate([item.request for item in planned])
    return [Reply.to(item, reply) for item, reply in zip(planned, completions, strict=True)], completions


def _several(
    teacher: LlamaTeacher, task: Task, dev: Sequence[Example], shown: bool, wanted: dict[str, int], cap: int
) -> tuple[list[dict[str, Any]], list[Completion]]:
    requests, labels = [], []
    for number, (label, count) in enumerate(wanted.items()):
        entry = task.label(label)
        mine = [row.text for row in dev if row.label == label][:5]
        examples = (
            "Texts that carry this label:\n\n" + "\n".join(f"- {text}" for text in mine) + "\n\n" if shown else ""
        )
        text = (
            f'A classifier sorts {task.texts}. One of its labels is "{label}": {entry.description}\n\n{examples}'
            f"Write {SEVERAL} new realistic texts that carry this label, all different. Write in {task.language}. "
            f"Answer with the texts alone, one on each line, each after a dash."
        )
        prompt = teacher.chat([{"role": "user", "content": text}])
        for seed in request_seeds([SEED, 2, number], -(-count // SEVERAL)):
            requests.append(Request(prompt, seed, SEVERAL * cap, special=True))
            labels.append(label)
    completions = teacher.generate(requests)
    rows = []
    for label, reply in zip(labels, completions, strict=True):
        lines = [line for line in reply.text.splitlines() if line.strip()]
        whole = lines if reply.finish != "length" or len(lines) < 2 else lines[:-1]
        rows += [Reply(label, {}, {}, (), Completion(line, 0, "stop", None)) for line in whole]
    return rows, completions


def figures(
    rows: list[dict[str, Any]], task: Task, dev: Sequence[Example], judge: Judges, gold_pool: Sequence[str]
) -> dict[str, Any]:
    """What became of the texts: cleaned, dropped by the rules, right by the judge, near gold, varied."""
    names = [*task.label_names, *task.fields]
    gold = [row.text for row in dev]
    read = read_candidates(
        rows, prefix="t", fields=task.fields, target_field=task.target_field, cleaner=cleaner_for(gold, names)
    )
    prompts = [task.texts, *(label.description for label in task.labels)]
    result = check_rules(read, gold=gold, length=task.length_of_texts(dev), names=names, prompts=prompts)
    once: dict[str, Candidate] = {}
    for candidate in result.kept:
        once.setdefault(normal_form(candidate.text), candidate)
    written = [candidate.example for candidate in read if candidate.text]
    right = [said == row.label for said, row in zip(predicted(judge, task.label_names, written), written, strict=True)]
    embedder = LazyEmbedder(find_encoder())
    kept = [candidate.text for candidate in once.values()]
    auc = measure_gap(embedder.embed(kept), embedder.embed(list(gold_pool))).auc if len(kept) > 1 else None
    reasons = [drop.reason for drop in result.dropped]
    cuts = [cut for candidate in read for cut in candidate.origin.get("cleaned", ())]
    count = max(1, len(read))
    return {
        "texts": len(read),
        "right": round(float(np.mean(right)), 4) if right else 0.0,
        "refusals": round((reasons.count("refusal") + reasons.count("about_task")) / count, 4),
        "lead_ins": round(cuts.count("lead_in") / count, 4),
        "repeats": round((len(result.kept) - len(once) + reasons.count("repeats_itself")) / count, 4),
        "auc": None if auc is None else round(auc, 4),
        "distinct_2": round(distinct([text.split() for text in kept], 2), 4) if kept else 0.0,
        "accepted": len(once),
    }


def measure(name: str, options: argparse.Namespace, measured: list[dict[str, Any]]) -> None:
    """Add a row to ``measured`` for each model, style and choice of gold, and save after each."""
    wanted = [
        (model, style, shown)
        for model in options.models
        for style in options.styles
        for shown in (False, True)
        if not any((e["dataset"], e["model"], e["style"], e["gold"]) == (name, model, style, shown) for e in measured)
    ]
    if not wanted:
        return
    pool = options.datasets / name / "pool.jsonl"
    with tempfile.TemporaryDirectory() as folder:
        write_jsonl(Path(folder) / "dev.jsonl", draw_rows(pool, options.gold, SEED, label_column="label"))
        task = load_task(CHECKOUT / "data" / name, Path(folder) / "dev.jsonl", None)
        dev = load_dev(task)
    judge, accuracy = judge_of(pool, task.label_names, {row.text for row in dev}, options)
    print(f"{name}: the judge is right on {accuracy:.1%} of other rows", flush=True)
    others = [row["text"] for _, row in read_jsonl(pool)]
    gold_pool = [others[place] for place in np.random.default_rng(SEED).permutation(len(others))[:200].tolist()]
    teacher, loaded = None, ""
    for model, style, shown in wanted:
        if loaded != model:
            if teacher is not None:
                teacher.close()
            teacher, loaded = LlamaTeacher(find_teacher(model).path, EngineSettings(threads=options.threads)), model
        assert teacher is not None
        started = time.perf_counter()
        rows, completions = replies_of(teacher, task, dev, style, shown, options.texts)
        seconds = time.perf_counter() - started
        found = figures(rows, task, dev, judge, gold_pool)
        entry = {
            "dataset": name,
            "model": model,
            "style": style,
            "gold": shown,
            **found,
            "tokens_per_second": round(sum(reply.n_tokens for reply in completions) / seconds, 1),
            "accepted_per_minute": round(60 * found["accepted"] / seconds, 1),
            "judge_accuracy": round(accuracy, 4),
        }
        measured.append(entry)
        save(options, measured)
        print(f"  {model} {style} {'with' if shown else 'without'} gold: {entry}", flush=True)
    if teacher is not None:
        teacher.close()


def main() -> None:
    parser = parser_for(__doc__, NAMES)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="ids or .gguf files")
    parser.add_argument("--styles", nargs="+", choices=STYLES, default=list(STYLES))
    parser.add_argument("--texts", type=int, default=64, help="texts of each style (64)")
    parser.add_argument("--judge", choices=("large", "small"), default="large", help="encoder of the judge")
    parser.add_argument("--judge-rows", type=int, default=600, help="rows that the judge learns from (600)")
    parser.add_argument("--judge-passes", type=int, default=2400, help="texts that it sees in training (2400)")
    parser.add_argument("--threads", type=int, help="threads of the teacher; all cores if left out")
    options = parsed(parser)
    measured = known_figures(options, SAME, "measured")
    for name in options.only:
        measure(name, options, measured)


if __name__ == "__main__":
    main()
