"""The ``Teacher`` protocol: a language model takes requests and returns completions.

``engine.py`` implements it with llama.cpp, ``server.py`` with a server, ``fake.py`` with a script for fast tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from s3local.exceptions import TeacherError
from s3local.progress import Advance, ignore


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one token is drawn. The defaults are the paper's: nucleus sampling at temperature 0.9.

    The steps, in order: the repetition penalty, the temperature, the cut to the nucleus of probability ``top_p``.
    ``temperature`` 0 takes the most likely token. ``top_p`` 1.0 and ``repetition_penalty`` 1.0 switch their step off.
    """

    temperature: float = 0.9
    top_p: float = 0.9
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature must not be negative, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.repetition_penalty <= 0:
            raise ValueError(f"repetition_penalty must be above 0, got {self.repetition_penalty}")


@dataclass(frozen=True, slots=True)
class Contrast:
    """A second prompt that the text should *not* fit.

    Let p be a token's probability under the request's prompt and q under this one. Each token of the nucleus of p is
    drawn with weight p * (p / q) ** gamma. ``gamma`` 0 is exactly plain sampling.
    """

    prompt: str
    gamma: float


@dataclass(frozen=True, slots=True)
class Request:
    """One text to generate.

    ``stop`` strings end the text and are not part of it; ``max_tokens`` caps its length. Within the first
    ``min_tokens``, no token is drawn that ends the turn or holds a byte that a stop string begins with.
    ``special`` says that ``prompt`` spells out control tokens of a chat template, to be read as such.
    The teacher computes the common beginning of several prompts once.
    """

    prompt: str
    seed: int
    max_tokens: int = 128
    stop: tuple[str, ...] = ()
    sampling: Sampling = Sampling()
    contrast: Contrast | None = None
    special: bool = False
    min_tokens: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"a seed must not be negative, got {self.seed}")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not 0 <= self.min_tokens <= self.max_tokens:
            raise ValueError(f"min_tokens must be from 0 to max_tokens, got {self.min_tokens} and {self.max_tokens}")
        if any(not stop for stop in self.stop):
            raise ValueError("a stop string must not be empty")


FinishReason = Literal["stop", "end", "length"]
"""A stop string was generated, the model ended its turn, or ``max_tokens`` was reached."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the teacher generated for one request.

    ``n_tokens`` counts the sampled tokens, including those of the stop string. ``logprob`` is the sum of their natural
    log-probabilities under the unmodified model (temperature 1, no penalty, no cut), None where a server gives none.
    """

    text: str
    n_tokens: int
    finish: FinishReason
    logprob: float | None


@dataclass(frozen=True, slots=True)
class Score:
    """Natural log-probabilities of a continuation after its prompt: their sum, and one for each token."""

    logprob: float
    token_logprobs: tuple[float, ...]


class TeacherLostError(TeacherError):
    """The teacher went away in the middle. ``completions`` holds what it had finished, by the requests' places."""

    def __init__(self, message: str, completions: Mapping[int, Any]) -> None:
        super().__init__(message)
        self.completions = completions

    def __reduce__(self) -> Any:
        """What pickle needs to send the error from a worker."""
        return type(self), (str(self), self.completions)


class Teacher(Protocol):
    """A language model that generates and scores texts."""

    def generate(self, requests: Sequence[Request], advance: Advance = ignore) -> list[Completion]:
        """One completion for each request, in the same order; calls ``advance(1)`` for each that is finished.

        The texts depend on the requests and the teacher's settings only, not on earlier calls.
        Raises ``TeacherError`` if a prompt does not fit, and ``TeacherLostError`` if it went away in the middle.
        """
        ...

    def score(self, prompt: str, continuations: Sequence[str]) -> list[Score]:
        """The log-probability of each continuation after ``prompt``, in the same order."""
        ...

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """``messages`` (role, content) as one prompt in the model's own chat template, for ``Request.special``.

        Raises ``TeacherError`` if the model has no template.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """How many of this model's tokens ``text`` has."""
        ...

    def close(self) -> None:
        """Free all memory. The teacher cannot be used afterwards."""
        ...
