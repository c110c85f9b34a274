"""The rows that pass between the stages, and their JSON Lines form.

A gold row is an ``Example``; a question on a context has answers as well. What the teacher writes is a ``Candidate``:
an example with its origin. A filter returns a ``FilterResult``: candidates that it kept and candidates that it dropped,
each with reason and score.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from s3local.exceptions import InputError
from s3local.storage import atomic_write, decoded_lines, translated_errors

Row: TypeAlias = dict[str, Any]
"""A JSON object: one row of a file."""

SPAN = "answer"
"""The label of every example that has answers: the student learns where the answer is, not a label."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A span of a context: its text, and the character of the context where it begins (from 0)."""

    text: str
    start: int

    def stands_in(self, context: str) -> bool:
        """Whether ``context`` has this text at this position."""
        return self.start >= 0 and context.startswith(self.text, self.start)


@dataclass(frozen=True, slots=True)
class Example:
    """One row of a task: an id, the text of each field in the task's order, and a label.

    Where the task asks for spans, ``answers`` are the correct spans of the context (any of them is right), and the
    label is ``SPAN``.
    """

    id: str
    fields: Mapping[str, str]
    label: str
    answers: tuple[Answer, ...] = ()

    @property
    def text(self) -> str:
        """All fields in order, joined by a line break: what embedders and rules read."""
        return "\n".join(self.fields.values())

    def to_row(self) -> Row:
        """A flat dictionary: id, each field under its own name, and label or answer with answer_start."""
        if not self.answers:
            return {"id": self.id, **self.fields, "label": self.label}
        texts, starts = [answer.text for answer in self.answers], [answer.start for answer in self.answers]
        return {
            "id": self.id,
            **self.fields,
            "answer": texts[0] if len(texts) == 1 else texts,
            "answer_start": starts[0] if len(starts) == 1 else starts,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Example:
        """The inverse of ``to_row``: keys other than id, label, answer and answer_start are fields.

        A row with answer_start has an answer: both are single values, or lists of the same length.
        """
        if "answer_start" not in row:
            return cls(row["id"], {key: row[key] for key in row if key not in ("id", "label")}, row["label"])
        texts, starts = row["answer"], row["answer_start"]
        pairs = [(texts, starts)] if isinstance(texts, str) else zip(texts, starts, strict=True)
        fields = {key: row[key] for key in row if key not in ("id", "answer", "answer_start")}
        return cls(row["id"], fields, SPAN, tuple(Answer(text, start) for text, start in pairs))


@dataclass(frozen=True, slots=True)
class Candidate:
    """An example written by the teacher, and where it comes from.

    ``origin`` holds plain JSON values, such as stage, shard, request, the error's id, the rationales in the prompt.
    """

    example: Example
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.example.text

    def to_row(self) -> Row:
        return {**self.example.to_row(), "origin": dict(self.origin)}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Candidate:
        """The inverse of ``to_row``. Raises ``ValueError`` for an origin that is no object."""
        if not isinstance(row["origin"], dict):
            raise ValueError("origin: keys with values belong there")
        return cls(Example.from_row({key: row[key] for key in row if key != "origin"}), row["origin"])


@dataclass(frozen=True, slots=True)
class Dropped:
    """A candidate that a filter removed.

    ``reason`` is a fixed word such as "too_short". ``score`` is the number that the rule compared; its meaning depends
    on the reason. ``detail`` says more in words, for instance which text is repeated.
    """

    candidate: Candidate
    reason: str
    score: float
    detail: str = ""

    def to_row(self) -> Row:
        return {**self.candidate.to_row(), "reason": self.reason, "score": self.score, "detail": self.detail}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Dropped:
        """The inverse of ``to_row``."""
        rest = {key: row[key] for key in row if key not in ("reason", "score", "detail")}
        return cls(Candidate.from_row(rest), row["reason"], float(row["score"]), row["detail"])


@dataclass(frozen=True, slots=True)
class FilterResult:
    """What a filter kept and what it dropped: together, all candidates that it got."""

    kept: list[Candidate]
    dropped: list[Dropped]

    def then(self, apply: Callable[[list[Candidate]], FilterResult]) -> FilterResult:
        """Apply the next filter to what this one kept; the result has the dropped candidates of both."""
        following = apply(self.kept)
        return FilterResult(following.kept, self.dropped + following.dropped)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write one JSON object a line, atomically. Raises ``StorageError``."""
    with atomic_write(path) as stream:
        for row in rows:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number from 1, object) for each line that is not blank.

    Raises ``InputError`` if there is no such file, and with the line for bytes that are not UTF-8 and as ``parse_row``
    does; ``StorageError`` if the file cannot be read.
    """
    with translated_errors(path, "read"):
        if not path.exists():
            raise InputError(path, "no such file; JSON Lines belong here, one object a line")
        with path.open("rb") as stream:
            yield from parse_jsonl(decoded_lines(stream, path), path)


def parse_jsonl(lines: Iterable[str], path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number from 1, object) for each of ``lines`` that is not blank; ``path`` is for messages.

    Raises ``InputError`` with the line as ``parse_row`` does.
    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, parse_row(line, path, number)


def parse_row(text: str, path: Path, line: int) -> Row:
    """The JSON object on one line of ``path``. Raises ``InputError`` for text that is no JSON, and as ``check_row``."""
    try:
        row = json.loads(text)
    except json.JSONDecodeError as exc:
        problem = f"not valid JSON: {exc.msg.removesuffix(' at')} at column {exc.colno}"
        raise InputError(path, problem, line=line) from exc
    except (ValueError, RecursionError) as exc:  # a number of thousands of digits, brackets nested as deep
        problem = "JSON with a number too long, or brackets nested too deeply"
        raise InputError(path, problem, line=line) from exc
    return check_row(row, path, line=line, escaped="\\u" in text)


def check_row(
    value: object, path: Path, *, line: int | None = None, row: int | None = None, escaped: bool = True
) -> Row:
    """``value``, which was read from JSON, if it is a row.

    Raises ``InputError`` for anything but an object, and for half of a surrogate pair, which cannot be written as
    UTF-8; only an ``escaped`` text can have it.
    """
    if not isinstance(value, dict):
        raise InputError(path, f"a JSON object belongs here, found {type(value).__name__}", line=line, row=row)
    if escaped:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as exc:
            half = ascii(exc.object[exc.start]).strip("'")
            raise InputError(path, f"found half a character ({half}); remove it", line=line, row=row) from exc
    return value


UNLABELLED = "unlabelled"
"""The method in the origin of a real row that came without a label."""


def is_unlabelled(candidate: Candidate) -> bool:
    """Whether the row is one of the task's unlabelled ones, whose label only the judges say."""
    return candidate.origin.get("method") == UNLABELLED
