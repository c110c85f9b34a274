"""Rules for pairs: each fault has its reason, and what gold rows do is kept."""

from __future__ import annotations

import pytest

from s3local.curation.pair_rules import check_pair_rules
from s3local.records import SPAN, Answer, Candidate, Example

NOTE = "Ada Brook built the mill in 1870."


def question(text: str, answer: str = "Ada Brook", start: int = 0) -> Candidate:
    return Candidate(Example("c", {"note": NOTE, "question": text}, SPAN, (Answer(answer, start),)))


def claim(text: str) -> Candidate:
    return Candidate(Example("c", {"note": NOTE, "question": text}, "fits"))


QUESTIONS = [question(f"Who built the {thing}?").example for thing in ("mill", "barn", "bridge")]
CLAIMS = [claim(text).example for text in ("The mill is old.", "Nobody built it.")]


def reason_of(candidate: Candidate, gold: list[Example]) -> str:
    result = check_pair_rules([candidate], gold, source_field="note", target_field="question")
    assert len(result.kept) + len(result.dropped) == 1
    return result.dropped[0].reason if result.dropped else "kept"


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (question("Who built it?"), "kept"),
        (question("Who built it？”"), "kept"),
        (question("Who built it?", "Ada Brook", 1), "answer_not_in_context"),
        (question("Who built it?", "Ben Stone"), "answer_not_in_context"),
        (question("It was built by her."), "no_question"),
        (question("built the mill?"), "copies_source"),
        (question("Did ada brook build it?"), "gives_answer_away"),
        (question("Did Ada build it?"), "kept"),
    ],
)
def test_a_question_is_checked(candidate: Candidate, reason: str) -> None:
    assert reason_of(candidate, QUESTIONS) == reason


def test_a_claim_may_be_any_text_but_its_source() -> None:
    assert reason_of(claim("The mill stands."), CLAIMS) == "kept"
    assert reason_of(claim("Built the mill in 1870"), CLAIMS) == "kept"
    assert reason_of(claim("ada brook built the mill in 1870"), CLAIMS) == "copies_source"


def test_what_gold_rows_do_is_kept() -> None:
    told = question("Is it Ada Brook?").example
    assert reason_of(question("Was it Ada Brook?"), [*QUESTIONS, told]) == "kept"
    assert reason_of(question("It was built by her."), [*QUESTIONS, *CLAIMS]) == "kept"
    assert reason_of(claim(NOTE), [*CLAIMS, claim(NOTE).example]) == "kept"
