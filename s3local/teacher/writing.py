"""The text of one request while it is generated: tokens in, a completion out.

It finds stop strings, enforces the caps and repairs broken characters. It works on bytes, because a stop string or a
character may begin in one token and end in another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from s3local.teacher.protocol import Completion, FinishReason, Request
from s3local.teacher.sampling import PENALTY_WINDOW


class Writing:
    """The state of one request between two tokens.

    ``prompt`` holds its token ids, for the repetition penalty. ``random`` is the request's own generator.
    """

    def __init__(self, request: Request, prompt: Sequence[int]) -> None:
        self.request = request
        self.random = np.random.default_rng(request.seed)
        self.recent = deque(prompt[-PENALTY_WINDOW:], PENALTY_WINDOW)
        self._stops = [stop.encode() for stop in request.stop]
        self._data = bytearray()
        self._n_tokens = 0
        self._logprob = 0.0

    @property
    def is_short(self) -> bool:
        """Whether the text is still below ``min_tokens``, so that the next token must not end it."""
        return self._n_tokens < self.request.min_tokens

    def add(self, token: int, logprob: float, piece: bytes, ends_turn: bool) -> Completion | None:
        """Add a token and its bytes ``piece``. Returns the completion if the text ends with this token."""
        self._n_tokens += 1
        self._logprob += logprob
        if ends_turn:
            return self._completion("end", len(self._data))
        self.recent.append(token)
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

    def _completion(self, finish: FinishReason, end: int) -> Completion:
        return Completion(self._data[:end].decode(errors="replace"), self._n_tokens, finish, self._logprob)


def _broken_end(data: Sequence[int]) -> int:
    """How many bytes at the end belong to a character that is not complete."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if back < length else 0
        if byte < 0x80:
            return 0
    return 0
