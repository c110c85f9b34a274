"""A whole run in seconds: a scripted teacher, a bag-of-words embedder, a tiny student, and a task for them."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from toys import SETTINGS

from s3local.embedder import Vectors
from s3local.progress import Advance, ignore
from s3local.runner.settings import RunSettings
from s3local.student.judge import JudgeSettings
from s3local.task import Task
from s3local.teacher import Request

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


def settings(body: Path, **changes: object) -> RunSettings:
    """Settings for a run of seconds."""
    values = {
        "rows": 24,
        "shard_size": 8,
        "rationales": 2,
        "student": str(body),
        "training": SETTINGS,
        "judge": JudgeSettings(passes=64, batch_size=16, max_length=32),
        "folds": 2,
        "guard": False,
        **changes,
    }
    return RunSettings(**values)  # type: ignore[arg-type]


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
