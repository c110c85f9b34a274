"""Rows and the decisions on them: what a page may ask and do. Every method may be called from any thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3local.review.decisions import REJECTIONS, Decision, DecisionLog, Decisions
from s3local.review.rows import Sheet
from s3local.task.rows import MAX_TEXT_CHARACTERS
from s3local.text import is_blank
from s3local.wording import shown, unknown

MOST_ROWS = 200
"""Rows that are sent at a time."""

STATES = ("open", "keep", "drop", "relabel", "edit", "label", "skip")
OPEN = 0


class OutdatedError(Exception):
    """A decision on a row that was decided on in the meantime, in another window."""


class RefusedError(ValueError):
    """A decision that makes no sense; the message says what belongs there."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows to show: all that fit. None, or no number in ``groups`` and ``reasons``, means any.

    ``state``: "open" has no decision, "decided" has one, or the name of a decision. ``label`` is the number of the
    label that the row has now. ``low`` and ``high`` bound the probability of its label. ``words`` is a text
    that a row holds, whatever its case. ``by_place``: in the order of the file, not the most urgent first.
    """

    state: str = "open"
    label: int | None = None
    groups: Sequence[int] = ()
    reasons: Sequence[int] = ()
    low: float = 0.0
    high: float = 1.0
    words: str = ""
    by_place: bool = False


Suggest = Callable[[Mapping[str, str]], tuple[str, float]]
"""The model's label for the texts of a row, and its probability."""
After = Callable[[Decision | None, Decision | None], None]
"""Called under the lock with the decision on a row that held before, and the one that holds now."""


