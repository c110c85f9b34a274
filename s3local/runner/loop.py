"""The S3 loop: seed synthesis, then rounds of training, error mining and error extrapolation, then the test.

The only file that knows there is a next round. Everything it calls takes records and returns records; it decides
the order, keeps the run folder, and sees to it that the teacher and the student are never in memory together.
The labels of test are read in ``_score_test`` alone, when all students are trained. Knows nothing of click or HTML.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3local import __version__, offline
from s3local.allocation import divide_rows
from s3local.curation.dedup import Deduplicator
from s3local.curation.rules import check_rules
from s3local.embedder import CachedEmbedder, Embedder
from s3local.evaluation.errors import Error, choose_errors
from s3local.evaluation.gap import measure_diversity, measure_gap
from s3local.exceptions import RunError
from s3local.progress import Progress, Silent
from s3local.records import Candidate, Example, FilterResult
from s3local.relabelling.teacher_likelihood import label_logprobs
from s3local.runner.context import RATIONALES, STUDENT, SYNTHESIS, RunContext
from s3local.runner.finish import FINAL, FINALS, Finish
from s3local.runner.generation import Plan, synthesize
from s3local.runner.models import Models, TeacherSource, configuration, find_models
from s3local.runner.settings import RunSettings
from s3local.runner.state import RESULT_FILE, RunFolder
from s3local.runner.task_kinds import SeedOrder, TrainingSet, kind_of
from s3local.storage import sha256_of
from s3local.student.encoding import unknown_share
from s3local.student.inference import Classifier
from s3local.student.reader import Reader
from s3local.synthesis.extrapolation import plan_extrapolation
from s3local.synthesis.planning import Planned, read_candidates
from s3local.synthesis.prompts import Prompts, token_cap
from s3local.synthesis.rationales import plan_rationales, select_rationales
from s3local.task.model import Task
from s3local.task.rows import load_dev, load_rows

RUNS_FOLDER = Path("runs")

WORTH_A_WARNING = 0.05
"""Share of unknown word pieces in dev."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run left: its folder, the model's and the dataset's place in it, and the figures of result.json."""

    folder: Path
    summary: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """The exported student that is handed over: a folder for ``Classifier.load`` or ``Reader.load``, or bare
        onnxruntime. With a guard it is the mean of the final one and that of gold alone, or, if synthetic rows do not
        help, that of gold alone; without, the final one.
        """
        return self.folder / str(self.summary["selected"]) / "student"

    @property
    def dataset(self) -> Path:
        """Every synthetic row that the final student was trained on, with its origin."""
        return self.folder / FINAL / "dataset.jsonl"

    def classifier(self) -> Classifier:
        """The classifier that is handed over, ready to predict. Raises ``ModelError`` if the task was question
        answering."""
        return Classifier.load(self.model)

    def reader(self) -> Reader:
        """The student of question answering that is handed over, ready to answer. Raises ``ModelError`` if it
        classifies."""
        return Reader.load(self.model)


def run(
    task: Task,
    settings: RunSettings | None = None,
    *,
    folder: Path | None = None,
    name: str = "default",
    progress: Progress | None = None,
    models: Models | None = None,
) -> RunResult:
    """Run S3 on ``task``, or go on with it where it was interrupted.

    Everything is kept in ``folder`` (None: runs/<task>/<name>). ``models`` replace those that the settings name.
    Raises ``InputError`` for bad rows, ``ModelError`` for missing models, ``RunError`` if the folder holds a run
    with other settings, ``StorageError`` if it cannot be written, ``NetworkError`` if anything reaches for a network.
    """
    offline.engage()
    settings, progress = settings or RunSettings(), progress or Silent()
    dev = load_dev(task)
    test = load_rows(task.test, task) if task.test else []
    kind = kind_of(task, dev, test, settings)
    models = models or find_models(settings)
    source = TeacherSource(models.teacher, models.style)
    config = configuration(task, settings, models)
    with RunFolder.open(folder or RUNS_FOLDER / task.name / name, config) as state, contextlib.closing(source):
        state.event("begun", version=__version__)
        unknown = unknown_share(models.body, [row.text for row in dev])
        if unknown > WORTH_A_WARNING:
            chosen = settings.student or "the embedded one"
            problem = f"the student ({chosen}) does not know {unknown:.0%} of dev's word pieces"
            progress.say(f"warning: {problem}; choose --student and --encoder for the language of your texts")
        test_texts = [row.fields[task.target_field] for row in test]  # that no row may copy; their labels stay here
        bench = RunContext(task, kind, dev, settings, state, progress, models)
        loop = _Loop(bench, source, models.embedder, test_texts)
        summary = loop.run(test)
        state.event("ended")
    return RunResult(state.path, summary)


