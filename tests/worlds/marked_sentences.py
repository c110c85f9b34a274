"""Sentences whose personal data is marked by hand as ``[kind|value]``, and how well it is recognised."""

from __future__ import annotations

import re
from pathlib import Path

from s3local.curation.privacy import find_personal_data

SENTENCES = (Path(__file__).parent / "personal_sentences.txt").read_text(encoding="utf-8").splitlines()
MARKED = re.compile(r"\[(\w+)\|([^\]]*)\]")


def unmarked(sentence: str) -> tuple[str, list[tuple[int, int]]]:
    """The text of a sentence whose personal data is marked, and where that is."""
    text, spans, at = "", [], 0
    for mark in MARKED.finditer(sentence):
        text += sentence[at : mark.start()]
        spans.append((len(text), len(text) + len(mark[2])))
        text += mark[2]
        at = mark.end()
    return text + sentence[at:], spans


def score() -> dict[str, int]:
    """The numbers of sentences, marked values, values found (with all their letters and digits), alarms, and alarms
    that touch no marked value."""
    counts = dict.fromkeys(("sentences", "values", "found", "alarms", "false_alarms"), 0)
    for sentence in SENTENCES:
        text, spans = unmarked(sentence)
        found = find_personal_data(text)
        covered = {place for its in found for place in range(its.start, its.end)}
        counts["sentences"] += 1
        counts["values"] += len(spans)
        counts["found"] += sum(all(at in covered for at in range(*span) if text[at].isalnum()) for span in spans)
        counts["alarms"] += len(found)
        counts["false_alarms"] += sum(
            all(its.end <= start or end <= its.start for start, end in spans) for its in found
        )
    return counts
