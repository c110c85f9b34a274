"""The verdict on a run in sentences that need no other knowledge, and what to do next to get better."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from s3local.report.evidence import Evidence, Judged, Score
from s3local.report.page import percent, points
from s3local.report.run_record import RunRecord
from s3local.results import AVERAGED, GOLD_ONLY, LARGE
from s3local.wording import counted

SHORT_NAME = 70
"""The longest description of the texts that has a place in the sentence of the verdict."""
MOST_STEPS = 4
LEAST_NEW_ROWS, TEST_ROWS = 20, 200
WIDE = 0.15
"""The width of an interval from which on more test rows are worth their labelling."""
TOLD_APART = 0.9
"""The AUC of the gap from which on synthetic rows are easily told from gold."""
UNSURE_LABEL = 0.6
"""If fewer of a label's rows are expected to carry it, its description is worth a second look."""


@dataclass(frozen=True, slots=True)
class VerdictText:
    """The headline, the sentence about the baselines (may be empty), and how far the figures can be trusted."""

    headline: str
    beside: str
    caution: str


@dataclass(frozen=True, slots=True)
class Step:
    """What to do next, and why."""

    action: str
    why: str


def verdict(record: RunRecord, evidence: Evidence) -> VerdictText:
    """What is known of the selected student, in sentences."""
    return VerdictText(_headline(record, evidence), _beside(record, evidence), _caution(record, evidence))


def measure(record: RunRecord) -> str:
    """The name of the score that sums up."""
    return "accuracy" if record.labels else "F1"


def name_of_selected(record: RunRecord) -> str:
    """How the selected student came about."""
    selection, selected = record.summary.model_selection.verdict, record.summary.selected
    if selected == GOLD_ONLY:
        return "trained on your labelled rows alone"
    if selected == AVERAGED and selection is not None:
        share = percent(selection.share)
        return f"an average of weights: {share} trained on all rows, the rest on your labelled rows alone"
    what = (
        "trained on synthetic rows and on your labelled rows"
        if record.summary.with_gold
        else "trained on synthetic rows"
    )
    return f"the large one, {what}" if selected == LARGE else what


def _texts(record: RunRecord) -> str:
    texts = str(record.task["texts"])
    return texts if len(texts) <= SHORT_NAME else "rows"


def _right(record: RunRecord, score: Score) -> str:
    """For instance "is right on 84 % of messages (95 % interval: 78 to 89 %)"."""
    interval = f"(95\u00a0% interval: {100 * score.low:.0f} to {percent(score.high)})"
    if not record.labels:
        return f"reaches an F1 of {percent(score.value)} {interval}"
    return f"is right on {percent(score.value)} of {_texts(record)} {interval}"


def _headline(record: RunRecord, evidence: Evidence) -> str:
    what = "classifier" if record.labels else "model"
    score = evidence.selected
    if score is None:
        last = counted(evidence.last_round.n_rows, "labelled row")
        return (
            f"How good the selected {what} is was not measured. The {what} of the last round, trained on synthetic "
            f"rows alone, {_right(record, evidence.last_round)}, on your {last}."
        )
    if evidence.source == "test":
        return f"On {counted(score.n_rows, 'test row')}, the selected {what} {_right(record, score)}."
    if evidence.source == "cross-validation":
        return f"In cross-validation, the selected {what} {_right(record, score)}."
    rows = counted(score.n_rows, "labelled row")
    return f"On your {rows}, which it was not trained on, the selected {what} {_right(record, score)}."


def _beside(record: RunRecord, evidence: Evidence) -> str:
    own = counted(record.summary.gold_only.training.rows, "labelled row") if record.summary.gold_only else ""
    parts = []
    if evidence.gold_only is not None and record.summary.selected == GOLD_ONLY:
        parts.append(f"It is {name_of_selected(record)} ({own}): the synthetic rows did not make it better")
    elif evidence.gold_only is not None:
        parts.append(f"Your {own} alone reach {percent(evidence.gold_only.value)}")
    if evidence.seed_only is not None:
        rows = counted(record.summary.rounds[0].student.training.rows, "synthetic row")
        named = f"the seed alone ({rows}, before any round of error extrapolation)"
        reach = f"{named} reaches {percent(evidence.seed_only.value)}"
        parts.append(reach if parts else reach[0].upper() + reach[1:])
    if evidence.most_frequent is not None:
        guess = f"always guessing the most frequent label would reach {percent(evidence.most_frequent)}"
        parts.append(guess if parts else guess[0].upper() + guess[1:])
    sentences = ["; ".join(parts) + "."] if parts else []
    if (found := evidence.difference) is not None:
        if found.difference == found.low == found.high == 0:
            sentences.append("Against your labelled rows alone, that is no difference on these rows.")
            return " ".join(sentences)
        gap = f"{points(found.difference)} points ({points(found.low)} to {points(found.high)})"
        said = {
            "likely better": "more than chance explains",
            "likely worse": "a loss that chance does not explain",
            "cannot tell": "which may be chance: more labelled rows would tell",
        }[found.verdict]
        sentences.append(f"Against your labelled rows alone that is {gap}, {said}.")
    return " ".join(sentences)


