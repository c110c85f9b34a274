"""What a user would otherwise do with the same gold rows and no synthetic ones.

Each rival takes gold rows and the test rows to label, and gives a label for each of those; it reads the test rows'
texts alone. ``gold`` fine-tunes the student, ``probe`` fits a linear layer on embeddings, ``setfit`` is the package
of that name on the encoder, ``classify_by_teacher`` lets the teacher itself decide. Knows nothing of rounds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from s3local.embedder import Embedder
from s3local.progress import Progress
from s3local.records import Example
from s3local.relabelling.teacher_likelihood import label_logprobs
from s3local.student.export import export
from s3local.student.inference import Classifier
from s3local.student.training import TrainingSettings, train
from s3local.synthesis.prompts import Prompts
from s3local.teacher.protocol import Teacher

SETFIT_ITERATIONS = 20
SETFIT_BATCH = 16
TEACHER_SHOTS = 8
"""Gold rows of each label in a prompt of the few-shot teacher."""


def train_on_gold(
    body: Path,
    gold: Sequence[Example],
    test: Sequence[Example],
    labels: Sequence[str],
    settings: TrainingSettings,
    seed: int,
    folder: Path,
    progress: Progress,
) -> list[str]:
    """The student's labels for ``test``, trained on ``gold`` alone and exported to ``folder`` as in a run."""
    settings = settings.fitted(body, gold)
    with progress.step("the student trains", settings.passes(len(gold)), "texts") as advance:
        student = train(body, gold, labels, settings, seed, advance=advance)
    export(student, folder, gold)
    with progress.step("predicting test", len(test), "rows") as advance:
        return Classifier.load(folder).predict(test, advance)


def probe(
    embedder: Embedder, gold: Sequence[Example], test: Sequence[Example], seed: int, progress: Progress
) -> list[str]:
    """The labels of a logistic regression on the embeddings of ``gold``."""
    from sklearn.linear_model import LogisticRegression

    with progress.step("embedding", len(gold) + len(test), "texts") as advance:
        seen = embedder.embed([row.text for row in gold], advance)
        unseen = embedder.embed([row.text for row in test], advance)
    model = LogisticRegression(class_weight="balanced", max_iter=1000, random_state=seed)
    return [str(label) for label in model.fit(seen, [row.label for row in gold]).predict(unseen)]


def classify_by_teacher(
    teacher: Teacher,
    prompts: Prompts,
    gold: Sequence[Example],
    test: Sequence[Example],
    seed: int,
    progress: Progress,
) -> list[str]:
    """The label under which the teacher finds a text likeliest, all labels being as likely beforehand.

    Each label's prompt shows ``TEACHER_SHOTS`` of its ``gold`` rows (no gold: zero-shot).
    """
    chance = np.random.default_rng(seed)
    labels = prompts.task.label_names
    shots = {}
    for label in labels:
        mine = [row.text for row in gold if row.label == label]
        shots[label] = [mine[place] for place in chance.permutation(len(mine))[:TEACHER_SHOTS].tolist()]
    with progress.step("the teacher judges", len(labels) * len(test), "texts") as advance:
        logprobs = label_logprobs(teacher, prompts, [row.text for row in test], shots, advance=advance)
    return [labels[int(best)] for best in logprobs.argmax(axis=1)]


def has_setfit() -> bool:
    """Whether the package setfit, an optional extra, is installed."""
    return importlib.util.find_spec("setfit") is not None


def setfit(
    encoder: Path,
    gold: Sequence[Example],
    test: Sequence[Example],
    labels: Sequence[str],
    seed: int,
    progress: Progress,
) -> list[str]:
    """The labels of SetFit (Tunstall et al., 2022): the encoder tuned on pairs of gold rows, then a linear head.

    ``SETFIT_ITERATIONS`` pairs of each sort for a row, as in its paper.
    """
    from datasets import Dataset, disable_progress_bars
    from setfit import SetFitModel, Trainer, TrainingArguments

    disable_progress_bars()
    data = Dataset.from_dict({"text": [row.text for row in gold], "label": [labels.index(row.label) for row in gold]})
    with (
        progress.step("setfit trains", None, "steps"),
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        _quiet("setfit", "sentence_transformers", "transformers"),
    ):
        arguments = TrainingArguments(
            output_dir=folder,
            num_iterations=SETFIT_ITERATIONS,
            batch_size=SETFIT_BATCH,
            num_epochs=1,
            seed=seed,
            report_to="none",
            save_strategy="no",
            show_progress_bar=False,
        )
        model = SetFitModel.from_pretrained(str(encoder), local_files_only=True)
        Trainer(model=model, args=arguments, train_dataset=data).train()
    with progress.step("predicting test", len(test), "rows") as advance:
        numbers = model.predict([row.text for row in test], as_numpy=True, show_progress_bar=False)
        advance(len(test))
    return [labels[int(number)] for number in numbers]


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Let these loggers speak of errors alone."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