class _Loop:
    """One run, from the first text to the test."""

    def __init__(self, bench: RunContext, source: TeacherSource, embedder: Embedder, test_texts: Sequence[str]) -> None:
        self.context = bench
        self.task = task = bench.task
        self.kind = bench.kind
        self.dev = dev = bench.dev
        self.target_texts = [row.fields[task.target_field] for row in dev]
        self.settings = settings = bench.settings
        self.state = bench.state
        self.progress = bench.progress
        self.source = source
        self.contrast = settings.contrast_for(source.style)
        self.embedder = CachedEmbedder(embedder)
        self.compared_field = task.target_field if task.source_fields else None
        self.dedup = Deduplicator(self.embedder, settings.dedup, compared_field=self.compared_field)
        self.protected: dict[str, Sequence[str]] = {"dev": self.target_texts, "test": test_texts}
        self.length = task.length_of_texts(dev)
        self.kept: list[Candidate] = []

    def run(self, test: Sequence[Example]) -> dict[str, Any]:
        """All stages in order; those that are done are read, not repeated."""
        rounds = [self._first_round()]
        while len(rounds) <= self.settings.rounds and not self._is_over(rounds):
            errors = self._errors(len(rounds) - 1)
            quotas = self._round_quotas(errors, len(rounds))
            plan = self._extrapolation_plan([error.example for error in errors], len(rounds))
            rounds.append(self._round(len(rounds), plan, quotas))
        self.source.close()
        finals = Finish(self.context, self.kept, rounds, self._reading).run()
        return self.state.once(RESULT_FILE, lambda: self._score_test(rounds, finals, test))

    # Stages

    def _first_round(self) -> dict[str, Any]:
        """The seed; or, for GoldGen, all of dev extrapolated with the whole budget."""
        if self.settings.extrapolate == "dev":
            quotas = divide_rows(self.settings.rows, Counter(row.label for row in self.dev))
            return self._round(0, self._extrapolation_plan(self.dev, 0), quotas)
        rationales = self._rationales() if self.kind.uses_rationales else {}
        return self._round(0, self._seed_plan(rationales), self._seed_quotas())

    def _rationales(self) -> dict[str, list[str]]:
        """Stage one: K distinct reasons for each label, written by the teacher unless the task has some."""

        def compute() -> dict[str, Any]:
            written = {label.name: list(label.rationales) for label in self.task.labels}
            if self.settings.rationales and not all(written.values()):
                planned = plan_rationales(
                    self._prompts(), self.settings.rationales, self.settings.sampling, [self.settings.seed, RATIONALES]
                )
                with self.progress.step("rationales: the teacher writes", len(planned), "texts") as advance:
                    completions = self.source.open().generate([item.request for item in planned], advance)
                for label in {item.label for item in planned}:
                    mine = [text for item, text in zip(planned, completions, strict=True) if item.label == label]
                    written[label] = select_rationales(mine, self.settings.rationales)
            return {"rationales": written}

        rationales: dict[str, list[str]] = self.state.once("rationales.json", compute)["rationales"]
        return rationales

    def _round(self, number: int, plan: Plan, quotas: Mapping[str, int]) -> dict[str, Any]:
        """Write and filter the round's rows, train a fresh student on all rows so far, and judge it on dev."""
        stage = _stage(number)
        before = list(self.kept)

        def write_rows() -> dict[str, Any]:
            self._protect_gold()
            self.dedup.restore(before)
            return synthesize(
                self.state,
                stage,
                quotas,
                plan,
                self._read,
                self._curate,
                lambda kept: self.dedup.restore([*before, *kept]),
                self.source.open,
                shard_size=self.settings.shard_size,
                max_requests=self.settings.attempts * sum(quotas.values()),
                progress=self.progress,
            )

        synthesis = self.state.once(f"{stage}/synthesis.json", write_rows)
        rows = self.state.read_rows(f"{stage}/synthetic.jsonl")
        self.kept = before + [Candidate.from_row(row) for row in rows]
        if not self.kept:
            raise RunError(
                f"{self.state.path}: not one of {synthesis['requests']} texts passed the checks "
                f"({_counted(synthesis['dropped_by_reason'])}); see {stage}/dropped.jsonl, and try a larger teacher"
            )
        self.source.close()
        gap = self.state.once(f"{stage}/gap.json", lambda: self._gap(len(before)))
        metrics = self.state.once(f"{stage}/metrics.json", lambda: self._train(number))
        headline = self.kind.headline
        self.progress.say(
            f"{stage}: {synthesis['kept']} rows kept, {synthesis['dropped']} dropped; "
            f"dev {headline} {metrics['dev'][headline]:.1%}"
        )
        return {"stage": stage, "synthesis": synthesis, "gap": gap, "metrics": metrics}

    def _train(self, number: int) -> dict[str, Any]:
        training_set = TrainingSet(
            [candidate.example for candidate in self.kept], self.context.seed_for(STUDENT, number)
        )
        return self.context.judged(_stage(number), self.context.train(_stage(number), training_set), training_set)

    def _gap(self, n_before: int) -> dict[str, Any]:
        """How far the texts are from dev, and how they differ: all so far, and those that the round has added.

        ``n_before`` rows were there before it. Dev is what rows are extrapolated from, so this flatters them; the
        texts of test stay unread.
        """
        texts = [candidate.text for candidate in self.kept]
        with self.progress.step("measuring the gap to dev", len(texts) + len(self.dev), "texts") as advance:
            gold = self.embedder.embed([row.text for row in self.dev], advance)
            vectors = self.embedder.embed(texts, advance)
        return {
            name: {
                **dataclasses.asdict(measure_gap(vectors[part], gold)),
                **dataclasses.asdict(measure_diversity(texts[part], vectors[part])),
            }
            for name, part in (("all", slice(None)), ("new", slice(n_before, None)))
        }

    def _score_test(
        self,
        rounds: Sequence[Mapping[str, Any]],
        finals: Mapping[str, Any],
        test: Sequence[Example],
    ) -> dict[str, Any]:
        """Every student on the test rows, once, at the end; writes its predictions, gives the figures of the run."""
        scores: dict[str, Any] = {}
        stages = [*(entry["stage"] for entry in rounds), *(name for name in FINALS if name in finals)]
        for stage in stages if test else []:
            with self.progress.step(f"{stage}: predicting test", len(test), "rows") as advance:
                judged = self.kind.judge(self.state.path / stage / "student", test, advance)
            self.state.write_rows(f"{stage}/test_predictions.jsonl", judged.predictions)
            scores[stage] = dict(judged.metrics)
        return {
            "task": self.task.name,
            "kind": self.task.kind,
            "dataset_sha256": sha256_of(self.state.path / FINAL / "dataset.jsonl"),
            "rows": len(self.kept),
            "rounds": list(rounds),
            **finals,
            "with_gold": self.settings.with_gold,
            "test": scores,
        }

    def _reading(self, rows: Sequence[Example], likely: NDArray[np.bool_]) -> NDArray[np.float64]:
        """See ``Reading``; the teacher is given back before the next student trains."""
        with self.progress.step("label check: the teacher reads", int(likely.sum()), "texts") as advance:
            texts = [row.text for row in rows]
            said = label_logprobs(self.source.open(), self._prompts(), texts, likely=likely, advance=advance)
        self.source.close()
        return said

    # What the stages are made of

    def _prompts(self) -> Prompts:
        """The prompts for the teacher, which is loaded for it."""
        teacher = self.source.open()
        cap = token_cap(self.target_texts, self.length, teacher.count_tokens)
        tokens = self.settings.prompt_tokens
        return Prompts(self.task, self.source.style, cap, teacher.chat, teacher.count_tokens, tokens)

    def _seed_quotas(self) -> dict[str, int]:
        settings = self.settings
        rows = max(1, round(settings.rows * settings.seed_share)) if settings.rounds else settings.rows
        return divide_rows(rows, dict.fromkeys(self.task.groups, 1.0))

    def _round_quotas(self, errors: Sequence[Error], number: int) -> dict[str, int]:
        """The round's rows, divided over the labels as the errors are."""
        return divide_rows(self._rows_of_round(number), Counter(error.example.label for error in errors))

    def _rows_of_round(self, number: int) -> int:
        """The round's part of the rows that are still to come."""
        rounds_left = self.settings.rounds - number + 1
        return max(1, (self.settings.rows - len(self.kept)) // rounds_left)

    def _seed_plan(self, rationales: Mapping[str, Sequence[str]]) -> Plan:
        def plan(wanted: Mapping[str, int], shard: int) -> list[Planned]:
            seed = [self.settings.seed, SYNTHESIS, 0, shard]
            return self.kind.plan_seed(self._prompts(), SeedOrder(wanted, seed, rationales, self.contrast))

        return plan

    def _extrapolation_plan(self, errors: Sequence[Example], number: int) -> Plan:
        gold = {name: [row for row in self.dev if row.label == name] for name in self.task.groups}

        def plan(wanted: Mapping[str, int], shard: int) -> list[Planned]:
            return plan_extrapolation(
                self._prompts(),
                wanted,
                errors,
                gold,
                shots=self.settings.shots,
                samples=self.settings.samples,
                sampling=self.settings.sampling,
                seed=[self.settings.seed, SYNTHESIS, number, shard],
                length_like=self.kind.models,
                contrast=self.contrast,
            )

        return plan

    def _errors(self, number: int) -> list[Error]:
        """The dev rows that the next round is extrapolated from, capped and balanced.

        They are those that the round's student gets wrong, and where these are too few for the rows that the next
        round writes, those that it is least sure of. Writes extrapolated.jsonl.
        """
        examples = {row.id: row for row in self.dev}
        wrong = [
            Error(examples[row["id"]], row["predicted"], row["predicted_probability"], row["own_probability"])
            for row in self.state.read_rows(f"{_stage(number)}/errors.jsonl")
        ]
        missed = {error.example.id for error in wrong}
        right = [
            Error(examples[row["id"]], examples[row["id"]].label, row["probability"], row["probability"])
            for row in self.state.read_rows(f"{_stage(number)}/predictions.jsonl")
            if row["id"] not in missed
        ]
        settings = self.settings
        wanted = math.ceil(self._rows_of_round(number + 1) / settings.rows_per_error)
        chosen = choose_errors(wrong, right, wanted, len(self.task.groups), settings.error_cap, settings.max_errors)
        self.state.write_rows(f"{_stage(number + 1)}/extrapolated.jsonl", (error.to_row() for error in chosen))
        return chosen

    def _is_over(self, rounds: Sequence[Mapping[str, Any]]) -> bool:
        """No rows are left to write, or no errors; or the last round was worse than the best before it by more than
        chance explains.

        A dev set of 60 rows cannot tell apart accuracies that are within one standard error, so a round that merely
        gains nothing on it is no reason to stop. For spans, F1 stands in for accuracy; its error is smaller still.
        """
        accuracies = [entry["metrics"]["dev"][self.kind.headline] for entry in rounds]
        if len(self.kept) >= self.settings.rows or rounds[-1]["metrics"]["errors"] == 0:
            return True
        best = max(accuracies[:-1], default=0.0)
        return bool(accuracies[-1] < best - np.sqrt(best * (1 - best) / len(self.dev)))

    def _protect_gold(self) -> None:
        """Let no synthetic row copy a gold row; done once, and only by a run that still has rows to write."""
        waiting, self.protected = self.protected, {}
        for name, texts in waiting.items():
            if texts:
                with self.progress.step(f"reading {name}, to keep it apart", len(texts), "rows") as advance:
                    self.dedup.protect(texts, name, advance)

    def _read(self, rows: Sequence[Mapping[str, Any]], prefix: str) -> list[Candidate]:
        return read_candidates(rows, prefix=prefix, fields=self.task.fields, target_field=self.task.target_field)

    def _curate(self, candidates: list[Candidate]) -> FilterResult:
        """Rules, what the kind demands, duplicates: each filter gets what the one before it kept."""
        prompts = [self.task.texts, *(label.description for label in self.task.labels)]
        names = self.task.label_names if self.compared_field is None else (*self.task.label_names, *self.task.fields)
        result = check_rules(
            candidates,
            self.settings.rules,
            gold=self.target_texts,
            length=self.length,
            names=names,
            prompts=prompts,
            compared_field=self.compared_field,
        )
        result = result.then(lambda kept: self.kind.check(kept, lambda: (self.source.open(), self._prompts())))
        with self.progress.step("looking for duplicates", len(result.kept), "rows") as advance:
            return result.then(lambda kept: self.dedup.filter(kept, advance))


def _stage(number: int) -> str:
    return f"round-{number}"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items())
