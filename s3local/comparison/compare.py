"""S3 against its rivals under one budget: the same gold rows, teacher, student, settings and synthetic rows.

A cell is one method with one seed and one number of gold rows; it has a folder, with its marker last, so that a crash
loses one cell at most. What generates is a run of ``run.loop`` with a few settings changed; nothing of the loop is
repeated here. Methods that share a run, or a call of the teacher, share it. Test is only scored.
Knows nothing of click, tables or plots.

    runs/<task>/compare/<name>/
        config.json  events.jsonl
        gold/        the gold rows of each seed and size
        teacher/     what the teacher wrote, by the checksum of what it was asked
        runs/        a run folder for each run, without its students once they are scored
        cells/       <method>-gold<n>-seed<n>/ with predictions.jsonl and cell.json
        compare.json the cells, their summary and the paired tests
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from s3local import __version__, offline
from s3local.comparison import baselines
from s3local.comparison.cache import JudgeShelf, SharedTeacher
from s3local.comparison.significance import Right, compare_pair, in_words, mean_interval, spread
from s3local.embedder import CachedEmbedder
from s3local.evaluation.metrics import classification_metrics
from s3local.exceptions import InputError, S3LocalError
from s3local.progress import Advance, Progress, Silent
from s3local.records import Example, write_jsonl
from s3local.runner.context import STUDENT
from s3local.runner.finish import AVERAGED, FINAL, GOLD, GOLDLESS
from s3local.runner.loop import RUNS_FOLDER, run
from s3local.runner.models import Models, configuration, find_models
from s3local.runner.settings import RunSettings
from s3local.runner.state import RunFolder
from s3local.runner.task_kinds import kind_of
from s3local.storage import safe_folder_name, translated_errors
from s3local.synthesis.prompts import Prompts
from s3local.task.model import Task
from s3local.task.rows import load_dev, load_rows
from s3local.weights.store import find_encoder

COMPARE_FILE = "compare.json"
CELL_FILE = "cell.json"
PREDICTIONS_FILE = "predictions.jsonl"
CACHE_HIT = "cache hit"

TEACHER_ROWS = 200
"""Test rows that the teacher judges: scoring each under every label is slow. The same ones in every cell."""

ZEROGEN = {"rounds": 0, "rationales": 0, "rationales_shown": 0, "with_gold": False, "label_check": False}
RUNS: Mapping[str, Mapping[str, Any]] = {
    "zerogen": ZEROGEN,
    "zerogen-no-contrast": {**ZEROGEN, "contrast": 0.0},
    "goldgen": {"extrapolate": "dev", "rounds": 0, "with_gold": True, "both_finals": True},
    "s3": {"with_gold": True, "both_finals": True},
    "s3-no-ees": {"rounds": 0, "with_gold": False},
    "s3-no-rationale": {"rationales": 0, "rationales_shown": 0, "with_gold": False},
}
"""What each run changes in the settings. ``ZEROGEN`` uses no gold; whatever in a run does belongs into its entry."""


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table.

    ``run``: the entry of ``RUNS`` that it is read from, None if it generates nothing. ``stage``: which of that run's
    final students it is; the one in ``GOLDLESS`` has not seen gold where the other has, in whose place the guard puts
    one with less of the synthetic rows. ``uses_gold``, ``uses_seed``: without, one cell serves all numbers of gold
    rows, all seeds; the lengths of its rows are then those of the most gold rows at hand when it is computed.
    ``meaning``: in a few words.
    """

    name: str
    meaning: str
    run: str | None = None
    stage: str = FINAL
    uses_gold: bool = True
    uses_seed: bool = True


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("gold", "the student on gold rows alone"),
        Method("probe", "a linear layer on embeddings of gold rows"),
        Method("setfit", "the SetFit package on gold rows"),
        Method("teacher-zero-shot", "the teacher itself, without gold", uses_gold=False, uses_seed=False),
        Method("teacher-few-shot", "the teacher itself, shown gold rows"),
        Method("zerogen", "zero-shot rows, no rationales, no rounds", run="zerogen", uses_gold=False),
        Method("zerogen-no-contrast", "the same, plainly sampled", run="zerogen-no-contrast", uses_gold=False),
        Method("goldgen", "all gold rows extrapolated", run="goldgen", stage=GOLDLESS),
        Method("goldgen+gold", "the same, trained on gold too", run="goldgen"),
        Method("s3-no-ees", "S3 without error extrapolation", run="s3-no-ees"),
        Method("s3-no-rationale", "S3 without rationales", run="s3-no-rationale"),
        Method("s3", "Synthesis Step by Step", run="s3", stage=GOLDLESS),
        Method("s3+gold", "the same, trained on gold too", run="s3"),
    )
}
GROUPS: Mapping[str, tuple[str, ...]] = {"teacher": ("teacher-zero-shot", "teacher-few-shot")}
"""Names that stand for several methods."""

