"""What every part asks of a text: its normal form, its scripts, its units, where its sentences end, and an excerpt.

Works for any script that Unicode names.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

SENTENCE_ENDS = frozenset(".!?…。！？｡؟۔।॥።։༎။៕")
"""Characters that end a sentence, in the scripts that have one."""

SCRIPTS_WITHOUT_SPACES = frozenset({"CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN"})
"""First words of the Unicode names of letters in scripts that write no space between words."""

EXCERPT_CHARACTERS = 80
"""How much of a neighbour's text a drop quotes."""

_BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code)
    for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
    for code in range(first, last + 1)
}
"""Fillers, variation selectors and the empty braille cell: Unicode calls them letters, marks or symbols."""


class _SpacesForNoise(dict[int, int]):
    """For ``str.translate``: letters, marks, digits and symbols of sense (currency, mathematics, emoji) stay.

    All else becomes a space. Fills itself as characters turn up.
    """

    def __missing__(self, code: int) -> int:
        category = unicodedata.category(chr(code))
        self[code] = code if category[0] in "LMN" or category in ("Sc", "Sm", "So") else ord(" ")
        return self[code]


_SPACES_FOR_NOISE = _SpacesForNoise()


def normal_form(text: str) -> str:
    """``text`` without the differences that do not make another text.

    Unicode NFKC, case-folded, every run of white space, punctuation and control characters as one space.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.translate(_SPACES_FOR_NOISE).split())


@cache
def script_of(character: str) -> str | None:
    """The script of a letter as the first word of its Unicode name, such as "LATIN"; None for what is no letter."""
    if not character.isalpha():
        return None
    return re.split("[ -]", unicodedata.name(character, "UNKNOWN"), maxsplit=1)[0]


def script_counts(text: str) -> Counter[str]:
    """How many letters of each script ``text`` has, after NFKC (so that full-width Latin counts as Latin)."""
    counts: Counter[str] = Counter()
    for character, n in Counter(unicodedata.normalize("NFKC", text)).items():
        script = script_of(character)
        if script is not None:
            counts[script] += n
    return counts


def writes_without_spaces(texts: Sequence[str]) -> bool:
    """Whether most letters of ``texts`` belong to scripts that put no space between words."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(script_counts(text))
    return 2 * sum(counts[script] for script in SCRIPTS_WITHOUT_SPACES) > counts.total()


def units_of(text: str, by_character: bool) -> list[str]:
    """The words of the normal form of ``text``, or its characters other than spaces."""
    normal = normal_form(text)
    return list(normal.replace(" ", "")) if by_character else normal.split()


def excerpt(text: str) -> str:
    """The beginning of ``text`` on one line, quoted, for the detail of a drop."""
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= EXCERPT_CHARACTERS else f'"{line[:EXCERPT_CHARACTERS]}…"'


def one_line(text: str) -> str:
    """``text`` with each run of white space as one blank."""
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
