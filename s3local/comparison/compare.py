"""S3 against its baselines under one budget: the same gold rows, teacher, student, settings and synthetic rows.

Each cell has a folder, with its marker last, so that a crash loses one cell at most.

    runs/<task>/compare/<name>/
        config.json  events.jsonl
        gold/        the gold rows of each seed and size
        teacher/     the teacher's completions, by the checksum of their requests
        runs/        a run folder for each run, without its students once they are scored
        cells/       <method>-gold<n>-seed<n>/ with predictions.jsonl and cell.json
        compare.json the cells, their summary and the paired tests
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from s3local import __version__, offline
from s3local.comparison.baselines import has_setfit
from s3local.comparison.cells import Cell, CellComputer, Comparison
from s3local.comparison.methods import (
    DEFAULT_METHODS,
    DEFAULT_REFERENCE,
    DEFAULT_SEEDS,
    GROUPS,
    Method,
    methods_named,
    require_known,
)
from s3local.comparison.side_by_side import compute_side_by_side
from s3local.comparison.summary import compare_all, summarise
from s3local.exceptions import InputError, S3LocalError
from s3local.executor import Executor, executor_for
from s3local.progress import Advance, Progress, Silent
from s3local.records import Example
from s3local.results import COMPARE_FILE, CellResult, CompareSummary
from s3local.runner.loop import RUNS_FOLDER
from s3local.runner.models import Models, configuration, find_models
from s3local.runner.settings import RunSettings
from s3local.runner.state import RunFolder
from s3local.storage import safe_folder_name
from s3local.task.model import Task
from s3local.task.rows import load_dev, load_rows


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """What is compared.

    ``methods``: names of ``METHODS`` or ``GROUPS``. ``gold``: numbers of gold rows drawn from dev; none takes all of
    it. ``reference``: the method that the others are tested against. ``run``: what all runs have in common; its seed
    is replaced by each of ``seeds``.
    Raises ``S3LocalError`` for an unknown method, and for no methods or no seeds.
    """

    methods: tuple[str, ...] = DEFAULT_METHODS
    seeds: tuple[int, ...] = DEFAULT_SEEDS
    gold: tuple[int, ...] = ()
    reference: str = DEFAULT_REFERENCE
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        require_known(self.methods, self.reference)
        if not self.methods or not self.seeds:
            raise S3LocalError("a comparison needs at least one method and one seed")


@dataclass(frozen=True, slots=True)
class CompareResult:
    """A finished comparison: its folder, and the content of its compare.json."""

    folder: Path
    summary: CompareSummary


def compare(
    task: Task,
    settings: CompareSettings | None = None,
    *,
    folder: Path | None = None,
    name: str = "default",
    progress: Progress | None = None,
    models: Models | None = None,
    known: Iterable[CellResult] = (),
    executor: Executor | None = None,
    side_by_side: bool = False,
) -> CompareResult:
    """Compare methods on ``task``, or go on where a comparison was interrupted.

    The same folder (None: runs/<task>/compare/<name>) takes more methods, seeds and gold sizes later. ``models``
    replace those that the settings name, ``executor`` is as in ``run``; with ``side_by_side`` it computes whole cells
    at the same time, each with a teacher of its own, instead of the trainings of one cell. ``known`` are cells of a
    comparison with the same settings in another folder; they are not computed again.
    Raises ``InputError`` for bad rows, no test rows or too few of dev, ``S3LocalError`` for a task without labels,
    ``ModelError`` for missing models, ``RunError`` if the folder holds a comparison with other settings,
    ``StorageError`` if it cannot be written.
    """
    offline.engage()
    settings, progress = settings or CompareSettings(), progress or Silent()
    if not task.labels:
        raise S3LocalError(f"a comparison needs a task with labels, {task.name} is of kind {task.kind}")
    dev = load_dev(task)
    if task.test is None:
        raise InputError(task.dev.parent, "a comparison needs test rows; put them into test.jsonl or say --test")
    test = load_rows(task.test, task)
    sizes = sorted(set(settings.gold or (len(dev),)))
    check_sizes(sizes, dev, task)
    models = models or find_models(settings.run, progress=progress)
    config = configuration(task, dataclasses.replace(settings.run, seed=0), models)
    folder = folder or RUNS_FOLDER / task.name / "compare" / safe_folder_name(name)
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(RunFolder.open(folder, config))
        executor = executor or stack.enter_context(contextlib.closing(executor_for(None)))
        state.event("begun", version=__version__)
        for row in known:
            cell = Cell(row.method, row.seed, row.gold_rows)
            if state.read(cell.file, CellResult) is None:
                state.write(cell.file, row)
        methods, skipped = _available(task, settings, models)
        for line in skipped.values():
            progress.say(line)
        if not methods:
            raise S3LocalError("nothing is left to compare: " + "; ".join(skipped.values()))
        seeds = list(dict.fromkeys(settings.seeds))
        cells = [Cell.of(method, seed, size) for seed in seeds for size in sizes for method in methods]
        comparison = Comparison(task, dev, test, sizes[-1], settings.run, models)
        compute = _side_by_side if side_by_side else _one_by_one
        done = _completed(list(dict.fromkeys(cells)), state, partial(compute, comparison, state, executor, progress))
        summary = CompareSummary(
            task=task.name,
            reference=settings.reference,
            synthetic_rows=settings.run.rows,
            test_rows=len(test),
            skipped=skipped,
            cells=tuple(done.values()),
            summary=tuple(summarise(done, methods, sizes, seeds)),
            comparisons=tuple(compare_all(done, methods, sizes, seeds, settings.reference)),
        )
        state.write(COMPARE_FILE, summary)
        state.event("ended")
    return CompareResult(state.path, summary)


def check_sizes(sizes: Sequence[int], dev: Sequence[Example], task: Task) -> None:
    """Raises ``InputError`` if ``dev`` has fewer rows than one of ``sizes``, or a size is smaller than the number of
    labels."""
    if max(sizes) > len(dev):
        raise InputError(task.dev, f"{len(dev):,} rows, but {max(sizes):,} gold rows were asked for")
    if min(sizes) < len(task.labels):
        raise InputError(task.dev, f"{min(sizes)} gold rows cannot show each of the {len(task.labels)} labels")


def _available(task: Task, settings: CompareSettings, models: Models) -> tuple[list[Method], dict[str, str]]:
    """The methods that can be compared here; and for each other one, why it is left out, as a line for the user."""
    reasons: dict[str, str] = {}
    if not has_setfit():
        missing = "the package setfit is not installed (pip install 's3local[setfit]')"
        reasons |= {"setfit": missing, "setfit-large": missing}
    if task.source_fields:
        reasons["s3-no-rationale"] = "pairs have no rationales, so that it is s3"
    if task.unlabelled is None:
        missing = "the task has no unlabelled rows; say --unlabelled FILE"
        reasons |= {"self-training": missing, "s3+unlabelled": missing}
    if not models.can_score:
        missing = "the teacher's server gives no log-probabilities of a given text"
        reasons |= dict.fromkeys(GROUPS["teacher"], missing)
    if not models.contrast(settings.run):
        reasons["zerogen-no-contrast"] = "texts are sampled without contrast here, so that it is zerogen"
    wanted = methods_named(settings.methods)
    skipped = {
        method.name: f"{method.name} is left out: {reasons[method.name]}" for method in wanted if method.name in reasons
    }
    return [method for method in wanted if method.name not in skipped], skipped


def _completed(
    cells: Sequence[Cell], state: RunFolder, compute: Callable[[Sequence[Cell], int], dict[Cell, CellResult]]
) -> dict[Cell, CellResult]:
    """Every cell in order; cells with a marker are read, the others are computed, with the number of those read."""
    found = {cell: state.read(cell.file, CellResult) for cell in cells}
    waiting = [cell for cell, result in found.items() if result is None]
    found |= compute(waiting, len(cells) - len(waiting))
    return {cell: result for cell, result in found.items() if result is not None}


def _one_by_one(
    comparison: Comparison,
    state: RunFolder,
    executor: Executor,
    progress: Progress,
    cells: Sequence[Cell],
    n_before: int,
) -> dict[Cell, CellResult]:
    """The results of ``cells``, in an order that completes one seed after the other."""
    computer, left, done = CellComputer(comparison, state, executor), _TimeLeft(), dict[Cell, CellResult]()
    for number, cell in enumerate(cells):
        place = f"{n_before + number + 1} of {n_before + len(cells)}"
        progress.say(f"cell {place}: {cell}{left.in_words(cells[number:])}")
        started = time.perf_counter()
        done[cell] = computer.compute(cell, _Labelled(progress, str(cell)))
        left.note(cell, time.perf_counter() - started)
    return done


def _side_by_side(
    comparison: Comparison,
    state: RunFolder,
    executor: Executor,
    progress: Progress,
    cells: Sequence[Cell],
    _: int,
) -> dict[Cell, CellResult]:
    """The results of ``cells``, which workers compute at the same time."""
    executor.prepare(comparison.models.files, state.event, progress)
    done: dict[Cell, CellResult] = {}
    with progress.step("cells side by side", len(cells), "cells") as advance:
        for results in compute_side_by_side(cells, comparison, state, executor):
            done |= results
            advance(len(results))
            for cell, result in results.items():
                progress.say(f"cell {cell} is done: accuracy {result.test_accuracy:.1%}")
    return done


class _TimeLeft:
    """Estimates the time of cells from earlier cells of the same method: two methods' costs have little in common."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def note(self, cell: Cell, seconds: float) -> None:
        self._seconds.setdefault(cell.method, []).append(seconds)

    def in_words(self, cells: Sequence[Cell]) -> str:
        """For instance "; about 12 min left"; empty as long as a method of ``cells`` was never timed."""
        if any(cell.method not in self._seconds for cell in cells):
            return ""
        left = sum(float(np.mean(self._seconds[cell.method])) for cell in cells)
        return f"; about {left / 60:.0f} min left" if left >= 90 else f"; about {left:.0f} s left"


class _Labelled:
    """A ``Progress`` whose steps and lines begin with the name of their cell."""

    def __init__(self, progress: Progress, label: str) -> None:
        self._progress = progress
        self._label = label

    @contextlib.contextmanager
    def step(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        with self._progress.step(f"{self._label}: {name}", total, unit) as advance:
            yield advance

    def say(self, message: str) -> None:
        self._progress.say(f"{self._label}: {message}")

    def note(self, text: str) -> None:
        self._progress.note(text)
