"""The S3 loop: seed synthesis, then rounds of training, error mining and error extrapolation, then the end.

The labels of test are used in ``score_on_test`` alone, when all students are trained. Teacher and student are never in
memory together.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from s3local import __version__, offline
from s3local.allocation import divide_rows
from s3local.embedder import CachedEmbedder
from s3local.evaluation.errors import Error, choose_errors
from s3local.evaluation.gap import measure_diversity, measure_gap
from s3local.evaluation.predictions import Prediction
from s3local.exceptions import RunError
from s3local.executor import Executor, executor_for
from s3local.placement import Needs
from s3local.progress import Progress, Silent
from s3local.records import Candidate, Example, is_unlabelled
from s3local.results import (
    FINAL,
    RESULT_FILE,
    GapResult,
    RoundResult,
    RunSummary,
    StudentResult,
    SynthesisResult,
    score_of,
)
from s3local.runner.context import STUDENT, RunContext
from s3local.runner.finish import Finals, finish
from s3local.runner.generation import Generation, Plan
from s3local.runner.leakage import measure_leakage
from s3local.runner.models import Models, TeacherSource, configuration, find_models
from s3local.runner.relabel import Relabeller
from s3local.runner.row_map import map_rows
from s3local.runner.settings import RunSettings
from s3local.runner.state import RunFolder
from s3local.runner.task_kinds import TrainingSet, kind_of
from s3local.runner.unlabelled import UnlabelledRows
from s3local.runner.unlabelled_pool import DROPPED_FILE
from s3local.storage import safe_folder_name, sha256_of
from s3local.student.encoding import unknown_share
from s3local.student.inference import Classifier
from s3local.student.reader import Reader
from s3local.task.model import Task
from s3local.task.rows import load_dev, load_rows

RUNS_FOLDER = Path("runs")

WORTH_A_WARNING = 0.05
"""Share of unknown word pieces in dev."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run: its folder, and the figures of its result.json."""

    folder: Path
    summary: RunSummary

    @property
    def model(self) -> Path:
        """The selected student, exported: a folder for ``Classifier.load``, ``Reader.load`` or bare onnxruntime.

        With model selection it is the average of the final and the gold-only student or, if synthetic rows do not help,
        the gold-only student; without, the final one.
        """
        return self.folder / self.summary.selected / "student"

    @property
    def dataset(self) -> Path:
        """Every synthetic row that the final student was trained on, with its origin."""
        return self.folder / FINAL / "dataset.jsonl"

    def classifier(self) -> Classifier:
        """The selected classifier, ready to predict. Raises ``ModelError`` if the task was question answering."""
        return Classifier.load(self.model)

    def reader(self) -> Reader:
        """The selected student of question answering, ready to answer. Raises ``ModelError`` if it classifies."""
        return Reader.load(self.model)


def run(
    task: Task,
    settings: RunSettings | None = None,
    *,
    folder: Path | None = None,
    name: str = "default",
    progress: Progress | None = None,
    models: Models | None = None,
    executor: Executor | None = None,
    command: str | None = None,
) -> RunResult:
    """Run S3 on ``task``, or go on with it where it was interrupted.

    Everything is kept in ``folder`` (None: runs/<task>/<name>). ``models`` replace those that the settings name,
    ``executor`` runs trainings side by side (None: as ``executor_for`` chooses, closed at the end). ``command`` is the
    command line that started the run, if one did: its report shows it.
    Raises ``InputError`` for bad rows, ``ModelError`` for missing models, ``RunError`` if the folder holds a run
    with other settings, ``StorageError`` if it cannot be written, ``NetworkError`` if anything reaches for a network.
    """
    offline.engage()
    settings, progress = settings or RunSettings(), progress or Silent()
    dev = load_dev(task)
    test = load_rows(task.test, task) if task.test else []
    kind = kind_of(task, dev, test, settings)
    models = models or find_models(settings, progress=progress)
    config = configuration(task, settings, models)
    models = dataclasses.replace(models, embedder=CachedEmbedder(models.embedder))
    folder = folder or run_folder(task, name)
    with contextlib.ExitStack() as stack:
        state = stack.enter_context(RunFolder.open(folder, config))
        executor = executor or stack.enter_context(contextlib.closing(executor_for(None)))
        executor.prepare(models.files, state.event, progress)
        needs = Needs("teacher", settings.engine.threads, models.teacher_memory)
        teacher = TeacherSource(models.teacher, models.style, executor, needs)
        stack.enter_context(contextlib.closing(teacher))
        state.event("begun", version=__version__, **({"command": command} if command else {}))
        unknown = unknown_share(models.body, [row.text for row in dev])
        if unknown > WORTH_A_WARNING:
            chosen = settings.student or "the embedded one"
            problem = f"the student ({chosen}) does not know {unknown:.0%} of dev's word pieces"
            progress.say(f"warning: {problem}; choose --student and --encoder for the language of your texts")
        context = RunContext(task, kind, dev, settings, state, progress, models, teacher, executor)
        test_texts = [row.fields[task.target_field] for row in test]  # that no row may copy; their labels stay here
        relabeller = Relabeller(context, context.divide_dev())
        rounds = Rounds(context, Generation(context, test_texts), relabeller)
        done = rounds.run()
        teacher.close()
        finals = finish(context, relabeller, rounds.kept, done)
        map_rows(context, rounds.kept)
        summary = state.once(RESULT_FILE, RunSummary, lambda: score_on_test(context, rounds.kept, done, finals, test))
        state.event("ended")
    return RunResult(state.path, summary)


