"""What differs between kinds of task: how a seed is planned, what a row must be beyond the rules for all texts, and
which student is trained, exported and evaluated.

``Texts`` is one text and its label, ``Pairs`` a source text with a target text, ``Spans`` a question on a context. A
run calls all three alike; ``kind_of`` chooses.
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
from s3local.curation.privacy import Pseudonymiser
from s3local.evaluation.calibration import fit_temperature
from s3local.evaluation.errors import Error, find_errors
from s3local.evaluation.metrics import classification_metrics
from s3local.evaluation.predictions import Prediction
from s3local.evaluation.squad import answer_f1, answer_metrics, answer_scores, find_answer_errors
from s3local.exceptions import InputError
from s3local.progress import Advance, ignore
from s3local.records import Candidate, Dropped, Example, FilterResult
from s3local.results import Metrics
from s3local.runner.settings import RunSettings
from s3local.student.agreement import ExportReport
from s3local.student.export import export
from s3local.student.inference import Classifier
from s3local.student.reader import Reader
from s3local.student.reader_export import export_reader
from s3local.student.reader_training import ReaderSettings, TrainedReader, train_reader
from s3local.student.training import StudentSettings, Trained, TrainedStudent, TrainingSettings, fitted, train
from s3local.synthesis.answer_spans import propose_answers
from s3local.synthesis.planning import Planned
from s3local.synthesis.prompts import Prompts
from s3local.synthesis.replies import PLAIN_CLEANER
from s3local.synthesis.seed import Context, plan_seed, plan_seed_on
from s3local.task.model import Task, quantile
from s3local.task.rows import load_contexts
from s3local.teacher.protocol import Sampling, Teacher

Targets = NDArray[np.float32]

LONG_CHARACTERS = 400
"""If the median gold text is longer, prompts ask for a length."""


@dataclass(frozen=True, slots=True)
class SeedOrder:
    """The texts of a seed: ``wanted`` of each label, drawn with ``seed``; ``rationales`` of each label, for kinds that
    use them; ``contrast`` is the weight of the contrast with other labels."""

    wanted: Mapping[str, int]
    seed: Sequence[int]
    rationales: Mapping[str, Sequence[str]]
    contrast: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What a student is trained on, with which seed: ``targets`` (n_rows, n_labels) are label probabilities that
    replace the rows' labels, None where these are learned. The last ``n_gold`` rows are gold beside synthetic ones."""

    rows: Sequence[Example]
    seed: int
    targets: Targets | None = None
    n_gold: int = 0

    def passes(self, settings: StudentSettings) -> int:
        """The texts that go through a student while it trains."""
        return settings.passes_for(len(self.rows))


@dataclass(frozen=True, slots=True)
class EvaluationResult:
    """A student's scores on labelled rows, its prediction for each row, and the rows that it gets wrong."""

    metrics: Metrics
    predictions: Sequence[Prediction]
    errors: Sequence[Error]


@dataclass(frozen=True, slots=True)
class Scores:
    """A score from 0 to 1 for each row (n_rows,), 1 for a correct label, and the logits of the labels, (n_rows,
    n_labels), where rows have labels."""

    values: NDArray[np.float64]
    logits: NDArray[Any] | None = None