DEFAULT_METHODS = ("gold", "zerogen", "goldgen", "s3", "s3-no-ees", "s3-no-rationale", "s3+gold", "goldgen+gold")


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """What is compared.

    ``methods``: names of ``METHODS`` or ``GROUPS``. ``gold``: numbers of gold rows drawn from dev; none takes all of
    it. ``reference``: the method that the others are tested against. ``run``: what all runs have in common; its seed
    is replaced by each of ``seeds``.
    Raises ``S3LocalError`` for what a user can have mistyped.
    """

    methods: tuple[str, ...] = DEFAULT_METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    gold: tuple[int, ...] = ()
    reference: str = "s3"
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        for name in (*self.methods, self.reference):
            if name not in METHODS and (name not in GROUPS or name == self.reference):
                raise S3LocalError(f"unknown method {name!r}; known are {', '.join([*METHODS, *GROUPS])}")
        if not self.methods or not self.seeds:
            raise S3LocalError("a comparison needs at least one method and one seed")

    @property
    def methods_in_order(self) -> tuple[Method, ...]:
        """The methods once each, in the order of ``METHODS``."""
        wanted = {single for name in self.methods for single in GROUPS.get(name, (name,))}
        return tuple(method for method in METHODS.values() if method.name in wanted)


class Cell(NamedTuple):
    """One method with one seed (None: it has none) and its number of gold rows (0: it uses none)."""

    method: str
    seed: int | None
    gold: int

    @property
    def folder(self) -> str:
        seed = "" if self.seed is None else f"-seed{self.seed}"
        return f"cells/{self.method}-gold{self.gold}{seed}"

    @property
    def file(self) -> str:
        """Its marker."""
        return f"{self.folder}/{CELL_FILE}"

    def __str__(self) -> str:
        gold = f", {self.gold} gold rows" if self.gold else ""
        return f"{self.method}{gold}" + ("" if self.seed is None else f", seed {self.seed}")


@dataclass(frozen=True, slots=True)
class CompareResult:
    """What a comparison left: its folder, and the content of compare.json."""

    folder: Path
    summary: Mapping[str, Any]


def compare(
    task: Task,
    settings: CompareSettings | None = None,
    *,
    folder: Path | None = None,
    name: str = "default",
    progress: Progress | None = None,
    models: Models | None = None,
    known: Iterable[Mapping[str, Any]] = (),
) -> CompareResult:
    """Compare methods on ``task``, or go on where a comparison was interrupted.

    The same folder (None: runs/<task>/compare/<name>) takes more methods, seeds and gold sizes later. ``models``
    replace those that the settings name. ``known`` are cells of a comparison with the same settings in another folder,
    as they stand in its compare.json: they are taken over.
    Raises ``InputError`` for bad rows, no test rows or too few of dev, ``S3LocalError`` for a task without labels,
    ``ModelError`` for missing models, ``RunError`` if the folder holds a comparison with other settings,
    ``StorageError`` if it cannot be written.
    """
    offline.engage()
    settings = settings or CompareSettings()
    if not task.labels:
        raise S3LocalError(f"a comparison needs a task with labels, {task.name} is of kind {task.kind}")
    dev = load_dev(task)
    if task.test is None:
        raise InputError(task.dev.parent, "a comparison needs test rows; put them into test.jsonl or say --test")
    test = load_rows(task.test, task)
    sizes = settings.gold or (len(dev),)
    check_sizes(sizes, dev, task)
    models = models or find_models(settings.run)
    config = configuration(task, dataclasses.replace(settings.run, seed=0), models)
    with RunFolder.open(folder or RUNS_FOLDER / task.name / "compare" / safe_folder_name(name), config) as state:
        state.event("begun", version=__version__)
        for row in known:
            cell = Cell(row["method"], row["seed"], row["gold_rows"])
            if state.read(cell.file) is None:
                state.write(cell.file, row)
        comparison = _Comparison(task, dev, test, sizes, settings, state, progress or Silent(), models)
        summary = comparison.run()
        state.write(COMPARE_FILE, summary)
        state.event("ended")
    return CompareResult(state.path, summary)


