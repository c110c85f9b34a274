"""What the loop asks of a task's kind: how a seed is planned, what a text must be beyond the rules for all texts, and
which student is trained, exported and judged.

``Texts`` is one text and its label, ``Pairs`` a given text with a written one, ``Spans`` a question on a given text.
The loop calls all three alike; ``kind_of`` chooses. Knows nothing of rounds, run folders or budgets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3local.curation.pair_rules import check_pair_rules
from s3local.evaluation.calibration import fit_temperature
from s3local.evaluation.errors import Error, find_errors
from s3local.evaluation.metrics import classification_metrics
from s3local.evaluation.squad import answer_f1, answer_metrics, answer_scores, find_answer_errors
from s3local.exceptions import InputError
from s3local.progress import Advance, ignore
from s3local.records import SPAN, Candidate, Dropped, Example, FilterResult
from s3local.runner.settings import RunSettings
from s3local.student.export import export
from s3local.student.inference import Classifier
from s3local.student.reader import Reader
from s3local.student.reader_export import export_reader
from s3local.student.reader_training import train_reader
from s3local.student.training import TrainingSettings, train
from s3local.synthesis.answer_spans import propose_answers
from s3local.synthesis.planning import Planned
from s3local.synthesis.prompts import Prompts, parse_text
from s3local.synthesis.seed import Context, plan_seed, plan_seed_on
from s3local.task.model import Task, quantile
from s3local.task.rows import load_contexts
from s3local.teacher.protocol import Sampling, Teacher

Targets = NDArray[np.float32]

LONG_CHARACTERS = 400
"""Where half of the gold texts are longer, the teacher is told how long to write."""


@dataclass(frozen=True, slots=True)
class SeedOrder:
    """Texts that a seed is to bring: so many of each label as ``wanted`` says, determined by ``seed``; ``rationales``
    of each label, for kinds that use them; ``contrast`` with other labels."""

    wanted: Mapping[str, int]
    seed: Sequence[int]
    rationales: Mapping[str, Sequence[str]]
    contrast: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What a student learns: rows, and label probabilities (n_rows, n_labels) where they replace the rows' labels."""

    rows: Sequence[Example]
    seed: int
    targets: Targets | None = None


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """What a student makes of rows: its figures, its prediction for each row, and the rows that it gets wrong."""

    metrics: Mapping[str, Any]
    predictions: Sequence[Mapping[str, Any]]
    errors: Sequence[Error]


@dataclass(frozen=True, slots=True)
class Scores:
    """A number from 0 to 1 for each row (n_rows,), 1 for a right label, and the logits of the labels, (n_rows,
    n_labels), where rows have labels."""

    values: NDArray[np.float64]
    logits: NDArray[Any] | None = None


