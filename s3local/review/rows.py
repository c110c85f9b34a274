"""The rows that a page shows, in the order in which it asks for decisions on them.

A row stays the line of JSON that it is in its file until it is shown: 100,000 rows need some 100 MB. What filters and
order need lies beside them as arrays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from s3local.exceptions import RunError
from s3local.records import SPAN, Example, read_jsonl
from s3local.results import FINAL, RESULT_FILE, RunSummary, read_result
from s3local.runner.state import read_config
from s3local.storage import parsed_json, sha256_of, translated_errors
from s3local.text import is_blank
from s3local.wording import shown

DATASET_FILE = f"{FINAL}/dataset.jsonl"

RETRAINED = "retrained"
"""The key of a configuration that says which run was trained again, with which decisions; its folder begins with it."""

REAL_TEXT_REASONS = re.compile(r"(copies|overlaps|near)_(dev|test)$")
"""Reasons of drops that compare a row with dev or test: nobody may take such a row back, or see which row it copies."""

KEPT, RELABELLED = "as requested", "relabelled by the judges"
"""The reasons of rows that are in the dataset: how they came by their label."""

_STAGE = re.compile(r"(round-\d+)-")

Mode = Literal["review", "label"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Rows to decide on.

    ``labels`` are the names of the task's labels with their descriptions; none for question answering. ``fields`` are
    those of a row, ``editable`` is the one whose text a person may change (None: none). ``ids`` (n_rows) name the rows,
    and ``lines`` are their JSON. ``label`` (n_rows,) is the number of each row's label, -1 for none; ``probability``
    (n_rows,) that of the label, nan where nobody said. ``group`` and ``reason`` (n_rows,) are numbers in
    ``group_names`` (rounds) and ``reason_names``. ``order`` are the rows' places, the most urgent
    first. Rows whose reason is ``hidden`` are shown only if they are asked for. ``told`` counts the rows of dev by
    label. ``extra`` gives what else to show of a row.
    """

    mode: Mode
    title: str
    labels: Sequence[tuple[str, str]]
    fields: Sequence[str]
    editable: str | None
    ids: Sequence[str]
    lines: Sequence[str]
    label: NDArray[np.int64]
    probability: NDArray[np.float32]
    group: NDArray[np.int64]
    group_names: Sequence[str]
    reason: NDArray[np.int64]
    reason_names: Sequence[str]
    order: NDArray[np.int64]
    hidden: frozenset[int] = frozenset()
    told: Mapping[str, int] = field(default_factory=dict)
    extra: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda row: {}

    @property
    def label_names(self) -> list[str]:
        """The names of the labels."""
        return [name for name, _ in self.labels]

    def content(self, place: int) -> dict[str, Any]:
        """The row in this place, as it is in its file."""
        row: dict[str, Any] = json.loads(self.lines[place])
        return row

    def texts(self, place: int) -> dict[str, str]:
        """The text of each field of a row."""
        row = self.content(place)
        return {name: row[name] for name in self.fields}


def read_finished(folder: Path) -> RunSummary:
    """The result of a finished run. Raises ``RunError`` if the run has not ended, or its result is damaged."""
    if RETRAINED in read_config(folder):
        raise RunError(f"{folder} was made from {folder.parent}, which has all decisions; name that run")
    file = folder / RESULT_FILE
    if not file.is_file():
        raise RunError(f"{folder} is not finished: there is no {RESULT_FILE}; the same 's3local run' goes on with it")
    return read_result(file, RunSummary)


def dataset_checksum(folder: Path, summary: RunSummary) -> str:
    """The checksum of the dataset of a run, as decisions name it.

    Raises ``RunError`` if the dataset is missing, or is not the one that the run wrote.
    """
    file = folder / DATASET_FILE
    with translated_errors(file, "read"):
        if not file.is_file():
            raise RunError(f"{file} is missing; run again under another --name")
        found = sha256_of(file)
    if found != summary.dataset_sha256:
        raise RunError(f"{file} was changed after the run had written it; put it back, or run again")
    return found[:16]


def sheet_of_run(folder: Path) -> Sheet:
    """The synthetic rows of a finished run: those of its dataset, and those that it dropped by rules.

    The most doubtful come first: those whose label the judges find least probable.
    Raises ``RunError`` for a run that has not ended, or is damaged.
    """
    summary = read_finished(folder)
    dataset_checksum(folder, summary)
    try:
        return _sheet_of(folder, summary, read_config(folder)["task"])
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as exc:
        problem = f"the key {exc} is missing" if isinstance(exc, KeyError) else f"{exc}"
        raise RunError(f"{folder} is damaged ({problem}); run again under another --name") from exc


