"""What a finished run left in its folder, read for its report. Nothing is computed here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

from s3local.evaluation.errors import Error
from s3local.evaluation.predictions import Prediction
from s3local.exceptions import RunError
from s3local.records import Candidate, Dropped, Example, Row, is_unlabelled, read_jsonl
from s3local.report.text import read_summary
from s3local.results import (
    DEV_FILE,
    FINAL,
    MAP_FILE,
    MAP_OF_DEV,
    MAP_OF_SYNTHETIC,
    SHARES,
    FoldResult,
    MapResult,
    Place,
    RunSummary,
    read_result,
)
from s3local.runner.state import CONFIG_FILE, RunFolder, read_config

T = TypeVar("T")

REAL_TEXT = "(a real text, which stays in the run's folder)"


@dataclass(frozen=True, slots=True)
class RowMap:
    """The map of a run: the places of dev rows and of synthetic rows by their ids, see ``MapResult``."""

    dev: Mapping[str, Place]
    synthetic: Mapping[str, Place]
    explained: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round: its synthetic rows with their final label, what was dropped, the dev rows it was extrapolated from
    (none in the seed), and its student's predictions of dev."""

    stage: str
    kept: Sequence[Candidate]
    dropped: Sequence[Dropped]
    extrapolated: Sequence[Error]
    predictions: Sequence[Prediction]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A finished run. ``dev`` is empty and ``row_map`` None in a run of an s3local that did not write them yet.

    ``command`` is the command line that started it, None if it was started from Python. ``ended`` is the time of its
    end in seconds since 1970, None if that is unknown.
    """

    folder: Path
    summary: RunSummary
    config: Mapping[str, Any]
    command: str | None
    ended: float | None
    dev: Sequence[Example]
    row_map: RowMap | None
    rounds: Sequence[Round]
    folds: Sequence[FoldResult]
    test_predictions: Mapping[str, Sequence[Prediction]]

    @property
    def task(self) -> Mapping[str, Any]:
        """The task as config.json holds it: name, kind, texts, labels, fields ..."""
        found: Mapping[str, Any] = self.config["task"]
        return found

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels in the task's order; none for question answering."""
        return tuple(label["name"] for label in self.task["labels"])

    @property
    def target_field(self) -> str:
        """The field that the teacher writes."""
        return str(self.task["generated"] or self.task["fields"][-1])


def read_run(folder: Path) -> RunRecord:
    """Read the finished run in ``folder``.

    Raises ``RunError`` if it holds none, one of another version, or a damaged one; ``InputError`` with the line for a
    damaged file of rows; ``StorageError`` if a file cannot be read.
    """
    summary = read_summary(folder)
    config = _config(folder)
    candidates = list(map(_without_real_text, _rows(folder / FINAL / "dataset.jsonl", Candidate.from_row)))
    counts = [entry.rows for entry in summary.rounds]
    if len(candidates) != sum(counts):
        raise _damaged(folder / FINAL / "dataset.jsonl", f"{len(candidates):,} rows, the rounds kept {sum(counts):,}")
    rounds = [
        _round(folder, entry.stage, candidates[end - count : end])
        for entry, count, end in zip(summary.rounds, counts, accumulate(counts), strict=True)
    ]
    events = RunFolder(folder).events()
    commands = [event["command"] for event in events if event.get("event") == "begun" and event.get("command")]
    ends = [event["time"] for event in events if event.get("event") == "ended" and "time" in event]
    return RunRecord(
        folder=folder,
        summary=summary,
        config=config,
        command=str(commands[-1]) if commands else None,
        ended=ends[0] if ends else None,
        dev=_rows(folder / DEV_FILE, Example.from_row) if (folder / DEV_FILE).is_file() else [],
        row_map=_row_map(folder) if (folder / MAP_FILE).is_file() else None,
        rounds=rounds,
        folds=_folds(folder, rounds[-1].predictions, len(config["task"]["labels"])),
        test_predictions={
            student.stage: _rows(folder / student.stage / "test_predictions.jsonl", Prediction.from_row)
            for student in summary.students
            if student.test is not None
        },
    )


def _round(folder: Path, stage: str, kept: Sequence[Candidate]) -> Round:
    extrapolated = folder / stage / "extrapolated.jsonl"
    return Round(
        stage=stage,
        kept=kept,
        dropped=_rows(folder / stage / "dropped.jsonl", Dropped.from_row),
        extrapolated=_rows(extrapolated, Error.from_row) if extrapolated.is_file() else [],
        predictions=_rows(folder / stage / "predictions.jsonl", Prediction.from_row),
    )


def _folds(folder: Path, predictions: Sequence[Prediction], n_labels: int) -> list[FoldResult]:
    """The results of the folds, in order; their rows are among those of ``predictions``."""
    paths = sorted((folder / "model-selection").glob("fold-*.json"), key=lambda path: (len(path.name), path))
    folds, known = [], {prediction.id for prediction in predictions}
    for path in paths:
        fold = read_result(path, FoldResult)
        n_rows = len(fold.ids)
        sizes = [len(share) for share in (*fold.scores, *(fold.logits or ()))]
        widths = {len(row) for share in fold.logits or () for row in share}
        if len(fold.scores) != len(SHARES) or set(sizes) != {n_rows} or widths - {n_labels} or set(fold.ids) - known:
            raise _damaged(path, "its scores do not fit its rows")
        folds.append(fold)
    return folds


def _row_map(folder: Path) -> RowMap:
    dev, synthetic = (
        {place.id: place for place in _rows(folder / name, Place.from_row)} for name in (MAP_OF_DEV, MAP_OF_SYNTHETIC)
    )
    return RowMap(dev, synthetic, read_result(folder / MAP_FILE, MapResult).explained)


def _without_real_text(candidate: Candidate) -> Candidate:
    """The candidate; a real row that came without a label without its texts, which a report must not carry away."""
    if not is_unlabelled(candidate):
        return candidate
    hidden = dict.fromkeys(candidate.example.fields, REAL_TEXT)
    return dataclasses.replace(candidate, example=dataclasses.replace(candidate.example, fields=hidden))


def _config(folder: Path) -> Mapping[str, Any]:
    config = read_config(folder)
    if not isinstance(config["task"].get("texts"), str) or not isinstance(config.get("settings"), dict):
        raise _damaged(folder / CONFIG_FILE, "texts of the task and settings belong there")
    return config


def _rows(path: Path, parse: Callable[[Row], T]) -> list[T]:
    """Each row of a JSON Lines file of the run."""
    try:
        return [parse(row) for _, row in read_jsonl(path)]
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise _damaged(path, exc) from exc


def _damaged(path: Path, problem: object) -> RunError:
    if isinstance(problem, KeyError):
        problem = f"the key {problem} is missing"
    return RunError(f"{path} is damaged ({problem}); restore it, or run again under another --name")
