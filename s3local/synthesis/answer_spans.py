"""Spans of a context that a question could ask for, found offline by a few stated rules.

    quotes     the text between quotation marks
    numbers    a number with its currency or per cent sign, or with the other words of a date, such as "March"
    names      consecutive capitalised words; "of" or "de la" may stand between two of them
    phrases    consecutive words between function words, numbers and punctuation: mostly noun phrases

The rules work for any language. Function words are the short words that the contexts themselves use most. In a script
without spaces between words, each character counts as a word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from s3local.records import Answer
from s3local.text import writes_without_spaces

MAX_WORDS = 6
"""The most words in a phrase or a name; times ``CHARACTERS_A_WORD`` characters in scripts without spaces."""
CHARACTERS_A_WORD = 2
FUNCTION_SHARE = 0.25
"""A short word is a function word if this share of the contexts use it."""
FUNCTION_CHARACTERS = 5
"""A longer word is never a function word."""
FEW_CONTEXTS = 8
"""With fewer contexts than this, shares are unreliable: a function word is then one that occurs three times."""
LINK_CHARACTERS = 3
"""The longest lower-case word that may stand between two capitalised words of a name."""

_WORD = re.compile(r"[^\W_]+(?:[-'’.&][^\W_]+)*")
_LETTER = re.compile(r"[^\W\d_]")
_NUMBER = re.compile(r"[$€£¥₹]?\s?\d+(?:[.,:/–-]\d+)*(?:\s?[%°$€£¥₹])?")
_QUOTED = re.compile(r'"([^"\n]{2,80})"|“([^”\n]{2,80})”|«([^»\n]{2,80})»|„([^“”\n]{2,80})[“”]|「([^」\n]{2,80})」')
_SENTENCE_START = re.compile(r"(?:^|[.!?…。！？]\s*|\n)\W*$")


def propose_answers(contexts: Sequence[str]) -> list[dict[str, list[Answer]]]:
    """For each context, its spans by rule. A span is listed once, under the first rule that finds it; rules that find
    nothing are left out.
    """
    unspaced = writes_without_spaces(contexts)
    functions = _function_words(contexts, unspaced)
    return [_spans(context, functions, unspaced) for context in contexts]


def _spans(context: str, functions: frozenset[str], unspaced: bool) -> dict[str, list[Answer]]:
    rules = {
        "quotes": _quotes(context),
        "numbers": _numbers(context, functions, unspaced),
        "names": iter(()) if unspaced else _names(context, functions),
        "phrases": _phrases(context, functions, unspaced),
    }
    seen: set[tuple[int, int]] = set()
    found: dict[str, list[Answer]] = {}
    for rule, places in rules.items():
        for begin, end in places:
            if (begin, end) not in seen and (rule == "numbers" or _LETTER.search(context[begin:end])):
                seen.add((begin, end))
                found.setdefault(rule, []).append(Answer(context[begin:end], begin))
    return found


def _quotes(context: str) -> Iterator[tuple[int, int]]:
    for match in _QUOTED.finditer(context):
        begin, end = match.span(match.lastindex or 0)
        quoted = context[begin:end]
        begin, end = begin + len(quoted) - len(quoted.lstrip()), end - len(quoted) + len(quoted.rstrip())
        if begin < end:
            yield begin, end


def _numbers(context: str, functions: frozenset[str], unspaced: bool) -> Iterator[tuple[int, int]]:
    """Numbers, each also with the capitalised word before it, as in "March 1870", and with the word after it."""
    for match in _NUMBER.finditer(context):
        begin, end = match.span()
        begin += len(match[0]) - len(match[0].lstrip())
        if unspaced:
            yield begin, end
            continue
        if begin and (context[begin - 1].isalnum() or context[begin - 1] in "-'’"):
            continue  # a part of a word, such as the 1 of "F1"
        suffix = _WORD.match(context, end)
        if suffix and len(suffix[0]) <= LINK_CHARACTERS:
            end = suffix.end()  # "19th"
        yield begin, end
        left = re.search(r"([^\W\d_]+)\s$", context[:begin])
        if left and left[1][0].isupper() and not _SENTENCE_START.search(context[: left.start()]):
            yield left.start(), end
        right = re.match(r"\s([^\W\d_]+)(?:,?\s\d{4}\b)?", context[end:])
        if right and right[1].casefold() not in functions:
            yield begin, end + right.end()


def _names(context: str, functions: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Consecutive capitalised words; not a single word at the start of a sentence, where any word is capitalised."""
    words = list(_WORD.finditer(context))
    place = 0
    while place < len(words):
        first = last = place
        if _is_capitalised(words[place][0]):
            while (following := _continues(context, words, last)) is not None:
                last = following
            place = last
            while first < last and words[first][0].casefold() in functions:
                first += 1  # "The Mill", "In May"
            begin, end = words[first].start(), words[last].end()
            alone = first == last and (
                _SENTENCE_START.search(context[:begin]) or words[first][0].casefold() in functions
            )
            if not alone and last - first < MAX_WORDS:
                yield begin, end
        place += 1