class Texts:
    """Classification of single texts. ``headline`` is the figure of ``EvaluationResult.metrics`` that sums it up."""

    headline = "accuracy"
    uses_rationales = True
    has_labels = True

    def __init__(self, task: Task, dev: Sequence[Example], settings: RunSettings) -> None:
        self.task = task
        self.dev = dev
        self.settings = settings
        written = [row.fields[task.target_field] for row in dev]
        self.models = written if quantile([len(text) for text in written], 0.5) > LONG_CHARACTERS else []

    # Rows

    def plan_seed(self, prompts: Prompts, order: SeedOrder) -> list[Planned]:
        """The requests that ``order`` asks for."""
        return plan_seed(
            prompts,
            order.wanted,
            order.rationales,
            shown=self.settings.rationales_shown,
            **self._options(order),
        )

    def _options(self, order: SeedOrder) -> dict[str, Any]:
        """What a seed's plan needs, whatever the kind."""
        return {
            "sampling": self.settings.sampling,
            "seed": order.seed,
            "length_like": self.models,
            "contrast": order.contrast,
        }

    def check(self, candidates: list[Candidate], ask: Callable[[], tuple[Teacher, Prompts]]) -> FilterResult:
        """Drop what is no row of this kind; ``ask`` loads the teacher, for those checks that need one."""
        return FilterResult(candidates, [])

    # Students

    def fitted(self, body: Path) -> TrainingSettings:
        """The training settings, with the length that dev rows need if they leave it open."""
        return self.settings.training.fitted(body, self.dev)

    def train(
        self, body: Path, training_set: TrainingSet, settings: TrainingSettings, advance: Advance = ignore
    ) -> Any:
        """A fresh student that has learned ``training_set``."""
        labels = self.task.label_names
        return train(
            body,
            training_set.rows,
            labels,
            settings,
            training_set.seed,
            soft_targets=training_set.targets,
            advance=advance,
        )

    def scores(self, student: Any, rows: Sequence[Example]) -> Scores:
        """How well a student, not exported, does on each row."""
        logits = student.predict_logits(rows)
        own = np.array([self.task.label_names.index(row.label) for row in rows])
        return Scores((logits.argmax(axis=1) == own).astype(np.float64), logits)

    def export(self, student: Any, folder: Path, temperature: float | None) -> tuple[float, Any]:
        """Write the student to ``folder``; its temperature (None: fitted on dev) and the report of the export."""
        if temperature is None:
            numbers = [self.task.label_names.index(row.label) for row in self.dev]
            temperature = fit_temperature(student.predict_logits(self.dev), numbers)
        return temperature, export(student, folder, self.dev, temperature)

    def judge(self, folder: Path, rows: Sequence[Example], advance: Advance = ignore) -> EvaluationResult:
        """What the student exported to ``folder`` makes of labelled ``rows``."""
        probabilities = Classifier.load(folder).predict_proba(rows, advance)
        labels = self.task.label_names
        predicted = [labels[int(best)] for best in probabilities.argmax(axis=1)]
        return EvaluationResult(
            dataclasses.asdict(classification_metrics([row.label for row in rows], predicted, labels)),
            [
                {"id": row.id, "label": row.label, "predicted": guess, "probability": round(float(values.max()), 4)}
                for row, guess, values in zip(rows, predicted, probabilities, strict=True)
            ],
            find_errors(rows, labels, probabilities),
        )


class Pairs(Texts):
    """Classification of pairs: a text is written on a given one, so that the two carry a label."""

    uses_rationales = False

    def __init__(self, task: Task, dev: Sequence[Example], settings: RunSettings, contexts: Sequence[Context]) -> None:
        super().__init__(task, dev, settings)
        self.contexts = contexts

    def plan_seed(self, prompts: Prompts, order: SeedOrder) -> list[Planned]:
        """See ``Texts.plan_seed``; rationales are not used."""
        return plan_seed_on(prompts, order.wanted, self.contexts, **self._options(order))

    def check(self, candidates: list[Candidate], ask: Callable[[], tuple[Teacher, Prompts]]) -> FilterResult:
        """Drop copies of the given text, and what is no question where gold texts are."""
        (given,) = self.task.source_fields
        habit_share = self.settings.rules.habit_share
        return check_pair_rules(
            candidates, self.dev, source_field=given, target_field=self.task.target_field, habit_share=habit_share
        )


