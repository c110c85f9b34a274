"""Baselines: what the same gold rows give without synthetic rows.

Each takes a ``BaselineInput`` and returns a predicted label for each of its test rows, whose labels it does not read.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3local.embedder import Embedder, LazyEmbedder
from s3local.evaluation.cross_validation import NO_FOLD
from s3local.executor import InThisProcess
from s3local.progress import Progress
from s3local.records import Example
from s3local.relabelling.teacher_likelihood import label_logprobs
from s3local.runner.context import JUDGES, STUDENT
from s3local.runner.models import Models
from s3local.runner.settings import RunSettings
from s3local.runner.task_kinds import TrainingSet, kind_of
from s3local.seeds import derive_seed
from s3local.synthesis.prompts import Prompts
from s3local.task.model import Task
from s3local.teacher.protocol import Teacher
from s3local.weights.store import find_encoder

SETFIT_ITERATIONS = 20
SETFIT_BATCH = 16
TEACHER_SHOTS = 8
"""Gold rows of each label in a prompt of the few-shot teacher."""


@dataclass(frozen=True, slots=True)
class BaselineInput:
    """The gold rows to learn from (none: zero-shot), the test rows to predict, and what a run would use; ``folder`` is
    there for files, and removed afterwards."""

    task: Task
    gold: Sequence[Example]
    test: Sequence[Example]
    seed: int
    models: Models
    settings: RunSettings
    folder: Path
    progress: Progress

    @property
    def labels(self) -> Sequence[str]:
        return self.task.label_names


def train_on_gold(given: BaselineInput) -> list[str]:
    """The labels of the student of a run, trained on the gold rows alone and exported as in a run."""
    kind = kind_of(given.task, given.gold, given.test, given.settings)
    settings, body = kind.training_settings(given.models.body), given.models.body
    rows = TrainingSet(given.gold, derive_seed(given.seed, STUDENT, 0))
    with given.progress.step("the student trains", rows.passes(settings), "texts") as advance:
        student = kind.train(body, rows, settings, advance)
    kind.export(student, given.folder / "student", 1.0)
    with given.progress.step("predicting test", len(given.test), "rows") as advance:
        evaluated = kind.evaluate(given.folder / "student", given.test, advance)
    return [prediction.predicted for prediction in evaluated.predictions]


def probe(given: BaselineInput) -> list[str]:
    """The labels of a logistic regression on sentence embeddings of the gold rows."""
    return _probe(given, given.models.embedder)


def probe_large(given: BaselineInput) -> list[str]:
    """As ``probe``, on embeddings by the judges' encoder."""
    return _probe(given, LazyEmbedder(given.models.judge))


def _probe(given: BaselineInput, embedder: Embedder) -> list[str]:
    from sklearn.linear_model import LogisticRegression

    gold, test = given.gold, given.test
    with given.progress.step("embedding", len(gold) + len(test), "texts") as advance:
        seen = embedder.embed([row.text for row in gold], advance)
        unseen = embedder.embed([row.text for row in test], advance)
    model = LogisticRegression(class_weight="balanced", max_iter=1000, random_state=given.seed)
    return [str(label) for label in model.fit(seen, [row.label for row in gold]).predict(unseen)]


def judge(given: BaselineInput) -> list[str]:
    """The labels of one judge that is trained on all gold rows: the judges' encoder as the classifier."""
    kind, settings = kind_of(given.task, given.gold, given.test, given.settings), given.settings.judging
    nobody = np.full(len(given.gold), NO_FOLD)
    seeds = [derive_seed(given.seed, JUDGES)]
    with given.progress.step("the judge trains", settings.passes, "texts") as advance:
        judges = given.models.train_judges(
            given.models.judge,
            given.gold,
            given.labels,
            nobody,
            settings,
            seeds,
            kind.descriptions(),
            advance,
            InThisProcess(),
        )
    with given.progress.step("predicting test", len(given.test), "rows") as advance:
        (probabilities,) = judges.predict_proba(given.test, advance)
    return [given.labels[int(best)] for best in probabilities.argmax(axis=1)]


