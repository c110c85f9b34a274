"""Planned requests, the chance that orders them, and candidates read from their completions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from s3local.records import Answer, Candidate, Example
from s3local.synthesis.prompts import parse_long_text, parse_text
from s3local.teacher.protocol import Completion, Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Planned:
    """A request, the label its text shall carry, and where it comes from.

    ``source_fields`` holds the fields that the teacher was given beside the one it writes, ``answers`` the spans of
    them that answer what it writes. An origin that names ``characters`` asked for a long text of about as many.
    """

    request: Request
    label: str
    origin: Mapping[str, Any]
    source_fields: Mapping[str, str] = field(default_factory=dict)
    answers: tuple[Answer, ...] = ()


def request_seeds(seed: Sequence[int], count: int) -> list[int]:
    """``count`` seeds for requests, all determined by ``seed`` (the run's seed, the stage, the shard)."""
    return [int(value) for value in np.random.SeedSequence(list(seed)).generate_state(count, np.uint64)]


def labels_in_turn(wanted: Mapping[str, int], chance: np.random.Generator) -> list[str]:
    """The label of each text, so many of each as ``wanted`` says, in an order drawn by ``chance``."""
    labels = [label for label, count in wanted.items() for _ in range(count)]
    return [labels[place] for place in chance.permutation(len(labels)).tolist()]


def another_label(labels: Sequence[str], label: str, chance: np.random.Generator) -> str:
    """One of ``labels`` that is not ``label``, drawn by ``chance``. Raises ``ValueError`` if there is none."""
    others = [name for name in labels if name != label]
    if not others:
        raise ValueError(f"there is no label other than {label!r}")
    return others[int(chance.integers(len(others)))]


def in_turn(items: Sequence[T], chance: np.random.Generator) -> Iterator[T]:
    """The items without end, each once before any comes again, every time in another order drawn by ``chance``."""
    while items:
        yield from (items[place] for place in reversed(chance.permutation(len(items)).tolist()))


def length_of(model: str | None) -> dict[str, int]:
    """What goes into the origin of a text that was to be as long as ``model``."""
    return {} if model is None else {"characters": len(model)}


def drawn(items: Sequence[T], count: int, chance: np.random.Generator) -> list[T]:
    """``count`` different ones of ``items``, or all of them in a drawn order if there are fewer."""
    places = chance.choice(len(items), min(count, len(items)), replace=False).tolist() if items else []
    return [items[int(place)] for place in places]


def to_row(planned: Planned, completion: Completion) -> dict[str, Any]:
    """A request's label and origin with what the teacher was given and wrote, as one plain row of a shard."""
    return {
        "label": planned.label,
        "origin": dict(planned.origin),
        **({"given": dict(planned.source_fields)} if planned.source_fields else {}),
        **({"answers": [[answer.text, answer.start] for answer in planned.answers]} if planned.answers else {}),
        "text": completion.text,
        "n_tokens": completion.n_tokens,
        "finish": completion.finish,
        "logprob": round(completion.logprob, 4),
    }


def read_candidates(
    rows: Sequence[Mapping[str, Any]], *, prefix: str, fields: Sequence[str], target_field: str
) -> list[Candidate]:
    """One candidate for each row of a shard, whatever it holds: what is no text is left for the rules to drop.

    Ids are ``prefix`` and the place in the shard; ``fields`` are the names of an example's fields in order,
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
