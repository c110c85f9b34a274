"""What surrounds the text in a teacher's reply is cut off, by rule, and each cut is counted.

Teachers begin with "Sure! Here is ...", put the text into quotation marks, bullets or Markdown, repeat "Text:", add a
remark, think aloud, or spell out the end marker of another family. The rules leave alone what gold texts do themselves.
Phrases are English; the other rules work for any language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from s3local.text import SENTENCE_ENDS, normal_form

HABIT_SHARE = 0.02
"""A rule that would change this share of gold texts is not applied."""

HEADERS = frozenset({
    "answer", "category", "comment", "example", "explanation", "headline", "input", "label", "message", "output",
    "q", "question", "response", "result", "review", "sentence", "statement", "text", "title",
})  # fmt: skip
"""Words that a reply puts before a colon and its text. Names of labels and fields are added."""

LABEL_HEADERS = frozenset({"category", "label", "class", "sentiment", "topic", "type"})
"""Words before a colon that are followed by a label: the whole line is cut."""

LEAD_INS = (
    "absolutely", "as requested", "below is", "certainly", "got it", "here are", "here is", "here s", "no problem",
    "of course", "okay", "ok", "sure", "the following is",
)  # fmt: skip
"""How a reply begins that announces its text."""

REMARKS = (
    "explanation", "feel free to", "i hope this", "in this example", "in this sentence", "in this text",
    "is there anything else", "let me know", "note", "note that", "please let me know", "please note", "the label",
    "the text", "this example", "this message", "this question", "this review", "this sentence", "this statement",
    "this text",
)  # fmt: skip
"""How a paragraph begins that speaks about the text before it."""

_QUOTES = {'"': '"', "'": "'", "“": "”", "„": "“", "«": "»", "「": "」", "‘": "’"}

_THINKING = re.compile(
    r"<(think|thinking|thought|reasoning|reflection|analysis)>.*?(?:</\1>|\Z)"
    r"|\[THINK\].*?(?:\[/THINK\]|\Z)"
    r"|◁think▷.*?(?:◁/think▷|\Z)"
    r"|<\|channel\|>\s*(?:analysis|commentary).*?(?:<\|channel\|>\s*final\s*<\|message\|>|\Z)"
    r"|<\|START_THINKING\|>.*?(?:<\|END_THINKING\|>|\Z)",
    re.DOTALL | re.IGNORECASE,
)
_THOUGHT_BEFORE = re.compile(
    r"\A.*(?:</(?:think|thinking|thought|reasoning|reflection|analysis)>|\[/THINK\]|◁/think▷)",
    re.DOTALL | re.IGNORECASE,
)
"""The end of thinking that the chat template began."""

_MARKER = re.compile(
    r"<\|[a-zA-Z_][a-zA-Z0-9_ ]{0,30}\|>|<｜[^｜<>\n]{1,40}｜>|</?s>|</?(?:start|end)_of_turn>|<(?:eos|bos|pad|unk)>"
    r"|\[/?INST\]|<</?SYS>>|\[/?SYSTEM_PROMPT\]|\[(?:EOS|BOS|end of text)\]|<(?:end|END)>"
)
_ROLE = re.compile(r"\A(?:assistant|model|user|system)\s*\n")

_FENCE = re.compile(r"\A```[^\n`]*\n(.*?)\n?```[ \t]*(?:\n.*)?\Z", re.DOTALL)
_HEADING = re.compile(r"\A#{1,6}[ \t]+[^\n]*\n+(?=\S)")
_HASHES = re.compile(r"\A#{1,6}[ \t]+")
_RULER = re.compile(r"\A(?:[-*_=]{3,})[ \t]*\n+|\n+[ \t]*(?:[-*_=]{3,})\s*\Z")
_EMPHASIS = re.compile(r"(?<!\w)(\*\*\*|\*\*|__)(?=\S)(.+?)(?<=\S)\1(?!\w)", re.DOTALL)
_WRAPPED = re.compile(r"\A([*_`])(?=\S)([^*_`]+)(?<=\S)\1\Z")
_BULLET = re.compile(r"\A(?:\(?\d{1,3}[.):]|[-*•‣◦·–—])[ \t]+(?=\S)")
_ANY_BULLET = re.compile(r"^\s*(?:\(?\d{1,3}[.):]|[-*•‣◦])\s", re.MULTILINE)
_LABELLED = re.compile(r"\A[*_]{0,2}([^\W\d_][\w ()/-]{0,40}?)\s*#?\d{0,3}\s*[*_]{0,2}\s*[:：][*_]{0,2}[ \t]*")
_LAST_LINE = re.compile(r"\n+([^\n]+)\Z")
_CLOSED = re.compile(r'\A([^"]{3,})"\s*[(–—-][^"]*\Z')
"""A text whose opening quotation mark was in the prompt, and a remark after the closing one."""
_APOSTROPHE = re.compile(r"(?<=\w)['’](?=\w)")
_PARAGRAPH = re.compile(r"\n[ \t]*\n")


class CleanedReply(NamedTuple):
    """The text of a reply, and the names of the rules that changed something, each once, in the order of first use."""

    text: str
    rules: tuple[str, ...]


Rule = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class ReplyCleaner:
    """Cuts off what is not the text of a reply.

    ``names`` are those of labels and fields. ``skipped`` are rules that are not applied; ``cleaner_for`` finds those
    that gold texts break.
    """

    names: tuple[str, ...] = ()
    skipped: frozenset[str] = frozenset()

    def clean(self, reply: str) -> CleanedReply:
        """The text of ``reply`` without white space around it. Cleaning it again changes nothing."""
        text, applied = reply.strip(), dict[str, None]()
        while True:
            before = text
            for name, rule in self._rules():
                found = rule(text).strip() if name not in self.skipped else text
                if found != text:
                    applied[name], text = None, found
            if text == before:  # every change makes the text shorter, so that this ends
                return CleanedReply(text, tuple(applied))

    def _rules(self) -> tuple[tuple[str, Rule], ...]:
        return (
            ("thinking", _without_thinking),
            ("end_marker", _without_markers),
            ("markdown", _without_markdown),
            ("lead_in", self._without_lead_in),
            ("label", self._without_labels),
            ("bullet", _without_bullet),
            ("remark", self._without_remark),
            ("quotes", _without_quotes),
        )

    def _headers(self) -> frozenset[str]:
        return HEADERS | LABEL_HEADERS | {normal_form(name) for name in self.names}

    def _without_lead_in(self, text: str) -> str:
        """Without a first line, or the part of it before a colon, that announces the text."""
        first, _, rest = text.partition("\n")
        before, colon, after = first.partition(":")
        if not _begins_with(before if colon else first, LEAD_INS):
            return text
        if colon and not after.strip(" *_") and rest.strip():
            return rest
        if colon and after.strip(" *_"):
            return f"{after}\n{rest}"
        words = normal_form(first)
        announces = rest.startswith("\n") and not self._headers().isdisjoint(words.split())
        return rest if rest.strip() and (announces or words in LEAD_INS) else text

    def _without_labels(self, text: str) -> str:
        """Without "Text:" before the text, and without lines that only name the label."""
        found = _LABELLED.match(text)
        if found and normal_form(found.group(1)) in self._headers():
            line, _, rest = text[found.end() :].partition("\n")
            if self._names_label(found.group(1), line):
                return rest if rest.strip() else text
            return text[found.end() :] if text[found.end() :].strip() else text
        last = _LAST_LINE.search(text)
        if last:
            labelled = _LABELLED.match(last.group(1))
            if labelled and self._names_label(labelled.group(1), last.group(1)[labelled.end() :]):
                return text[: last.start()]
        return text

    def _names_label(self, header: str, value: str) -> bool:
        """Whether ``header: value`` says which label the text has."""
        said = normal_form(value)
        names = {normal_form(name) for name in self.names}
        return normal_form(header) in LABEL_HEADERS and (said in names or not names) and bool(said)

    def _without_remark(self, text: str) -> str:
        """Without last paragraphs that speak about the text."""
        breaks = list(_PARAGRAPH.finditer(text))
        if breaks:
            last = text[breaks[-1].end() :].lstrip(" \t*_([")
            if _begins_with(last, REMARKS):
                return text[: breaks[-1].start()]
        return text


PLAIN_CLEANER = ReplyCleaner()
"""For replies that are not compared with gold texts."""


def cleaner_for(gold: Sequence[str], names: Sequence[str] = ()) -> ReplyCleaner:
    """The cleaner for a task with these ``gold`` texts, and ``names`` of labels and fields.

    A rule that would change ``HABIT_SHARE`` of the gold texts is skipped; the end of thinking and of a turn never is.
    """
    cleaner = ReplyCleaner(tuple(names))
    skipped = set()
    for name, rule in cleaner._rules():
        changed = sum(rule(text.strip()).strip() != text.strip() for text in gold)
        if changed and changed >= HABIT_SHARE * len(gold) and name not in ("thinking", "end_marker", "quotes"):
            skipped.add(name)
    return ReplyCleaner(tuple(names), frozenset(skipped))


def whole_sentences(text: str) -> str:
    """``text`` up to its last complete sentence. A text without one is returned as it is, and the rules drop it."""
    ends = [place for place, character in enumerate(text) if character in SENTENCE_ENDS]
    return text[: ends[-1] + 1] if ends else text


def _begins_with(text: str, phrases: Sequence[str]) -> bool:
    return f"{normal_form(text)} ".startswith(tuple(f"{phrase} " for phrase in phrases))


def _without_thinking(text: str) -> str:
    """Without reasoning between its tags; one that is not closed goes to the end of the reply."""
    return _THOUGHT_BEFORE.sub("", _THINKING.sub("", text))


def _without_markers(text: str) -> str:
    """Without control tokens that are spelled out: those before the text, and the first one after it with the rest."""
    while found := _MARKER.match(text):
        text = text[found.end() :].lstrip()
        role = _ROLE.match(text)
        text = text[role.end() :].lstrip() if role else text
    found = _MARKER.search(text)
    return text[: found.start()] if found else text


def _without_markdown(text: str) -> str:
    """Without a code fence or a heading around the text, rulers and emphasis."""
    fenced = _FENCE.match(text)
    if fenced and fenced.group(1).strip():
        return fenced.group(1)
    text = _RULER.sub("", text)
    text = _HASHES.sub("", _HEADING.sub("", text))
    text = _EMPHASIS.sub(r"\2", text)
    return _WRAPPED.sub(r"\2", text)


def _without_bullet(text: str) -> str:
    """Without the bullet or number before the text, if it is the only one."""
    return _BULLET.sub("", text) if len(_ANY_BULLET.findall(text)) <= 1 else text


def _without_quotes(text: str) -> str:
    """Without quotation marks around the text, or around its first paragraph before others.

    If the prompt ended with an opening quotation mark, the reply has only the closing one.
    """
    for part in (text, _PARAGRAPH.split(text, maxsplit=1)[0].rstrip()):
        closing, inside = _QUOTES.get(part[:1]), part[1:-1]
        if closing is not None and len(part) > 1 and closing == part[-1] and closing not in _APOSTROPHE.sub("", inside):
            return inside
    if found := _CLOSED.match(text):
        return found.group(1)
    if text.count('"') == 1 and (text.endswith('"') or text.startswith('"')):
        return text.strip('"')
    return text
