"""A text being written: tokens in, a completion out, with stop strings, the cap and broken characters seen to.

Works on bytes: a stop string or a character may begin in one token and end in another. Knows nothing of caches,
lanes or logits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from s3local.teacher.grammar import Grammar
from s3local.teacher.protocol import Completion, FinishReason, Request
from s3local.teacher.sampling import PENALTY_WINDOW


class Writing:
    """The state of one request between two tokens. ``prompt`` holds its token ids, for the repetition penalty."""

    def __init__(self, request: Request, prompt: Sequence[int], grammar: Grammar | None = None) -> None:
        self.request = request
        self.chance = np.random.default_rng(request.seed)
        self.recent = deque(prompt[-PENALTY_WINDOW:], PENALTY_WINDOW)
        self.grammar = grammar
        self._stops = [stop.encode() for stop in request.stop]
        self._data = bytearray()
        self._n_tokens = 0
        self._logprob = 0.0

    @property
    def is_short(self) -> bool:
        """Whether the next token may not end the text."""
        return self._n_tokens < self.request.min_tokens

    def take(self, token: int, logprob: float, piece: bytes, ends: bool) -> Completion | None:
        """Add a token and the bytes it stands for; the completion, if the text ends with it."""
        self._n_tokens += 1
        self._logprob += logprob
        if ends:
            return self._completion("end", len(self._data))
        self.recent.append(token)
        if self.grammar is not None:
            self.grammar.accept(token)
        before = len(self._data)
        self._data += piece
        # a stop string that ends in this piece begins at most its length earlier
        places = [self._data.find(stop, max(0, before - len(stop) + 1)) for stop in self._stops]
        found = [place for place in places if place >= 0]
        if found:
            return self._completion("stop", min(found))
        if self._n_tokens >= self.request.max_tokens:
            return self._completion("length", len(self._data) - _broken_end(self._data))
        return None

    def close(self) -> None:
        """Give the grammar's memory back. Calling it again does nothing."""
        if self.grammar is not None:
            self.grammar.close()

    def _completion(self, finish: FinishReason, end: int) -> Completion:
        self.close()
        return Completion(self._data[:end].decode(errors="replace"), self._n_tokens, finish, self._logprob)


def _broken_end(data: Sequence[int]) -> int:
    """How many bytes at the end begin a character whose rest was never written."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if back < length else 0
        if byte < 0x80:
            return 0
    return 0
