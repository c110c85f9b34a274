"""Properties of texts in any script: normal form, scripts, words or characters, sentence ends, excerpts."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

SENTENCE_ENDS = frozenset(".!?…。！？｡؟۔।॥።։༎။៕")
"""Characters that end a sentence, in the scripts that have one."""

SCRIPTS_WITHOUT_SPACES = frozenset({"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"})
"""Scripts without spaces between words, by the first word of their letters' Unicode names."""

EXCERPT_CHARACTERS = 80
"""The longest quotation of another text in the detail of a dropped candidate."""

_BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code)
    for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
    for code in range(first, last + 1)
}
"""Fillers, variation selectors and the empty braille cell: Unicode calls them letters, marks or symbols."""


class _SpacesForNoise(dict[int, int]):
    """For ``str.translate``: keeps letters, marks, digits and symbols (currency, mathematics, emoji).

    Every other character becomes a space. Entries are computed when a character first occurs.
    """

    def __missing__(self, code: int) -> int:
        category = unicodedata.category(chr(code))
        self[code] = code if category[0] in "LMN" or category in ("Sc", "Sm", "So") else ord(" ")
        return self[code]


_SPACES_FOR_NOISE = _SpacesForNoise()


def normal_form(text: str) -> str:
    """``text`` without differences of case, white space, punctuation and Unicode form: equal texts are the same text.

    Unicode NFKC, case-folded, with one space for every run of white space, punctuation and control characters. Empty if
    nothing else is there.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.translate(_SPACES_FOR_NOISE).split())


@cache
def script_of(character: str) -> str | None:
    """The script of a letter as the first word of its Unicode name, such as "LATIN"; None if it is not a letter."""
    if not character.isalpha():
        return None
    return re.split("[ -]", unicodedata.name(character, "UNKNOWN"), maxsplit=1)[0]


def script_counts(text: str) -> Counter[str]:
    """The number of letters of each script in ``text``, after NFKC (so that full-width Latin counts as Latin)."""
    counts: Counter[str] = Counter()
    for character, n in Counter(unicodedata.normalize("NFKC", text)).items():
        script = script_of(character)
        if script is not None:
            counts[script] += n
    return counts


def writes_without_spaces(texts: Sequence[str]) -> bool:
    """Whether most letters of ``texts`` belong to scripts without spaces between words."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(script_counts(text))
    return 2 * sum(counts[script] for script in SCRIPTS_WITHOUT_SPACES) > counts.total()


def units_of(text: str, by_character: bool) -> list[str]:
    """The words of the normal form of ``text``, or its characters other than spaces."""
    normal = normal_form(text)
    return list(normal.replace(" ", "")) if by_character else normal.split()


def excerpt(text: str) -> str:
    """The beginning of ``text`` on one line and in quotes, for the detail of a dropped candidate."""
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= EXCERPT_CHARACTERS else f'"{line[:EXCERPT_CHARACTERS]}…"'


def one_line(text: str) -> str:
    """``text`` with one space for every run of white space."""
    return " ".join(text.split())


def is_blank(text: str) -> bool:
    """Whether nothing of ``text`` can be seen: white space, zero-width and control characters, blank letters."""
    return all(
        character.isspace() or character in _BLANK_LETTERS or unicodedata.category(character) in ("Cc", "Cf")
        for character in text
    )


def composed(text: str) -> str:
    """``text`` in Unicode NFC, in which an "é" of one or of two characters is the same."""
    return unicodedata.normalize("NFC", text)