def ask_teacher(given: BaselineInput) -> list[str]:
    """The teacher's own labels, see ``classify_by_teacher``."""
    with contextlib.closing(given.models.teacher()) as teacher:
        tokens = given.settings.prompt_tokens
        prompts = Prompts(given.task, "list", 1, teacher.chat, teacher.count_tokens, tokens)
        return classify_by_teacher(teacher, prompts, given.gold, given.test, given.seed, given.progress)


def classify_by_teacher(
    teacher: Teacher,
    prompts: Prompts,
    gold: Sequence[Example],
    test: Sequence[Example],
    seed: int,
    progress: Progress,
) -> list[str]:
    """The label under which the teacher's likelihood of a text is highest, with equal priors.

    Each label's prompt shows ``TEACHER_SHOTS`` of its ``gold`` rows (no gold: zero-shot).
    """
    generator = np.random.default_rng(seed)
    labels = prompts.task.label_names
    shots = {}
    for label in labels:
        mine = [row.text for row in gold if row.label == label]
        shots[label] = [mine[place] for place in generator.permutation(len(mine))[:TEACHER_SHOTS].tolist()]
    with progress.step("the teacher predicts", len(labels) * len(test), "texts") as advance:
        logprobs = label_logprobs(teacher, prompts, [row.text for row in test], shots, advance=advance)
    return [labels[int(best)] for best in logprobs.argmax(axis=1)]


def has_setfit() -> bool:
    """Whether the package setfit, an optional extra, is installed."""
    return importlib.util.find_spec("setfit") is not None


def setfit(given: BaselineInput) -> list[str]:
    """The labels of SetFit (Tunstall et al., 2022): the sentence encoder tuned on pairs of gold rows, and a linear
    head.

    ``SETFIT_ITERATIONS`` positive and as many negative pairs for a row, as in its paper.
    """
    return _setfit(given, find_encoder(given.settings.encoder))


def setfit_large(given: BaselineInput) -> list[str]:
    """As ``setfit``, with the judges' encoder."""
    return _setfit(given, given.models.judge)


def _setfit(given: BaselineInput, encoder: Path) -> list[str]:
    from datasets import Dataset, disable_progress_bars
    from setfit import SetFitModel, Trainer, TrainingArguments

    disable_progress_bars()
    labels, gold, test = given.labels, given.gold, given.test
    data = Dataset.from_dict({"text": [row.text for row in gold], "label": [labels.index(row.label) for row in gold]})
    with (
        given.progress.step("setfit trains", None, "steps"),
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        _quiet("setfit", "sentence_transformers", "transformers"),
    ):
        arguments = TrainingArguments(
            output_dir=folder,
            num_iterations=SETFIT_ITERATIONS,
            batch_size=SETFIT_BATCH,
            num_epochs=1,
            seed=given.seed,
            report_to="none",
            save_strategy="no",
            show_progress_bar=False,
        )
        model = SetFitModel.from_pretrained(str(encoder), local_files_only=True)
        Trainer(model=model, args=arguments, train_dataset=data).train()
    with given.progress.step("predicting test", len(test), "rows") as advance:
        numbers = model.predict([row.text for row in test], as_numpy=True, show_progress_bar=False)
        advance(len(test))
    return [labels[int(number)] for number in numbers]


BASELINES: Mapping[str, Callable[[BaselineInput], list[str]]] = {
    "gold": train_on_gold,
    "active": train_on_gold,
    "probe": probe,
    "probe-large": probe_large,
    "setfit": setfit,
    "setfit-large": setfit_large,
    "judge": judge,
    "teacher-zero-shot": ask_teacher,
    "teacher-few-shot": ask_teacher,
}
"""The baseline of each method that has no run, by the method's name."""


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Only let errors of these loggers through."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
