"""The rows of a run for the list in its report: all of them as a compressed block, the first ones as plain values."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from s3local.records import Candidate, Example
from s3local.report.page import visible
from s3local.report.run_record import RunRecord
from s3local.results import Place

MAX_ROWS = 100_000
"""Rows in a report. A browser shows these without a pause; more of them would make the file hard to open."""
PLAIN_ROWS = 40
"""Rows that can be read without JavaScript."""
COMPRESSION = 6

YOURS, KEPT, DROPPED = "your row", "kept", "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedRow:
    """A row of the list.

    ``source`` is ``YOURS``, ``KEPT`` or ``DROPPED``. ``label`` is its label, "" for an answer; ``asked`` the label that
    the teacher was asked for, where another one is likelier. ``predicted`` is set for rows of yours that are predicted
    wrongly. ``probability`` is that of its label, or of the prediction; ``nearest`` the id of the nearest row of the
    other side and ``cosine`` how near it is; ``parent`` the id of the row that it was extrapolated from.
    """

    id: str
    source: str
    stage: str
    texts: Sequence[str]
    label: str = ""
    asked: str = ""
    predicted: str = ""
    answer: str = ""
    probability: float | None = None
    nearest: str = ""
    cosine: float | None = None
    parent: str = ""
    reason: str = ""
    detail: str = ""


COLUMNS = tuple(name for name in ListedRow.__slots__ if name != "texts")
_CODED = ("source", "stage", "label", "asked", "predicted", "reason")
"""Columns with few values: the block holds them as numbers."""


@dataclass(frozen=True, slots=True)
class RowList:
    """The rows of a run in the list's order, and how many there was no room for (``left_out``).

    ``choices`` are the stages, labels and reasons that occur.
    """

    fields: Sequence[str]
    rows: Sequence[ListedRow]
    left_out: int
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def plain(self) -> Sequence[ListedRow]:
        """The rows that are shown without JavaScript."""
        return self.rows[:PLAIN_ROWS]

    def block(self) -> str:
        """All rows as columns: JSON, gzip, base64. Control characters are visible, as elsewhere on the page."""
        columns: dict[str, Any] = {}
        names: dict[str, list[str]] = {}
        for name in COLUMNS:
            values = [getattr(row, name) for row in self.rows]
            if name in _CODED:
                known = {value: number for number, value in enumerate(dict.fromkeys(values))}
                names[name] = [visible(value) for value in known]
                columns[name] = [known[value] for value in values]
            elif name in ("probability", "cosine"):
                columns[name] = values
            else:
                columns[name] = [visible(value) for value in values]
        columns["texts"] = [[visible(row.texts[place]) for row in self.rows] for place in range(len(self.fields))]
        content = {"fields": [visible(name) for name in self.fields], "names": names, "columns": columns}
        packed = gzip.compress(
            json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(), COMPRESSION, mtime=0
        )
        return base64.b64encode(packed).decode()


def list_rows(record: RunRecord, predictions: Mapping[str, tuple[str, float]], most: int = MAX_ROWS) -> RowList:
    """The dev rows, the kept rows and the dropped texts of a run, ``most`` of them at most.

    ``predictions`` are the predicted label and its probability of each dev row, by its id.
    """
    target = record.target_field
    fields = [target, *(name for name in record.task["fields"] if name != target)]
    rows = [
        *(_yours(record, row, fields, predictions.get(row.id)) for row in record.dev),
        *(_kept(record, row, entry.stage, fields) for entry in record.rounds for row in entry.kept),
    ]
    dropped = _dropped(record, fields)
    total = len(rows) + sum(len(entry.dropped) for entry in record.rounds)
    for row in dropped:
        if len(rows) >= most:
            break
        rows.append(row)
    rows = rows[:most]
    choices = {
        name: [value for value in dict.fromkeys(getattr(row, name) for row in rows) if value]
        for name in ("stage", "label", "reason")
    }
    return RowList(fields, rows, total - len(rows), choices)


def _yours(record: RunRecord, row: Example, fields: Sequence[str], prediction: tuple[str, float] | None) -> ListedRow:
    predicted, probability = prediction or ("", None)
    answers = [answer.text for answer in row.answers]
    right = predicted in answers if answers else predicted == row.label
    return ListedRow(
        id=row.id,
        source=YOURS,
        stage="",
        texts=_texts(row, fields),
        label="" if answers else row.label,
        answer=" / ".join(answers),
        predicted="" if right else predicted,
        probability=probability,
        **_neighbour(record.row_map.dev.get(row.id) if record.row_map else None),
    )


def _kept(record: RunRecord, row: Candidate, stage: str, fields: Sequence[str]) -> ListedRow:
    example, origin = row.example, row.origin
    asked, probabilities = origin.get("asked", ""), origin.get("probabilities") or {}
    return ListedRow(
        id=example.id,
        source=KEPT,
        stage=stage,
        texts=_texts(example, fields),
        label="" if example.answers else example.label,
        asked=asked if asked != example.label else "",
        answer=" / ".join(answer.text for answer in example.answers),
        probability=probabilities.get(example.label),
        parent=str(origin.get("error") or origin.get("context") or ""),
        **_neighbour(record.row_map.synthetic.get(example.id) if record.row_map else None),
    )


def _dropped(record: RunRecord, fields: Sequence[str]) -> Iterator[ListedRow]:
    for entry in record.rounds:
        for drop in entry.dropped:
            example = drop.candidate.example
            yield ListedRow(
                id=example.id,
                source=DROPPED,
                stage=entry.stage,
                texts=_texts(example, fields),
                label="" if example.answers else example.label,
                answer=" / ".join(answer.text for answer in example.answers),
                parent=str(drop.candidate.origin.get("error") or drop.candidate.origin.get("context") or ""),
                reason=reason_in_words(drop.reason),
                detail=drop.detail,
            )


def reason_in_words(reason: str) -> str:
    """The reason of a drop, such as "near duplicate"."""
    return reason.replace("_", " ")


def _texts(row: Example, fields: Sequence[str]) -> list[str]:
    return [row.fields.get(name, "") for name in fields]


def _neighbour(place: Place | None) -> dict[str, Any]:
    return {} if place is None else {"nearest": place.nearest, "cosine": place.cosine}