class Desk:
    """The rows of a sheet and the log of decisions on them."""

    def __init__(
        self, sheet: Sheet, log: DecisionLog, *, suggest: Suggest | None = None, after: After | None = None
    ) -> None:
        self.sheet = sheet
        self.can_suggest = suggest is not None
        self._log = log
        self._suggest = suggest
        self._after = after
        self._lock = threading.RLock()
        self._places = {name: place for place, name in enumerate(sheet.ids)}
        self._state = np.zeros(len(sheet.ids), np.int8)
        self._label = sheet.label.copy()
        self._searchable: list[str] | None = None
        self._asked: dict[int, str] = {}
        for name in log.decisions.holding():
            if name in self._places:
                self._refresh(self._places[name])

    @property
    def decisions(self) -> Decisions:
        """All decisions of the log."""
        return self._log.decisions

    @property
    def path(self) -> Path:
        """The file of the log."""
        return self._log.path

    # Questions

    def order(self, filters: Filters) -> list[int]:
        """The places of the rows that fit, in the order in which to show them."""
        with self._lock:
            fits = self._fitting(filters)
        rows = np.arange(len(fits)) if filters.by_place else self.sheet.order
        return [int(place) for place in rows[fits[rows]]]

    def rows(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """The rows in these places, at most ``MOST_ROWS``. Raises ``RefusedError`` for a place without a row."""
        if len(places) > MOST_ROWS:
            raise RefusedError(f"{len(places)} rows were asked for, at most {MOST_ROWS} are sent at a time")
        with self._lock:
            return [self._shown(place) for place in places]

    def counts(self) -> dict[str, Any]:
        """How many rows are in each state, and how many decided rows have each label."""
        with self._lock:
            found = np.bincount(self._state, minlength=len(STATES))
            used = (self._state != OPEN) & (self._label >= 0)
            for name in REJECTIONS:
                used &= self._state != STATES.index(name)
            labels = np.bincount(self._label[used], minlength=len(self.sheet.labels))
            return {
                "states": dict(zip(STATES, found.tolist(), strict=True)),
                "labels": labels.tolist(),
                "version": len(self._log.decisions.entries),
            }

    def changes(self, since: int) -> list[dict[str, Any]]:
        """The rows of the decisions after the first ``since``, as they are now; the last ``MOST_ROWS`` at most."""
        with self._lock:
            names = dict.fromkeys(entry.row for entry in reversed(self._log.decisions.entries[max(0, since) :]))
            places = [self._places[name] for name in names if name in self._places]
            return [self._shown(place) for place in places[:MOST_ROWS]]

    def suggestion(self, place: int) -> dict[str, Any]:
        """What the model says of a row. From then on, decisions on this row tell that it was asked."""
        if self._suggest is None:
            raise RefusedError("no model was named; begin with --run")
        texts = self.sheet.texts(self._checked(place))
        label, probability = self._suggest(texts)
        with self._lock:
            self._asked[place] = label
        return {"label": label, "probability": probability}

    # Decisions

    def decide(
        self, place: int, action: str, seen: int, label: str | None = None, fields: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Write a decision on a row; the row as it is then.

        ``seen`` is the row's ``count`` that the person saw. Raises ``OutdatedError`` if there is a newer one,
        ``RefusedError`` for a decision that does not fit the row, ``StorageError`` if it cannot be written.
        """
        with self._lock:
            name = self.sheet.ids[self._checked(place)]
            decisions = self._log.decisions
            if seen != decisions.count(name):
                raise OutdatedError
            before = decisions.of(name)
            if action == "undo":
                if before is None:
                    raise RefusedError("there is no decision on this row to undo")
                decision = Decision(name, "undo")
            else:
                decision = self._decision(place, name, action, label, fields or {}, before)
            self._log.append(decision)
            self._refresh(place)
            if self._after is not None:
                self._after(before, decisions.of(name))
            return self._shown(place)

    def _decision(
        self,
        place: int,
        name: str,
        action: str,
        label: str | None,
        fields: Mapping[str, str],
        before: Decision | None,
    ) -> Decision:
        """The decision that a person means. What is not said stays as it is."""
        allowed = ("label", "skip") if self.sheet.mode == "label" else ("keep", "drop", "relabel", "edit")
        if action not in allowed or (action == "relabel" and not self.sheet.labels):
            raise RefusedError(unknown("decision", action, allowed))
        note: dict[str, Any] = {}
        if self.sheet.mode == "label":
            note["source"] = self.sheet.content(place)["origin"]
            if place in self._asked:
                note["suggested"] = self._asked[place]
        if action in REJECTIONS:
            return Decision(name, action, None, {}, note=note)  # type: ignore[arg-type]
        if label is None and self.sheet.labels:
            label = self._present_label(place)
        if self.sheet.labels and label not in self.sheet.label_names:
            raise RefusedError(unknown("label", str(label), self.sheet.label_names))
        if action == "edit":
            fields = {name: self._sound(name, text) for name, text in fields.items()}
            if not fields:
                raise RefusedError("an edit has a text")
        else:
            fields = before.fields if before is not None else {}
        if self.sheet.mode == "label":
            fields = self.sheet.texts(place)
        own = self.sheet.texts(place)
        if self.sheet.mode == "review":
            fields = {name: text for name, text in fields.items() if text != own[name]}
        return Decision(name, action, label, fields, note=note)  # type: ignore[arg-type]

    def _sound(self, name: str, text: object) -> str:
        """An edited text that may be trained on. Raises ``RefusedError``."""
        if name != self.sheet.editable:
            raise RefusedError(f"{shown(name)} cannot be edited")
        if not isinstance(text, str) or is_blank(text):
            raise RefusedError("the text is empty")
        if len(text) > MAX_TEXT_CHARACTERS:
            raise RefusedError(f"the text has {len(text):,} characters, at most {MAX_TEXT_CHARACTERS:,} are allowed")
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text):
            raise RefusedError("the text has a character that no file can hold")
        return text

    def _present_label(self, place: int) -> str | None:
        number = int(self._label[place])
        return self.sheet.label_names[number] if number >= 0 else None

    def _checked(self, place: int) -> int:
        if not 0 <= place < len(self.sheet.ids):
            raise RefusedError(f"there is no row {place}")
        return place

    def _refresh(self, place: int) -> None:
        """Let the arrays say what the log says."""
        decision = self._log.decisions.of(self.sheet.ids[place])
        self._state[place] = OPEN if decision is None else STATES.index(decision.action)
        self._label[place] = self.sheet.label[place]
        if decision is not None and decision.label in self.sheet.label_names:
            self._label[place] = self.sheet.label_names.index(decision.label)

    def _fitting(self, filters: Filters) -> NDArray[np.bool_]:
        sheet = self.sheet
        fits: NDArray[np.bool_]
        if filters.state == "open":
            fits = self._state == OPEN
        elif filters.state == "decided":
            fits = self._state != OPEN
        elif filters.state == "all":
            fits = np.ones(self._state.shape, np.bool_)
        elif filters.state in STATES:
            fits = self._state == STATES.index(filters.state)
        else:
            raise RefusedError(unknown("state", filters.state, (*STATES, "decided", "all")))
        if filters.label is not None:
            fits &= self._label == filters.label
        if filters.groups:
            fits &= np.isin(sheet.group, filters.groups)
        if filters.reasons:
            fits &= np.isin(sheet.reason, filters.reasons)
        elif sheet.hidden and filters.state == "open":
            fits &= ~np.isin(sheet.reason, list(sheet.hidden))
        if filters.low > 0:
            fits &= sheet.probability >= filters.low
        if filters.high < 1:
            fits &= sheet.probability <= filters.high
        if filters.words:
            wanted = filters.words.casefold()
            fits &= np.array([wanted in text for text in self._texts()], np.bool_)
        return fits

    def _texts(self) -> list[str]:
        """What a search looks through: the texts that the rows came with."""
        if self._searchable is None:
            places = range(len(self.sheet.ids))
            self._searchable = ["\n".join(self.sheet.texts(place).values()).casefold() for place in places]
        return self._searchable

    def _shown(self, place: int) -> dict[str, Any]:
        """A row as the page gets it."""
        sheet = self.sheet
        row = sheet.content(self._checked(place))
        decision = self._log.decisions.of(sheet.ids[place])
        edited = dict(decision.fields) if decision is not None else {}
        probability = float(sheet.probability[place])
        return {
            "place": place,
            "id": sheet.ids[place],
            "fields": {name: edited.get(name, row[name]) for name in sheet.fields},
            "edited": sorted(name for name in edited if edited[name] != row[name]),
            "label": self._present_label(place),
            "was": sheet.label_names[sheet.label[place]] if sheet.label[place] >= 0 else None,
            "probability": None if np.isnan(probability) else round(probability, 4),
            "group": sheet.group_names[sheet.group[place]] if sheet.group_names else None,
            "reason": sheet.reason_names[sheet.reason[place]],
            "state": STATES[int(self._state[place])],
            "seen": self._log.decisions.count(sheet.ids[place]),
            **sheet.extra(row),
        }
