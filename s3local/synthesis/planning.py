"""Planned requests, the random draws that order them, and the candidates read from their completions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from s3local.records import Answer, Candidate, Example
from s3local.seeds import seed_sequence
from s3local.synthesis.prompts import parse_long_text, parse_text
from s3local.teacher.protocol import Completion, Request

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


def to_row(planned: Planned, completion: Completion) -> dict[str, Any]:
    """A planned request and its completion as one plain row of a shard."""
    return {
        "label": planned.label,
        "origin": dict(planned.origin),
        **({"given": dict(planned.source_fields)} if planned.source_fields else {}),
        **({"answers": [[answer.text, answer.start] for answer in planned.answers]} if planned.answers else {}),
        "text": completion.text,
        "n_tokens": completion.n_tokens,
        "finish": completion.finish,
        "logprob": None if completion.logprob is None else round(completion.logprob, 4),
    }


def read_candidates(
    rows: Sequence[Mapping[str, Any]], *, prefix: str, fields: Sequence[str], target_field: str
) -> list[Candidate]:
    """One candidate for each row of a shard. Replies that are not texts are kept here; the rules drop them.

    An id is ``prefix`` and the row's position in the shard. ``fields`` are the names of an example's fields in order,
    ``target_field`` is the one that the teacher wrote.
    """
    candidates = []
    for place, row in enumerate(rows):
        if "characters" in row["origin"]:
            text = parse_long_text(row["text"], whole=row["finish"] != "length")
        else:
            text = parse_text(row["text"])
        texts = {**row.get("given", {}), target_field: text}
        answers = tuple(Answer(span, start) for span, start in row.get("answers", ()))
        example = Example(f"{prefix}-{place:03d}", {name: texts[name] for name in fields}, row["label"], answers)
        candidates.append(Candidate(example, {**row["origin"], "finish": row["finish"], "logprob": row["logprob"]}))
    return candidates
