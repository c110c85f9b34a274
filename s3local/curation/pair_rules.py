"""Rules for pairs of texts: copies of the source text, non-questions, missing spans.

As in ``rules.py``, a rule that gold rows break is not applied. The rules work for any language.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from s3local.curation.rules import Finding, sift
from s3local.records import Candidate, Example, FilterResult
from s3local.text import excerpt, normal_form

QUESTION_MARKS = frozenset("?？؟;՞፧")
"""Characters that end a question, in the scripts that have one; the Greek one looks like a semicolon."""

QUESTION_SHARE = 0.9
"""If this share of gold texts end with a question mark, a candidate without one is dropped."""


def check_pair_rules(
    candidates: Sequence[Candidate],
    gold: Sequence[Example],
    *,
    source_field: str,
    target_field: str,
    habit_share: float = 0.02,
) -> FilterResult:
    """Keep the candidates that break no rule, in order; each dropped one names the first rule that it breaks.

    ``source_field`` and ``target_field`` name the fields of a candidate. A rule that ``habit_share`` of the ``gold``
    rows break is not applied. Reasons, and their scores:

    ``answer_not_in_context``  an answer is not in the context at the given position (1)
    ``copies_source``          the text equals the source text, or the source text contains the question (1)
    ``no_question``            most gold texts are questions, this text is not (the share of gold texts that are)
    ``gives_answer_away``      the question contains its answer (1)
    """
    questions = sum(_is_question(row.fields[target_field]) for row in gold) / max(1, len(gold))

    def lost_answer(row: Example) -> Finding | None:
        lost = next((answer for answer in row.answers if not answer.stands_in(row.fields[source_field])), None)
        return ("answer_not_in_context", 1.0, excerpt(lost.text)) if lost else None

    def copy(row: Example) -> Finding | None:
        text, source = normal_form(row.fields[target_field]), normal_form(row.fields[source_field])
        copied = f" {text} " in f" {source} " if row.answers else text == source
        return ("copies_source", 1.0, excerpt(row.fields[source_field])) if copied else None

    def no_question(row: Example) -> Finding | None:
        if questions < QUESTION_SHARE or _is_question(row.fields[target_field]):
            return None
        return "no_question", questions, "of gold texts end with a question mark"

    def answer_given_away(row: Example) -> Finding | None:
        text = f" {normal_form(row.fields[target_field])} "
        told = next((answer for answer in row.answers if f" {normal_form(answer.text)} " in text), None)
        return ("gives_answer_away", 1.0, excerpt(told.text)) if told else None

    rules: list[Callable[[Example], Finding | None]] = [
        lost_answer,
        no_question,
        *(rule for rule in (copy, answer_given_away) if not _is_habit(rule, gold, habit_share)),
    ]

    def check(candidate: Candidate) -> Finding | None:
        return next((finding for rule in rules if (finding := rule(candidate.example))), None)

    return sift(candidates, check)


def _is_question(text: str) -> bool:
    return text.rstrip().rstrip("\"'”’»)」").rstrip()[-1:] in QUESTION_MARKS


def _is_habit(rule: Callable[[Example], Finding | None], gold: Sequence[Example], share: float) -> bool:
    return sum(rule(row) is not None for row in gold) >= share * max(1, len(gold))
