"""Drift: whether dev still looks like the texts that come in, as a sample of unlabelled ones shows.

A classifier is trained and judged on dev. Where new texts differ from it, its measured accuracy does not hold for them.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from s3local.embedder import Embedder, Vectors
from s3local.evaluation.gap import two_sample_auc
from s3local.exceptions import InputError
from s3local.progress import Advance, Progress, ignore
from s3local.records import Example, Row
from s3local.review.selection import clusters, most_typical, nearest_cosines
from s3local.task.model import Task
from s3local.task.rows import load_unlabelled
from s3local.text import one_line
from s3local.wording import shown

MOST_SAMPLED = 2000
"""Unlabelled texts that are compared with dev, drawn at random."""
FAR_SHARE = 0.05
"""A text is far from dev if its nearest dev row is further than that of all but this share of the dev rows."""
ROWS_PER_TOPIC = 25
MOST_TOPICS = 5
SHOWN_TEXTS = 3
SHOWN_CHARACTERS = 100
CLEAR_AUC = 0.75
CLEAR_FAR_SHARE = 0.2
CLEAR_DIFFERENCE = 0.15


@dataclass(frozen=True, slots=True)
class Topic:
    """A cluster of texts that are far from dev: its share of all texts, and some texts, the most typical first."""

    share: float
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Drift:
    """How unlabelled texts differ from dev; shares are from 0 to 1.

    ``rows``: texts in the file; ``sampled``: how many of them were compared. ``auc``: how well a linear classifier
    tells them from dev, from 0.5 (not at all) to 1; None with too few. ``shares``: for each label its share of dev, and
    roughly that of the texts near dev; none with too few rows. ``far``: the share of texts that are far from
    every dev row, of which ``FAR_SHARE`` are expected. ``topics``: what these are about, the largest first.
    """

    rows: int
    sampled: int
    auc: float | None
    shares: Mapping[str, tuple[float, float]]
    far: float
    topics: tuple[Topic, ...]

    def to_row(self) -> Row:
        """The figures as a dictionary of plain JSON values."""
        return dataclasses.asdict(self)

    @property
    def warnings(self) -> list[str]:
        """What a user should know, as sentences; none if nothing is clear."""
        found = []
        if self.auc is not None and self.auc >= CLEAR_AUC:
            found.append(
                f"dev does not look like the unlabelled texts (AUC {self.auc:.2f}; 0.50: nobody can tell them apart), "
                "so an accuracy that is measured on dev may not hold for them"
            )
        if self.far >= CLEAR_FAR_SHARE:
            found.append(f"{self.far:.0%} of the unlabelled texts are unlike every dev row; label some of them")
        for label, (dev, texts) in self.shares.items():
            if abs(dev - texts) >= CLEAR_DIFFERENCE:
                found.append(f"{shown(label)} is {dev:.0%} of dev, but about {texts:.0%} of the texts near it")
        return found


def drift_of_task(task: Task, dev: Sequence[Example], embedder: Embedder, progress: Progress, seed: int = 0) -> Drift:
    """The drift of the task's unlabelled rows against ``dev``; ``seed`` draws the sample, in bounded memory.

    Raises ``InputError`` for a line of the file that cannot be read, and for a file without rows.
    """
    assert task.unlabelled is not None
    generator = np.random.default_rng(seed)
    sample: list[Example] = []
    rows = 0
    for line, fields in load_unlabelled(task.unlabelled, task):
        rows += 1
        row = Example(str(line), fields, "")
        if len(sample) < MOST_SAMPLED:
            sample.append(row)
        elif (place := int(generator.integers(rows))) < MOST_SAMPLED:
            sample[place] = row
    if not sample:
        raise InputError(task.unlabelled, "no rows; one text a line belongs here")
    with progress.step("comparing dev with the unlabelled texts", len(sample) + len(dev), "texts") as advance:
        return measure_drift(sample, rows, dev, task.label_names, embedder, advance, seed)


def measure_drift(
    texts: Sequence[Example],
    rows: int,
    dev: Sequence[Example],
    labels: Sequence[str],
    embedder: Embedder,
    advance: Advance = ignore,
    seed: int = 0,
) -> Drift:
    """The drift of a sample of unlabelled ``texts``, out of ``rows``, against the gold rows ``dev``.

    Rows without ``labels`` (question answering) have no shares of labels. ``advance`` is called with the texts that are
    embedded. Raises ``ValueError`` without texts or dev rows.
    """
    if not texts or not dev:
        raise ValueError(f"texts and dev rows are compared, got {len(texts)} and {len(dev)}")
    gold = embedder.embed([row.text for row in dev], advance)
    vectors = embedder.embed([row.text for row in texts], advance)
    among_dev = gold @ gold.T
    np.fill_diagonal(among_dev, -1.0)
    limit = float(np.quantile(among_dev.max(axis=1), FAR_SHARE)) if len(dev) > 1 else -1.0
    is_far = nearest_cosines(vectors, gold) < limit
    far = np.flatnonzero(is_far)
    topics = []
    if len(far):
        n_topics = min(MOST_TOPICS, max(1, len(far) // ROWS_PER_TOPIC))
        numbers, _ = clusters(vectors[far], n_topics, seed)
        for number in np.unique(numbers):
            members = far[numbers == number]
            chosen = most_typical(vectors, members)[:SHOWN_TEXTS]
            topics.append(Topic(len(members) / len(texts), tuple(texts[place].text for place in chosen)))
    return Drift(
        rows=rows,
        sampled=len(texts),
        auc=two_sample_auc(vectors, gold, seed),
        shares=_shares(vectors[~is_far], gold, dev, labels) if len(far) < len(texts) else {},
        far=len(far) / len(texts),
        topics=tuple(sorted(topics, key=lambda topic: -topic.share)),
    )


def _shares(
    vectors: Vectors, gold: Vectors, dev: Sequence[Example], labels: Sequence[str]
) -> dict[str, tuple[float, float]]:
    """See ``Drift.shares``: the labels that a logistic regression predicts for the texts and, out of fold, for dev.

    What it mistakes, it mistakes on both sides, so the difference of the two is added to the shares of dev (the idea of
    Lipton, Wang and Smola, "Detecting and Correcting for Label Shift with Black Box Predictors", 2018).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict

    own = [row.label for row in dev]
    counts = Counter(own)
    if len(counts) < 2 or min(counts.values()) < 2 or not labels:
        return {}
    model = LogisticRegression(C=10.0, max_iter=2000)
    on_dev = Counter(cross_val_predict(model, gold, own, cv=min(5, *counts.values())).tolist())
    on_texts = Counter(model.fit(gold, own).predict(vectors).tolist())
    found = {
        label: max(0.0, (counts[label] - on_dev[label]) / len(dev) + on_texts[label] / len(vectors)) for label in labels
    }
    total = sum(found.values())
    return {label: (counts[label] / len(dev), share / total) for label, share in found.items()}


def render(drift: Drift) -> RenderableType:
    """How the unlabelled texts differ from dev."""
    auc = "" if drift.auc is None else f" AUC of telling them from dev: {drift.auc:.2f} (0.50: nobody can)."
    sampled = f"{drift.rows:,}" if drift.sampled == drift.rows else f"{drift.sampled:,} of {drift.rows:,}"
    shares = Table("label", "share of dev", "of texts near dev", box=SIMPLE_HEAD)
    for column in shares.columns[1:]:
        column.justify = "right"
    for label, (dev, texts) in drift.shares.items():
        shares.add_row(Text(label), f"{dev:.0%}", f"about {texts:.0%}")
    found: list[RenderableType] = [Text(f"{sampled} unlabelled texts compared with dev.{auc}")]
    if drift.shares:
        found.append(shares)
    for topic in drift.topics:
        found.append(Text(f"{topic.share:.1%} of them are unlike every dev row, such as:"))
        found += [
            Text(f"  - {textwrap.shorten(one_line(text), SHOWN_CHARACTERS, placeholder=' …')}") for text in topic.texts
        ]
    return Group(*found, *(Text(f"warning: {warning}") for warning in drift.warnings))