class Texts:
    """Classification of single texts.

    ``headline`` names the figure that sums up a student's scores; ``length_like`` are gold texts whose lengths the
    teacher is asked for, where gold texts are long.
    """

    headline = "accuracy"
    uses_rationales = True
    has_labels = True

    def __init__(self, task: Task, dev: Sequence[Example], settings: RunSettings) -> None:
        self.task = task
        self.dev = dev
        self.settings = settings
        written = [row.fields[task.target_field] for row in dev]
        self.length_like = written if quantile([len(text) for text in written], 0.5) > LONG_CHARACTERS else []

    # Rows

    def plan_seed(self, prompts: Prompts, order: SeedOrder) -> list[Planned]:
        """The requests that ``order`` asks for."""
        return plan_seed(
            prompts,
            order.wanted,
            order.rationales,
            shown=self.settings.rationales_shown,
            samples=self.settings.samples,
            **self._options(order),
        )

    def _options(self, order: SeedOrder) -> dict[str, Any]:
        """The options of a seed's plan that all kinds have."""
        return {
            "sampling": self.settings.sampling,
            "seed": order.seed,
            "length_like": self.length_like,
            "contrast": order.contrast,
        }

    def check(self, candidates: list[Candidate], ask: Callable[[], tuple[Teacher, Prompts]]) -> FilterResult:
        """Drop what is no row of this kind; ``ask`` opens the teacher, for checks that need one."""
        return FilterResult(candidates, [])

    def descriptions(self) -> list[tuple[str, str]]:
        """What the task says of each label, as pairs of a text and the label, for the judges to learn from."""
        texts = self.task.texts
        return [
            (text, label.name)
            for label in self.task.labels
            for text in (label.description, f"{texts} {label.phrase}")
            if text != f"{texts} "
        ]

    # Students

    def training_settings(self, body: Path) -> StudentSettings:
        """The training settings, with the length that dev rows need if they leave it open."""
        return fitted(self.settings.training, body, self.dev)

    def train(
        self, body: Path, training_set: TrainingSet, settings: StudentSettings, advance: Advance = ignore
    ) -> Trained:
        """A fresh student, trained on ``training_set``."""
        assert isinstance(settings, TrainingSettings)
        labels = self.task.label_names
        return train(
            body,
            training_set.rows,
            labels,
            settings,
            training_set.seed,
            soft_targets=training_set.targets,
            n_gold=training_set.n_gold,
            further=self.descriptions(),
            advance=advance,
        )

    def scores(self, student: Trained, rows: Sequence[Example]) -> Scores:
        """The scores of a student, which need not be exported, on each row."""
        logits = student.predict_logits(rows)
        own = np.array([self.task.label_names.index(row.label) for row in rows])
        return Scores((logits.argmax(axis=1) == own).astype(np.float64), logits)

    def export(self, student: Trained, folder: Path, temperature: float | None) -> tuple[float, ExportReport]:
        """Write the student to ``folder``; its temperature (None: fitted on dev) and the report of the export."""
        assert isinstance(student, TrainedStudent)
        if temperature is None:
            numbers = [self.task.label_names.index(row.label) for row in self.dev]
            temperature = fit_temperature(student.predict_logits(self.dev), numbers)
        return temperature, export(student, folder, self.dev, temperature)

    def evaluate(self, folder: Path, rows: Sequence[Example], advance: Advance = ignore) -> EvaluationResult:
        """Let the student that is exported in ``folder`` predict labelled ``rows``."""
        probabilities = Classifier.load(folder).predict_proba(rows, advance)
        labels = self.task.label_names
        predicted = [labels[int(best)] for best in probabilities.argmax(axis=1)]
        return EvaluationResult(
            classification_metrics([row.label for row in rows], predicted, labels),
            [
                Prediction(row.id, row.label, guess, float(values.max()))
                for row, guess, values in zip(rows, predicted, probabilities, strict=True)
            ],
            find_errors(rows, labels, probabilities),
        )


class Pairs(Texts):
    """Classification of pairs: a target text is written for a source text, so that the two carry a label."""

    uses_rationales = False

    def __init__(self, task: Task, dev: Sequence[Example], settings: RunSettings, contexts: Sequence[Context]) -> None:
        super().__init__(task, dev, settings)
        self.contexts = contexts

    def plan_seed(self, prompts: Prompts, order: SeedOrder) -> list[Planned]:
        """See ``Texts.plan_seed``; rationales are not used."""
        return plan_seed_on(prompts, order.wanted, self.contexts, **self._options(order))

    def descriptions(self) -> list[tuple[str, str]]:
        """None: what describes a label is not a pair of texts."""
        return []

    def check(self, candidates: list[Candidate], ask: Callable[[], tuple[Teacher, Prompts]]) -> FilterResult:
        """Drop copies of the source text, and what is no question where gold texts are questions."""
        (given,) = self.task.source_fields
        habit_share = self.settings.rules.habit_share
        return check_pair_rules(
            candidates, self.dev, source_field=given, target_field=self.task.target_field, habit_share=habit_share
        )