def _caution(record: RunRecord, evidence: Evidence) -> str:
    if evidence.source == "test":
        return "The test labels were used once, at the end: no classifier was trained on them or chosen by them."
    if evidence.source == "cross-validation":
        said = (
            "There is no test file. In cross-validation, parts of your labelled rows take turns being held out, with "
            "everything that was written from them."
        )
        if record.summary.selected == GOLD_ONLY:
            return said
        return f"{said} The figure is that of the best of several mixtures, and so a little optimistic."
    reason = {
        "off": "model selection was not asked for",
        "undivided": "there are too few labelled rows of a label to hold some of them out",
        "done": "cross-validation measured other classifiers than the one that was selected",
    }[record.summary.model_selection.outcome]
    steered = "Synthetic rows were written from its errors on the same rows, so that its figure is optimistic."
    return f"There is no test file, and {reason}. {steered}"


# What to do next


def next_steps(record: RunRecord, evidence: Evidence) -> list[Step]:
    """At most ``MOST_STEPS`` steps, the most useful first."""
    steps = [
        *_weakest_label(record, evidence),
        *_confused_labels(evidence.judged if record.labels else None),
        *_more_evidence(evidence),
        *_unsure_label(record),
        *_better_rows(record),
    ]
    return steps[:MOST_STEPS]


def _weakest_label(record: RunRecord, evidence: Evidence) -> Iterator[Step]:
    if evidence.metrics is None:
        return
    known = {name: label for name, label in evidence.metrics.per_label.items() if label.support}
    name = min(known, key=lambda its: (known[its].recall, -known[its].support))
    if known[name].recall >= 1:
        return
    have = sum(row.label == name for row in record.dev) or sum(
        prediction.label == name for prediction in record.rounds[-1].predictions
    )
    wanted = max(LEAST_NEW_ROWS, round(have, -1))
    found = round(known[name].recall * known[name].support)
    yield Step(
        f"Label {wanted} more “{name}” rows.",
        f"Its recall is the lowest: {found} of its {known[name].support} rows are found "
        f"({percent(known[name].recall)}). You have {have} labelled rows of it.",
    )


def _confused_labels(judged: Judged | None) -> Iterator[Step]:
    if judged is None:
        return
    pairs = Counter((own, said) for own, said in zip(judged.gold, judged.predicted, strict=True) if own != said)
    if not pairs:
        return
    (own, said), count = pairs.most_common(1)[0]
    if count >= 2:
        yield Step(
            f"Say more clearly what tells “{own}” from “{said}”.",
            f"{count} of {counted(pairs.total(), 'error')} are “{own}” rows predicted as “{said}”. Sharpen both "
            "descriptions in task.yaml, and check the labels of these rows.",
        )


def _more_evidence(evidence: Evidence) -> Iterator[Step]:
    score = evidence.selected or evidence.last_round
    if evidence.source != "test":
        yield Step(
            f"Put {TEST_ROWS} labelled rows aside as test.jsonl.",
            "Rows that take no part in the run show how good the classifier is on new ones.",
        )
    elif score.high - score.low > WIDE:
        yield Step(
            f"Label more test rows: {max(TEST_ROWS, 4 * score.n_rows):,} in all.",
            f"With {score.n_rows} of them the interval spans {100 * (score.high - score.low):.0f} points; four times "
            "as many halve it.",
        )


def _unsure_label(record: RunRecord) -> Iterator[Step]:
    figures = record.summary.label_check.figures
    if figures is None or not figures.correct:
        return
    name = min(figures.correct, key=lambda its: figures.correct[its])
    if figures.correct[name] < UNSURE_LABEL:
        yield Step(
            f"Describe “{name}” more precisely.",
            f"Only {percent(figures.correct[name])} of the rows that were written for it are expected to carry it.",
        )


def _better_rows(record: RunRecord) -> Iterator[Step]:
    auc = record.summary.rounds[-1].gap.gap.auc
    larger = "Try a larger teacher (--teacher)."
    if record.summary.selected == GOLD_ONLY:
        yield Step(larger, "The rows that this one writes do not make the classifier better.")
    elif auc is not None and auc > TOLD_APART:
        yield Step(
            larger, f"A simple test still tells its rows from yours (AUC {auc:.2f}; 0.5 would be no difference)."
        )