def run_folder(task: Task, name: str) -> Path:
    """Where a run of ``task`` lies if nobody says another folder: runs/<task>/<name>."""
    return RUNS_FOLDER / task.name / safe_folder_name(name)


class Rounds:
    """The rounds of a run; ``kept`` are the synthetic rows so far."""

    def __init__(self, context: RunContext, generation: Generation, relabeller: Relabeller) -> None:
        self.context = context
        self.generation = generation
        self.relabeller = relabeller
        self.unlabelled = UnlabelledRows(context, relabeller, generation.curation)
        self.kept: list[Candidate] = []

    def run(self) -> list[RoundResult]:
        """All rounds in order; stages that are done are read, not repeated.

        A round that made the student worse on dev is no reason to stop: its errors are what the next one mends.
        """
        settings, groups = self.context.settings, self.context.task.groups
        rounds = [self._first()]
        while len(rounds) <= settings.rounds and len(self.kept) < settings.rows:
            errors = self._choose_errors(len(rounds) - 1)
            weights = dict.fromkeys(groups, 0.0) | Counter(error.example.label for error in errors)
            quotas = divide_rows(self._rows_of_round(len(rounds)), weights, settings.least_share)
            examples = [error.example for error in errors]
            plan = partial(self.generation.extrapolation_plan, examples, len(rounds))
            rounds.append(self._round(len(rounds), plan, quotas, examples))
        return rounds

    def _first(self) -> RoundResult:
        """The seed; or, for GoldGen, all of dev extrapolated with the whole budget."""
        context, settings = self.context, self.context.settings
        if settings.extrapolate == "dev":
            quotas = divide_rows(settings.rows, Counter(row.label for row in context.dev), settings.least_share)
            return self._round(0, partial(self.generation.extrapolation_plan, context.dev, 0), quotas)
        rows = max(1, round(settings.rows * settings.seed_share)) if settings.rounds else settings.rows
        quotas = divide_rows(rows, dict.fromkeys(context.task.groups, 1.0))
        return self._round(0, self.generation.seed_plan, quotas)

    def _round(
        self,
        number: int,
        plan: Callable[[], Plan],
        quotas: Mapping[str, int],
        errors: Sequence[Example] = (),
    ) -> RoundResult:
        """Add the round's rows, train a fresh student on all rows so far, and score it on dev.

        ``plan`` makes the plan of the rows that the teacher is to write, if it is to write any.
        The rows are unlabelled ones, as far as there are any for a label, and else the teacher's.
        """
        context, state, stage = self.context, self.context.state, _stage(number)
        n_before = len(self.kept)
        taken, unlabelled = self.unlabelled.take(number, quotas, errors, self.kept)
        if unlabelled is None and not context.settings.generate:
            raise RunError(f"{state.path}: no rows can be had: there is no teacher, and judges cannot label real ones")
        if unlabelled is not None:
            left = {label: quota - unlabelled.taken_per_label[label] for label, quota in quotas.items()}
            quotas = left if context.settings.generate else dict.fromkeys(quotas, 0)
        self.kept += taken
        before = list(self.kept)
        synthesis = state.once(
            f"{stage}/synthesis.json", SynthesisResult, lambda: self.generation.fill(stage, quotas, plan(), before)
        )
        self.kept += [Candidate.from_row(row) for row in state.read_rows(f"{stage}/synthetic.jsonl")]
        if len(self.kept) - len(before) != synthesis.kept:
            found = f"{len(self.kept) - len(before):,} rows, its marker says {synthesis.kept:,}"
            raise RunError(f"{state.path / stage / 'synthetic.jsonl'} is damaged ({found}); choose another --name")
        if not self.kept:
            reasons = ", ".join(f"{reason} {count}" for reason, count in synthesis.dropped_by_reason.items())
            if not context.settings.generate:
                raise RunError(
                    f"{state.path}: no unlabelled row could be used; see {DROPPED_FILE} and "
                    f"{stage}/dropped-unlabelled.jsonl"
                )
            raise RunError(
                f"{state.path}: not one of {synthesis.requests} texts passed the checks ({reasons}); "
                f"see {stage}/dropped.jsonl, and try a larger teacher"
            )
        context.teacher.close()
        gap = state.once(f"{stage}/gap.json", GapResult, lambda: self._measure_gap(n_before))
        reading = self.relabeller.read(stage, self.kept[n_before:])
        student = state.once(f"{stage}/metrics.json", StudentResult, lambda: self._train(number))
        real = f"{len(taken)} unlabelled rows taken, " if unlabelled is not None else ""
        context.progress.say(
            f"{stage}: {real}{synthesis.kept} rows kept, {synthesis.dropped} dropped; "
            f"dev {context.kind.headline} {score_of(student.dev):.1%}"
        )
        return RoundResult(synthesis=synthesis, gap=gap, student=student, reading=reading, unlabelled=unlabelled)

    def _train(self, number: int) -> StudentResult:
        context, stage = self.context, _stage(number)
        relabelled, seed = self.relabeller.relabel(self.kept), context.seed_for(STUDENT, number)
        rows = TrainingSet(relabelled.rows, seed, relabelled.targets)
        return context.export(stage, context.train(stage, rows, brief=True), rows)

    def _measure_gap(self, n_before: int) -> GapResult:
        """How far the texts are from dev and how they differ: all so far, and those after the first ``n_before``.

        Dev is what rows are extrapolated from, so the gap to it is biased low; the texts of test stay unread.
        """
        context = self.context
        texts = [candidate.text for candidate in self.kept]
        with context.progress.step("measuring the gap to dev", len(texts) + len(context.dev), "texts") as advance:
            gold = context.models.embedder.embed([row.text for row in context.dev], advance)
            vectors = context.models.embedder.embed(texts, advance)
        return GapResult(
            gap=measure_gap(vectors, gold),
            diversity=measure_diversity(texts, vectors),
            gap_of_new=measure_gap(vectors[n_before:], gold),
            diversity_of_new=measure_diversity(texts[n_before:], vectors[n_before:]),
        )

    def _choose_errors(self, number: int) -> list[Error]:
        """The dev rows that the next round is extrapolated from, capped and balanced; writes extrapolated.jsonl.

        They are the rows that the round's student gets wrong and, where these are too few for the rows of the next
        round or for one label's, those that it is least sure of.
        """
        context, settings, state = self.context, self.context.settings, self.context.state
        examples = {row.id: row for row in context.dev}
        wrong = list(map(Error.from_row, state.read_rows(f"{_stage(number)}/errors.jsonl")))
        missed = {error.example.id for error in wrong}
        right = [
            Error(examples[row.id], examples[row.id].label, row.probability, row.probability)
            for row in map(Prediction.from_row, state.read_rows(f"{_stage(number)}/predictions.jsonl"))
            if row.id not in missed
        ]
        wanted = math.ceil(self._rows_of_round(number + 1) / settings.rows_per_error)
        least = settings.least_share * wanted / len(context.task.groups)
        chosen = choose_errors(
            wrong, right, wanted, context.task.groups, settings.error_cap, settings.max_errors, math.ceil(least)
        )
        state.write_rows(f"{_stage(number + 1)}/extrapolated.jsonl", (error.to_row() for error in chosen))
        return chosen

    def _rows_of_round(self, number: int) -> int:
        """The round's part of the rows that are still to come."""
        settings = self.context.settings
        rounds_left = settings.rounds - number + 1
        return max(1, (settings.rows - len(self.kept)) // rounds_left)


def score_on_test(
    context: RunContext,
    candidates: Sequence[Candidate],
    rounds: Sequence[RoundResult],
    finals: Finals,
    test: Sequence[Example],
) -> RunSummary:
    """Score every student on test that has no score yet, once, at the end, and measure leakage.

    Writes the predictions.
    """

    written = [candidate for candidate in candidates if not is_unlabelled(candidate)]

    def scored(student: StudentResult) -> StudentResult:
        if not test or student.test is not None:
            return student
        with context.progress.step(f"{student.stage}: predicting test", len(test), "rows") as advance:
            evaluated = context.kind.evaluate(context.state.path / student.stage / "student", test, advance)
        context.state.write_rows(
            f"{student.stage}/test_predictions.jsonl", (its.to_row() for its in evaluated.predictions)
        )
        return dataclasses.replace(student, test=evaluated.metrics)

    return RunSummary(
        task=context.task.name,
        kind=context.task.kind,
        dataset_sha256=sha256_of(context.state.path / FINAL / "dataset.jsonl"),
        rows=sum(entry.rows for entry in rounds),
        with_gold=context.settings.with_gold,
        rounds=tuple(dataclasses.replace(entry, student=scored(entry.student)) for entry in rounds),
        label_check=finals.label_check,
        model_selection=finals.model_selection,
        final=scored(finals.final),
        final_without_gold=finals.final_without_gold and scored(finals.final_without_gold),
        gold_only=finals.gold_only and scored(finals.gold_only),
        averaged=finals.averaged and scored(finals.averaged),
        large=finals.large and scored(finals.large),
        selected=finals.selected,
        leakage=measure_leakage(context, written, rounds, finals, test) if written else None,
    )


def _stage(number: int) -> str:
    return f"round-{number}"