def check_sizes(sizes: Sequence[int], dev: Sequence[Example], task: Task) -> None:
    """Raises ``InputError`` if ``dev`` has too few rows for one of ``sizes``, or that is too few for the labels."""
    if max(sizes) > len(dev):
        raise InputError(task.dev, f"{len(dev):,} rows, but {max(sizes):,} gold rows were asked for")
    if min(sizes) < len(task.labels):
        raise InputError(task.dev, f"{min(sizes)} gold rows cannot show each of the {len(task.labels)} labels")


def draw_gold(dev: Sequence[Example], size: int, seed: int) -> list[Example]:
    """``size`` rows of ``dev``, in its order: equally many of each label to a row, as far as ``dev`` has them.

    The rows of a smaller draw with the same seed are among those of a larger one.
    """
    chance = np.random.default_rng(seed)
    by_label: dict[str, list[int]] = {}
    for place, row in enumerate(dev):
        by_label.setdefault(row.label, []).append(place)
    turns = [
        (turn, number, by_label[label][place])
        for number, label in enumerate(sorted(by_label))
        for turn, place in enumerate(chance.permutation(len(by_label[label])).tolist())
    ]
    return [dev[place] for place in sorted(place for _, _, place in sorted(turns)[:size])]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a cell found: the test rows it labelled, their labels, and where its rows and time went."""

    test: Sequence[Example]
    predicted: Sequence[str]
    seconds: float
    rows: int = 0
    shortfall: int = 0
    rounds: Sequence[Mapping[str, Any]] = ()


class _Comparison:
    """One comparison: what its cells share."""

    def __init__(
        self,
        task: Task,
        dev: Sequence[Example],
        test: Sequence[Example],
        sizes: Sequence[int],
        settings: CompareSettings,
        state: RunFolder,
        progress: Progress,
        models: Models,
    ) -> None:
        self.task = task
        self.dev = dev
        self.test = test
        self.sizes = sorted(set(sizes))
        self.settings = settings
        self.state = state
        self.progress = progress
        self.models = dataclasses.replace(models, embedder=CachedEmbedder(models.embedder))
        self.judges = JudgeShelf(models.judge)
        self.skipped: dict[str, str] = {}
        self.methods = [method for method in settings.methods_in_order if not self._is_skipped(method)]
        if not self.methods:
            raise S3LocalError("nothing is left to compare: " + "; ".join(self.skipped.values()))

    def run(self) -> dict[str, Any]:
        """Every cell, in an order that completes one seed after the other; then what they say."""
        seeds = dict.fromkeys(self.settings.seeds)
        cells = list(
            dict.fromkeys(
                self._cell(method, seed, size) for seed in seeds for size in self.sizes for method in self.methods
            )
        )
        rows = {cell: done for cell in cells if (done := self.state.read(cell.file)) is not None}
        waiting = [cell for cell in cells if cell not in rows]
        left = _TimeLeft()
        for number, cell in enumerate(waiting):
            place = f"{len(cells) - len(waiting) + number + 1} of {len(cells)}"
            self.progress.say(f"cell {place}: {cell}{left.in_words(waiting[number:])}")
            started = time.perf_counter()
            rows[cell] = self._compute(cell, _Labelled(self.progress, str(cell)))
            left.note(cell, time.perf_counter() - started)
        return {
            "task": self.task.name,
            "reference": self.settings.reference,
            "synthetic_rows": self.settings.run.rows,
            "test_rows": len(self.test),
            "skipped": self.skipped,
            "cells": [rows[cell] for cell in cells],
            **self._judge(rows),
        }

    def _is_skipped(self, method: Method) -> bool:
        """Notes, and says, why a method cannot be had here, or would be another one."""
        reason = ""
        if method.name == "setfit" and not baselines.has_setfit():
            reason = "the package is not installed (pip install 's3local[setfit]')"
        elif method.name == "s3-no-rationale" and self.task.source_fields:
            reason = "pairs have no rationales, so that it is s3"
        elif method.name == "zerogen-no-contrast" and not self.settings.run.contrast_for(self.models.style):
            reason = "texts are sampled without contrast here, so that it is zerogen"
        if reason:
            self.skipped[method.name] = f"{method.name} is left out: {reason}"
            self.progress.say(self.skipped[method.name])
        return bool(reason)

    def _cell(self, method: Method, seed: int, size: int) -> Cell:
        return Cell(method.name, seed if method.uses_seed else None, size if method.uses_gold else 0)

    # A cell

    def _compute(self, cell: Cell, progress: Progress) -> dict[str, Any]:
        """The figures of a cell; its predictions are written first, its marker last."""
        outcome = self._outcome(cell, progress)
        gold = [row.label for row in outcome.test]
        metrics = classification_metrics(gold, outcome.predicted, self.task.label_names)
        self.state.write_rows(
            f"{cell.folder}/{PREDICTIONS_FILE}",
            (
                {"id": row.id, "label": row.label, "predicted": guess}
                for row, guess in zip(outcome.test, outcome.predicted, strict=True)
            ),
        )
        content = {
            "dataset": self.task.name,
            "method": cell.method,
            "seed": cell.seed,
            "gold_rows": cell.gold,
            "synthetic_rows": outcome.rows,
            "shortfall": outcome.shortfall,
            "test_rows": metrics.n_rows,
            "test_accuracy": metrics.accuracy,
            "test_macro_f1": metrics.macro_f1,
            "test_low": metrics.accuracy_low,
            "test_high": metrics.accuracy_high,
            "seconds": round(outcome.seconds, 1),
            "rounds": list(outcome.rounds),
            "right": self._right(outcome),
        }
        self.state.write(cell.file, content)
        self.state.event("cell done", cell=str(cell))
        return content

    def _outcome(self, cell: Cell, progress: Progress) -> _Outcome:
        method = METHODS[cell.method]
        seed = cell.seed or 0
        gold = draw_gold(self.dev, cell.gold or self.sizes[-1], seed)
        if method.run is not None:
            return self._from_run(method, gold, seed, progress)
        test: Sequence[Example] = self.test
        labels = self.task.label_names
        started = time.perf_counter()
        if cell.method == "gold":
            folder = self.state.path / cell.folder / "student"
            student_seed = int(np.random.SeedSequence([seed, STUDENT, 0]).generate_state(1)[0])
            training = kind_of(self.task, gold, test, self.settings.run).fitted(self.models.body)
            predicted = baselines.train_on_gold(
                self.models.body, gold, test, labels, training, student_seed, folder, progress
            )
            _remove(folder)
        elif cell.method == "probe":
            predicted = baselines.probe(self.models.embedder, gold, test, seed, progress)
        elif cell.method == "setfit":
            encoder = find_encoder(self.settings.run.encoder)
            predicted = baselines.setfit(encoder, gold, test, labels, seed, progress)
        else:
            chosen = np.random.default_rng(0).permutation(len(test))[:TEACHER_ROWS]
            test = [test[place] for place in sorted(chosen.tolist())]
            shown = gold if method.uses_gold else []
            with contextlib.closing(self.models.teacher()) as teacher:
                tokens = self.settings.run.prompt_tokens
                prompts = Prompts(self.task, "list", 1, teacher.chat, teacher.count_tokens, tokens)
                predicted = baselines.classify_by_teacher(teacher, prompts, shown, test, seed, progress)
        return _Outcome(test, predicted, time.perf_counter() - started)

    def _from_run(self, method: Method, gold: Sequence[Example], seed: int, progress: Progress) -> _Outcome:
        """The outcome of a method that generates: of its run, which is done first if no other method has done it."""
        assert method.run is not None
        folder = self.state.path / "runs" / f"{method.run}-gold{len(gold)}-seed{seed}"
        settings = dataclasses.replace(self.settings.run, seed=seed, **RUNS[method.run])
        record = RunFolder(folder)

        def on_cache_hit(key: str, seconds: float) -> None:
            record.event(CACHE_HIT, key=key, seconds=seconds)

        def opener() -> SharedTeacher:
            return SharedTeacher(self.models.teacher, self.state.path / "teacher", on_cache_hit)

        summary = run(
            self._task_with(gold, seed),
            settings,
            folder=folder,
            progress=progress,
            models=dataclasses.replace(self.models, teacher=opener, judge=self.judges.maker(on_cache_hit)),
        ).summary
        for student in folder.glob("*/student"):  # some 200 MB each; their predictions are kept
            _remove(student)
        stage = summary["selected"] if method.stage == FINAL else method.stage
        rows = record.read_rows(f"{stage}/test_predictions.jsonl")
        predicted = {row["id"]: row["predicted"] for row in rows}
        return _Outcome(
            self.test,
            [predicted[row.id] for row in self.test],
            _seconds(record, summary, method.stage),
            rows=summary["rows"],
            shortfall=settings.rows - summary["rows"],
            rounds=[_round(entry, summary["test"]) for entry in summary["rounds"]],
        )

    def _task_with(self, gold: Sequence[Example], seed: int) -> Task:
        """The task with these rows, drawn with ``seed``, as its dev."""
        path = self.state.path / "gold" / f"{len(gold)}-seed{seed}.jsonl"
        if not path.is_file():
            write_jsonl(path, ({self.task.column(key): value for key, value in row.to_row().items()} for row in gold))
        return self.task.model_copy(update={"dev": path})

    # What the cells say

    def _judge(self, rows: Mapping[Cell, Mapping[str, Any]]) -> dict[str, Any]:
        """For each number of gold rows: mean and spread of each method, and the reference against every other."""
        right = {cell: _read_right(row["right"]) for cell, row in rows.items()}
        reference = METHODS[self.settings.reference]
        summary, comparisons = [], []
        for size in self.sizes:
            for method in self.methods:
                cells = list(dict.fromkeys(self._cell(method, seed, size) for seed in self.settings.seeds))
                summary.append({"gold_rows": size, **_summarize(method, [(rows[cell], right[cell]) for cell in cells])})
                if method is reference or reference not in self.methods:
                    continue
                pairs = [
                    (right[self._cell(reference, seed, size)], right[self._cell(method, seed, size)])
                    for seed in self.settings.seeds
                ]
                shared = ~np.isnan(pairs).any(axis=(0, 1))
                first, second = (np.array([pair[side][shared] == 1 for pair in pairs]) for side in (0, 1))
                verdict = compare_pair(first, second)
                comparisons.append(
                    {
                        "gold_rows": size,
                        "reference": reference.name,
                        "method": method.name,
                        "test_rows": int(shared.sum()),
                        **dataclasses.asdict(verdict),
                        "mcnemar": list(verdict.mcnemar),
                        "in_words": in_words(verdict, reference.name, method.name),
                    }
                )
        return {"summary": summary, "comparisons": comparisons}

    def _right(self, outcome: _Outcome) -> str:
        """Which test rows the cell labelled rightly: a 1 or a 0 for each in order, a - for those it did not label."""
        pairs = zip(outcome.test, outcome.predicted, strict=True)
        said = {row.id: str(int(row.label == guess)) for row, guess in pairs}
        return "".join(said.get(row.id, "-") for row in self.test)


def _read_right(right: str) -> NDArray[np.float64]:
    """A cell's "right" as numbers (n_test,), NaN for rows that it did not label."""
    return np.array([np.nan if mark == "-" else float(mark) for mark in right])


