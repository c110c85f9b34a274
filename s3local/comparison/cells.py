"""The cells of a comparison: one method with one seed and one number of gold rows each.

A method with synthetic rows is a run with a few settings changed, see ``RUNS``; nothing of a run is repeated here.
Methods that share a run, a call of the teacher or a judge compute it once. Test is only scored.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from s3local.comparison.baselines import BASELINES, BaselineInput
from s3local.comparison.cache import JudgeCache, SharedTeacher
from s3local.comparison.methods import METHODS, RUNS, Method
from s3local.embedder import CachedEmbedder, Vectors
from s3local.evaluation.metrics import classification_metrics
from s3local.evaluation.predictions import Prediction
from s3local.executor import Executor
from s3local.progress import Progress
from s3local.records import Example, write_jsonl
from s3local.results import (
    FINAL_WITHOUT_GOLD,
    CellResult,
    CellRound,
    RationalesResult,
    RoundResult,
    RunSummary,
    score_of,
)
from s3local.review.selection import rank_in_two_steps
from s3local.runner.loop import run
from s3local.runner.models import Models
from s3local.runner.settings import RunSettings
from s3local.runner.state import RunFolder
from s3local.storage import translated_errors
from s3local.task.model import Task

CELL_FILE = "cell.json"
PREDICTIONS_FILE = "predictions.jsonl"
CACHE_HIT = "cache hit"


class Cell(NamedTuple):
    """One method with one seed (None: it has none) and its number of gold rows (0: it uses none)."""

    method: str
    seed: int | None
    gold_rows: int

    @classmethod
    def of(cls, method: Method, seed: int, gold_rows: int) -> Cell:
        """The cell of ``method`` for this seed and number of gold rows."""
        return cls(method.name, seed if method.uses_seed else None, gold_rows if method.uses_gold else 0)

    @property
    def folder(self) -> str:
        """Its folder in that of the comparison."""
        seed = "" if self.seed is None else f"-seed{self.seed}"
        return f"cells/{self.method}-gold{self.gold_rows}{seed}"

    @property
    def file(self) -> str:
        """Its marker."""
        return f"{self.folder}/{CELL_FILE}"

    def __str__(self) -> str:
        gold = f", {self.gold_rows} gold rows" if self.gold_rows else ""
        return f"{self.method}{gold}" + ("" if self.seed is None else f", seed {self.seed}")


def draw_gold(dev: Sequence[Example], size: int, seed: int) -> list[Example]:
    """``size`` rows of ``dev``, in its order: equally many of each label to a row, as far as ``dev`` has them.

    The rows of a smaller draw with the same seed are among those of a larger one.
    """
    generator = np.random.default_rng(seed)
    by_label: dict[str, list[int]] = {}
    for place, row in enumerate(dev):
        by_label.setdefault(row.label, []).append(place)
    turns = [
        (turn, number, by_label[label][place])
        for number, label in enumerate(sorted(by_label))
        for turn, place in enumerate(generator.permutation(len(by_label[label])).tolist())
    ]
    return [dev[place] for place in sorted(place for _, _, place in sorted(turns)[:size])]


def choose_gold(dev: Sequence[Example], vectors: Vectors, size: int, seed: int) -> list[Example]:
    """``size`` rows of ``dev``, in its order, chosen by their embeddings ``vectors`` (n_dev, dim): a third as
    ``data draw --diverse`` draws, and the rest as ``suggest`` names them then.

    Labels play no part, so that some may be missing. Fewer rows if the rest of ``dev`` is alike.
    """
    places = rank_in_two_steps(vectors, max(1, size // 3), size, seed)
    return [dev[place] for place in sorted(places)]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a cell found: the test rows that it predicted, their predicted labels, and its rows and time."""

    test: Sequence[Example]
    predicted: Sequence[str]
    seconds: float
    rows: int = 0
    shortfall: int = 0
    rounds: tuple[CellRound, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """What all cells have in common.

    ``dev`` is what gold rows are drawn from, ``most_gold`` the largest number of them; ``settings`` are those of all
    runs, whose seed is replaced.
    """

    task: Task
    dev: Sequence[Example]
    test: Sequence[Example]
    most_gold: int
    settings: RunSettings
    models: Models


class CellComputer:
    """Computes cells in a comparison's folder; what several cells need is computed once.

    ``executor`` runs trainings side by side.
    """

    def __init__(self, comparison: Comparison, state: RunFolder, executor: Executor) -> None:
        self.task = comparison.task
        self.dev = comparison.dev
        self.test = comparison.test
        self.most_gold = comparison.most_gold
        self.settings = comparison.settings
        self.state = state
        self.models = dataclasses.replace(comparison.models, embedder=CachedEmbedder(comparison.models.embedder))
        self.executor = executor
        self.judges = JudgeCache(comparison.models.train_judges)

    def compute(self, cell: Cell, progress: Progress) -> CellResult:
        """Compute a cell: its predictions are written first, its marker last."""
        method, seed = METHODS[cell.method], cell.seed or 0
        if method.chosen:
            with progress.step("embedding the rows to choose from", len(self.dev), "texts") as advance:
                vectors = self.models.embedder.embed([row.text for row in self.dev], advance)
            gold = choose_gold(self.dev, vectors, cell.gold_rows, seed)
        else:
            gold = draw_gold(self.dev, cell.gold_rows or self.most_gold, seed)
        if method.run is None:
            outcome = self._from_baseline(method, cell, gold, seed, progress)
        else:
            outcome = self._from_run(method, method.run, gold, seed, progress)
        metrics = classification_metrics([row.label for row in outcome.test], outcome.predicted, self.task.label_names)
        self.state.write_rows(
            f"{cell.folder}/{PREDICTIONS_FILE}",
            (
                {"id": row.id, "label": row.label, "predicted": guess}
                for row, guess in zip(outcome.test, outcome.predicted, strict=True)
            ),
        )
        result = CellResult(
            dataset=self.task.name,
            method=cell.method,
            seed=cell.seed,
            gold_rows=cell.gold_rows,
            synthetic_rows=outcome.rows,
            shortfall=outcome.shortfall,
            test_rows=metrics.n_rows,
            test_accuracy=metrics.accuracy,
            test_macro_f1=metrics.macro_f1,
            test_low=metrics.accuracy_low,
            test_high=metrics.accuracy_high,
            seconds=round(outcome.seconds, 1),
            rounds=outcome.rounds,
            right=self._right(outcome),
        )
        self.state.write(cell.file, result)
        self.state.event("cell done", cell=str(cell))
        return result

    def _right(self, outcome: _Outcome) -> str:
        """See ``CellResult.right``."""
        pairs = zip(outcome.test, outcome.predicted, strict=True)
        said = {row.id: str(int(row.label == guess)) for row, guess in pairs}
        return "".join(said.get(row.id, "-") for row in self.test)

    def _from_baseline(
        self, method: Method, cell: Cell, gold: Sequence[Example], seed: int, progress: Progress
    ) -> _Outcome:
        """The outcome of a method without synthetic rows."""
        test, started = self.test, time.perf_counter()
        if method.test_rows is not None:
            chosen = np.random.default_rng(0).permutation(len(test))[: method.test_rows]
            test = [test[place] for place in sorted(chosen.tolist())]
        folder = self.state.path / cell.folder / "files"
        shown = gold if method.uses_gold else []
        predicted = BASELINES[method.name](
            BaselineInput(self.task, shown, test, seed, self.models, self.settings, folder, progress)
        )
        if folder.exists():
            _remove(folder)
        return _Outcome(test, predicted, time.perf_counter() - started)

    def _from_run(self, method: Method, name: str, gold: Sequence[Example], seed: int, progress: Progress) -> _Outcome:
        """The outcome of a method with synthetic rows: that of its run, which is done first if it is not there yet."""
        folder = self.state.path / "runs" / f"{name}-gold{len(gold)}-seed{seed}"
        settings = dataclasses.replace(self.settings, **{"seed": seed, "use_unlabelled": False, **RUNS[name]})
        record = RunFolder(folder)

        def on_cache_hit(key: str, seconds: float) -> None:
            record.event(CACHE_HIT, key=key, seconds=seconds)

        def opened() -> SharedTeacher:
            return SharedTeacher(self.models.teacher, self.state.path / "teacher", on_cache_hit)

        models = dataclasses.replace(self.models, teacher=opened, train_judges=self.judges.trainer(on_cache_hit))
        task = self._task_with(gold, seed)
        summary = run(task, settings, folder=folder, progress=progress, models=models, executor=self.executor).summary
        for student in folder.glob("*/student"):  # some 200 MB each; their predictions are kept
            _remove(student)
        stage = summary.selected if method.student == "selected" else FINAL_WITHOUT_GOLD
        rows = map(Prediction.from_row, record.read_rows(f"{stage}/test_predictions.jsonl"))
        predicted = {prediction.id: prediction.predicted for prediction in rows}
        return _Outcome(
            self.test,
            [predicted[row.id] for row in self.test],
            _seconds(record, summary, method),
            rows=summary.rows,
            shortfall=settings.rows - summary.rows,
            rounds=tuple(map(_cell_round, summary.rounds)),
        )

    def _task_with(self, gold: Sequence[Example], seed: int) -> Task:
        """The task with these rows, drawn with ``seed``, as its dev."""
        path = self.state.path / "gold" / f"{len(gold)}-seed{seed}.jsonl"
        if not path.is_file():
            write_jsonl(path, ({self.task.column(key): value for key, value in row.to_row().items()} for row in gold))
        return self.task.model_copy(update={"dev": path})


def _cell_round(entry: RoundResult) -> CellRound:
    assert entry.student.test is not None  # a comparison has test rows
    return CellRound(
        stage=entry.stage,
        rows=entry.student.training.rows,
        dev_accuracy=score_of(entry.student.dev),
        test_accuracy=score_of(entry.student.test),
        gap=entry.gap.gap,
        diversity=entry.gap.diversity,
        gap_of_new=entry.gap.gap_of_new,
        diversity_of_new=entry.gap.diversity_of_new,
    )


def _seconds(record: RunFolder, summary: RunSummary, method: Method) -> float:
    """The seconds of the method's run by itself: its stages, and what its cache hits took when they were computed."""
    seconds = sum(
        max(entry.synthesis.seconds, entry.synthesis.teacher_seconds) + entry.gap.seconds + entry.student.seconds
        for entry in summary.rounds
    )
    rationales = record.read("rationales.json", RationalesResult)
    cache_hits = {event["key"]: event["seconds"] for event in record.events() if event["event"] == CACHE_HIT}
    selected = method.student == "selected"
    finals = [summary.final, summary.gold_only, summary.averaged, summary.large]
    students = finals if selected else [summary.final_without_gold]
    return float(
        seconds
        + (rationales.seconds if rationales else 0)
        + summary.label_check.judges.seconds
        + sum(entry.reading.seconds for entry in summary.rounds if entry.reading)
        + (summary.model_selection.seconds if selected else 0)
        + sum(student.seconds for student in students if student is not None)
        + sum(cache_hits.values())
    )


def _remove(folder: Path) -> None:
    with translated_errors(folder):
        shutil.rmtree(folder)
