"""Log-likelihoods of texts after one prompt, batched, the prompt computed once.

Knows nothing of what the texts are compared for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from s3local.teacher import Score
from s3local.teacher.llama import Feed, StreamCache
from s3local.teacher.sampling import log_probability


def score_continuations(
    cache: StreamCache,
    prompt: Sequence[int],
    continuations: Sequence[Sequence[int]],
    scratch: NDArray[np.float32],
) -> list[Score]:
    """One ``Score`` for each list of token ids, after the token ids of ``prompt``.

    ``cache`` must be empty, its streams long enough for prompt and continuation together. The prompt is computed in
    one stream and copied to the others. A vocabulary-wide sum is taken once for each token scored. ``scratch`` is
    overwritten, its shape is (vocabulary,).
    """
    first_row = _compute_prompt(cache, prompt)
    collected: list[list[float]] = [[] for _ in continuations]
    # longest first: texts of one wave have similar lengths
    order = sorted(range(len(continuations)), key=lambda index: (-len(continuations[index]), index))
    for stream in range(1, min(cache.n_streams, len(order))):
        cache.clone(0, stream)
    for start in range(0, len(order), cache.n_streams):
        wave = order[start : start + cache.n_streams]
        for stream, index in enumerate(wave):
            cache.cut(stream, len(prompt))
            if continuations[index]:
                collected[index].append(log_probability(first_row, continuations[index][0], scratch))
        _score_wave(cache, len(prompt), [continuations[index] for index in wave], [collected[i] for i in wave], scratch)
    return [Score(sum(values), tuple(values)) for values in collected]


def _compute_prompt(cache: StreamCache, prompt: Sequence[int]) -> NDArray[np.float32]:
    """Fill stream 0 with the prompt; the logits after its last token, shape (vocabulary,)."""
    for start in range(0, len(prompt), cache.batch_tokens):
        chunk = prompt[start : start + cache.batch_tokens]
        last = start + len(chunk) == len(prompt)
        logits = cache.decode([Feed(0, start, chunk, "last" if last else "none")])
    return logits[0].copy()


def _score_wave(
    cache: StreamCache,
    offset: int,
    texts: Sequence[Sequence[int]],
    collected: Sequence[list[float]],
    scratch: NDArray[np.float32],
) -> None:
    """Feed each text but its last token to its stream, and note the log-probability of every token's successor."""
    done = [0] * len(texts)
    limit = min(cache.max_rows, cache.batch_tokens)
    while True:
        feeds, room = [], limit
        for stream, text in enumerate(texts):
            chunk = text[done[stream] : min(len(text) - 1, done[stream] + room)]
            if chunk:
                feeds.append(Feed(stream, offset + done[stream], chunk, "all"))
                room -= len(chunk)
        if not feeds:
            return
        logits = cache.decode(feeds)
        row = 0
        for feed in feeds:
            text, at = texts[feed.stream], done[feed.stream]
            for place in range(len(feed.tokens)):
                collected[feed.stream].append(log_probability(logits[row], text[at + place + 1], scratch))
                row += 1
            done[feed.stream] += len(feed.tokens)