def _summarize(method: Method, cells: Sequence[tuple[Mapping[str, Any], NDArray[np.float64]]]) -> dict[str, Any]:
    """A method over its seeds: means, standard deviations, and the interval of the mean accuracy."""
    figures = [row for row, _ in cells]
    right: Right = np.array([marks[~np.isnan(marks)] == 1 for _, marks in cells])
    accuracy, accuracy_std = spread([row["test_accuracy"] for row in figures])
    macro_f1, macro_f1_std = spread([row["test_macro_f1"] for row in figures])
    low, high = mean_interval(right)
    return {
        "method": method.name,
        "meaning": method.meaning,
        "seeds": len(figures),
        "test_rows": figures[0]["test_rows"],
        "synthetic_rows": spread([row["synthetic_rows"] for row in figures])[0],
        "shortfall": spread([row["shortfall"] for row in figures])[0],
        "accuracy": accuracy,
        "accuracy_std": accuracy_std,
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": macro_f1,
        "macro_f1_std": macro_f1_std,
        "seconds": spread([row["seconds"] for row in figures])[0],
    }


def _round(entry: Mapping[str, Any], test: Mapping[str, Any]) -> dict[str, Any]:
    """A round of a run, as a cell keeps it."""
    return {
        "stage": entry["stage"],
        "rows": entry["metrics"]["rows"],
        "dev_accuracy": entry["metrics"]["dev"]["accuracy"],
        "test_accuracy": test[entry["stage"]]["accuracy"],
        "gap": entry["gap"]["all"],
        "gap_of_new": entry["gap"]["new"],
    }


