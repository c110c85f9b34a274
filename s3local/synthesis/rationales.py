"""Rationales: reasons why a text would carry a label. They make the seed examples more diverse.

S3, section 3.1: the teacher is asked many times for each label, and the top K distinct reasons are kept. They are
ranked by their mean log-probability per token.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from s3local.synthesis.planning import Planned, request_seeds
from s3local.synthesis.prompts import Prompts
from s3local.synthesis.replies import PLAIN_CLEANER
from s3local.teacher.protocol import Completion, Sampling

SAMPLES_PER_KEPT = 3
"""How many reasons are sampled for each one that is kept."""

MIN_BYTES = 8
"""The least length of a reason in UTF-8: 8 Latin letters, 4 Cyrillic letters or 3 Chinese characters."""

MAX_SHARED_WORDS = 0.5
"""Two reasons are not distinct if they share more than this part of the shorter one's words."""


def plan_rationales(prompts: Prompts, per_label: int, sampling: Sampling, seed: Sequence[int]) -> list[Planned]:
    """Requests for enough reasons to keep ``per_label`` of each label; none for labels whose task gives rationales."""
    planned = []
    for number, label in enumerate(prompts.task.labels):
        if label.rationales:
            continue
        prompt = prompts.rationale(label)
        mine = request_seeds([*seed, number], per_label * SAMPLES_PER_KEPT)
        planned += [Planned(prompt.request(request_seed, sampling), label.name, {}) for request_seed in mine]
    return planned


def select_rationales(completions: Sequence[Completion], per_label: int) -> list[str]:
    """The ``per_label`` most probable reasons among one label's completions that are complete and distinct.

    Without log-probabilities they are the first ones.
    """
    likeliest = sorted(
        (completion for completion in completions if completion.finish != "length"),
        key=lambda completion: -(completion.logprob or 0.0) / completion.n_tokens,
    )
    kept: list[str] = []
    for completion in likeliest:
        reason = PLAIN_CLEANER.clean(completion.text).text.rstrip(" .;:,-")
        if (
            len(reason.encode()) >= MIN_BYTES
            and ":" not in reason
            and all(_are_distinct(reason, other) for other in kept)
        ):
            kept.append(reason)
            if len(kept) == per_label:
                break
    return kept


def _are_distinct(first: str, second: str) -> bool:
    one, other = _words(first), _words(second)
    return len(one & other) <= MAX_SHARED_WORDS * min(len(one), len(other))


def _words(text: str) -> set[str]:
    """The words of ``text``, or its character bigrams if it is written without spaces."""
    words = unicodedata.normalize("NFKC", text).casefold().split()
    if len(words) == 1 and not words[0].isascii():
        return {words[0][place : place + 2] for place in range(max(1, len(words[0]) - 1))}
    return set(words)
