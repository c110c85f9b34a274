"""Log-likelihoods of texts after one prompt, batched, the prompt computed once.

Knows nothing of what the texts are compared for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from s3local.teacher.llama_cache import Feed, StreamCache
from s3local.teacher.protocol import Score
from s3local.teacher.sampling import Row, log_probability


def score_continuations(
    cache: StreamCache, prompt: Sequence[int], continuations: Sequence[Sequence[int]], *, can_cut: bool = True
) -> list[Score]:
    """One ``Score`` for each list of token ids, after the token ids of ``prompt``.

    ``cache`` must be empty, its streams long enough for prompt and continuation together. The prompt is computed in
    one stream and copied to the others; where a cache cannot be cut back (not ``can_cut``), again for as many texts as
    there are streams. A vocabulary-wide sum is taken once for each token scored.
    """
    first = _compute_prompt(cache, prompt)
    scratch = np.empty_like(first)
    collected = [[log_probability(first, text[0], scratch)] if text else [] for text in continuations]
    # longest first: texts of one wave have similar lengths, and the streams still busy are adjacent
    order = sorted(range(len(continuations)), key=lambda index: (-len(continuations[index]), index))
    for start in range(0, len(order), cache.n_streams):
        wave = order[start : start + cache.n_streams]
        if start and can_cut:
            for stream in range(len(wave)):
                cache.cut(stream, len(prompt))
        else:
            if start:
                cache.clear()
                _compute_prompt(cache, prompt)
            for stream in range(1, len(wave)):
                cache.clone(0, stream)
        _score_wave(cache, len(prompt), [continuations[i] for i in wave], [collected[i] for i in wave], scratch)
    return [Score(sum(values), tuple(values)) for values in collected]


def _compute_prompt(cache: StreamCache, prompt: Sequence[int]) -> Row:
    """Fill stream 0 with the prompt; the logits after its last token."""
    for start in range(0, len(prompt), cache.batch_tokens):
        rows = cache.decode([Feed(0, start, prompt[start : start + cache.batch_tokens], "last")])
    row: Row = rows[0].copy()
    return row


def _score_wave(
    cache: StreamCache,
    offset: int,
    texts: Sequence[Sequence[int]],
    collected: Sequence[list[float]],
    scratch: Row,
) -> None:
    """Feed each text but its last token to its stream, and note the log-probability of every token's successor."""
    done = 0
    while busy := [stream for stream, text in enumerate(texts) if len(text) - 1 > done]:
        # as many tokens of each text: llama.cpp computes equal pieces together
        count = min(cache.max_rows, cache.batch_tokens) // len(busy)
        feeds = [Feed(stream, offset + done, texts[stream][:-1][done : done + count], "all") for stream in busy]
        rows = iter(cache.decode(feeds))
        for feed in feeds:
            for following in texts[feed.stream][done + 1 : done + 1 + len(feed.tokens)]:
                collected[feed.stream].append(log_probability(next(rows), following, scratch))
        done += count