def _seconds(record: RunFolder, summary: Mapping[str, Any], stage: str) -> float:
    """What the run would have taken by itself: its stages, and the teacher's time for what it took over."""
    seconds = sum(
        max(entry["synthesis"]["seconds"], entry["synthesis"]["teacher_seconds"])
        + entry["gap"]["seconds"]
        + entry["metrics"]["seconds"]
        for entry in summary["rounds"]
    )
    rationales = record.read("rationales.json")
    on_cache_hit = {event["key"]: event["seconds"] for event in record.events() if event["event"] == CACHE_HIT}
    return float(
        seconds
        + (rationales["seconds"] if rationales else 0)
        + summary[FINAL]["label_check"]["seconds"]
        + summary[stage]["seconds"]
        + (summary["guard"]["seconds"] if stage == FINAL and summary.get("guard") else 0)
        + sum(summary[name]["seconds"] for name in (GOLD, AVERAGED) if stage == FINAL and name in summary)
        + sum(on_cache_hit.values())
    )


def _remove(folder: Path) -> None:
    with translated_errors(folder):
        shutil.rmtree(folder)


class _TimeLeft:
    """Estimates how long cells take from those of the same method: the costs of two methods are nothing alike."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def note(self, cell: Cell, seconds: float) -> None:
        self._seconds.setdefault(cell.method, []).append(seconds)

    def in_words(self, cells: Sequence[Cell]) -> str:
        """For instance "; about 12 min left", or nothing as long as a method of ``cells`` was never timed."""
        if any(cell.method not in self._seconds for cell in cells):
            return ""
        left = sum(float(np.mean(self._seconds[cell.method])) for cell in cells)
        return f"; about {left / 60:.0f} min left" if left >= 90 else f"; about {left:.0f} s left"


class _Labelled:
    """A ``Progress`` whose steps and lines say which cell they belong to."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._label = label

    @contextlib.contextmanager
    def step(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        with self._progress.step(f"{self._label}: {name}", total, unit) as advance:
            yield advance

    def say(self, message: str) -> None:
        self._progress.say(f"{self._label}: {message}")
