"""The S3 loop: seed synthesis, then rounds of training, error mining and error extrapolation, then the test.

The only file that knows there is a next round. Everything it calls takes records and returns records; it decides
the order, keeps the run folder, and sees to it that the teacher and the student are never in memory together.
The labels of test are read in ``_score_test`` alone, when all students are trained. Knows nothing of click or HTML.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s3local import __version__, offline
from s3local.curation.dedup import Deduplicator
from s3local.curation.rules import check_rules
from s3local.embedder import CachedEmbedder
from s3local.evaluation.errors import Error, balance_errors, divide_rows
from s3local.evaluation.folds import divide_into_folds, folds_of_descendants
from s3local.evaluation.gap import measure_diversity, measure_gap
from s3local.exceptions import RunError
from s3local.progress import Progress, Silent
from s3local.records import Candidate, Dropped, Example, FilterResult
from s3local.runner.generation import Plan, synthesize
from s3local.runner.kinds import Lesson, SeedOrder, Targets, Texts, kind_of
from s3local.runner.models import Models, TeacherSource, configuration, find_models
from s3local.runner.settings import RunSettings
from s3local.runner.state import RESULT_FILE, RunFolder
from s3local.storage import sha256_of, translated_errors
from s3local.student.encoding import unknown_share
from s3local.student.inference import Classifier
from s3local.student.reader import Reader
from s3local.synthesis import Planned, read_candidates
from s3local.synthesis.extrapolation import plan_extrapolation
from s3local.synthesis.prompts import Prompts, token_cap
from s3local.synthesis.rationales import plan_rationales, select_rationales
from s3local.task import Task, load_dev, load_rows

RUNS_FOLDER = Path("runs")
FINAL, GOLDLESS = "final", "final-without-gold"

WORTH_A_WARNING = 0.05
"""Share of unknown word pieces in dev."""

RATIONALES, SYNTHESIS, STUDENT, JUDGES, FOLDS = 0, 1, 2, 3, 4
"""What a seed is for: the second part of every seed derived from the run's own."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run left: its folder, the model's and the dataset's place in it, and the figures of result.json."""

    folder: Path
    summary: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """The exported final student: a folder for ``Classifier.load`` or ``Reader.load``, or bare onnxruntime."""
        return self.folder / FINAL / "student"

    @property
    def dataset(self) -> Path:
        """Every synthetic row that the final student was trained on, with its origin."""
        return self.folder / FINAL / "dataset.jsonl"

    def classifier(self) -> Classifier:
        """The final classifier, ready to predict. Raises ``ModelError`` if the task was question answering."""
        return Classifier.load(self.model)

    def reader(self) -> Reader:
        """The final student of question answering, ready to answer. Raises ``ModelError`` if it classifies."""
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
        test_texts = [row.fields[task.written] for row in test]  # that no row may copy; their labels stay here
        loop = _Loop(task, kind, dev, settings, state, progress, source, models, test_texts)
        summary = loop.run(test)
        state.event("ended")
    return RunResult(state.path, summary)


