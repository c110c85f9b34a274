"""A whole run in seconds: a scripted teacher, a bag-of-words embedder, judges, a tiny student, and a task for them."""

from __future__ import annotations

import dataclasses
import json
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from toys import READER_SETTINGS, SETTINGS

from s3local.embedder import CachedEmbedder, Vectors
from s3local.executor import Executor
from s3local.progress import Advance, Silent, ignore
from s3local.records import Candidate, Example, read_jsonl
from s3local.relabelling.judge import Floats, Judges, JudgeSettings, train_judges
from s3local.results import Metrics
from s3local.runner.context import RunContext
from s3local.runner.loop import RunResult
from s3local.runner.models import Models, TeacherSource, find_models
from s3local.runner.settings import RunSettings
from s3local.runner.state import RunFolder
from s3local.runner.task_kinds import TrainingSet, kind_of
from s3local.student.encoding import Text
from s3local.task.model import Task
from s3local.task.rows import load_dev
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Request, Teacher

WORDS = {"positive": ("good", "great", "fine"), "negative": ("bad", "awful", "poor")}
THINGS = ("film", "book", "song", "story", "scene", "ending", "actor", "plot", "music", "picture", "start", "middle")


def write(request: Request) -> str:
    """Reviews of the label that the prompt names, now and then a broken one, as a small teacher writes."""
    chance = random.Random(request.seed)
    mood = "positive" if "that praise" in request.prompt.rsplit("A list of", 1)[-1] else "negative"
    if chance.random() < 0.1:
        return chance.choice(["", "!!!", "x"])
    first, second, third = (chance.choice(THINGS) for _ in range(3))
    word, other = chance.choice(WORDS[mood]), chance.choice(WORDS[mood])
    return f"the {first} was {word} and the {second} of the {third} quite {other}\n"


class BagOfWords:
    """An embedder: a unit vector in which each word has a place."""

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        rows = np.full((len(texts), 256), 1e-3, np.float32)
        for row, text in zip(rows, texts, strict=True):
            for place, word in enumerate(text.split()):
                row[zlib.crc32(f"{word}{place}".encode()) % 256] += 1
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class WellRead:
    """Judges, and what the words say: no judge learns enough from twelve rows for the label check to hold."""

    def __init__(self, judges: Judges, labels: Sequence[str]) -> None:
        self._judges = judges
        self._labels = labels

    def predict_proba(self, texts: Sequence[Text], advance: Advance = ignore) -> Floats:
        said = self._judges.predict_proba(texts, advance)
        for place, text in enumerate(texts):
            found = [any(word in text.text for word in WORDS[label]) for label in self._labels]
            said[:, place] = 0.2 * said[:, place] + 0.8 * (np.where(found, 0.95, 0.05) if any(found) else 0.5)
        return said


def well_read_judges(folder: Path, rows: Sequence[Example], labels: Sequence[str], *others: Any) -> Judges:
    """Trains judges as ``train_judges`` does, which also go by the words."""
    return WellRead(train_judges(folder, rows, labels, *others), labels)


def toy_models(chosen: RunSettings, teacher: Callable[[], Teacher] = lambda: FakeTeacher(write)) -> Models:
    """The scripted models, with judges that go by the words."""
    return dataclasses.replace(
        find_models(chosen, teacher=teacher, embedder=BagOfWords()), train_judges=well_read_judges
    )


def settings(body: Path, **changes: object) -> RunSettings:
    """Settings for a run of seconds."""
    values = {
        "rows": 24,
        "shard_size": 8,
        "rationales": 2,
        "student": str(body),
        "training": SETTINGS,
        "reader": dataclasses.replace(READER_SETTINGS, epochs=3),
        "judge": str(body),
        "judging": JudgeSettings(passes=64, batch_size=16, max_length=32),
        "folds": 2,
        "model_selection": False,
        **changes,
    }
    return RunSettings(**values)  # type: ignore[arg-type]


def test_scores(result: RunResult) -> dict[str, Metrics]:
    """The scores on test of every student, by its stage."""
    return {student.stage: student.test for student in result.summary.students if student.test is not None}


test_scores.__test__ = False  # type: ignore[attr-defined]


def make_task(folder: Path, *, flip_test: bool = False) -> Task:
    """Reviews with two labels; 12 dev rows, some of them labelled against their words, and 6 test rows."""
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "name": "toy",
        "texts": "short reviews",
        "labels": {
            "negative": {"description": "The writer was let down.", "phrase": "that complain"},
            "positive": {"description": "The writer was pleased.", "phrase": "that praise"},
        },
        "length": {"unit": "characters", "min": 5, "max": 120},
    }
    (folder / "task.yaml").write_text(json.dumps(description), encoding="utf-8")
    dev = [
        {"id": f"d{n}", "text": f"i found number {n} {word} in the end", "label": label}
        for n, (label, word) in enumerate(
            (label, word) for label in WORDS for word in (*WORDS[label], "odd", "long", "loud")
        )
    ]
    test = [
        {"id": f"t{n}", "text": f"all of it seemed {word} today", "label": label}
        for n, (label, word) in enumerate((label, word) for label in WORDS for word in WORDS[label])
    ]
    if flip_test:
        for row in test:
            row["label"] = "negative" if row["label"] == "positive" else "positive"
    for name, rows in (("dev", dev), ("test", test)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return Task.load(folder)


@dataclass(slots=True)
class Watched:
    """A finished run; the rows that each student of a fold was trained on, in order; the rows of each two students
    that were averaged for a fold, with the share of the first; and the teachers in memory when each student trained."""

    result: RunResult
    fold_rows: list[TrainingSet] = field(default_factory=list)
    averages: list[tuple[int, int, float]] = field(default_factory=list)
    teachers: list[FakeTeacher] = field(default_factory=list)
    open_while_training: list[int] = field(default_factory=list)


def context_for(
    task: Task,
    chosen: RunSettings,
    folder: Path,
    models: Models | None = None,
    executor: Executor | None = None,
) -> RunContext:
    """The context of a run in ``folder``, for tests of single stages; ``models`` are the scripted ones if left out."""
    dev, models = load_dev(task), models or toy_models(chosen)
    models = dataclasses.replace(models, embedder=CachedEmbedder(models.embedder))
    teacher = TeacherSource(models.teacher, models.style, executor)
    folder.mkdir(parents=True, exist_ok=True)
    kind = kind_of(task, dev, [], chosen)
    return RunContext(task, kind, dev, chosen, RunFolder(folder), Silent(), models, teacher)


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON Lines file."""
    return [row for _, row in read_jsonl(path)]


def candidates_of(folder: Path) -> list[Candidate]:
    """The synthetic rows of a run's rounds, in order."""
    stages = sorted(folder.glob("round-*"))
    return [Candidate.from_row(row) for stage in stages for row in rows_of(stage / "synthetic.jsonl")]
