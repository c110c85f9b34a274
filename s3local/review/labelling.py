"""``label`` and ``suggest``: a file of real texts in, the texts whose labels are worth most first."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from s3local.embedder import Embedder
from s3local.exceptions import InputError, RunError
from s3local.progress import Progress
from s3local.records import Example, read_jsonl
from s3local.review.decisions import Decisions
from s3local.review.rows import Sheet, read_finished, sheet_of_texts
from s3local.review.selection import REST, Doubts, doubts_of, rank
from s3local.runner.state import selected_student
from s3local.seeds import derive_seed
from s3local.storage import refuse_same_file, translated_errors, write_text
from s3local.student.inference import Classifier
from s3local.task.model import Task, load_task, preset_names
from s3local.task.rows import load_rows, load_unlabelled
from s3local.task.subsample import Choose
from s3local.text import normal_form
from s3local.wording import counted

MOST_TEXTS = 10_000
"""Texts of a larger file are a random sample of this many: more than anybody labels, and embedded in some minutes."""
MOST_RANKED = 600
"""Texts that are put in order; the others follow as they are in the file."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins with one of these is a formula to a spreadsheet, unless an apostrophe stands before it."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Real texts without labels: rows with an empty label, and the line that each came from, parallel.

    ``left_out`` says how many texts were left out, by reason.
    """

    rows: Sequence[Example]
    lines: Sequence[int]
    left_out: Mapping[str, int]

    def in_words(self) -> str:
        """What was read, as one line."""
        left = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items() if count)
        return f"{counted(len(self.rows), 'text')} to choose from" + (f" ({left})" if left else "")


def read_pool(path: Path, task: Task, dev: Sequence[Example], keep: Decisions | None = None, seed: int = 0) -> Pool:
    """The texts of a file that may be labelled: each once, and none of dev or test; memory is bounded.

    Texts with a decision in ``keep`` are in the pool whatever else is said. Raises ``InputError`` for a file or a line
    that cannot be read, and if no text is left.
    """
    refuse_same_file(path, task.dev)
    decided = keep.holding() if keep is not None else {}
    known = {_form(row.fields): "in dev" for row in dev}
    for row in load_rows(task.test, task) if task.test else ():
        known[_form(row.fields)] = "in test"
    generator = np.random.default_rng(derive_seed(seed, 0))
    left_out: Counter[str] = Counter()
    sample: list[tuple[int, Example]] = []
    kept: list[tuple[int, Example]] = []
    n_free = 0
    for line, fields in load_unlabelled(path, task):
        row = Example(_name(fields), fields, "")
        form = _form(fields)
        if row.id in decided and known.get(form) != "twice":
            kept.append((line, row))
        elif form in known:
            left_out[known[form]] += 1
        else:
            n_free += 1
            if len(sample) < MOST_TEXTS:
                sample.append((line, row))
            elif (place := int(generator.integers(n_free))) < MOST_TEXTS:
                sample[place] = (line, row)
        known[form] = "twice"
    left_out["not in the random sample"] = n_free - len(sample)
    rows = sorted([*kept, *sample], key=lambda entry: entry[0])
    if not rows:
        raise InputError(path, "every text is in dev or in test already; other texts belong here")
    return Pool([row for _, row in rows], [line for line, _ in rows], left_out)


def open_for_labelling(path: Path, dev: Path | None) -> tuple[Task, list[Example]]:
    """A task and its dev rows, of which there may be none yet. Nothing is written.

    Raises ``InputError`` as ``load_task`` and ``load_rows`` do, and for question answering, which has no labels.
    """
    task = load_task(path, dev, without_dev=True)
    if not task.labels:
        raise InputError(path, "question answering has no labels to give; label works for texts and for pairs")
    with translated_errors(task.dev, "read"):
        begun = task.dev.exists() and bool(task.dev.read_bytes().strip())
    return task, load_rows(task.dev, task) if begun else []


def refuse_preset(path: Path, dev: Path | None) -> None:
    """Raise ``InputError`` if ``path`` names a preset, whose dev file is part of the program, and ``dev`` no other."""
    if dev is None and not path.exists() and str(path) in preset_names():
        belongs = "a task of your own belongs here, or a dev file of your own to --dev"
        raise InputError(path, f"label adds rows to dev, and a preset's dev is part of the program; {belongs}")


class Student:
    """The selected student of a run, as an adviser on which texts to label; for the labels of ``task``.

    Raises ``RunError`` for a run that has not ended, or has other labels.
    """

    def __init__(self, run: Path, task: Task) -> None:
        summary = read_finished(run)
        self.classifier = Classifier.load(selected_student(run))
        if set(self.classifier.labels) != set(task.label_names) or self.classifier.fields != task.fields:
            raise RunError(f"{run} is a run of another task: its labels or its fields are not those of {task.name}")
        last = run / summary.rounds[-1].stage / "errors.jsonl"
        self.errors = {row["id"] for _, row in read_jsonl(last)} if last.is_file() else set()
        """The dev rows that the student of the last round, which was not trained on dev, gets wrong."""

    def suggest(self, fields: Mapping[str, str]) -> tuple[str, float]:
        """The most probable label of one row, and its probability."""
        probabilities = self.classifier.predict_proba([_as_input(fields)])[0]
        best = int(probabilities.argmax())
        return self.classifier.labels[best], round(float(probabilities[best]), 4)

    def doubts(
        self, rows: Sequence[Example], vectors: Any, dev: Sequence[Example], of_dev: Any, progress: Progress
    ) -> Doubts:
        """See ``selection.doubts_of``."""
        with progress.step("the student reads the texts", len(rows), "texts") as advance:
            probabilities = self.classifier.predict_proba([_as_input(row.fields) for row in rows], advance)
        wrong = np.array([row.id in self.errors for row in dev], np.bool_)
        return doubts_of(probabilities, vectors, of_dev[wrong], of_dev[~wrong])


def in_order(
    pool: Pool,
    dev: Sequence[Example],
    embedder: Embedder,
    progress: Progress,
    *,
    student: Student | None = None,
    count: int = MOST_RANKED,
    seed: int = 0,
) -> list[tuple[int, str]]:
    """The places of the pool's ``count`` most useful texts, best first, each with the reason."""
    with progress.step("embedding the texts", len(pool.rows) + len(dev), "texts") as advance:
        of_dev = embedder.embed([row.text for row in dev], advance)
        vectors = embedder.embed([row.text for row in pool.rows], advance)
    doubts = student.doubts(pool.rows, vectors, dev, of_dev, progress) if student is not None else None
    with progress.step("choosing the most useful ones", None, "texts"):
        return rank(vectors, of_dev, count, seed, doubts)


