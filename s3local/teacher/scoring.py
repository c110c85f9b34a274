"""Log-likelihoods of continuations of one prompt. They are batched, and the prompt is computed once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s3local.teacher.llama_cache import Feed, SequenceCache
from s3local.teacher.protocol import Score
from s3local.teacher.sampling import Row, log_probability


def score_continuations(
    cache: SequenceCache, prompt: Sequence[int], continuations: Sequence[Sequence[int]], *, can_truncate: bool = True
) -> list[Score]:
    """One ``Score`` for each list of token ids, after the token ids of ``prompt``.

    ``cache`` must be empty, and each of its sequences must have room for the prompt and a continuation. The prompt is
    computed in sequence 0 and copied to the others. If the cache cannot be truncated, the prompt is computed again for
    each round of as many continuations as there are sequences.
    """
    first = _compute_prompt(cache, prompt)
    scratch = np.empty_like(first)
    collected = [[log_probability(first, tokens[0], scratch)] if tokens else [] for tokens in continuations]
    # longest first: texts of one round have similar lengths, and the active sequences are adjacent
    order = sorted(range(len(continuations)), key=lambda index: (-len(continuations[index]), index))
    for start in range(0, len(order), cache.n_sequences):
        selected = order[start : start + cache.n_sequences]
        if start and can_truncate:
            for sequence in range(len(selected)):
                cache.truncate(sequence, len(prompt))
        else:
            if start:
                cache.clear()
                _compute_prompt(cache, prompt)
            for sequence in range(1, len(selected)):
                cache.copy(0, sequence)
        _score_round(
            cache, len(prompt), [continuations[i] for i in selected], [collected[i] for i in selected], scratch
        )
    return [Score(sum(values), tuple(values)) for values in collected]


def _compute_prompt(cache: SequenceCache, prompt: Sequence[int]) -> Row:
    """Compute the prompt in sequence 0; the logits after its last token, shape (vocabulary,)."""
    for start in range(0, len(prompt), cache.batch_tokens):
        rows = cache.decode([Feed(0, start, prompt[start : start + cache.batch_tokens], "last")])
    row: Row = rows[0].copy()
    return row


def _score_round(
    cache: SequenceCache,
    offset: int,
    texts: Sequence[Sequence[int]],
    collected: Sequence[list[float]],
    scratch: Row,
) -> None:
    """Compute each text without its last token, and append the log-probability of each following token."""
    done = 0
    while active := [sequence for sequence, text in enumerate(texts) if len(text) - 1 > done]:
        # equally many tokens of each text, because llama.cpp computes pieces of equal length together
        count = min(cache.max_rows, cache.batch_tokens) // len(active)
        feeds = [Feed(number, offset + done, texts[number][:-1][done : done + count], "all") for number in active]
        rows = iter(cache.decode(feeds))
        for feed in feeds:
            for following in texts[feed.sequence][done + 1 : done + 1 + len(feed.tokens)]:
                collected[feed.sequence].append(log_probability(next(rows), following, scratch))
        done += count
