"""Each prompt, in two styles, beside the parser of its reply.

The *list* style is for small teachers: plain text that a model continues, a list that breaks off where the next
entry belongs. The *chat* style is for instruction-tuned ones, in the model's own chat template. The manifest says
which style a model needs. The order of ideas follows S3, sections 3.1 (rationales, seed) and 3.2 (error
extrapolation); the words are ours.

Knows nothing of sampling, students or rounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import Template
from typing import Literal

from s3local.task import Label, Task
from s3local.teacher import Request, Sampling

Style = Literal["list", "chat"]

LIST_RATIONALE = Template(
    "Messages, notes and other texts are sorted into groups. One group holds $texts $phrase. $description\n\n"
    "What the texts of this group talk about:\n\n-"
)
LIST_SEED = Template('A list of $texts $phrase$reasons, each in the words of its writer:\n\n1. "')
LIST_EXTRAPOLATION = Template("A list of $texts $phrase:\n\n$shots\n-")

LIST_SCORING = Template("A list of $texts $phrase:\n\n$shots-")

CHAT_RATIONALE = Template(
    'A classifier sorts $texts. One of its labels is "$label": $description\n\n'
    "Name one concrete reason, topic or situation that makes a text carry this label. "
    "Answer with that alone, in $language, in at most ten words."
)
CHAT_SEED = Template(
    'A classifier sorts $texts. One of its labels is "$label": $description\n\n'
    "Write one realistic text that carries this label$reasons. Vary length, tone and wording as real writers do. "
    "Write in $language. Answer with the text alone, without quotation marks or comments."
)
CHAT_EXTRAPOLATION = Template(
    'A classifier sorts $texts. One of its labels is "$label": $description\n\n'
    "Texts that carry this label:\n\n$shots\n\n"
    "The classifier gets texts like the last one wrong. Write one new text that is similar to the last one in what "
    "makes it hard and carries the same label, but is about something else. "
    "Write in $language. Answer with the text alone, without quotation marks or comments."
)

RATIONALE_TOKENS = 24
SPARE_TOKENS = 8
"""Room for quotation marks and the stop string, beyond the longest text."""

_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "「": "」", "‘": "’"}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt ready for the teacher: its text, and where the reply ends."""

    text: str
    stop: tuple[str, ...]
    max_tokens: int
    special: bool

    def request(self, seed: int, sampling: Sampling) -> Request:
        """The teacher's request for one sample of this prompt."""
        return Request(self.text, seed, self.max_tokens, self.stop, sampling, special=self.special)


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of one task for one teacher.

    ``max_tokens`` caps a text, in the teacher's tokens; ``chat`` turns messages into the teacher's chat template.
    """

    task: Task
    style: Style
    max_tokens: int
    chat: Callable[[Sequence[Mapping[str, str]]], str]

    def rationale(self, label: Label) -> Prompt:
        """Ask for one reason that leads to ``label``."""
        template = LIST_RATIONALE if self.style == "list" else CHAT_RATIONALE
        return self._prompt(template.substitute(self._words(label)), ("\n",), RATIONALE_TOKENS)

    def seed(self, label: Label, rationales: Sequence[str]) -> Prompt:
        """Ask for one example of ``label``, led by ``rationales`` (none of them: zero-shot)."""
        if self.style == "list":
            reasons = f" ({'; '.join(rationales)})" if rationales else ""
            text = LIST_SEED.substitute(self._words(label), reasons=reasons)
            return self._prompt(text, ('"\n', "\n"), self.max_tokens)
        reasons = f". It has to do with: {'; '.join(rationales)}" if rationales else ""
        return self._prompt(CHAT_SEED.substitute(self._words(label), reasons=reasons), (), self.max_tokens)

    def extrapolation(self, label: Label, shots: Sequence[str], error: str) -> Prompt:
        """Ask for an example like ``error``, after other rows of the same label: ``shots``, then the error, last."""
        template = LIST_EXTRAPOLATION if self.style == "list" else CHAT_EXTRAPOLATION
        rows = "\n".join(f"- {one_line(text)}" for text in (*shots, error))
        text = template.substitute(self._words(label), shots=rows)
        return self._prompt(text, ("\n",) if self.style == "list" else (), self.max_tokens)

    def scoring(self, label: Label, shots: Sequence[str]) -> str:
        """What a text of ``label`` would continue, after ``shots`` of that label; ``entry`` gives the continuation.

        In list style for every teacher: a bare text is what is scored, not the answer of an assistant.
        """
        rows = "".join(f"- {one_line(text)}\n" for text in shots)
        return LIST_SCORING.substitute(self._words(label), shots=rows)

    def _words(self, label: Label) -> dict[str, str]:
        phrase = label.phrase or f'of the kind "{label.name}" ({label.description.rstrip(".")})'
        return {
            "texts": self.task.texts,
            "language": self.task.language,
            "label": label.name,
            "description": label.description,
            "phrase": phrase,
        }

    def _prompt(self, text: str, stop: tuple[str, ...], max_tokens: int) -> Prompt:
        if self.style == "list":
            return Prompt(text, stop, max_tokens, special=False)
        return Prompt(self.chat([{"role": "user", "content": text}]), stop, max_tokens, special=True)


def token_cap(texts: Sequence[str], max_characters: int, count_tokens: Callable[[str], int]) -> int:
    """The tokens that a text of ``max_characters`` may take, from the tokens a character of the gold ``texts``."""
    characters = max(1, sum(len(text) for text in texts))
    tokens = sum(count_tokens(text) for text in texts)
    return math.ceil(max_characters * max(tokens, 1) / characters) + SPARE_TOKENS


def entry(text: str) -> str:
    """``text`` as the continuation of ``Prompts.scoring``: the rest of its line."""
    return f" {one_line(text)}\n"


def one_line(text: str) -> str:
    """``text`` with each run of white space as one blank, as an entry of a list must be."""
    return " ".join(text.split())


def parse_text(reply: str) -> str:
    """The text of a reply: without the white space, and the quotation marks, around it.

    A reply that was begun inside quotation marks has only the closing one.
    """
    text = reply.strip()
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1]:
        text = text[1:-1].strip()
    elif text.count('"') == 1 and (text.endswith('"') or text.startswith('"')):
        text = text.strip('"').strip()
    return text