def _sheet_of(folder: Path, summary: RunSummary, task: Mapping[str, Any]) -> Sheet:
    labels = [(label["name"], label["description"]) for label in task.get("labels", ())]
    fields = list(task["fields"])
    table = _Table([name for name, _ in labels])
    stages = [entry.stage for entry in summary.rounds]
    lines_of = _lines(folder / DATASET_FILE)
    for line in lines_of:
        row = json.loads(line)
        origin = row["origin"]
        chances = origin.get("probabilities")
        label = row.get("label", SPAN)
        reason = RELABELLED if origin.get("asked", label) != label else KEPT
        table.add(row["id"], line, label, chances[label] if chances else np.nan, stages, reason)
    n_dataset = len(table.ids)
    for stage in stages:
        file = folder / stage / "dropped.jsonl"
        for line in _lines(file) if file.is_file() else ():
            row = json.loads(line)
            if REAL_TEXT_REASONS.match(row["reason"]) or any(is_blank(row[name]) for name in fields):
                continue
            table.add(row["id"], line, row.get("label", SPAN), np.nan, stages, f"dropped: {_words(row['reason'])}")
    doubt = np.nan_to_num(np.array(table.probability), nan=2.0)
    doubt[n_dataset:] = 3.0
    names = list(dict.fromkeys([KEPT, *([RELABELLED] if RELABELLED in table.reason else []), *table.reason]))
    return Sheet(
        mode="review",
        title=summary.task,
        labels=labels,
        fields=fields,
        editable=task.get("generated") or fields[-1],
        ids=table.ids,
        lines=table.lines,
        label=np.array(table.label, np.int64),
        probability=np.array(table.probability, np.float32),
        group=np.array(table.group, np.int64),
        group_names=stages,
        reason=np.array([names.index(name) for name in table.reason], np.int64),
        reason_names=names,
        order=np.argsort(doubt, kind="stable"),
        hidden=frozenset(number for number, name in enumerate(names) if name.startswith("dropped: ")),
        extra=_Origins(folder, stages, fields).of,
    )


def sheet_of_texts(
    examples: Sequence[Example],
    *,
    title: str,
    labels: Sequence[tuple[str, str]],
    fields: Sequence[str],
    places: Sequence[str],
    why: Sequence[str],
    told: Mapping[str, int],
) -> Sheet:
    """Real texts without labels, in the order in which they should be labelled.

    ``places`` says where each text comes from and ``why`` why it stands where it does, both parallel to ``examples``.
    """
    reasons = list(dict.fromkeys(why))
    count = len(examples)
    return Sheet(
        mode="label",
        title=title,
        labels=labels,
        fields=fields,
        editable=None,
        ids=[row.id for row in examples],
        lines=[
            json.dumps({"id": row.id, **row.fields, "origin": place}, ensure_ascii=False)
            for row, place in zip(examples, places, strict=True)
        ],
        label=np.full(count, -1, np.int64),
        probability=np.full(count, np.nan, np.float32),
        group=np.zeros(count, np.int64),
        group_names=[],
        reason=np.array([reasons.index(name) for name in why], np.int64),
        reason_names=reasons,
        order=np.arange(count),
        told=told,
        extra=lambda row: {"source": row["origin"]},
    )


class _Table:
    """Rows of a run, collected column by column."""

    def __init__(self, labels: Sequence[str]) -> None:
        self._labels = list(labels)
        self.ids: list[str] = []
        self.lines: list[str] = []
        self.label: list[int] = []
        self.probability: list[float] = []
        self.group: list[int] = []
        self.reason: list[str] = []

    def add(self, name: str, line: str, label: str, probability: float, stages: Sequence[str], reason: str) -> None:
        stage = _STAGE.match(name)
        self.ids.append(name)
        self.lines.append(line)
        self.label.append(self._labels.index(label) if label in self._labels else -1)
        self.probability.append(probability)
        self.group.append(stages.index(stage[1]) if stage and stage[1] in stages else 0)
        self.reason.append(reason)


class _Origins:
    """Where synthetic rows come from, in words and rows for people."""

    def __init__(self, folder: Path, stages: Sequence[str], fields: Sequence[str]) -> None:
        self._fields = fields
        self._errors: dict[tuple[str, str], Mapping[str, Any]] = {}
        for stage in stages:
            file = folder / stage / "extrapolated.jsonl"
            if file.is_file():
                self._errors.update({(stage, row["id"]): row for _, row in read_jsonl(file)})

    def of(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """What to show of a row beyond its texts."""
        origin = row["origin"]
        stage = _STAGE.match(row["id"])
        error = self._errors.get((stage[1] if stage else "", str(origin.get("error"))))
        shown_row: dict[str, Any] = {
            "asked": origin.get("asked", row.get("label")),
            "probabilities": origin.get("probabilities"),
            "rationales": origin.get("rationales", []),
        }
        if "detail" in row:
            shown_row["detail"] = row["detail"]
        if "answer" in row:
            shown_row["answer"], shown_row["answer_start"] = row["answer"], row["answer_start"]
        if error is not None:
            shown_row["error"] = {
                "fields": {name: error[name] for name in self._fields},
                "label": error.get("label"),
                "predicted": error["predicted"],
            }
        return shown_row


def _lines(file: Path) -> list[str]:
    """The lines of a JSON Lines artefact. Raises ``RunError`` if one is not JSON or lacks what a row has."""
    lines = []
    with translated_errors(file, "read"), file.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                row = parsed_json(line)
                if not isinstance(row["id"], str) or not isinstance(row["origin"], dict):
                    raise ValueError(f"id {shown(row['id'])}")
            except (ValueError, KeyError, TypeError) as exc:
                raise RunError(f"{file}, line {number}: damaged ({exc}); run again under another --name") from exc
            lines.append(line.rstrip("\n"))
    return lines


def _words(reason: str) -> str:
    return reason.replace("_", " ")
