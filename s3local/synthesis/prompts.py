"""Each prompt, in every style. ``replies.py`` reads the replies.

The *list* style is for small teachers: plain text that the model continues, an unfinished list. The *chat* style is
for instruction-tuned teachers and uses the model's own chat template. The *prefill* style is the chat style with the
answer begun by a dash. The manifest says which style a model needs, or it was measured (``runner/prompt_style.py``).
The prompts follow S3, sections 3.1 (rationales, seed) and 3.2 (error extrapolation), in our own words.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import Template

from s3local.records import SPAN, Answer, Example
from s3local.task.model import Kind, Label, Length, Task
from s3local.teacher.protocol import Contrast, Request, Sampling
from s3local.text import one_line
from s3local.weights.manifest import PromptStyle

LIST_RATIONALE = Template(
    "Messages, notes and other texts are sorted into groups. One group holds $texts $phrase. $description\n\n"
    "What the texts of this group talk about:\n\n-"
)
LIST_SEED = Template('$reasons\n\nA list of $texts $phrase, each in the words of its writer:\n\n1. "')
"""The rationales come first: with them between the label's phrase and the list, the embedded teacher lost track of the
kind of text. Moving them raised the share of correct texts from 45 to 61 % (trec), 72 to 84 % (sst2) and 74 to 81 %
(ag_news)."""
LIST_LONG_SEED = Template("One of many $texts $phrase$reasons, about $size long, in the words of its writer:\n\n")
LIST_EXTRAPOLATION = Template("A list of $texts $phrase:\n\n$shots\n-")
LIST_PAIR_SEED = Template('$given\n\nA list of $texts $phrase:\n\n1. "')
LIST_PAIR_LONG_SEED = Template("$given\n\nOne of many $texts $phrase, about $size long:\n\n")
LIST_PAIR_EXTRAPOLATION = Template("Below each $given_name there is a list of $texts $phrase.\n\n$shots\n-")
LIST_SPAN_SEED = Template('$given\n\nA list of $texts whose answer is "$answer":\n\n1. "')
LIST_SPAN_EXTRAPOLATION = Template(
    "Below each $given_name there is an answer that stands in it, and a list of $texts that have this answer.\n\n"
    "$shots\n-"
)
LIST_SPAN_ANSWER = Template("$given\n\n$written\nAnswer, in words of the $given_name:")

LIST_SCORING = Template("A list of $texts $phrase:\n\n$shots-")

CHAT_RATIONALE = Template(
    'A classifier sorts $texts. One of its labels is "$label": $description\n\n'
    "Name one concrete reason, topic or situation that makes a text carry this label. "
    "Answer with that alone, in $language, in at most ten words."
)
CHAT_SEED = Template(
    'A classifier sorts $texts. One of its labels is "$label": $description\n\n'
    "Write one realistic text that carries this label$reasons. Vary length, tone and wording as real writers do."
    "$length Write in $language. Answer with the text alone, without quotation marks or comments."
)
CHAT_EXTRAPOLATION = Template(
    'A classifier sorts $texts. One of its labels is "$label": $description\n\n'
    "Texts that carry this label:\n\n$shots\n\n"
    "The classifier gets texts like the last one wrong. Write one new text that is similar to the last one in what "
    "makes it hard and carries the same label, but is about something else.$length "
    "Write in $language. Answer with the text alone, without quotation marks or comments."
)
CHAT_PAIR_SEED = Template(
    'A classifier reads a $given_name together with a $written_name. One of its labels is "$label": $description\n\n'
    "$given\n\n"
    "Write one realistic $written_name for this $given_name, so that the two carry this label. It belongs to $texts "
    "$phrase.$length Write in $language. Answer with the $written_name alone, without quotation marks or comments."
)
CHAT_PAIR_EXTRAPOLATION = Template(
    'A classifier reads a $given_name together with a $written_name. One of its labels is "$label": $description\n\n'
    "Examples that carry this label:\n\n$shots\n\n"
    "The classifier gets examples like the last one wrong. Write one new $written_name for the last $given_name that "
    "is similar to the one shown in what makes it hard, says something else, and carries the same label.$length "
    "Write in $language. Answer with the $written_name alone, without quotation marks or comments."
)
CHAT_SPAN_SEED = Template(
    "$given\n\n"
    "Write one of the $texts that a reader could ask. The answer must be exactly these words of the $given_name: "
    '"$answer". Do not use the words of the answer in the $written_name. '
    "Write in $language. Answer with the $written_name alone, without quotation marks or comments."
)
CHAT_SPAN_EXTRAPOLATION = Template(
    "A program answers $texts with words of the $given_name. Examples:\n\n$shots\n\n"
    "It gets examples like the last one wrong. Write one new $written_name for the last $given_name that has the same "
    "answer, is as hard, and is worded differently. "
    "Write in $language. Answer with the $written_name alone, without quotation marks or comments."
)
CHAT_SPAN_ANSWER = Template(
    "$given\n\n$written\n\nAnswer with the shortest words of the $given_name that answer it, and with nothing else."
)

CHAT_LENGTH = Template(" Here, write about $size, in full.")
"""The value of ``$length`` in a chat where gold texts are long; a list has a seed prompt of its own for long texts."""

_LIST_TEMPLATES: Mapping[Kind, Mapping[str, Template]] = {
    "classification": {
        "rationale": LIST_RATIONALE,
        "seed": LIST_SEED,
        "long_seed": LIST_LONG_SEED,
        "extrapolation": LIST_EXTRAPOLATION,
    },
    "pair": {
        "seed": LIST_PAIR_SEED,
        "long_seed": LIST_PAIR_LONG_SEED,
        "extrapolation": LIST_PAIR_EXTRAPOLATION,
    },
    "extractive_qa": {
        "seed": LIST_SPAN_SEED,
        "extrapolation": LIST_SPAN_EXTRAPOLATION,
        "answer": LIST_SPAN_ANSWER,
    },
}
_CHAT_TEMPLATES: Mapping[Kind, Mapping[str, Template]] = {
    "classification": {
        "rationale": CHAT_RATIONALE,
        "seed": CHAT_SEED,
        "extrapolation": CHAT_EXTRAPOLATION,
    },
    "pair": {
        "seed": CHAT_PAIR_SEED,
        "extrapolation": CHAT_PAIR_EXTRAPOLATION,
    },
    "extractive_qa": {
        "seed": CHAT_SPAN_SEED,
        "extrapolation": CHAT_SPAN_EXTRAPOLATION,
        "answer": CHAT_SPAN_ANSWER,
    },
}
TEMPLATES: Mapping[PromptStyle, Mapping[Kind, Mapping[str, Template]]] = {
    "list": _LIST_TEMPLATES,
    "chat": _CHAT_TEMPLATES,
    "prefill": _CHAT_TEMPLATES,
}
"""The default prompts; a task may define its own (``Task.prompts``)."""

PROMPT_TOKENS = 1024
MIN_CUT_CHARACTERS = 200
"""A text that is cut to fit into a prompt keeps at least this many characters."""

RATIONALE_TOKENS = 24
ANSWER_TOKENS = 48
LONGEST_USUAL_WORD = 20
"""The greatest mean length of a word, in characters, in a text that separates words by spaces."""
LENGTH_SPARE = 0.1
"""By which share a text may be longer or shorter than the text whose length it should have."""
LONG_PENALTY = 1.1
"""The repetition penalty of texts with a minimum length: without it, a small teacher ends in a loop. Of 32 reviews
(imdb, zero-shot), the rules kept 31 with it and 18 without."""
SPARE_TOKENS = 8
"""Room for quotation marks and the stop string beyond the longest text."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt ready for the teacher, and where its reply ends.

    ``stop`` are the strings that end the reply, ``max_tokens`` and ``min_tokens`` bound its length. ``special`` says
    whether the text contains special tokens, as chat templates do.
    """

    text: str
    stop: tuple[str, ...]
    max_tokens: int
    special: bool
    min_tokens: int = 0

    def request(
        self, seed: int, sampling: Sampling, contrast_prompt: Prompt | None = None, gamma: float = 0.0
    ) -> Request:
        """The teacher's request for one sample of this prompt, contrasted with ``contrast_prompt`` at weight ``gamma``.

        A text with a minimum length gets ``LONG_PENALTY``, unless ``sampling`` has a repetition penalty of its own.
        """
        contrast = Contrast(contrast_prompt.text, gamma) if contrast_prompt is not None and gamma else None
        if self.min_tokens and sampling.repetition_penalty == 1:
            sampling = dataclasses.replace(sampling, repetition_penalty=LONG_PENALTY)
        return Request(
            self.text,
            seed,
            self.max_tokens,
            self.stop,
            sampling,
            contrast,
            special=self.special,
            min_tokens=self.min_tokens,
        )


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of one task for one teacher.

    ``max_tokens`` caps a text and ``prompt_tokens`` a prompt, in the teacher's tokens as ``count_tokens`` counts them.
    ``chat`` renders messages with the teacher's chat template.

    Where a method takes ``length_like``, it asks for a text as long as that one; without it the length is free.
    """

    task: Task
    style: PromptStyle
    max_tokens: int
    chat: Callable[[Sequence[Mapping[str, str]]], str]
    count_tokens: Callable[[str], int] = len
    prompt_tokens: int = PROMPT_TOKENS

    def rationale(self, label: Label) -> Prompt:
        """Ask for one reason that leads to ``label``."""
        return self._prompt(self._filled("rationale", self._words(label.name)), ("\n",), RATIONALE_TOKENS)

    def seed(self, label: Label, rationales: Sequence[str], length_like: str | None = None) -> Prompt:
        """Ask for one example of ``label``, led by ``rationales``, which may be empty."""
        if self.style == "list":
            reasons = f" ({'; '.join(rationales)})" if rationales else ""
        else:
            reasons = f". It has to do with: {'; '.join(rationales)}" if rationales else ""
        text = self._filled("seed", {**self._words(label.name), "reasons": reasons}, length_like)
        return self._seed(text, length_like)

    def seed_on(
        self, label: str, source: Mapping[str, str], answer: str = "", length_like: str | None = None
    ) -> Prompt:
        """Ask for one text on the ``source`` field, so that the two carry ``label``, or a question for ``answer``.

        A source text that is too long is cut.
        """
        words = {**self._words(label), "answer": one_line(answer)}

        def text_of(_: Sequence[str], shown: Mapping[str, str]) -> str:
            return self._filled("seed", {**words, "given": self._lines(shown)}, length_like)

        return self._seed(self._fitting((), source, text_of), length_like)

    def extrapolation(
        self, label: str, shots: Sequence[Example], error: Example, length_like: str | None = None
    ) -> Prompt:
        """Ask for an example like ``error``: show ``shots``, other rows of its label, and then the error.

        If they are too long together, the longest shots are left out first; then the error's texts are cut.
        """

        def text_of(blocks: Sequence[str], last: Mapping[str, str]) -> str:
            return self._listed(label, [*blocks, self._block(last, error.answers)], length_like)

        blocks = [self._block(row.fields, row.answers) for row in shots]
        return self._written(self._fitting(blocks, error.fields, text_of), ("\n",), length_like)

    def contrast(
        self, label: str, shots: Sequence[Example], source: Mapping[str, str], length_like: str | None = None
    ) -> Prompt:
        """The contrast prompt of ``extrapolation``: the same list for another ``label``, on the same ``source`` fields.

        ``shots`` are rows of that label. If it is too long, the longest shots are left out first; then texts are cut.
        """

        def text_of(blocks: Sequence[str], last: Mapping[str, str]) -> str:
            return self._listed(label, [*blocks, self._lines(last)] if last else blocks, length_like)

        blocks = [self._block(row.fields, row.answers) for row in shots]
        return self._written(self._fitting(blocks, source, text_of), ("\n",), length_like)

    def scoring(self, label: Label, shots: Sequence[str]) -> str:
        """A list of texts of ``label``, ``shots`` among them, whose next entry is scored; ``entry`` renders that one.

        It is in list style for every teacher: the likelihood of a bare text is wanted, not of an assistant's answer.
        If it is too long, the longest shots are left out.
        """

        def text_of(rows: Sequence[str], _: Mapping[str, str]) -> str:
            return LIST_SCORING.substitute(self._words(label.name), shots="".join(rows))

        return self._fitting([f"- {one_line(text)}\n" for text in shots], {}, text_of)

    def entry(self, text: str) -> str:
        """``text`` as the continuation of ``scoring``: the rest of a line, cut if it is too long for a prompt."""
        return self._fitting(
            (), {self.task.target_field: text}, lambda _, shown: f" {one_line(shown[self.task.target_field])}\n"
        )

    def answer(self, source: str, question: str) -> Prompt:
        """Ask for the answer to ``question`` in the words of the ``source`` text, which is cut if it is too long."""
        (name,) = self.task.source_fields

        def text_of(_: Sequence[str], shown: Mapping[str, str]) -> str:
            words = {"given": self._lines(shown), "written": self._lines({self.task.target_field: question})}
            return TEMPLATES[self.style][self.task.kind]["answer"].substitute(self._words("") | words)

        return self._prompt(self._fitting((), {name: source}, text_of), ("\n",), ANSWER_TOKENS)

    def _seed(self, text: str, length_like: str | None) -> Prompt:
        return self._written(text, ('"\n', "\n") if length_like is None else (), length_like)

    def _written(self, text: str, stop: tuple[str, ...], length_like: str | None) -> Prompt:
        """The prompt ``text`` with its limits; with ``length_like``, as long as this one within ``LENGTH_SPARE``.

        A chat prompt states the length, and the teacher may end earlier. A list has a minimum length instead. A list
        and an answer that was begun by a dash end at one of the ``stop`` strings. Without ``length_like`` there is no
        minimum: with the least length that the rules allow, a student of 400 seed texts of ag_news had an accuracy of
        75 % against 80 %.
        """
        if self.style == "chat" or (self.style == "prefill" and length_like is not None):
            stop = ()
        if length_like is None:
            return self._prompt(text, stop, self.max_tokens)
        tokens = self.count_tokens(length_like)
        most = max(1, min(self.max_tokens, math.ceil(tokens * (1 + LENGTH_SPARE))))
        least = min(most, math.floor(tokens * (1 - LENGTH_SPARE))) if self.style == "list" else 0
        return dataclasses.replace(self._prompt(text, stop, most), min_tokens=least)

    def _filled(self, name: str, words: Mapping[str, str], length_like: str | None = None) -> str:
        """The task's own prompt, or else the default one, with ``words`` filled in.

        Leading white space, which missing reasons leave, is stripped.
        """
        own = getattr(self.task.prompts, name)
        templates = TEMPLATES[self.style][self.task.kind]
        template = templates[name] if own is None else Template(own)
        words = {**words, "length": ""}
        if length_like is not None:
            size = _size(length_like)
            words |= {"size": size, "length": CHAT_LENGTH.substitute(size=size)}
            if own is None:
                template = templates.get(f"long_{name}", template)
        return template.substitute(words).lstrip()

    def _words(self, label: str) -> dict[str, str]:
        words = {"texts": self.task.texts, "language": self.task.language}
        if self.task.labels:
            entry = self.task.label(label)
            words |= {
                "label": entry.name,
                "description": entry.description,
                "phrase": entry.phrase or f'of the kind "{entry.name}" ({entry.description.rstrip(".")})',
            }
        for name in self.task.source_fields:
            words |= {"given_name": _spoken(name), "written_name": _spoken(self.task.target_field)}
        return words

    def _block(self, fields: Mapping[str, str], answers: Sequence[Answer]) -> str:
        """An example as a prompt shows it: source fields, the answer if there is one, the target text as an entry."""
        source = {name: fields[name] for name in self.task.source_fields}
        if answers:
            source[SPAN] = answers[0].text
        entry = f"- {one_line(fields[self.task.target_field])}"
        return f"{self._lines(source)}\n{entry}" if source else entry

    def _lines(self, source: Mapping[str, str]) -> str:
        return "\n".join(f"{_capitalised(_spoken(name))}: {one_line(text)}" for name, text in source.items())

    def _listed(self, label: str, blocks: Sequence[str], length_like: str | None) -> str:
        """The extrapolation prompt for ``label`` that shows ``blocks``."""
        shown = ("\n\n" if self.task.source_fields else "\n").join(blocks)
        return self._filled("extrapolation", {**self._words(label), "shots": shown}, length_like)

    def _fitting(
        self,
        blocks: Sequence[str],
        texts: Mapping[str, str],
        text_of: Callable[[Sequence[str], Mapping[str, str]], str],
    ) -> str:
        """``text_of(blocks, texts)``, shortened until it fits into ``prompt_tokens``.

        The longest blocks are left out first, one by one; then the longest of the texts are cut.
        """
        shown, left = list(blocks), dict(texts)
        while True:
            text = text_of(shown, left)
            if self._fits(text):
                return text
            if shown:
                shown.remove(max(shown, key=len))
            elif not left or not _cut_longest(left):
                return text

    def _fits(self, prompt: str) -> bool:
        """Whether a prompt is short enough. A token has at least one byte, so short prompts need no counting."""
        return len(prompt.encode()) <= self.prompt_tokens or self.count_tokens(prompt) <= self.prompt_tokens

    def _prompt(self, text: str, stop: tuple[str, ...], max_tokens: int) -> Prompt:
        if self.style == "list":
            return Prompt(text, stop, max_tokens, special=False)
        asked = self.chat([{"role": "user", "content": text}])
        return Prompt(f"{asked}-" if self.style == "prefill" else asked, stop, max_tokens, special=True)


def _size(text: str) -> str:
    """The length of ``text`` in words for a prompt; in characters for scripts without spaces."""
    n_words = len(text.split())
    return f"{n_words} words" if len(text) <= LONGEST_USUAL_WORD * n_words else f"{len(text)} characters"


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _capitalised(name: str) -> str:
    return name[:1].upper() + name[1:]


def _cut_longest(texts: dict[str, str]) -> bool:
    """Cut the last quarter off the longest of ``texts``; False if it is too short for that."""
    name = max(texts, key=lambda key: len(texts[key].strip()))
    text = texts[name].strip()
    length = len(text) * 3 // 4
    if length < MIN_CUT_CHARACTERS:
        return False
    texts[name] = text[:length].rsplit(maxsplit=1)[0]
    return True


def token_cap(texts: Sequence[str], length: Length, count_tokens: Callable[[str], int]) -> int:
    """The token limit for a text of the greatest ``length``, by the tokens per unit of the gold ``texts``."""
    units = max(1, sum(length.measure(text) for text in texts))
    tokens = max(1, sum(count_tokens(text) for text in texts))
    return math.ceil(length.max * tokens / units) + SPARE_TOKENS
