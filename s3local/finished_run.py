"""A finished run as predictions and exports read it: its summary, configuration, rows and held-out predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3local.evaluation.thresholds import Threshold, best_accuracy, rows_needed, threshold_for
from s3local.exceptions import InputError, RunError
from s3local.records import Candidate, read_jsonl
from s3local.results import AVERAGED, FINAL, GOLD_ONLY, RESULT_FILE, SHARES, FoldResult, RunSummary, read_result
from s3local.runner.state import CONFIG_FILE, read_config
from s3local.weights.manifest import default_model, known_models

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Predictions of the selected classifier's kind on dev rows that it was not trained on, by cross-validation.

    ``confidences`` (n_rows,) are the calibrated probabilities of the predictions, ``right`` (n_rows,) says which are
    correct.
    """

    confidences: Floats
    right: Floats


@dataclass(frozen=True)
class FinishedRun:
    """The folder of a finished run, with its summary and configuration. Use ``FinishedRun.read``."""

    folder: Path
    summary: RunSummary
    config: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> FinishedRun:
        """Raises ``RunError`` if the folder holds no finished run, or a damaged one, or one of another version."""
        file, config_file = folder / RESULT_FILE, folder / CONFIG_FILE
        if not folder.is_dir():
            raise RunError(f"{folder} is no folder; that of a finished run belongs here, such as runs/my_task/default")
        if not file.is_file():
            raise RunError(
                f"{folder} holds no finished run (there is no {RESULT_FILE}); run the same 's3local run' again"
            )
        summary = read_result(file, RunSummary)
        config = read_config(folder)
        for key in ("settings", "versions"):
            if not isinstance(config.get(key), dict):
                raise RunError(f"{config_file} is damaged ({key} is missing); run again under another --name")
        return cls(folder, summary, config)

    @property
    def task(self) -> Mapping[str, Any]:
        """The task's description, as in task.yaml."""
        task: Mapping[str, Any] = self.config["task"]
        return task

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels, in order; empty for question answering."""
        return tuple(label["name"] for label in self.task["labels"])

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the texts of a row."""
        return tuple(self.task["fields"])

    @property
    def model(self) -> Path:
        """The folder of the selected student."""
        return self.folder / self.summary.selected / "student"

    @cached_property
    def candidates(self) -> list[Candidate]:
        """The synthetic rows that the final student was trained on, with their origin.

        Raises ``InputError`` for a line that is no such row.
        """
        file = self.folder / FINAL / "dataset.jsonl"
        found = []
        for number, row in read_jsonl(file):
            try:
                candidate = Candidate.from_row(row)
                texts = [candidate.example.id, candidate.example.label, *map(candidate.example.fields.get, self.fields)]
                if not all(isinstance(text, str) for text in texts):
                    raise ValueError("an id, texts and a label belong there")
            except (KeyError, ValueError, TypeError) as exc:
                problem = f"damaged ({type(exc).__name__}: {exc}); run again under another --name"
                raise InputError(file, problem, line=number) from exc
            found.append(candidate)
        return found

    @cached_property
    def held_out(self) -> HeldOut | None:
        """The cross-validated predictions of model selection; None where there are none for the selected classifier."""
        verdict = self.summary.model_selection.verdict
        if verdict is None or not self.labels or self.summary.selected not in (AVERAGED, GOLD_ONLY):
            return None
        place = SHARES.index(verdict.share)
        files = sorted((self.folder / "model-selection").glob("fold-*.json"))
        folds = [read_result(file, FoldResult) for file in files]
        logits = np.concatenate([np.array(fold.logits[place]) for fold in folds if fold.logits is not None])
        right = np.concatenate([fold.scores[place] for fold in folds])
        scores = logits / self.summary.selected_student.temperature
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return HeldOut(powers.max(axis=1) / powers.sum(axis=1), right)

    @property
    def teacher(self) -> str:
        """The id of the teacher."""
        return str(self.config.get("teacher", {}).get("id", "unknown"))

    @property
    def student_body(self) -> str:
        """The id of the pretrained model that became the student, or the folder that was named."""
        return str(self.config["settings"].get("student") or default_model("student").id)


def licence_of(model: str) -> str:
    """The licence of a model by its id; "unknown" if it is not one of the manifest, and was not imported."""
    known = known_models().get(model)
    return "unknown" if known is None else known.licence


def held_out_threshold(folder: Path, target: float) -> Threshold:
    """The lowest threshold at which the selected classifier of a run reaches the accuracy ``target`` on held-out rows.

    Raises ``RunError`` if the folder is no finished run, the run has no held-out predictions, or none reaches it.
    """
    run = FinishedRun.read(folder)
    if not run.labels:
        raise RunError(f"{folder} answers questions; --target-accuracy needs a classifier")
    held_out = run.held_out
    if held_out is None:
        raise RunError(
            f"{folder} has no held-out predictions of its selected classifier, which --target-accuracy needs; "
            "they come from model selection. Name a --threshold instead"
        )
    found = threshold_for(target, held_out.confidences, held_out.right)
    if found is None:
        least, n_rows = rows_needed(target), len(held_out.right)
        best = best_accuracy(held_out.confidences, held_out.right, least)
        if best is None:
            raise RunError(
                f"{n_rows} held-out dev rows are too few for an accuracy of {100 * target:g} %, which needs {least:g} "
                "that are answered; choose a lower --target-accuracy, a --threshold, or label more rows"
            )
        raise RunError(
            f"no threshold reaches an accuracy of {100 * target:g} % on {least:g} or more of the {n_rows} held-out dev "
            f"rows; the best is {100 * best.accuracy:.1f} %, with {100 * best.coverage:.0f} % of the rows answered"
        )
    return found


def in_words(found: Threshold) -> str:
    """What a threshold does, as a sentence."""
    return (
        f"threshold {found.threshold:.3f}: of {found.n_rows} held-out dev rows the classifier answers "
        f"{100 * found.coverage:.0f} %, and is right on {100 * found.accuracy:.1f} % of these "
        f"({100 * found.low:.0f} to {100 * found.high:.0f} %)"
    )
