"""The leakage of a run: what its dataset and its selected classifier give away of the gold rows.

Writes final/leakage.jsonl, a line for each synthetic row, and the marker leakage.json.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from s3local.evaluation.leakage import GoldTexts, Membership, attack_membership, summarise_leakage
from s3local.records import Candidate, Example
from s3local.results import (
    FINAL,
    NO_SYNTHETIC,
    SHARES,
    FoldResult,
    LeakageResult,
    MembershipResult,
    RoundResult,
    StudentResult,
)
from s3local.runner.context import RunContext
from s3local.runner.finish import Finals
from s3local.student.inference import Classifier, softmax

LEAKAGE_FILE = f"{FINAL}/leakage.jsonl"
MARKER = "leakage.json"
COPIES = ("copies_gold", *(f"{way}_{split}" for way in ("copies", "overlaps", "near") for split in ("dev", "test")))
"""The reasons for which a text is dropped as a copy of a gold row."""
MOST_OTHERS = 2000
"""Test rows that the membership attack uses, at most: with as many, its AUC is known to about a point."""


def measure_leakage(
    context: RunContext,
    candidates: Sequence[Candidate],
    rounds: Sequence[RoundResult],
    finals: Finals,
    test: Sequence[Example],
) -> LeakageResult:
    """Compare the run's ``candidates`` with dev, and attack the selected classifier."""

    def compute() -> LeakageResult:
        field = context.task.target_field
        own = [candidate.example.fields[field] for candidate in candidates]
        with context.progress.step("measuring leakage", len(own) + len(context.dev), "texts") as advance:
            gold = GoldTexts(context.target_texts, context.models.embedder.embed(context.target_texts, advance))
            rows = gold.compare(own, context.models.embedder.embed(own, advance))
        names = [row.id for row in context.dev]
        context.state.write_rows(
            LEAKAGE_FILE,
            (
                {
                    "id": candidate.example.id,
                    "run": row.run,
                    "run_row": names[row.run_row] if row.run else None,
                    "similarity": row.similarity,
                    "nearest_row": names[row.nearest_row],
                }
                for candidate, row in zip(candidates, rows, strict=True)
            ),
        )
        synthetic = summarise_leakage(rows)
        assert synthetic is not None  # a run without rows has ended before
        dropped = sum((Counter(entry.synthesis.dropped_by_reason) for entry in rounds), Counter[str]())
        return LeakageResult(
            unit="characters" if gold.by_character else "words",
            synthetic=synthetic,
            gold=summarise_leakage(gold.compare_own()),
            copies_dropped=sum(dropped[reason] for reason in COPIES),
            personal_dropped=dropped["repeats_personal_data"],
            redacted=context.redacted_values(),
            membership=_membership(context, finals, test),
        )

    return context.state.once(MARKER, LeakageResult, compute)


def _membership(context: RunContext, finals: Finals, test: Sequence[Example]) -> MembershipResult | None:
    """The attack on the selected classifier, and on the gold-only one if there is one; None where rows have no labels
    or dev was not trained on, and if no gold rows are held out."""
    if not (context.kind.has_labels and context.settings.with_gold):
        return None
    students = (finals.final, finals.gold_only, finals.averaged, finals.large)
    selected = next(its for its in students if its is not None and its.stage == finals.selected)
    gold_only = finals.gold_only
    verdict = finals.model_selection.verdict
    if test:
        attack = _attack(context, selected, test)
        baseline = None if gold_only is None else _attack(context, gold_only, test)
    elif verdict is not None and gold_only is not None and finals.large is None:
        attack = _attack_by_folds(context, selected, verdict.share)
        baseline = _attack_by_folds(context, gold_only, NO_SYNTHETIC)
    else:
        return None
    if attack is None:
        return None
    return MembershipResult(held_out="test" if test else "folds", selected=attack, gold_only=baseline)


def _attack(context: RunContext, student: StudentResult, test: Sequence[Example]) -> Membership | None:
    if len(test) > MOST_OTHERS:
        places = np.random.default_rng(0).permutation(len(test))[:MOST_OTHERS]
        test = [test[place] for place in sorted(places.tolist())]
    members = _own_probabilities(context, student, context.dev)
    return attack_membership(members, _own_probabilities(context, student, test))


def _attack_by_folds(context: RunContext, student: StudentResult, share: float) -> Membership | None:
    """Held out are the rows of each fold, as predicted by the student that was trained without it."""
    labels = {row.id: number for row, number in zip(context.dev, context.label_numbers(context.dev), strict=True)}
    others: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)]
    for path in sorted((context.state.path / "model-selection").glob("fold-*.json")):
        fold = context.state.read(f"model-selection/{path.name}", FoldResult)
        if fold is not None and fold.logits is not None:
            logits = np.array(fold.logits[SHARES.index(share)], dtype=np.float32)
            numbers = [labels[name] for name in fold.ids]
            others.append(softmax(logits / student.temperature)[np.arange(len(numbers)), numbers])
    return attack_membership(_own_probabilities(context, student, context.dev), np.concatenate(others))


def _own_probabilities(context: RunContext, student: StudentResult, rows: Sequence[Example]) -> NDArray[np.float32]:
    """The probability that the exported ``student`` gives to each row's own label, (n_rows,)."""
    folder = context.state.path / student.stage / "student"
    return Classifier.load(folder).predict_proba(rows)[np.arange(len(rows)), context.label_numbers(rows)]