class Spans(Pairs):
    """Question answering: a question is written for a span of a context, and the student finds the span again."""

    headline = "f1"
    has_labels = False

    def __init__(self, task: Task, dev: Sequence[Example], settings: RunSettings, contexts: Sequence[Context]) -> None:
        super().__init__(task, dev, settings, _with_answers(task, dev, contexts))
        self.models = []  # questions are short

    def check(self, candidates: list[Candidate], ask: Callable[[], tuple[Teacher, Prompts]]) -> FilterResult:
        """Also drop lost answers, questions that hold their answer, and, if set, what the round trip does not find."""
        result = super().check(candidates, ask)
        return result.then(lambda kept: self._round_trip(kept, ask)) if self.settings.answers.round_trip else result

    def _round_trip(self, candidates: list[Candidate], ask: Callable[[], tuple[Teacher, Prompts]]) -> FilterResult:
        """Let the teacher answer each question; ``round_trip`` drops have as score the F1 of what it says."""
        if not candidates:
            return FilterResult([], [])
        teacher, prompts = ask()
        (given,) = self.task.source_fields
        requests = [
            prompts.answer(candidate.example.fields[given], candidate.example.fields[self.task.target_field]).request(
                0, Sampling(temperature=0)
            )
            for candidate in candidates
        ]
        kept, dropped = [], []
        for candidate, completion in zip(candidates, teacher.generate(requests), strict=True):
            said = parse_text(completion.text)
            score = answer_f1(said, [answer.text for answer in candidate.example.answers])
            if score >= self.settings.answers.round_trip:
                kept.append(candidate)
            else:
                dropped.append(Dropped(candidate, "round_trip", score, f"the teacher answers {said!r}"))
        return FilterResult(kept, dropped)

    def fitted(self, body: Path) -> TrainingSettings:
        """The training settings: a context is read in windows, so that dev does not matter, and spans have no labels
        to warm up by."""
        return dataclasses.replace(self.settings.training, contrast_passes=0)

    def train(
        self, body: Path, training_set: TrainingSet, settings: TrainingSettings, advance: Advance = ignore
    ) -> Any:
        """See ``Texts.train``. Raises ``ValueError`` for label probabilities: answers have none."""
        if training_set.targets is not None:
            raise ValueError("answers have no label probabilities to learn")
        return train_reader(body, training_set.rows, settings, training_set.seed, advance)

    def scores(self, student: Any, rows: Sequence[Example]) -> Scores:
        """See ``Texts.scores``: the F1 of each answer."""
        return Scores(answer_scores(rows, student.predict(rows)))

    def export(self, student: Any, folder: Path, temperature: float | None) -> tuple[float, Any]:
        """See ``Texts.export``; the temperature is always 1."""
        return 1.0, export_reader(student, folder, self.dev)

    def judge(self, folder: Path, rows: Sequence[Example], advance: Advance = ignore) -> EvaluationResult:
        """See ``Texts.judge``; the figures are exact match and F1."""
        judged = Reader.load(folder).judge(rows, advance)
        found = [answer.text for answer, _ in judged]
        return EvaluationResult(
            dataclasses.asdict(answer_metrics(rows, found)),
            [
                {
                    "id": row.id,
                    SPAN: [own.text for own in row.answers],
                    "predicted": answer.text,
                    "predicted_start": answer.start,
                    "probability": round(answer.probability, 4),
                }
                for row, (answer, _) in zip(rows, judged, strict=True)
            ],
            find_answer_errors(
                rows,
                found,
                [answer.probability for answer, _ in judged],
                [own for _, own in judged],
                self.settings.answers.error_f1,
            ),
        )


def kind_of(task: Task, dev: Sequence[Example], test: Sequence[Example], settings: RunSettings) -> Texts:
    """The kind of ``task``. Of ``test``, only the given texts are looked at: none of them is taken from the
    contexts file to be written on.

    Raises ``InputError`` for bad contexts, or if question answering finds no span to ask for.
    """
    if task.kind == "classification":
        return Texts(task, dev, settings)
    contexts = _contexts(task, dev, test)
    return (
        Spans(task, dev, settings, contexts) if task.kind == "extractive_qa" else Pairs(task, dev, settings, contexts)
    )


def _contexts(task: Task, dev: Sequence[Example], test: Sequence[Example]) -> list[Context]:
    """The distinct given texts of dev, called after their first row, and those of the contexts file that test lacks."""
    (given,) = task.source_fields
    found: dict[str, str] = {}
    for row in dev:
        found.setdefault(row.fields[given], row.id)
    if task.contexts is not None:
        in_test = {row.fields[given] for row in test}
        for number, text in enumerate(load_contexts(task.contexts, task), start=1):
            if text not in in_test:
                found.setdefault(text, f"{task.contexts.stem}-{number}")
    return [Context(name, text) for text, name in found.items()]


def _with_answers(task: Task, dev: Sequence[Example], contexts: Sequence[Context]) -> list[Context]:
    """The contexts that have spans to ask for, with those that are not far longer than gold answers."""
    longest = 2 * quantile([len(answer.text) for row in dev for answer in row.answers], 0.95)
    proposed = []
    for context, spans in zip(contexts, propose_answers([context.text for context in contexts]), strict=True):
        short = {rule: [span for span in found if len(span.text) <= longest] for rule, found in spans.items()}
        answers = {rule: found for rule, found in short.items() if found}
        if answers:
            proposed.append(dataclasses.replace(context, answers=answers))
    if not proposed:
        problem = f"no {task.source_fields[0]} holds a name, a number or a phrase that a question could ask for"
        raise InputError(task.contexts or task.dev, problem)
    return proposed
