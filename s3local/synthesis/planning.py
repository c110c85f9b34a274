"""Planned requests, the random draws that order them, and the candidates read from their completions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from s3local.records import Answer, Candidate, Example, Row
from s3local.seeds import seed_sequence
from s3local.synthesis.replies import PLAIN_CLEANER, ReplyCleaner, whole_sentences
from s3local.teacher.protocol import Completion, Request
from s3local.text import one_line

T = TypeVar("T")

_REQUESTS, _DRAWS = 0, 1
"""The last number of a purpose, see ``seed_sequence``."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A request, the label that was asked for, and the origin of the prompt.

    ``source_fields`` holds the fields that the teacher reads, ``answers`` the spans of them that answer the question
    it writes. If the origin has ``characters``, the prompt asked for a text of about that many.
    """

    request: Request
    label: str
    origin: Mapping[str, Any]
    source_fields: Mapping[str, str] = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()


def request_seeds(seed: Sequence[int], count: int) -> list[int]:
    """``count`` seeds for requests, derived from ``seed`` (the run's seed, the stage, the shard)."""
    return [int(value) for value in seed_sequence(*seed, _REQUESTS).generate_state(count, np.uint64)]


def random_generator(seed: Sequence[int]) -> np.random.Generator:
    """The generator that draws what the prompts of a plan with ``seed`` show."""
    return np.random.default_rng(seed_sequence(*seed, _DRAWS))


def shuffled_labels(wanted: Mapping[str, int], generator: np.random.Generator) -> list[str]:
    """Each label as often as ``wanted`` says, in random order."""
    labels = [label for label, count in wanted.items() for _ in range(count)]
    return [labels[place] for place in generator.permutation(len(labels)).tolist()]


def another_label(labels: Sequence[str], label: str, generator: np.random.Generator) -> str:
    """One of ``labels`` other than ``label``, drawn at random. Raises ``ValueError`` if there is none."""
    others = [name for name in labels if name != label]
    if not others:
        raise ValueError(f"there is no label other than {label!r}")
    return others[int(generator.integers(len(others)))]


def in_turn(items: Sequence[T], generator: np.random.Generator) -> Iterator[T]:
    """The items without end: all of them in random order, then all in another random order, and so on."""
    while items:
        yield from (items[place] for place in reversed(generator.permutation(len(items)).tolist()))


def length_of(like: str | None) -> dict[str, int]:
    """The entry of a text's origin that says how long it was meant to be: as long as ``like``."""
    return {} if like is None else {"characters": len(like)}


def sample(items: Sequence[T], count: int, generator: np.random.Generator) -> list[T]:
    """``count`` of ``items`` without replacement, or all of them in random order if there are fewer."""
    places = generator.choice(len(items), min(count, len(items)), replace=False).tolist() if items else []
    return [items[int(place)] for place in places]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the teacher wrote for a planned request: one row of a shard. See ``Planned`` for the first four."""

    label: str
    origin: Mapping[str, Any]
    source_fields: Mapping[str, str]
    answers: tuple[Answer, ...]
    completion: Completion

    @classmethod
    def to(cls, planned: Planned, completion: Completion) -> Reply:
        """The reply to ``planned``."""
        return cls(planned.label, planned.origin, planned.source_fields, planned.answers, completion)

    def to_row(self) -> Row:
        """The reply as a dictionary of plain JSON values."""
        completion = self.completion
        return {
            "label": self.label,
            "origin": dict(self.origin),
            **({"given": dict(self.source_fields)} if self.source_fields else {}),
            **({"answers": [[answer.text, answer.start] for answer in self.answers]} if self.answers else {}),
            "text": completion.text,
            "n_tokens": completion.n_tokens,
            "finish": completion.finish,
            "logprob": None if completion.logprob is None else round(completion.logprob, 4),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Reply:
        """The inverse of ``to_row``."""
        answers = tuple(Answer(span, start) for span, start in row.get("answers", ()))
        completion = Completion(row["text"], row["n_tokens"], row["finish"], row["logprob"])
        return cls(row["label"], row["origin"], row.get("given", {}), answers, completion)


def read_candidates(
    replies: Sequence[Reply],
    *,
    prefix: str,
    fields: Sequence[str],
    target_field: str,
    cleaner: ReplyCleaner = PLAIN_CLEANER,
) -> list[Candidate]:
    """One candidate for each reply of a shard. Replies that are not texts are kept here; the rules drop them.

    An id is ``prefix`` and the reply's position in the shard. ``fields`` are the names of an example's fields in order,
    ``target_field`` is the one that the teacher wrote. ``cleaner`` cuts off what surrounds the text; the origin names
    its rules under ``cleaned``.
    """
    candidates = []
    for place, reply in enumerate(replies):
        completion = reply.completion
        text, cuts = cleaner.clean(completion.text)
        if "characters" in reply.origin:
            text = one_line(text)
            text = whole_sentences(text) if completion.finish == "length" else text
        texts = {**reply.source_fields, target_field: text}
        id_ = f"{prefix}-{place:03d}"
        example = Example(id_, {name: texts[name] for name in fields}, reply.label, reply.answers)
        cleaned = {"cleaned": list(cuts)} if cuts else {}
        logprob = None if completion.logprob is None else round(completion.logprob, 4)
        origin = {**reply.origin, "finish": completion.finish, "logprob": logprob, **cleaned}
        candidates.append(Candidate(example, origin))
    return candidates
