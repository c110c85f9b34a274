"""What ``check`` tells about a task's gold rows: counts, lengths, repeated rows, and warnings in words.

Everything here is computed from rows that are already valid. Knows nothing of files, models or runs, and a run needs
nothing from here: the loop must not see the test rows.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s3local.records import Example
from s3local.task.model import Length, Task, quantile

FEW_DEV_ROWS = 8
"""Fewer dev rows of a label than this leave too few mistakes to learn from."""
IMBALANCE = 3.0
"""A label with this many times the rows of another is worth a warning."""
WIDE_MARGIN = 0.10
"""An accuracy known only to within this much, 95 times in 100, is worth a warning."""
MAX_NAMED_IDS = 3


@dataclass(frozen=True, slots=True)
class Spread:
    """The shortest, the 5 %, 50 % and 95 % quantiles, and the longest of some lengths."""

    min: int
    low: int
    median: int
    high: int
    max: int


@dataclass(frozen=True, slots=True)
class Repeated:
    """Rows whose texts are equal but for case and white space: their ids and labels, in file order."""

    ids: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def conflicting(self) -> bool:
        """Whether the same text carries different labels."""
        return len(set(self.labels)) > 1


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """One file of rows: how many, how many of each label (0 included), how long the texts are, what is repeated.

    Lengths are those of the texts that the teacher shall write; ``contexts`` counts the distinct texts that it is
    given, 0 where it is given none. Where the task asks for spans, all rows count for the one label "answer".
    """

    rows: int
    per_label: Mapping[str, int]
    contexts: int
    characters: Spread
    words: Spread
    repeated: tuple[Repeated, ...]


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """Both files of a task side by side.

    ``shared`` holds the (dev id, test id) of each test row that is also in dev. ``length`` is what new texts may
    have. ``warnings`` are whole sentences, none of which stops a run.
    """

    dev: SplitSummary
    test: SplitSummary | None
    shared: tuple[tuple[str, str], ...]
    length: Length
    warnings: tuple[str, ...]

    def to_row(self) -> dict[str, Any]:
        """The summary as a dictionary of plain JSON values."""
        return {**dataclasses.asdict(self), "length": self.length.model_dump()}


def normalized(text: str) -> str:
    """``text`` without the differences of case and white space that do not make it another text."""
    return " ".join(text.casefold().split())


def summarize(task: Task, dev: Sequence[Example], test: Sequence[Example] | None = None) -> TaskSummary:
    """Look over the gold rows; ``test`` None means that there is no test file. Raises ``ValueError`` without rows."""
    first_dev_id: dict[str, str] = {}
    for row in dev:
        first_dev_id.setdefault(normalized(row.text), row.id)
    keys = [(normalized(row.text), row.id) for row in test or ()]
    shared = tuple((first_dev_id[key], row_id) for key, row_id in keys if key in first_dev_id)
    length = task.length_of_texts(dev)
    dev_summary = _summarize_split(task, dev)
    test_summary = None if test is None else _summarize_split(task, test)
    written = [(row.id, row.fields[task.target_field]) for row in dev]
    warnings = [*_dev_warnings(dev_summary), *_length_warnings(length, written), *_test_warnings(test_summary, shared)]
    return TaskSummary(dev_summary, test_summary, shared, length, tuple(warnings))


def _summarize_split(task: Task, rows: Sequence[Example]) -> SplitSummary:
    counts = Counter(row.label for row in rows)
    same: dict[str, list[Example]] = {}
    for row in rows:
        same.setdefault(normalized(row.text), []).append(row)
    return SplitSummary(
        rows=len(rows),
        per_label={name: counts[name] for name in task.groups},
        contexts=len({row.fields[name] for row in rows for name in task.source_fields}),
        characters=_spread([len(row.fields[task.target_field]) for row in rows]),
        words=_spread([len(row.fields[task.target_field].split()) for row in rows]),
        repeated=tuple(
            Repeated(tuple(row.id for row in group), tuple(row.label for row in group))
            for group in same.values()
            if len(group) > 1
        ),
    )


def _spread(lengths: Sequence[int]) -> Spread:
    low, median, high = (quantile(lengths, share) for share in (0.05, 0.5, 0.95))
    return Spread(min(lengths), low, median, high, max(lengths))


def _dev_warnings(dev: SplitSummary) -> list[str]:
    warnings = [
        f"dev has only {count} {_rows(count)} of the label {name}; {FEW_DEV_ROWS} or more are better"
        for name, count in dev.per_label.items()
        if count < FEW_DEV_ROWS
    ]
    most, fewest = max(dev.per_label.values()), min(dev.per_label.values())
    if most >= IMBALANCE * fewest:
        warnings.append(f"dev is out of balance: one label has {most} rows, another {fewest}")
    for group in dev.repeated:
        if group.conflicting:
            labels = " and ".join(dict.fromkeys(group.labels))
            warnings.append(f"dev has one text under different labels, {labels}: {_named(group.ids)}")
        else:
            warnings.append(f"dev has one text {len(group.ids)} times: {_named(group.ids)}")
    return warnings


def _length_warnings(length: Length, dev: Sequence[tuple[str, str]]) -> list[str]:
    """``dev`` holds the id and the written text of each row."""
    outside = [row_id for row_id, text in dev if not length.allows(text)]
    if len(outside) <= len(dev) / 10:
        return []
    allowed = f"{length.min} to {length.max} {length.unit}"
    return [f"{len(outside)} of {len(dev)} dev rows are outside the length of {allowed}: {_named(outside)}"]


def _test_warnings(test: SplitSummary | None, shared: Sequence[tuple[str, str]]) -> list[str]:
    if test is None:
        return ["there are no test rows, so nothing can be said about how good the result is"]
    warnings = [f"test has no row of the label {name}" for name, count in test.per_label.items() if count == 0]
    if shared:
        verb = "row is" if len(shared) == 1 else "rows are"
        named = _named([test_id for _, test_id in shared])
        warnings.append(f"{len(shared)} test {verb} also in dev, which makes the result look too good: {named}")
    margin = 1.96 * math.sqrt(0.25 / test.rows)
    if margin > WIDE_MARGIN:
        points = round(100 * margin)
        warnings.append(
            f"test has {test.rows} {_rows(test.rows)}, so an accuracy is only known to about ±{points} points"
        )
    return warnings


def _rows(count: int) -> str:
    return "row" if count == 1 else "rows"


def _named(ids: Sequence[str]) -> str:
    more = "" if len(ids) <= MAX_NAMED_IDS else f" and {len(ids) - MAX_NAMED_IDS} more"
    return ", ".join(ids[:MAX_NAMED_IDS]) + more