def most_diverse(embedder: Embedder, progress: Progress, seed: int) -> Choose:
    """What chooses diverse texts for ``draw_rows``, as ``in_order`` does for a task without a labelled row."""

    def choose(texts: Sequence[str], count: int) -> list[int]:
        with progress.step("embedding the texts", len(texts), "texts") as advance:
            vectors = embedder.embed(texts, advance)
        return [place for place, _ in rank(vectors, vectors[:0], count, seed)]

    return choose


def sheet_to_label(
    pool: Pool, source: Path, task: Task, dev: Sequence[Example], picks: Sequence[tuple[int, str]], decisions: Decisions
) -> Sheet:
    """The page's rows: those of ``picks`` first, then the rest of the pool."""
    first = {place for place, _ in picks}
    order = [*picks, *((place, REST) for place in range(len(pool.rows)) if place not in first)]
    told = Counter(row.label for row in dev)
    present = {row.id for row in pool.rows}
    told.subtract(
        decision.label
        for name, decision in decisions.holding().items()
        if name in present and decision.action == "label" and decision.label is not None
    )
    return sheet_of_texts(
        [pool.rows[place] for place, _ in order],
        title=task.name,
        labels=[(label.name, label.description) for label in task.labels],
        fields=task.fields,
        places=[f"{source.name}, line {pool.lines[place]}" for place, _ in order],
        why=[why for _, why in order],
        told={name: max(0, told[name]) for name in task.label_names},
    )


def write_suggestions(target: Path, task: Task, pool: Pool, picks: Sequence[tuple[int, str]]) -> None:
    """Write texts to label as a table with an empty label, for a spreadsheet. Raises ``StorageError``.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    table = io.StringIO()
    writer = csv.writer(table, delimiter="\t" if target.suffix.lower() == ".tsv" else ",", lineterminator="\n")
    writer.writerow([*(task.column(name) for name in task.fields), task.column("label"), "why", "line"])
    for place, why in picks:
        texts = [_cell(pool.rows[place].fields[name]) for name in task.fields]
        writer.writerow([*texts, "", why, pool.lines[place]])
    write_text(target, table.getvalue())


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _as_input(fields: Mapping[str, str]) -> Any:
    texts = tuple(fields.values())
    return texts[0] if len(texts) == 1 else texts


def _form(fields: Mapping[str, str]) -> str:
    text = "\n".join(fields.values())
    return normal_form(text) or text


def _name(fields: Mapping[str, str]) -> str:
    """An id that depends on the texts alone."""
    return "text-" + hashlib.sha256("\0".join(fields.values()).encode()).hexdigest()[:16]
