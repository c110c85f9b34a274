"""Cheap rules for the teacher's texts: broken text, echoes of the prompt, repetition, copies of gold.

Each rule looks at one candidate alone and takes what is normal from the gold texts. The rules work for any language,
apart from the phrases in the settings.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from s3local.curation.shared_runs import RunIndex
from s3local.records import Candidate, Dropped, FilterResult
from s3local.task.model import Length
from s3local.text import SENTENCE_ENDS, excerpt, normal_form, script_counts, units_of, writes_without_spaces

JAPANESE_KANA = frozenset({"HIRAGANA", "KATAKANA"})
"""Gold texts in one of these scripts may also use the other one and Chinese characters."""

RUN_UNITS = 3
"""Words (or characters) in each run that is counted to find repetition."""

COMMON_WORDS, MIN_COMMON = 50, 12
"""The most words that count as common in gold texts, and the fewest that say something about a language."""

_SENTENCE_START = re.compile(r"(?<=[.!?。！？।])\s+|\n")
_LIST_MARKER = re.compile(r"^\s*(?:\(?\d{1,3}[.):]|[-*•‣–—]|#{1,6})\s", re.MULTILINE)

Finding = tuple[str, float, str]
"""Reason, score and detail of a drop."""


@dataclass(frozen=True, slots=True)
class RuleSettings:
    """The thresholds of the rules. Phrases are compared in normal form: lower case, no punctuation.

    ``min_letter_share``: the least share of letters, marks and digits among all characters but white space.
    ``min_script_share``: the least share of letters in the gold texts' scripts among all letters.
    ``min_distinct_share``: the least share of distinct word trigrams (character trigrams in scripts without spaces).
    Texts with fewer than ``min_loop_units`` words pass.
    ``echo_words``, ``echo_characters``: this many consecutive words (characters) of the prompt are an echo.
    ``headers``: words that a reply puts before a colon when it repeats the form of the prompt. Label names are added.
    ``lead_ins``: how a reply begins that announces the text before a colon.
    ``refusals``: phrases of a teacher that refuses or speaks about itself. ``about_task``: phrases of a teacher that
    speaks about what it was asked for; those with the names of labels are added.
    ``min_common_share``: the least share of words, of ``min_common_words`` or more, that are among the words that gold
    texts use most; a text in another language of the same script has fewer.
    ``habit_share``: the share of gold texts that makes a feature normal. The four shares above are lowered so that
    all but this share of gold texts pass, and a rule about lists, headers, refusals, the task or echoes that this share
    of gold texts break is not applied.
    """

    min_common_share: float = 0.05
    min_common_words: int = 10
    min_letter_share: float = 0.6
    min_script_share: float = 0.8
    min_distinct_share: float = 0.7
    min_loop_units: int = 8
    echo_words: int = 6
    echo_characters: int = 12
    headers: tuple[str, ...] = (
        "answer",
        "category",
        "example",
        "explanation",
        "input",
        "instruction",
        "label",
        "note",
        "output",
        "prompt",
        "response",
        "task",
        "text",
    )
    lead_ins: tuple[str, ...] = ("here are", "here is", "here s", "sure")
    refusals: tuple[str, ...] = (
        "as a language model",
        "as an ai assistant",
        "as an ai language model",
        "i am an ai",
        "i m an ai",
        "i am sorry but i can",
        "i m sorry but i can",
        "i apologize but i can",
        "sorry but i can t",
        "i can t assist with",
        "i cannot assist with",
        "i m unable to assist",
        "i am unable to assist",
        "i m not able to assist",
        "i can t fulfill",
        "i cannot fulfill",
        "i can t generate",
        "i cannot generate",
        "i cannot create content",
        "as an artificial intelligence",
        "my programming",
        "i m a chatbot",
        "i d be happy to help",
        "i m ready to assist",
    )
    about_task: tuple[str, ...] = (
        "carries the label",
        "carries this label",
        "carry the label",
        "carry this label",
        "carrying the label",
        "the classifier",
        "realistic text",
        "the given text",
        "the text is about",
        "this text is about",
        "the provided text",
        "text that carries",
        "provide a text",
        "provide a more specific",
        "natural language processing",
        "text you provided",
    )
    habit_share: float = 0.02


def check_rules(
    candidates: Sequence[Candidate],
    settings: RuleSettings | None = None,
    *,
    gold: Sequence[str],
    length: Length | None = None,
    names: Sequence[str] = (),
    prompts: Sequence[str] = (),
    compared_field: str | None = None,
) -> FilterResult:
    """Keep the candidates that break no rule, in order; each dropped one names the first rule that it breaks.

    ``gold`` are the texts of dev, ``length`` is the allowed length (None: any), ``names`` are the names of labels and
    fields, ``prompts`` the instruction and the label descriptions. ``compared_field`` names the field that the teacher
    wrote, and ``gold`` then holds that field; None checks all text. If a candidate's origin has ``finish`` "length",
    the text was cut at the token limit.

    Reasons and their scores: ``broken_text`` (invalid characters), ``empty`` (0), ``too_short``, ``too_long`` (the
    length), ``unfinished`` (characters), ``list_marker``, ``header``, ``refusal``, ``about_task`` (1),
    ``echoes_prompt`` (consecutive units), ``few_letters``, ``wrong_script``, ``wrong_language``, ``repeats_itself``
    (shares), ``copies_gold`` (1).
    """
    checker = _Checker(settings or RuleSettings(), gold, length, names, prompts)

    def check(candidate: Candidate) -> Finding | None:
        text = candidate.text if compared_field is None else candidate.example.fields[compared_field]
        return checker.check(text, capped=candidate.origin.get("finish") == "length")

    return sift(candidates, check)


def sift(candidates: Sequence[Candidate], check: Callable[[Candidate], Finding | None]) -> FilterResult:
    """Keep the candidates for which ``check`` returns None, in order; drop the others with its finding."""
    kept, dropped = [], []
    for candidate in candidates:
        finding = check(candidate)
        if finding is None:
            kept.append(candidate)
        else:
            dropped.append(Dropped(candidate, *finding))
    return FilterResult(kept, dropped)


class _Checker:
    """The rules for one task, adjusted to its gold texts."""

    def __init__(
        self,
        settings: RuleSettings,
        gold: Sequence[str],
        length: Length | None,
        names: Sequence[str],
        prompts: Sequence[str],
    ) -> None:
        self._settings = settings
        self._length = length
        self._gold = {normal_form(text): text for text in gold}
        self._headers = {normal_form(name) for name in (*settings.headers, *names)}
        self._lead_ins = tuple(f"{normal_form(lead_in)} " for lead_in in settings.lead_ins)
        told = ("label", "labeled", "labelled", "labeled as", "labelled as", "category")
        self._task_phrases = (*settings.about_task, *(f"{how} {normal_form(name)}" for name in names for how in told))
        self._prompts = [*prompts, *names]
        self._prompt_runs = RunIndex(
            self._prompts, n_words=settings.echo_words, n_characters=settings.echo_characters, short_share=1.0
        )
        self._by_character = writes_without_spaces(gold)
        self._scripts = self._scripts_of(gold)

        self._min_letter_share = self._lowered(settings.min_letter_share, map(_letter_share, gold))
        self._min_script_share = self._lowered(settings.min_script_share, map(self._script_share, gold))
        self._common = self._common_words(gold)
        self._min_common_share = self._lowered(settings.min_common_share, map(self._common_share, gold))
        self._min_distinct_share = self._lowered(settings.min_distinct_share, map(self._distinct_share, gold))
        form_rules = (self._list_marker, self._header, self._refusal, self._about_task, self._echo)
        self._form_rules = [rule for rule in form_rules if not self._is_habit(rule, gold)]

    def check(self, text: str, capped: bool) -> Finding | None:
        """The first rule that ``text`` breaks, or None."""
        return self._body(text, capped) or self._form(text) or self._matter(text)

    def _body(self, text: str, capped: bool) -> Finding | None:
        """Whether it is a complete text of an allowed length."""
        broken = sum(n for character, n in Counter(text).items() if _is_broken(character))
        if broken:
            return "broken_text", float(broken), f"{broken} characters that belong in no text"
        stripped = text.strip()
        if not any(map(str.isalnum, stripped)):
            return "empty", 0.0, "no letter and no digit"
        if self._length is not None and not self._length.allows(stripped):
            size, allowed = self._length.measure(stripped), self._length
            short = size < allowed.min
            limit = f"at least {allowed.min}" if short else f"at most {allowed.max}"
            reason = "too_short" if short else "too_long"
            return reason, float(size), f"{size} {allowed.unit}, {limit} belong here"
        if capped and not _ends_a_sentence(stripped):
            detail = f"cut at the token cap, in the middle of {excerpt(stripped[-40:])}"
            return "unfinished", float(len(stripped)), detail
        return None

    def _form(self, text: str) -> Finding | None:
        """Whether it is the text alone, without list markers, headers, refusals or echoes."""
        return next((finding for rule in self._form_rules if (finding := rule(text))), None)

    def _matter(self, text: str) -> Finding | None:
        """Whether it is language in the right script, non-repetitive, and not copied from gold."""
        share = _letter_share(text)
        if share < self._min_letter_share:
            return "few_letters", share, f"the least is {self._min_letter_share:.2f}"
        share = self._script_share(text)
        if share < self._min_script_share:
            return "wrong_script", share, f"the least is {self._min_script_share:.2f} of {', '.join(self._scripts)}"
        share = self._common_share(text)
        if share < self._min_common_share:
            return "wrong_language", share, f"the least is {self._min_common_share:.2f} of gold's common words"
        share = self._distinct_share(text)
        if share < self._min_distinct_share:
            return "repeats_itself", share, f"the least share of distinct runs is {self._min_distinct_share:.2f}"
        copied = self._gold.get(normal_form(text))
        if copied is not None:
            return "copies_gold", 1.0, excerpt(copied)
        return None

    def _list_marker(self, text: str) -> Finding | None:
        found = _LIST_MARKER.search(text)
        return ("list_marker", 1.0, excerpt(found.group())) if found else None

    def _header(self, text: str) -> Finding | None:
        """A first line that ends with a colon, a lead-in before one, or a sentence that begins with a known header."""
        whole = unicodedata.normalize("NFKC", text.strip())
        if ":" not in whole:
            return None
        first, _, rest = whole.partition("\n")
        if first.rstrip().endswith(":") and rest:
            return "header", 1.0, excerpt(first)
        before = first.partition(":")[0]
        if ":" in first and f"{normal_form(before)} ".startswith(self._lead_ins):
            return "header", 1.0, excerpt(f"{before}:")
        for sentence in _SENTENCE_START.split(whole):
            before, colon, _ = sentence.partition(":")
            if colon and normal_form(before).rstrip("0123456789 ") in self._headers:  # also "Example 2:"
                return "header", 1.0, excerpt(f"{before}:")
        return None

    def _refusal(self, text: str) -> Finding | None:
        return _phrase_in(text, self._settings.refusals, "refusal")

    def _about_task(self, text: str) -> Finding | None:
        return _phrase_in(text, self._task_phrases, "about_task")

    def _echo(self, text: str) -> Finding | None:
        shared = self._prompt_runs.find(text)
        return ("echoes_prompt", float(shared.n_units), excerpt(self._prompts[shared.row])) if shared else None

    def _common_words(self, gold: Sequence[str]) -> frozenset[str]:
        """The ``COMMON_WORDS`` words that occur in most gold texts; none for scripts without spaces."""
        if self._by_character:
            return frozenset()
        counts = Counter(word for text in gold for word in set(normal_form(text).split()))
        return frozenset(word for word, n_texts in counts.most_common(COMMON_WORDS) if n_texts > 1)

    def _common_share(self, text: str) -> float:
        """The share of words that gold texts use most; 1 for short texts, and where gold has too few such words."""
        words = normal_form(text).split()
        if len(words) < self._settings.min_common_words or len(self._common) < MIN_COMMON:
            return 1.0
        return sum(word in self._common for word in words) / len(words)

    def _scripts_of(self, gold: Sequence[str]) -> list[str]:
        """The scripts that are the main script of at least ``habit_share`` of the gold texts."""
        main = Counter(counts.most_common(1)[0][0] for counts in map(script_counts, gold) if counts)
        home = {script for script, n_texts in main.items() if n_texts >= self._settings.habit_share * len(gold)}
        if home & JAPANESE_KANA:
            home |= JAPANESE_KANA | {"CJK"}
        return sorted(home)

    def _script_share(self, text: str) -> float:
        counts = script_counts(text)
        if not counts or not self._scripts:
            return 1.0
        return sum(counts[script] for script in self._scripts) / counts.total()

    def _distinct_share(self, text: str) -> float:
        units = units_of(text, self._by_character)
        if len(units) < self._settings.min_loop_units:
            return 1.0
        runs = [tuple(units[start : start + RUN_UNITS]) for start in range(len(units) - RUN_UNITS + 1)]
        return len(set(runs)) / len(runs)

    def _lowered(self, limit: float, gold_values: Iterable[float]) -> float:
        values = list(gold_values)
        if not values:
            return limit
        return min(limit, float(np.quantile(values, self._settings.habit_share, method="lower")))

    def _is_habit(self, rule: Callable[[str], Finding | None], gold: Sequence[str]) -> bool:
        return bool(gold) and sum(rule(text) is not None for text in gold) >= self._settings.habit_share * len(gold)


def _phrase_in(text: str, phrases: Sequence[str], reason: str) -> Finding | None:
    """The first of the ``phrases``, in normal form, that ``text`` contains."""
    words = f" {normal_form(text)} "
    found = next((phrase for phrase in phrases if f" {phrase} " in words), None)
    return (reason, 1.0, excerpt(found)) if found else None


def _is_broken(character: str) -> bool:
    """Whether it is the replacement character or no valid character, as cut or wrong byte sequences leave them."""
    if character == "\N{REPLACEMENT CHARACTER}":
        return True
    category = unicodedata.category(character)
    return category in ("Cs", "Cn", "Co") or (category == "Cc" and not character.isspace())


def _ends_a_sentence(text: str) -> bool:
    """Whether ``text`` ends a sentence, apart from closing quotation marks and brackets."""
    for character in reversed(text):
        if character in SENTENCE_ENDS:
            return True
        if character not in "\"'*" and unicodedata.category(character) not in ("Pe", "Pf", "Pi"):
            return False
    return False


def _letter_share(text: str) -> float:
    counts = {character: n for character, n in Counter(text).items() if not character.isspace()}
    letters = sum(n for character, n in counts.items() if unicodedata.category(character)[0] in "LMN")
    return letters / max(sum(counts.values()), 1)
