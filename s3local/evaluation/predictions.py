"""A student's prediction of a labelled row, and its JSON Lines form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s3local.records import SPAN, Row


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a student predicts for the row ``id``, and with which calibrated ``probability``.

    ``gold`` is the row's own label; for a question it is all its answers, each of which is right, and ``start`` is the
    character of the context where the predicted answer begins.
    """

    id: str
    gold: str | tuple[str, ...]
    predicted: str
    probability: float
    start: int | None = None

    @property
    def label(self) -> str | None:
        """The row's own label; None for a question."""
        return self.gold if isinstance(self.gold, str) else None

    @property
    def right(self) -> bool | None:
        """Whether the predicted label is the row's own; None for an answer, which may be right in part."""
        return self.predicted == self.gold if isinstance(self.gold, str) else None

    def to_row(self) -> Row:
        """The prediction as a dictionary of plain JSON values."""
        own = {"label": self.gold} if isinstance(self.gold, str) else {SPAN: list(self.gold)}
        start = {} if self.start is None else {"predicted_start": self.start}
        return {"id": self.id, **own, "predicted": self.predicted, **start, "probability": round(self.probability, 4)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Prediction:
        """The inverse of ``to_row``. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        gold = row["label"] if "label" in row else tuple(row[SPAN])
        strings = (row["id"], row["predicted"], *((gold,) if isinstance(gold, str) else gold))
        if not strings[2:] or not all(isinstance(value, str) for value in strings):
            raise ValueError("an id, a label or answers, and what was predicted belong on each line")
        return cls(row["id"], gold, row["predicted"], float(row["probability"]), row.get("predicted_start"))
