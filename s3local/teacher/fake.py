"""A scripted ``Teacher`` for fast tests: no model, the same texts every time.

    FakeTeacher()                                 # short sentences that depend on seed and prompt
    FakeTeacher(lambda request: "Good film.\n")   # a text for each request, before stop strings and caps
    FakeTeacher(weigh=lambda prompt, text: -float(len(text)))

Its tokens are words, each with the white space before it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

from s3local.progress import Advance, ignore
from s3local.teacher.protocol import Completion, FinishReason, Request, Score

WORDS = (
    "the a film story actor scene ending music was is felt looked seemed very quite rather slow bright dull warm "
    "clever and but with about people train match bank river market storm answer question city"
)

FILLER = " again"


class FakeTeacher:
    """Generates ``write(request)``, and scores with ``weigh(prompt, text)``, a log-probability.

    ``requests`` lists all requests so far, ``scored`` all (prompt, continuation) pairs; ``n_calls`` counts the calls
    of ``generate`` and ``score``. Using it after ``close`` raises ``ValueError``.
    """

    def __init__(
        self,
        write: Callable[[Request], str] | None = None,
        *,
        weigh: Callable[[str, str], float] | None = None,
    ) -> None:
        self._write = write or sentence
        self._weigh = weigh or weight
        self.requests: list[Request] = []
        self.scored: list[tuple[str, str]] = []
        self.n_calls = 0
        self.closed = False

    def generate(self, requests: Sequence[Request], advance: Advance = ignore) -> list[Completion]:
        """See ``Teacher.generate``."""
        self._count_call()
        completions = []
        for request in requests:
            self.requests.append(request)
            completions.append(_completed(request, self._write(request)))
            advance(1)
        return completions

    def score(self, prompt: str, continuations: Sequence[str]) -> list[Score]:
        """See ``Teacher.score``; the log-probability of a text is divided evenly among its tokens."""
        self._count_call()
        scores = []
        for text in continuations:
            self.scored.append((prompt, text))
            n_tokens = len(_tokens(text))
            total = self._weigh(prompt, text) if n_tokens else 0.0
            scores.append(Score(total, (total / n_tokens,) * n_tokens if n_tokens else ()))
        return scores

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """See ``Teacher.chat``; one line per message, "role: content"."""
        return "".join(f"{message['role']}: {message['content']}\n" for message in messages) + "assistant:"

    def count_tokens(self, text: str) -> int:
        """How many of its tokens ``text`` has."""
        return len(_tokens(text))

    def close(self) -> None:
        self.closed = True

    def _count_call(self) -> None:
        if self.closed:
            raise ValueError("the teacher is closed")
        self.n_calls += 1


def sentence(request: Request) -> str:
    """A line of 5 to 12 words that depends on the request's seed and prompt alone."""
    generator = random.Random(f"{request.seed}\n{request.prompt}")
    words = generator.choices(WORDS.split(), k=generator.randint(5, 12))
    return f" {' '.join(words).capitalize()}.\n"


def weight(prompt: str, text: str) -> float:
    """A log-probability that depends on both texts alone: from -1 to -5 a token."""
    return sum(-1.0 - 4.0 * random.Random(f"{token}\n{prompt}").random() for token in _tokens(text))


def _tokens(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+", text)


def _completed(request: Request, written: str) -> Completion:
    """The completion of a model that generates the tokens of ``written``, under the request's stops and caps.

    Below ``min_tokens``, a token that would end the text is replaced by ``FILLER``.
    """
    tokens = _tokens(written)
    tokens += [FILLER] * (request.min_tokens - len(tokens))
    text = ""
    for n_tokens, token in enumerate(tokens, start=1):
        if n_tokens <= request.min_tokens and any(stop[0] in token for stop in request.stop):
            token = FILLER
        text += token
        places = [place for stop in request.stop if (place := text.find(stop)) >= 0]
        if places:
            return _completion(text[: min(places)], n_tokens, "stop")
        if n_tokens == request.max_tokens:
            return _completion(text, n_tokens, "length")
    return _completion(text, len(tokens) + 1, "end")


def _completion(text: str, n_tokens: int, finish: FinishReason) -> Completion:
    return Completion(text, n_tokens, finish, -2.0 * n_tokens)
