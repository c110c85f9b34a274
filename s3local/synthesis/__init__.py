"""What the teacher is asked: rationales, seed examples, and more of what the student got wrong.

    prompts.py         each prompt beside the parser of its reply
    rationales.py      reasons that lead to a label
    seed.py            zero-shot examples, guided by rationales
    extrapolation.py   examples like a given error

Each of the last three plans requests and reads completions; none of them calls a teacher. Knows nothing of students,
rounds or files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s3local.records import Candidate, Example
from s3local.synthesis.prompts import parse_text
from s3local.teacher import Completion, Request


@dataclass(frozen=True, slots=True)
class Planned:
    """A request, the label its text shall carry, and where it comes from."""

    request: Request
    label: str
    origin: Mapping[str, Any]


def request_seeds(seed: Sequence[int], count: int) -> list[int]:
    """``count`` seeds for requests, all determined by ``seed`` (the run's seed, the stage, the shard)."""
    return [int(value) for value in np.random.SeedSequence(list(seed)).generate_state(count, np.uint64)]


def to_row(planned: Planned, completion: Completion) -> dict[str, Any]:
    """A request's label and origin with what the teacher wrote, as one plain row of a shard."""
    return {
        "label": planned.label,
        "origin": dict(planned.origin),
        "text": completion.text,
        "n_tokens": completion.n_tokens,
        "finish": completion.finish,
        "logprob": round(completion.logprob, 4),
    }


def read_candidates(rows: Sequence[Mapping[str, Any]], *, prefix: str, field: str) -> list[Candidate]:
    """One candidate for each row of a shard, whatever it holds: what is no text is left for the rules to drop.

    Ids are ``prefix`` and the place in the shard; ``field`` names the field that the teacher wrote.
    """
    candidates = []
    for place, row in enumerate(rows):
        example = Example(f"{prefix}-{place:03d}", {field: parse_text(row["text"])}, row["label"])
        candidates.append(Candidate(example, {**row["origin"], "finish": row["finish"], "logprob": row["logprob"]}))
    return candidates
