"""Ablation of contrast, label check, training of the body and near-mistakes, and the effect of a bad teacher.

    python benchmarks/curation.py --json benchmarks/results/curation.json
    python benchmarks/curation.py --only trec --seeds 0 --rows 400 --work FOLDER

For each dataset and seed, gold rows are drawn from its pool, balanced over the labels, and each variant is one run.
Every student is scored on other rows of the same pool; the test rows of the dataset are not read. "plain" is S3 without
contrast, label check and training of the body, the next three variants have one of them each, "all" is the default.
"labels as requested" has no label check; "MiniLM judges" has judges of the embedded sentence encoder; "no floor" has no
least share of a round for each label; "without near-mistakes" extrapolates errors only, and so has no floor either.
These variants have no model selection, which changes none of their students. "shuffled" assigns the teacher's texts to
random labels, "random words" writes sentences of unrelated words: there, model selection must find that the rows do not
help. Variants share the teacher's calls; each counts their full time. Figures that the file has from an earlier call
with as many rows are kept: only missing ones are computed. Needs ../shared/datasets.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from shared import CHECKOUT, known_figures, parsed, parser_for, save

from s3local.comparison.cache import SharedTeacher
from s3local.progress import Advance, Silent, ignore
from s3local.records import read_jsonl, write_jsonl
from s3local.results import score_of
from s3local.runner.loop import run
from s3local.runner.models import Models, find_models
from s3local.runner.settings import RunSettings
from s3local.student.training import TrainingSettings
from s3local.task.model import Task, load_task
from s3local.task.subsample import draw_rows
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Completion, Request, Score, Teacher

NAMES = ("ag_news", "trec", "sst2")
COLD = TrainingSettings(passes=0)
NONE = {"contrast": 0.0, "label_check": False, "training": COLD, "model_selection": False}
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "plain": NONE,
    "contrast": {**NONE, "contrast": None},
    "label check": {**NONE, "label_check": True},
    "body by contrast": {**NONE, "training": TrainingSettings()},
    "labels as requested": {"label_check": False, "model_selection": False},
    "MiniLM judges": {"judge": "none", "model_selection": False},
    "without near-mistakes": {"rows_per_error": 1_000_000, "least_share": 0.0, "model_selection": False},
    "no floor": {"least_share": 0.0, "model_selection": False},
    "all": {},
    "shuffled": {},
    "random words": {},
}
"""What a variant changes in the settings of a run."""
SAME = ("gold", "rows", "judged")
"""Options that all figures of a file must share."""
STAGES = {"seed": "round-0", "synthetic alone": "final-without-gold", "with gold": "final", "gold-only": "gold"}


class Shuffled:
    """A teacher whose texts go to the wrong requests: the texts of a call are shuffled."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher

    def generate(self, requests: Sequence[Request], advance: Advance = ignore) -> list[Completion]:
        """See ``Teacher.generate``."""
        written = self._teacher.generate(requests, advance)
        order = np.random.default_rng(requests[0].seed).permutation(len(written))
        return [written[int(place)] for place in order]

    def score(self, prompt: str, continuations: Sequence[str]) -> list[Score]:
        """See ``Teacher.score``."""
        return self._teacher.score(prompt, continuations)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """See ``Teacher.chat``."""
        return self._teacher.chat(messages)

    def count_tokens(self, text: str) -> int:
        """See ``Teacher.count_tokens``."""
        return self._teacher.count_tokens(text)

    def close(self) -> None:
        """See ``Teacher.close``."""
        self._teacher.close()


def models_of(variant: str, settings: RunSettings, shared: Callable[[Callable[[], Teacher]], Teacher]) -> Models:
    """The embedded models with a shared teacher, or the bad teacher of the variant."""
    if variant == "random words":
        return find_models(settings, teacher=FakeTeacher)
    models = find_models(settings)
    if variant == "shuffled":
        return dataclasses.replace(models, teacher=lambda: Shuffled(shared(models.teacher)))
    return dataclasses.replace(models, teacher=lambda: shared(models.teacher))


