"""``check``: counts, lengths, repeated rows of a task's gold rows, and warnings as sentences.

The rows are valid already. A run uses nothing of this module, because it must not see the labels of test rows.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s3local.records import Example, Row
from s3local.task.model import Length, Task, length_in, quantile
from s3local.text import normal_form
from s3local.wording import counted, listed, shown

FEW_DEV_ROWS = 8
"""With fewer dev rows of a label, there are too few errors to extrapolate."""
IMBALANCE = 3.0
"""Warn if a label has this many times the rows of another."""
WIDE_MARGIN = 0.10
"""Warn if the 95 % interval of an accuracy on test may be wider than plus or minus this."""
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
    """Rows with the same text but for case, white space and punctuation: their ids and labels, in file order."""

    ids: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def conflicting(self) -> bool:
        """Whether the same text carries different labels."""
        return len(set(self.labels)) > 1


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """One file of rows: how many, how many of each label (0 included), lengths of texts, repeated texts.

    Lengths are those of the target field. ``contexts`` counts the distinct source texts (0 if the task has none). Where
    the task asks for spans, all rows count for the one label "answer".
    """

    rows: int
    per_label: Mapping[str, int]
    contexts: int
    characters: Spread
    words: Spread
    repeated: tuple[Repeated, ...]


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """Both files of a task.

    ``shared`` holds (dev id, test id) of each test row that is also in dev. ``length`` is the allowed length of new
    texts. ``warnings`` are sentences; none of them stops a run.
    """

    dev: SplitSummary
    test: SplitSummary | None
    shared: tuple[tuple[str, str], ...]
    length: Length
    warnings: tuple[str, ...]

    def to_row(self) -> Row:
        """The summary as a dictionary of plain JSON values."""
        return {**dataclasses.asdict(self), "length": self.length.model_dump()}


def summarize(task: Task, dev: Sequence[Example], test: Sequence[Example] | None = None) -> TaskSummary:
    """Summarize the gold rows; ``test`` is None if there is no test file. Raises ``ValueError`` without rows."""
    first_dev_id: dict[tuple[str, ...], str] = {}
    for row in dev:
        first_dev_id.setdefault(_key(row), row.id)
    keys = [(_key(row), row.id) for row in test or ()]
    shared = tuple((first_dev_id[key], row_id) for key, row_id in keys if key in first_dev_id)
    length = task.length_of_texts(dev)
    dev_summary = _summarize_split(task, dev)
    test_summary = None if test is None else _summarize_split(task, test)
    written = [(row.id, row.fields[task.target_field]) for row in dev]
    warnings = [*_dev_warnings(dev_summary), *_length_warnings(length, written), *_test_warnings(test_summary, shared)]
    return TaskSummary(dev_summary, test_summary, shared, length, tuple(warnings))


def _key(row: Example) -> tuple[str, ...]:
    """Equal for rows with the same texts; a text without letters, digits and symbols stays as it is."""
    return tuple(normal_form(text) or text for text in row.fields.values())


def _summarize_split(task: Task, rows: Sequence[Example]) -> SplitSummary:
    counts = Counter(row.label for row in rows)
    written = [row.fields[task.target_field] for row in rows]
    same: dict[tuple[str, ...], list[Example]] = {}
    for row in rows:
        same.setdefault(_key(row), []).append(row)
    return SplitSummary(
        rows=len(rows),
        per_label={name: counts[name] for name in task.groups},
        contexts=len({row.fields[name] for row in rows for name in task.source_fields}),
        characters=_spread([length_in("characters", text) for text in written]),
        words=_spread([length_in("words", text) for text in written]),
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
        f"dev has only {counted(count, 'row')} of the label {shown(name)}; {FEW_DEV_ROWS} or more are better"
        for name, count in dev.per_label.items()
        if count < FEW_DEV_ROWS
    ]
    most, fewest = max(dev.per_label.values()), min(dev.per_label.values())
    if most >= IMBALANCE * fewest:
        warnings.append(f"dev is unbalanced: one label has {counted(most, 'row')}, another {fewest}")
    for group in dev.repeated:
        if group.conflicting:
            labels = " and ".join(map(shown, dict.fromkeys(group.labels)))
            warnings.append(f"dev has the same text with different labels, {labels}: {_named(group.ids)}")
        else:
            warnings.append(f"dev has the same text {len(group.ids)} times: {_named(group.ids)}")
    return warnings


def _length_warnings(length: Length, dev: Sequence[tuple[str, str]]) -> list[str]:
    """``dev`` holds the id and the target text of each row."""
    outside = [row_id for row_id, text in dev if not length.allows(text)]
    if len(outside) <= len(dev) / 10:
        return []
    allowed = f"{length.min} to {length.max} {length.unit}"
    return [f"{len(outside)} of {len(dev)} dev rows are outside the allowed length, {allowed}: {_named(outside)}"]


def _test_warnings(test: SplitSummary | None, shared: Sequence[tuple[str, str]]) -> list[str]:
    if test is None:
        return ["there are no test rows, so the final accuracy cannot be measured"]
    warnings = [f"test has no row of the label {shown(name)}" for name, count in test.per_label.items() if count == 0]
    if shared:
        found = f"{counted(len(shared), 'test row')} {'is' if len(shared) == 1 else 'are'} also in dev"
        named = _named([test_id for _, test_id in shared])
        warnings.append(f"{found}, which makes the measured accuracy too high: {named}")
    margin = 1.96 * math.sqrt(0.25 / test.rows)
    if margin > WIDE_MARGIN:
        points = round(100 * margin)
        warnings.append(f"test has {counted(test.rows, 'row')}, so an accuracy is only known to about ±{points} points")
    return warnings


def _named(ids: Sequence[str]) -> str:
    return listed(ids, MAX_NAMED_IDS)