def _continues(context: str, words: Sequence[re.Match[str]], last: int) -> int | None:
    """The index of the next word of a name after word ``last``, or None if the name ends there."""
    for following in (last + 1, last + 2):
        if following >= len(words) or context[words[following - 1].end() : words[following].start()] != " ":
            return None
        if _is_capitalised(words[following][0]):
            return following
        if len(words[following][0]) > LINK_CHARACTERS:
            return None
    return None


def _phrases(context: str, functions: frozenset[str], unspaced: bool) -> Iterator[tuple[int, int]]:
    """Runs of words that are neither function words nor numbers, separated by single spaces."""
    longest = MAX_WORDS * CHARACTERS_A_WORD if unspaced else MAX_WORDS
    run: list[tuple[int, int]] = []
    for word, begin, end in [*_units(context, unspaced), ("", len(context) + 1, len(context) + 1)]:
        apart = bool(run) and context[run[-1][1] : begin] not in ("", " ")
        if not word or apart or word.casefold() in functions or not _LETTER.search(word):
            if _is_phrase(context, run, longest, unspaced):
                yield run[0][0], run[-1][1]
            run = []
        if word and word.casefold() not in functions and _LETTER.search(word):
            run.append((begin, end))


def _is_phrase(context: str, run: Sequence[tuple[int, int]], longest: int, unspaced: bool) -> bool:
    if not run or len(run) > longest:
        return False
    length = run[-1][1] - run[0][0]
    return length >= (CHARACTERS_A_WORD if unspaced else FUNCTION_CHARACTERS - 1)


def _units(context: str, unspaced: bool) -> Iterator[tuple[str, int, int]]:
    """(word, begin, end) of each word; of each character in an unspaced script."""
    for match in _WORD.finditer(context):
        if not unspaced:
            yield match[0], match.start(), match.end()
        else:
            yield from ((context[place], place, place + 1) for place in range(match.start(), match.end()))


def _function_words(contexts: Sequence[str], unspaced: bool) -> frozenset[str]:
    """Short words (single characters in an unspaced script) that many contexts use."""
    used: Counter[str] = Counter()
    times: Counter[str] = Counter()
    for context in contexts:
        words = [word.casefold() for word, _, _ in _units(context, unspaced)]
        used.update(set(words))
        times.update(words)
    counts: Mapping[str, int] = used if len(contexts) >= FEW_CONTEXTS else times
    least = FUNCTION_SHARE * len(contexts) if len(contexts) >= FEW_CONTEXTS else 3
    return frozenset(word for word, n in counts.items() if n >= least and len(word) <= FUNCTION_CHARACTERS)


def _is_capitalised(word: str) -> bool:
    return word[0].isupper()