def prepared(name: str, folder: Path, datasets: Path, options: argparse.Namespace, seed: int) -> Task:
    """The preset ``name`` with gold rows from its pool as dev, and other rows of the pool as test."""
    pool = datasets / name / "pool.jsonl"
    gold = draw_rows(pool, options.gold, seed, label_column="label")
    shown = {row["text"] for row in gold}
    others = [row for _, row in read_jsonl(pool) if row["text"] not in shown]
    chosen = np.random.default_rng(seed).permutation(len(others))[: options.judged]
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "dev.jsonl", gold)
    write_jsonl(folder / "test.jsonl", [others[int(place)] for place in sorted(chosen)])
    return load_task(CHECKOUT / "data" / name, folder / "dev.jsonl", folder / "test.jsonl")


def measure(variant: str, name: str, seed: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One run: the accuracy of its students, and what it cost."""
    task = prepared(name, folder / f"{name}-{seed}", options.datasets, options, seed)
    settings = RunSettings(seed=seed, rows=options.rows, both_finals=True, **VARIANTS[variant])
    place = folder / f"{name}-{seed}" / variant.replace(" ", "-")
    on_cache_hit: list[float] = []

    def shared(opener: Callable[[], Teacher]) -> Teacher:
        return SharedTeacher(opener, folder / f"{name}-{seed}" / "teacher", lambda _, spent: on_cache_hit.append(spent))

    started = time.perf_counter()
    models = models_of(variant, settings, shared)
    summary = run(task, settings, folder=place, progress=Silent(), models=models).summary
    seconds = time.perf_counter() - started + sum(on_cache_hit)
    verdict = summary.model_selection.verdict
    scores = {student.stage: score_of(student.test) for student in summary.students if student.test is not None}
    columns = {**STAGES, **({} if verdict is None else {"selected": summary.selected})}
    return {
        "dataset": name,
        "seed": seed,
        "variant": variant,
        "synthetic_rows": summary.rows,
        "accuracy": {column: scores[stage] for column, stage in columns.items() if stage in scores},
        "model_selection": None
        if verdict is None
        else {
            "share": verdict.share,
            "final": verdict.final,
            "gold_only": verdict.gold_only,
            "selected": verdict.selected,
            "gain": verdict.gain,
            "seconds": summary.model_selection.seconds,
        },
        "teacher_seconds": sum(entry.synthesis.teacher_seconds for entry in summary.rounds) + sum(on_cache_hit),
        "label_check_seconds": summary.label_check.judges.seconds
        + sum(entry.reading.seconds for entry in summary.rounds if entry.reading),
        "seconds": round(seconds, 1),
    }


def mean_of(accuracies: Sequence[float | None]) -> str:
    """The mean in percent, or nothing where one is missing."""
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    return f"{100 * float(np.mean(known)):.1f}" if len(known) == len(accuracies) else ""


def table(measured: Sequence[Mapping[str, Any]]) -> str:
    """The mean accuracy of each variant on each dataset, as a Markdown table."""
    columns = [*STAGES, "selected"]
    lines = [f"| dataset | variant | seeds | {' | '.join(columns)} |", "|---" * (len(columns) + 3) + "|"]
    for name in dict.fromkeys(entry["dataset"] for entry in measured):
        for variant in VARIANTS:
            mine = [entry for entry in measured if (entry["dataset"], entry["variant"]) == (name, variant)]
            if mine:
                cells = [mean_of([entry["accuracy"].get(column) for entry in mine]) for column in columns]
                lines.append(f"| {name} | {variant} | {len(mine)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = parser_for(__doc__, NAMES)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", type=int, default=1000, help="synthetic rows (1000)")
    parser.add_argument("--judged", type=int, default=1000, help="other rows of the pool to score students on (1000)")
    parser.add_argument("--work", type=Path, help="folder for the runs, to go on with them (a temporary one)")
    options = parsed(parser)
    measured = known_figures(options, SAME, "measured")
    known = {(entry["dataset"], entry["seed"], entry["variant"]) for entry in measured}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in options.seeds:
            for name in options.only:
                for variant in options.variants:
                    if (name, seed, variant) in known:
                        continue
                    entry = measure(variant, name, seed, options.work or Path(temporary), options)
                    measured.append(entry)
                    figures = ", ".join(f"{column} {value:.1%}" for column, value in entry["accuracy"].items())
                    print(f"{name}, seed {seed}, {variant}: {figures} ({entry['seconds']:.0f} s)", flush=True)
                    save(options, measured)
    print(table(measured))


if __name__ == "__main__":
    main()