class Spans(Pairs):
    """Extractive question answering: a question is written for a span of a context; the student finds the span."""

    headline = "f1"
    has_labels = False

    def __init__(self, task: Task, dev: Sequence[Example], settings: RunSettings, contexts: Sequence[Context]) -> None:
        super().__init__(task, dev, settings, _with_answers(task, dev, contexts))
        self.length_like = []  # questions are short

    def check(self, candidates: list[Candidate], ask: Callable[[], tuple[Teacher, Prompts]]) -> FilterResult:
        """Also drop questions whose answer is missing from the context, or given away by the question, and, if set,
        those that fail the round trip."""
        result = super().check(candidates, ask)
        return result.then(lambda kept: self._round_trip(kept, ask)) if self.settings.answers.round_trip else result

    def _round_trip(self, candidates: list[Candidate], ask: Callable[[], tuple[Teacher, Prompts]]) -> FilterResult:
        """Let the teacher answer each question; the score of a ``round_trip`` drop is the F1 of its answer."""
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
            said = PLAIN_CLEANER.clean(completion.text).text
            score = answer_f1(said, [answer.text for answer in candidate.example.answers])
            if score >= self.settings.answers.round_trip:
                kept.append(candidate)
            else:
                dropped.append(Dropped(candidate, "round_trip", score, f"the teacher answers {said!r}"))
        return FilterResult(kept, dropped)

    def training_settings(self, body: Path) -> StudentSettings:
        """The training settings: a context is read in windows, so that dev does not matter."""
        return self.settings.reader

    def train(
        self, body: Path, training_set: TrainingSet, settings: StudentSettings, advance: Advance = ignore
    ) -> Trained:
        """See ``Texts.train``. Raises ``ValueError`` for label probabilities: answers have none."""
        if training_set.targets is not None:
            raise ValueError("answers have no label probabilities to learn")
        assert isinstance(settings, ReaderSettings)
        return train_reader(body, training_set.rows, settings, training_set.seed, advance)

    def scores(self, student: Trained, rows: Sequence[Example]) -> Scores:
        """See ``Texts.scores``: the F1 of each answer."""
        assert isinstance(student, TrainedReader)
        return Scores(answer_scores(rows, student.predict(rows)))

    def export(self, student: Trained, folder: Path, temperature: float | None) -> tuple[float, ExportReport]:
        """See ``Texts.export``; the temperature is always 1."""
        assert isinstance(student, TrainedReader)
        return 1.0, export_reader(student, folder, self.dev)

    def evaluate(self, folder: Path, rows: Sequence[Example], advance: Advance = ignore) -> EvaluationResult:
        """See ``Texts.evaluate``; the figures are exact match and F1."""
        answers = Reader.load(folder).judge(rows, advance)
        found = [answer.text for answer, _ in answers]
        return EvaluationResult(
            answer_metrics(rows, found),
            [
                Prediction(
                    row.id, tuple(own.text for own in row.answers), answer.text, answer.probability, answer.start
                )
                for row, (answer, _) in zip(rows, answers, strict=True)
            ],
            find_answer_errors(
                rows,
                found,
                [answer.probability for answer, _ in answers],
                [own for _, own in answers],
                self.settings.answers.error_f1,
            ),
        )


def kind_of(task: Task, dev: Sequence[Example], test: Sequence[Example], settings: RunSettings) -> Texts:
    """The kind of ``task``. Of ``test``, only the source texts are used: the contexts file's texts that occur there are
    left out.

    Raises ``InputError`` for bad contexts, or if question answering finds no span to ask for.
    """
    if task.kind == "classification":
        return Texts(task, dev, settings)
    contexts = _contexts(task, dev, test)
    if settings.privacy.redact:
        pseudonymiser = Pseudonymiser(settings.seed, task.language)
        contexts = [dataclasses.replace(its, text=pseudonymiser.text(its.id, its.text)) for its in contexts]
    return (
        Spans(task, dev, settings, contexts) if task.kind == "extractive_qa" else Pairs(task, dev, settings, contexts)
    )


def _contexts(task: Task, dev: Sequence[Example], test: Sequence[Example]) -> list[Context]:
    """The distinct source texts of dev, named after their first row, and those of the contexts file that test lacks."""
    (source,) = task.source_fields
    found: dict[str, str] = {}
    for row in dev:
        found.setdefault(row.fields[source], row.id)
    if task.contexts is not None:
        in_test = {row.fields[source] for row in test}
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
