"""The teacher seam: requests in, completions out.

``Teacher`` is what the rest of the program knows of a language model; ``engine.py`` is the llama.cpp one,
``fake.py`` a scripted one for fast tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from s3local.progress import Advance, ignore


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one token is drawn. The defaults are the paper's: nucleus sampling at temperature 0.9.

    The order is: repetition penalty and logit bias on the logits, temperature, then top-k, top-p and min-p each
    cut the distribution. ``temperature`` 0 takes the most likely token. ``top_k`` 0, ``top_p`` 1.0, ``min_p`` 0.0
    and ``repetition_penalty`` 1.0 switch the respective step off. ``logit_bias`` adds to the logit of a token id.
    """

    temperature: float = 0.9
    top_k: int = 0
    top_p: float = 0.9
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(f"temperature must not be negative, got {self.temperature}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (off) or more, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must be from 0 to 1, got {self.min_p}")
        if self.repetition_penalty <= 0:
            raise ValueError(f"repetition_penalty must be above 0, got {self.repetition_penalty}")


@dataclass(frozen=True, slots=True)
class Contrast:
    """A second prompt that the text should *not* fit.

    With p the probability under the request's prompt and q under this one, each token of the nucleus of p is
    drawn with a weight of p * (p / q) ** gamma. ``gamma`` 0 is plain sampling, exactly.
    """

    prompt: str
    gamma: float


@dataclass(frozen=True, slots=True)
class Request:
    """One text to be written.

    ``stop`` strings end the text and are not part of it; ``max_tokens`` caps it. Before ``min_tokens``, the text does
    not end: nothing is drawn that ends the turn or holds a character that a stop string begins with. ``grammar`` is
    GBNF text, which says itself where a text may end.
    ``special`` says that ``prompt`` holds a chat template's control tokens as text, to be read as such.
    Requests with equal or partly equal prompts share that part's computation; finding it is the teacher's work.
    """

    prompt: str
    seed: int
    max_tokens: int = 128
    stop: tuple[str, ...] = ()
    sampling: Sampling = Sampling()
    contrast: Contrast | None = None
    grammar: str | None = None
    special: bool = False
    min_tokens: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"a seed must not be negative, got {self.seed}")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not 0 <= self.min_tokens <= self.max_tokens:
            raise ValueError(f"min_tokens must be from 0 to max_tokens, got {self.min_tokens} and {self.max_tokens}")
        if self.min_tokens and self.grammar is not None:
            raise ValueError("min_tokens and a grammar cannot both say where a text may end")
        if any(not stop for stop in self.stop):
            raise ValueError("a stop string must not be empty")


FinishReason = Literal["stop", "end", "length"]
"""A stop string was written, the model ended its turn, or the token cap was reached."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the teacher wrote for one request.

    ``n_tokens`` counts the sampled tokens, those of the stop string included. ``logprob`` is the sum of their natural
    log-probabilities under the model itself (temperature 1, before any cut or penalty).
    """

    text: str
    n_tokens: int
    finish: FinishReason
    logprob: float


@dataclass(frozen=True, slots=True)
class Score:
    """Natural log-probabilities of one continuation after its prompt: the sum, and one for each token."""

    logprob: float
    token_logprobs: tuple[float, ...]


class Teacher(Protocol):
    """A language model that writes and scores texts."""

    def generate(self, requests: Sequence[Request], advance: Advance = ignore) -> list[Completion]:
        """One completion for each request, in the same order; ``advance`` hears of each one that is finished.

        The texts depend on the requests and the teacher's settings only, not on what was asked before.
        Raises ``TeacherError`` if a prompt does not fit.
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
        """Give all memory back. The teacher cannot be used afterwards."""
        ...