class _Loop:
    """One run: what its stages share."""

    def __init__(
        self,
        task: Task,
        kind: Texts,
        dev: Sequence[Example],
        settings: RunSettings,
        state: RunFolder,
        progress: Progress,
        source: TeacherSource,
        models: Models,
        test_texts: Sequence[str],
    ) -> None:
        self.task = task
        self.kind = kind
        self.dev = dev
        self.written = [row.fields[task.written] for row in dev]
        self.settings = settings
        self.state = state
        self.progress = progress
        self.source = source
        self.body = models.body
        self.embedder = CachedEmbedder(models.embedder)
        self.written_alone = task.written if task.given else None
        self.dedup = Deduplicator(self.embedder, settings.dedup, written=self.written_alone)
        self.protected: dict[str, Sequence[str]] = {"dev": self.written, "test": test_texts}
        self.length = task.length_of_texts(dev)
        folds = divide_into_folds([row.label for row in dev], settings.folds, self._seed_for(FOLDS))
        self.fold_of_dev = folds
        self.fold_of = dict(zip((row.id for row in dev), folds.tolist(), strict=True))
        self.kept: list[Candidate] = []

    def run(self, test: Sequence[Example]) -> dict[str, Any]:
        """All stages in order; those that are done are read, not repeated."""
        rounds = [self._first_round()]
        while len(rounds) <= self.settings.rounds and not self._is_over(rounds):
            errors = self._errors(len(rounds) - 1)
            quotas = self._round_quotas(errors, len(rounds))
            plan = self._extrapolation_plan([error.example for error in errors], len(rounds))
            rounds.append(self._round(len(rounds), plan, quotas))
        finals = {FINAL: self._final(rounds, FINAL, self.settings.with_gold)}
        if self.settings.both_finals:
            finals[GOLDLESS] = self._final(rounds, GOLDLESS, with_gold=False)
        self.source.close()
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
        metrics = self.state.once(f"{stage}/metrics.json", lambda: self._train(stage, self._examples(), number))
        if number > 0 or self.settings.extrapolate == "dev":  # before that, no row descends from dev
            honest = self._cross_fit(number)
            metrics = {**metrics, **honest} if honest else metrics
        headline = self.kind.headline
        self.progress.say(
            f"{stage}: {synthesis['kept']} rows kept, {synthesis['dropped']} dropped; "
            f"dev {headline} {metrics['dev'][headline]:.1%}"
        )
        return {"stage": stage, "synthesis": synthesis, "gap": gap, "metrics": metrics}

    def _cross_fit(self, number: int) -> dict[str, Any] | None:
        """Judge each fold of dev, and of the rows, by a student that learned from the other folds alone.

        A student that has learned from texts written after a dev row knows that row too well: its errors would be
        missed, and its accuracy would flatter it. None for one fold, or answers in place of labels.
        """
        if not self.kind.has_labels or self.fold_of_dev.max() < 1:
            return None
        stage = _stage(number)

        def compute() -> dict[str, Any]:
            rows = self._examples()
            ancestors = [_ancestors(candidate) for candidate in self.kept]
            fold_of_rows = folds_of_descendants(ancestors, self.fold_of)
            n_folds = int(self.fold_of_dev.max()) + 1
            sizes = [int((fold_of_rows != fold).sum()) for fold in range(n_folds)]
            training = self.kind.fitted(self.body)
            steps = sum(size * (training.resolved(size).epochs or 1) for size in sizes if size)
            seed = self._seed_for(STUDENT, number, 1)
            with self.progress.step(f"{stage}: judging dev fold by fold", steps, "rows") as advance:
                of_dev, of_rows = self.kind.cross_fit(self.body, rows, fold_of_rows, self.fold_of_dev, seed, advance)
            self.state.write_rows(f"{stage}/opinions.jsonl", _opinion_rows([*self.dev, *rows], [*of_dev, *of_rows]))
            judged = self.kind.judge_probabilities(self.dev, of_dev)
            self.state.write_rows(f"{stage}/predictions.jsonl", judged.predictions)
            self.state.write_rows(f"{stage}/errors.jsonl", (error.to_row() for error in judged.errors))
            return {"dev": dict(judged.metrics), "errors": len(judged.errors)}

        done = self.state.once(f"{stage}/folds.json", compute)
        return {"dev": done["dev"], "errors": done["errors"], "folds_seconds": done["seconds"]}

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

    def _final(self, rounds: Sequence[Mapping[str, Any]], stage: str, with_gold: bool) -> dict[str, Any]:
        """A final student: on all synthetic rows, their labels checked, and, if asked for, dev.

        Without dev and without a label check it has the rows of the last round's student, and so is that one.
        """
        check = self.state.once(f"{FINAL}/label_check.json", lambda: self._check_labels(len(rounds) - 1))
        if not with_gold and not check["judges"]:
            adopted = self.state.once(f"{stage}/metrics.json", lambda: self._adopt(rounds[-1], stage))
            return {**adopted, "label_check": check}
        examples, targets = self._checked_rows() if check["judges"] else (self._examples(), None)
        if with_gold:
            examples += self.dev
            if targets is not None:
                targets = np.concatenate([targets, self._one_hot(self.dev)])
        # a student that has seen dev is too sure of it: the label check's targets are calibrated as they are, and
        # one that learned plain labels is as sure as the last round's, which had not seen dev
        temperature = 1.0 if check["judges"] else rounds[-1]["metrics"]["temperature"]
        metrics = self.state.once(
            f"{stage}/metrics.json", lambda: self._train(stage, examples, len(rounds), temperature, targets)
        )
        return {**metrics, "label_check": check}

    def _examples(self) -> list[Example]:
        return [candidate.example for candidate in self.kept]

    def _seed_for(self, *purpose: int) -> int:
        return int(np.random.SeedSequence([self.settings.seed, *purpose]).generate_state(1)[0])

    def _one_hot(self, rows: Sequence[Example]) -> Targets:
        labels = self.task.label_names
        return np.eye(len(labels), dtype=np.float32)[[labels.index(row.label) for row in rows]]

    def _adopt(self, last: Mapping[str, Any], stage: str) -> dict[str, Any]:
        """Make the last round's student the final one; its metrics."""
        source, target = self.state.path / last["stage"], self.state.path / stage
        with translated_errors(target):
            shutil.copytree(source / "student", target / "student", dirs_exist_ok=True)
            for name in ("predictions.jsonl", "errors.jsonl"):
                shutil.copyfile(source / name, target / name)
        return dict(last["metrics"])

    def _check_labels(self, last: int) -> dict[str, Any]:
        """Write final/dataset.jsonl: all synthetic rows and, where labels are checked, the probability of each.

        ``last`` is the number of the last round.
        """
        targets, facts = None, {"judges": 0}
        if self.settings.label_check and self.kind.has_labels:
            students = self._opinions(last) if self._cross_fit(last) else None
            seed = self._seed_for(JUDGES)
            targets, facts = self.kind.check_labels(self.body, self._examples(), students, seed, self.progress)
        rows_to_write = self.kept if targets is None else map(self._checked, self.kept, targets)
        self.state.write_rows(f"{FINAL}/dataset.jsonl", (candidate.to_row() for candidate in rows_to_write))
        return facts

    def _opinions(self, number: int) -> tuple[Targets, Targets]:
        """What ``_cross_fit`` wrote: label probabilities of dev and of all rows."""
        rows = self.state.read_rows(f"{_stage(number)}/opinions.jsonl")
        values = np.array([row["probabilities"] for row in rows], dtype=np.float32)
        return values[: len(self.dev)], values[len(self.dev) :]

    def _checked(self, candidate: Candidate, probabilities: Any) -> Candidate:
        """The candidate with its likeliest label; what the teacher was asked for goes into its origin."""
        labels = self.task.label_names
        rounded = {label: round(float(value), 4) for label, value in zip(labels, probabilities, strict=True)}
        origin = {**candidate.origin, "asked": candidate.example.label, "probabilities": rounded}
        return Candidate(dataclasses.replace(candidate.example, label=labels[int(np.argmax(probabilities))]), origin)

    def _checked_rows(self) -> tuple[list[Example], Targets]:
        """The rows of final/dataset.jsonl and the probabilities of their labels (n_rows, n_labels)."""
        rows = [Candidate.from_row(row) for row in self.state.read_rows(f"{FINAL}/dataset.jsonl")]
        targets = np.array([list(row.origin["probabilities"].values()) for row in rows], dtype=np.float32)
        return [row.example for row in rows], targets / targets.sum(axis=1, keepdims=True)

    def _train(
        self,
        stage: str,
        rows: Sequence[Example],
        number: int,
        temperature: float | None = None,
        targets: Targets | None = None,
    ) -> dict[str, Any]:
        """Train, export, and predict dev with the exported model; writes its predictions and errors.

        ``temperature`` None: fitted on dev, which the student has not seen then. ``targets`` (n_rows, n_labels) are
        label probabilities in place of the rows' labels.
        """
        settings = self.kind.fitted(self.body).resolved(len(rows))
        folder = self.state.path / stage / "student"
        seed = self._seed_for(STUDENT, number)
        with self.progress.step(f"{stage}: the student trains", len(rows) * (settings.epochs or 1), "rows") as advance:
            student = self.kind.train(self.body, Lesson(rows, seed, targets), settings, advance)
        with self.progress.step(f"{stage}: exporting to ONNX", None, "steps"):
            temperature, report = self.kind.export(student, folder, temperature)
        judged = self.kind.judge(folder, self.dev)
        self.state.write_rows(f"{stage}/predictions.jsonl", judged.predictions)
        self.state.write_rows(f"{stage}/errors.jsonl", (error.to_row() for error in judged.errors))
        return {
            "rows": len(rows),
            "rows_per_label": dict(Counter(row.label for row in rows)),
            "seed": seed,
            "training": dataclasses.asdict(student.settings),
            "training_loss": student.loss,
            "training_seconds": round(student.seconds, 3),
            "dev": dict(judged.metrics),
            "errors": len(judged.errors),
            "temperature": temperature,
            "export": dataclasses.asdict(report),
        }

    def _score_test(
        self,
        rounds: Sequence[Mapping[str, Any]],
        finals: Mapping[str, Mapping[str, Any]],
        test: Sequence[Example],
    ) -> dict[str, Any]:
        """Every student on the test rows, once, at the end; writes its predictions, gives the figures of the run."""
        scores: dict[str, Any] = {}
        for stage in [*(entry["stage"] for entry in rounds), *finals] if test else []:
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
            **{stage: dict(metrics) for stage, metrics in finals.items()},
            "with_gold": self.settings.with_gold,
            "test": scores,
        }

    # What the stages are made of

    def _prompts(self) -> Prompts:
        """The prompts for the teacher, which is loaded for it."""
        teacher = self.source.open()
        longest = self.length.max if self._in_characters else max(map(len, self.written))
        cap = token_cap(self.written, longest, teacher.count_tokens)
        tokens = self.settings.prompt_tokens
        return Prompts(self.task, self.source.style, cap, teacher.chat, teacher.count_tokens, tokens)

    def _seed_quotas(self) -> dict[str, int]:
        settings = self.settings
        rows = max(1, round(settings.rows * settings.seed_share)) if settings.rounds else settings.rows
        return divide_rows(rows, dict.fromkeys(self.task.groups, 1.0))

    def _round_quotas(self, errors: Sequence[Error], number: int) -> dict[str, int]:
        """The round's part of the rows that are still to come, divided over the labels as the errors are."""
        rounds_left = self.settings.rounds - number + 1
        rows = max(1, (self.settings.rows - len(self.kept)) // rounds_left)
        return divide_rows(rows, Counter(error.example.label for error in errors))

    def _seed_plan(self, rationales: Mapping[str, Sequence[str]]) -> Plan:
        def plan(labels: Sequence[str], count: int, shard: int) -> list[Planned]:
            seed = [self.settings.seed, SYNTHESIS, 0, shard]
            return self.kind.plan_seed(self._prompts(), SeedOrder(labels, count, seed, rationales))

        return plan

    def _extrapolation_plan(self, errors: Sequence[Example], number: int) -> Plan:
        gold = {name: [row for row in self.dev if row.label == name] for name in self.task.groups}

        def plan(labels: Sequence[str], count: int, shard: int) -> list[Planned]:
            return plan_extrapolation(
                self._prompts(),
                [error for error in errors if error.label in labels],
                gold,
                self.fold_of,
                shots=self.settings.shots,
                samples=self.settings.samples,
                count=count,
                sampling=self.settings.sampling,
                seed=[self.settings.seed, SYNTHESIS, number, shard],
            )

        return plan

    def _errors(self, number: int) -> list[Error]:
        """The dev rows that the round's student gets wrong, capped and balanced."""
        examples = {row.id: row for row in self.dev}
        errors = [
            Error(examples[row["id"]], row["predicted"], row["predicted_probability"], row["own_probability"])
            for row in self.state.read_rows(f"{_stage(number)}/errors.jsonl")
        ]
        return balance_errors(errors, len(self.task.groups), self.settings.error_cap, self.settings.max_errors)

    def _is_over(self, rounds: Sequence[Mapping[str, Any]]) -> bool:
        """No errors are left, or the last round was worse than the best before it by more than chance explains.

        A dev set of 60 rows cannot tell apart accuracies that are within one standard error, so a round that merely
        gains nothing on it is no reason to stop. For spans, F1 stands in for accuracy; its error is smaller still.
        """
        accuracies = [entry["metrics"]["dev"][self.kind.headline] for entry in rounds]
        if rounds[-1]["metrics"]["errors"] == 0:
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
        return read_candidates(rows, prefix=prefix, fields=self.task.fields, written=self.task.written)

    def _curate(self, candidates: list[Candidate]) -> FilterResult:
        """Rules, length, what the kind demands, duplicates: each filter gets what the one before it kept."""
        rules = self.settings.rules
        if self._in_characters:
            rules = dataclasses.replace(rules, min_characters=self.length.min, max_characters=self.length.max)
        prompts = [self.task.texts, *(label.description for label in self.task.labels)]
        names = self.task.label_names if self.written_alone is None else (*self.task.label_names, *self.task.fields)
        result = check_rules(
            candidates, rules, gold=self.written, names=names, prompts=prompts, written=self.written_alone
        )
        if not self._in_characters:
            result = result.then(self._check_words)
        result = result.then(lambda kept: self.kind.check(kept, lambda: (self.source.open(), self._prompts())))
        with self.progress.step("looking for duplicates", len(result.kept), "rows") as advance:
            return result.then(lambda kept: self.dedup.filter(kept, advance))

    @property
    def _in_characters(self) -> bool:
        return self.length.unit == "characters"

    def _check_words(self, candidates: list[Candidate]) -> FilterResult:
        kept, dropped = [], []
        for candidate in candidates:
            text = candidate.example.fields[self.task.written]
            words = self.length.measure(text)
            if self.length.allows(text):
                kept.append(candidate)
            else:
                reason = "too_short" if words < self.length.min else "too_long"
                dropped.append(Dropped(candidate, reason, float(words), f"{words} words"))
        return FilterResult(kept, dropped)


def _stage(number: int) -> str:
    return f"round-{number}"


def _ancestors(candidate: Candidate) -> list[str]:
    """The ids of the gold rows that a text's prompt showed."""
    origin = candidate.origin
    return [name for name in (origin.get("error"), origin.get("context"), *origin.get("shots", ())) if name]


def _opinion_rows(rows: Sequence[Example], probabilities: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for row, values in zip(rows, probabilities, strict=True):
        yield {"id": row.id, "probabilities": [round(float(value), 5) for value in values]}


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in counts.items())
