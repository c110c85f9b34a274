"""The report of a run as one HTML page, the most important first."""

from __future__ import annotations

import datetime
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s3local.evaluation.calibration import (
    CoveragePoint,
    ReliabilityBin,
    answered,
    calibration_error,
    coverage_curve,
    reliability,
)
from s3local.evaluation.errors import Error
from s3local.evaluation.metrics import ClassificationMetrics
from s3local.records import Candidate, Dropped, Example
from s3local.report import charts
from s3local.report.advice import measure, name_of_selected, next_steps, verdict
from s3local.report.charts import Chart, Entry, Estimate
from s3local.report.evidence import Evidence, Judged, Score, dev_predictions, find_evidence
from s3local.report.page import percent
from s3local.report.row_list import list_rows, reason_in_words
from s3local.report.run_record import Round, RowMap, RunRecord
from s3local.results import GapResult, StudentResult

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
USUAL_THRESHOLD = 0.8
GOOD_ACCURACY, LEAST_ANSWERED = 0.95, 20
"""A threshold is suggested if this share of the answered rows is right, and at least so many are answered."""

MAP_GOLD, MAP_NEW = 250, 400
"""The most rows of each kind in a panel of the map; more of them would hide each other."""
TIP_CHARACTERS = 280
SHOWN_ERRORS, SHOWN_FROM_ERROR = 6, 4
SHOWN_DROPS, SHOWN_PAIRS = 3, 8
LARGEST_MATRIX = 30
"""Labels in a confusion matrix; with more of them only the most frequent confusions are listed."""
SHADES = 6

REASONS: Mapping[str, str] = {
    "near_duplicate": "says almost the same as a row that was kept before",
    "exact_duplicate": "repeats a row that was kept before",
    "copies_dev": "is one of your labelled rows",
    "overlaps_dev": "repeats a long part of one of your labelled rows",
    "near_dev": "says almost the same as one of your labelled rows",
    "copies_test": "is one of your test rows",
    "overlaps_test": "repeats a long part of one of your test rows",
    "near_test": "says almost the same as one of your test rows",
    "copies_gold": "is one of your labelled rows",
    "copies_source": "repeats the text that it was written about",
    "surplus": "is one more than was wanted",
    "too_short": "is shorter than your rows",
    "too_long": "is longer than your rows",
    "unfinished": "ends in the middle of a sentence",
    "empty": "has no letter and no digit",
    "few_letters": "has too few letters",
    "wrong_script": "is in another script than your rows",
    "repeats_itself": "repeats the same words",
    "broken_text": "has characters that belong in no text",
    "list_marker": "begins with the marker of a list",
    "header": "begins with a heading in place of a text",
    "refusal": "refuses to write",
    "echoes_prompt": "repeats the instruction",
    "no_question": "is no question",
    "answer_not_in_context": "has an answer that is not in its context",
    "gives_answer_away": "holds its own answer",
    "round_trip": "is answered differently by the teacher",
}
"""What a reason of a drop means: "the text ..."."""


def run_values(record: RunRecord) -> dict[str, Any]:
    """What the template run.html shows."""
    evidence = find_evidence(record)
    judged = evidence.judged
    rows = list_rows(record, dev_predictions(record, evidence))
    bins = reliability(judged.confidence, judged.right) if judged is not None and len(judged.ids) else []
    return {
        "record": record,
        "summary": record.summary,
        "title": f"{record.summary.task}: report of a run",
        "ended": _day(record.ended),
        "texts": record.task["texts"],
        "measure": measure(record),
        "evidence": evidence,
        "evidence_rows": _evidence_rows(record, evidence),
        "verdict": verdict(record, evidence),
        "selected": name_of_selected(record),
        "steps": next_steps(record, evidence),
        "beside": _beside_chart(record, evidence),
        "rounds_chart": _rounds_chart(record),
        "students": _students(record),
        "confusion": None if evidence.metrics is None else _confusion(evidence.metrics),
        "dev_per_label": Counter(row.label for row in record.dev),
        "bins": bins,
        "calibration_error": calibration_error(bins) if bins else None,
        "reliability_chart": _reliability_chart(bins) if bins else None,
        "coverage": _coverage(judged),
        "maps": _maps(record, record.row_map) if record.row_map is not None and record.dev else [],
        "gap_chart": _gap_chart(record),
        "gaps": _gaps(record),
        "extrapolations": [_extrapolation(record, number) for number in range(1, len(record.rounds))],
        "drops": _drops(record),
        "drop_chart": _drop_chart(record),
        "label_check": _label_check(record),
        "neighbours": _neighbours(record),
        "times": _times(record),
        "configuration": _flat(record.config),
        "predicted_by": "in cross-validation"
        if evidence.source == "cross-validation" and judged
        else "after the last round",
        "rows": rows,
        "block": rows.block(),
    }


def _day(seconds: float | None) -> str | None:
    return (
        None if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).date().isoformat()
    )


def _evidence_rows(record: RunRecord, evidence: Evidence) -> str:
    """Which rows the figures are from, and which student predicted them."""
    what = "classifier" if record.labels else "model"
    count = f"{(evidence.selected or evidence.last_round).n_rows:,}"
    if evidence.source == "test":
        return f"The selected {what} on {count} test rows."
    if evidence.source == "cross-validation":
        return f"The selected {what} in cross-validation on {count} of your labelled rows."
    return f"The {what} of the last round, trained on synthetic rows alone, on {count} of your labelled rows."


# The verdict


def _beside_chart(record: RunRecord, evidence: Evidence) -> Chart:
    named: list[tuple[str, Score | None, str]] = [
        ("selected", evidence.selected, "s0 strong"),
        ("your rows alone", evidence.gold_only, "s1"),
        ("seed alone", evidence.seed_only, "s2"),
    ]
    if evidence.selected is None:
        named.insert(0, ("last round", evidence.last_round, "s0"))
    rows = [
        Estimate(name, score.value, score.low, score.high, percent(score.value), style)
        for name, score, style in named
        if score is not None
    ]
    if evidence.most_frequent is not None:
        rows.append(Estimate("guessing", evidence.most_frequent, None, None, percent(evidence.most_frequent), "muted"))
    values = [value for row in rows for value in (row.value, row.low, row.high) if value is not None]
    limits, ticks = charts.percent_axis(values)
    said = "; ".join(f"{row.name} {row.text}" for row in rows)
    title = f"{measure(record)[0].upper() + measure(record)[1:]} with 95 % intervals"
    return charts.estimates(title, said, rows, limits=limits, ticks=ticks)


# Scores


def _students(record: RunRecord) -> list[tuple[str, StudentResult, bool]]:
    """Each student with its name, and whether it was trained on dev."""
    summary = record.summary
    named: list[tuple[str, StudentResult | None, bool]] = [
        *((_stage_name(entry.stage), entry.student, False) for entry in summary.rounds),
        ("final: all rows" if summary.with_gold else "final", summary.final, summary.with_gold),
        ("final without your rows", summary.final_without_gold, False),
        ("your rows alone", summary.gold_only, True),
        ("average of both", summary.averaged, True),
        ("large", summary.large, summary.with_gold),
    ]
    return [(name, student, seen) for name, student, seen in named if student is not None]


def _stage_name(stage: str) -> str:
    return "seed" if stage == "round-0" else stage.replace("-", " ")


def _rounds_chart(record: RunRecord) -> Chart:
    """Scores on dev, which no round's student was trained on, and on test."""
    rounds = record.summary.rounds
    series = [("your labelled rows", "s1", [Score.from_metrics(entry.student.dev) for entry in rounds])]
    tests = [Score.from_metrics(entry.student.test) for entry in rounds if entry.student.test is not None]
    if len(tests) == len(rounds):
        series.append(("test rows", "s0", tests))
    limits, ticks = charts.percent_axis(value for *_, scores in series for it in scores for value in (it.low, it.high))
    found = charts.plot(
        f"{measure(record)[0].upper() + measure(record)[1:]} after each round",
        "; ".join(f"{name}: {', '.join(percent(score.value) for score in scores)}" for name, _, scores in series),
        x=(-0.3, len(rounds) - 0.7),
        y=limits,
        x_ticks=[(number, _stage_name(entry.stage)) for number, entry in enumerate(rounds)],
        y_ticks=ticks,
        x_label="all synthetic rows so far",
        y_label=measure(record),
    )
    for place, (name, style, scores) in enumerate(series):
        shift = 0.06 * (2 * place - len(series) + 1)
        spots = [(number + shift, score) for number, score in enumerate(scores)]
        found.line([(x, score.value) for x, score in spots], style)
        for x, score in spots:
            found.interval(x, score.low, score.high, style)
            tip = f"{name}: {percent(score.value, 1)} ({percent(score.low)} to {percent(score.high)})"
            found.chart.dot(*found.at(x, score.value), style, tip)
        found.chart.legend.append(Entry(style, f"{name} ({scores[0].n_rows:,})"))
    return found.chart


@dataclass(frozen=True, slots=True)
class Confusion:
    """The confusion matrix with a shade for each cell, and the most frequent confusions (own, predicted, rows).
    ``matrix`` is empty for very many labels."""

    labels: Sequence[str]
    matrix: Sequence[Sequence[tuple[int, int]]]
    pairs: Sequence[tuple[str, str, int]]


def _confusion(metrics: ClassificationMetrics) -> Confusion:
    labels, counts = metrics.labels, metrics.confusion
    pairs = sorted(
        (
            (labels[row], labels[column], count)
            for row, line in enumerate(counts)
            for column, count in enumerate(line)
            if row != column and count
        ),
        key=lambda pair: -pair[2],
    )
    shaded = [[(count, _shade(count, sum(line))) for count in line] for line in counts]
    return Confusion(labels, shaded if len(labels) <= LARGEST_MATRIX else [], pairs[:10])


def _shade(count: int, total: int) -> int:
    return 0 if not count else 1 + min(SHADES - 2, int((SHADES - 1) * count / total))


def _reliability_chart(bins: Sequence[ReliabilityBin]) -> Chart:
    ticks = [(value / 4, percent(value / 4)) for value in range(5)]
    found = charts.plot(
        "Reliability: how often a probability is right",
        "; ".join(f"{percent(it.confidence)} sure, {percent(it.accuracy)} right ({it.n_rows} rows)" for it in bins),
        x=(0, 1),
        y=(0, 1),
        x_ticks=ticks,
        y_ticks=ticks,
        x_label="probability that it gives",
        y_label="right",
    )
    most = max(entry.n_rows for entry in bins)
    base = found.y(0)
    for entry in bins:
        x, end = found.at(entry.low, 0)[0], found.at(entry.high, 0)[0]
        height = 34 * entry.n_rows / most
        found.chart.bar(x + 1, round(base - height, 2), end - x - 2, height, "count", f"{entry.n_rows:,} rows")
    found.line([(0, 0), (1, 1)], "reference")
    found.line([(entry.confidence, entry.accuracy) for entry in bins], "s0")
    for entry in bins:
        tip = f"{percent(entry.confidence)} sure on average, {percent(entry.accuracy)} right, {entry.n_rows:,} rows"
        found.chart.dot(*found.at(entry.confidence, entry.accuracy), "s0", tip)
    found.chart.legend = [
        Entry("s0", "this classifier"),
        Entry("reference", "perfect"),
        Entry("count", "number of rows"),
    ]
    return found.chart


@dataclass(frozen=True, slots=True)
class Coverage:
    """Coverage against accuracy: the chart, the rows of its table, and what a threshold does, in a sentence."""

    chart: Chart
    table: Sequence[CoveragePoint]
    sentence: str


def _coverage(judged: Judged | None) -> Coverage | None:
    if judged is None or not len(judged.ids):
        return None
    curve = coverage_curve(judged.confidence, judged.right)
    table = [point for at in THRESHOLDS if (point := answered(judged.confidence, judged.right, at)) is not None]
    usual = next((point for point in table if point.threshold == USUAL_THRESHOLD), None)
    sentence = _coverage_sentence(usual, len(judged.ids))
    good = [point for point in table if point.accuracy >= GOOD_ACCURACY and point.n_answered >= LEAST_ANSWERED]
    if good and good[0] != usual:
        sentence += (
            f" The lowest of these thresholds with at least {percent(GOOD_ACCURACY)} right answers is "
            f"{good[0].threshold:g}: it answers {percent(good[0].coverage)} of rows."
        )
    limits, ticks = charts.percent_axis([point.accuracy for point in curve])
    found = charts.plot(
        "Coverage against accuracy",
        "; ".join(f"at {it.threshold:g}: answers {percent(it.coverage)}, {percent(it.accuracy)} right" for it in table),
        x=(0, 1),
        y=limits,
        x_ticks=[(value / 4, percent(value / 4)) for value in range(5)],
        y_ticks=ticks,
        x_label="rows that it answers",
        y_label="right, of the answered rows",
    )
    found.line([(point.coverage, point.accuracy) for point in curve], "s0")
    for point in table:
        tip = f"threshold {point.threshold:g}: answers {percent(point.coverage)}, {percent(point.accuracy)} right"
        found.chart.dot(*found.at(point.coverage, point.accuracy), "s0", tip)
    return Coverage(found.chart, table, sentence)


def _coverage_sentence(usual: CoveragePoint | None, n_rows: int) -> str:
    if usual is None:
        return f"No row of {n_rows:,} has a probability of {USUAL_THRESHOLD:g} or more."
    right = round(usual.accuracy * usual.n_answered)
    return (
        f"At {USUAL_THRESHOLD:g} it answers {percent(usual.coverage)} of rows and is right on "
        f"{percent(usual.accuracy)} of them ({right:,} of {usual.n_answered:,})."
    )


# The map, and the gap


@dataclass(frozen=True, slots=True)
class MapPanel:
    """The rows that a round added, among the gold rows; ``left_out`` rows are not drawn."""

    name: str
    chart: Chart
    left_out: int


def _maps(record: RunRecord, row_map: RowMap) -> list[MapPanel]:
    places = [*row_map.dev.values(), *row_map.synthetic.values()]
    across, up = ([getattr(place, axis) for place in places] for axis in ("x", "y"))
    return [
        _map_panel(record, row_map, entry, (min(across), max(across)), (min(up), max(up))) for entry in record.rounds
    ]


def _map_panel(
    record: RunRecord, row_map: RowMap, entry: Round, across: tuple[float, float], up: tuple[float, float]
) -> MapPanel:
    name = _stage_name(entry.stage)
    gold = [row for row in record.dev if row.id in row_map.dev]
    new = [row.example for row in entry.kept if row.example.id in row_map.synthetic]
    shown_gold, shown_new = _evenly(gold, MAP_GOLD), _evenly(new, MAP_NEW)
    chart = Chart(
        f"Map, {name}", f"{len(new):,} synthetic rows that this round added, among {len(gold):,} of your rows."
    )
    x, y = charts.Scale(*across, 8, charts.WIDTH - 8), charts.Scale(*up, charts.HEIGHT - 8, 8)
    chart.bar(0.5, 0.5, charts.WIDTH - 1, charts.HEIGHT - 1, "panel")
    for row in shown_new:
        place = row_map.synthetic[row.id]
        chart.dot(x(place.x), y(place.y), "synthetic", _tip(record, row, name), 3)
    for row in shown_gold:
        place = row_map.dev[row.id]
        chart.diamond(x(place.x), y(place.y), "gold", _tip(record, row, "your row"))
    chart.legend = [Entry("synthetic", f"synthetic, {name}"), Entry("gold diamond", "your labelled rows")]
    return MapPanel(name, chart, len(gold) + len(new) - len(shown_gold) - len(shown_new))


def _tip(record: RunRecord, row: Example, source: str) -> str:
    label = " / ".join(answer.text for answer in row.answers) or row.label
    text = row.fields[record.target_field]
    return f"{source} · {label}\n{text if len(text) <= TIP_CHARACTERS else text[:TIP_CHARACTERS] + '…'}"


def _evenly(rows: Sequence[Example], most: int) -> Sequence[Example]:
    """At most ``most`` of ``rows``, evenly spread over them."""
    if len(rows) <= most:
        return rows
    return [rows[int(place)] for place in np.linspace(0, len(rows) - 1, most)]


def _gaps(record: RunRecord) -> list[tuple[str, GapResult]]:
    return [(_stage_name(entry.stage), entry.gap) for entry in record.summary.rounds]


def _gap_chart(record: RunRecord) -> Chart | None:
    rounds = record.summary.rounds
    series = [
        ("rows that the round added", "s2", [entry.gap.gap_of_new.auc for entry in rounds]),
        ("all rows so far", "s0", [entry.gap.gap.auc for entry in rounds]),
    ]
    known = [value for *_, values in series for value in values if value is not None]
    if not known:
        return None
    low = min([0.5, *known])
    found = charts.plot(
        "Can one tell synthetic rows from yours?",
        "; ".join(
            f"{name}: {', '.join('-' if it is None else f'{it:.2f}' for it in values)}" for name, _, values in series
        ),
        x=(-0.3, len(rounds) - 0.7),
        y=(min(low, 0.5), 1),
        x_ticks=[(number, _stage_name(entry.stage)) for number, entry in enumerate(rounds)],
        y_ticks=[(value, f"{value:.1f}") for value in charts.nice_ticks(low, 1)],
        x_label="0.5: not at all, 1: always",
        y_label="AUC",
    )
    for name, style, values in series:
        spots = [(float(number), value) for number, value in enumerate(values) if value is not None]
        found.line(spots, style)
        for x, value in spots:
            found.chart.dot(*found.at(x, value), style, f"{name}: AUC {value:.3f}")
        found.chart.legend.append(Entry(style, name))
    return found.chart


# Errors and what was extrapolated from them


@dataclass(frozen=True, slots=True)
class FromError:
    """A dev row with the student's prediction, whether it was wrong, texts that were written from it (some of
    ``count``), and whether the round's student predicts it correctly (None: unknown)."""

    error: Error
    wrong: bool
    examples: Sequence[Candidate]
    count: int
    now_right: bool | None


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """A round: the rows that it was extrapolated from, errors with many texts first; how many of them there are, and
    how many of the errors the round's student gets right."""

    name: str
    shown: Sequence[FromError]
    errors: int
    near_misses: int
    mended: int


def _extrapolation(record: RunRecord, number: int) -> Extrapolation:
    entry = record.rounds[number]
    children: dict[str, list[Candidate]] = defaultdict(list)
    for row in entry.kept:
        children[str(row.origin.get("error"))].append(row)
    right = {prediction.id: prediction.right for prediction in entry.predictions}
    found = [
        FromError(
            error,
            error.predicted != error.example.label,
            children[error.example.id][:SHOWN_FROM_ERROR],
            len(children[error.example.id]),
            right.get(error.example.id),
        )
        for error in entry.extrapolated
    ]
    wrong = [item for item in found if item.wrong]
    ordered = sorted(found, key=lambda item: (not item.wrong, -item.count))
    mended = sum(item.now_right is True for item in wrong)
    return Extrapolation(_stage_name(entry.stage), ordered[:SHOWN_ERRORS], len(wrong), len(found) - len(wrong), mended)


# Kept and dropped


@dataclass(frozen=True, slots=True)
class Drops:
    """The texts dropped for one reason: in words, how many of each round, and examples."""

    name: str
    meaning: str
    counts: Sequence[int]
    total: int
    examples: Sequence[Dropped]


def _drops(record: RunRecord) -> list[Drops]:
    found: dict[str, list[Dropped]] = defaultdict(list)
    counts = [Counter(drop.reason for drop in entry.dropped) for entry in record.rounds]
    for entry in record.rounds:
        for drop in entry.dropped:
            found[drop.reason].append(drop)
    return [
        Drops(
            reason_in_words(reason),
            REASONS.get(reason, ""),
            [count[reason] for count in counts],
            len(drops),
            drops[:SHOWN_DROPS],
        )
        for reason, drops in sorted(found.items(), key=lambda item: -len(item[1]))
    ]


def _drop_chart(record: RunRecord) -> Chart:
    """A bar for each round: rows kept and dropped."""
    height = charts.TOP + charts.ROW * len(record.rounds) + 8
    said = "; ".join(
        f"{_stage_name(entry.stage)}: {len(entry.kept):,} kept, {len(entry.dropped):,} dropped"
        for entry in record.rounds
    )
    chart = Chart("Texts kept and dropped in each round", said, height=height)
    most = max(len(entry.kept) + len(entry.dropped) for entry in record.rounds)
    width = charts.Scale(0, most, 0, charts.WIDTH - 70)
    for number, entry in enumerate(record.rounds):
        y = charts.TOP + charts.ROW * number
        kept, dropped = width(len(entry.kept)), width(len(entry.dropped))
        chart.text(56, y + 15, _stage_name(entry.stage), anchor="end")
        chart.bar(62, y + 3, kept, charts.ROW - 7, "s0", f"{len(entry.kept):,} kept")
        chart.bar(62 + kept, y + 3, dropped, charts.ROW - 7, "s1", f"{len(entry.dropped):,} dropped")
    chart.legend = [Entry("s0", "kept"), Entry("s1", "dropped")]
    return chart


# The label check, and neighbours


@dataclass(frozen=True, slots=True)
class LabelCheck:
    """Why there is no label check (``reason``), or the histogram of the asked labels' probabilities, and rows that
    were given another label."""

    reason: str = ""
    chart: Chart | None = None
    relabelled: Sequence[Candidate] = ()


def _label_check(record: RunRecord) -> LabelCheck:
    if not record.labels:
        return LabelCheck("Answers have no labels to check.")
    judges = record.summary.label_check.judges
    if not judges.applied:
        said = {
            "off": "It was not asked for.",
            "undivided": "There are too few labelled rows of a label to train judges and to test them on others.",
            "no_gain": "The judges predict your labelled rows no better than chance.",
        }
        return LabelCheck(f"{said.get(judges.outcome, '')} All rows keep the label that the teacher was asked for.")
    rows = [row for entry in record.rounds for row in entry.kept if row.origin.get("probabilities")]
    asked = [float(row.origin["probabilities"].get(row.origin.get("asked"), 0.0)) for row in rows]
    changed = [row.origin.get("asked") != row.example.label for row in rows]
    bins = 10
    counts = [[0] * bins, [0] * bins]
    for probability, other in zip(asked, changed, strict=True):
        counts[int(other)][min(bins - 1, int(probability * bins))] += 1
    tips = [
        f"{percent(place / bins)} to {percent((place + 1) / bins)}: {kept:,} keep their label, {other:,} relabelled"
        for place, (kept, other) in enumerate(zip(*counts, strict=True))
    ]
    chart = charts.histogram(
        "Does a row carry the label that it was written for?",
        f"Of {len(rows):,} rows, {sum(counts[1]):,} were relabelled.",
        counts,
        limits=(0, 1),
        styles=("s0", "s1"),
        tips=tips,
        x_ticks=[(value / 4, percent(value / 4)) for value in range(5)],
        x_label="probability of the label it was written for",
    )
    chart.legend = [Entry("s0", "keeps its label"), Entry("s1", "relabelled")]
    doubtful = sorted((row for row, other in zip(rows, changed, strict=True) if other), key=_own_probability)
    return LabelCheck(chart=chart, relabelled=doubtful[::-1][:SHOWN_PAIRS])


def _own_probability(row: Candidate) -> float:
    return float(row.origin["probabilities"].get(row.example.label, 0.0))


@dataclass(frozen=True, slots=True)
class Neighbours:
    """How near synthetic rows are to gold: the histogram, the nearest pairs (synthetic, gold, cosine), the median of
    the cosines, and how many texts were dropped because they copied gold."""

    chart: Chart
    pairs: Sequence[tuple[Example, Example, float]]
    median: float
    dropped: int


def _neighbours(record: RunRecord) -> Neighbours | None:
    if record.row_map is None or not record.dev:
        return None
    gold = {row.id: row for row in record.dev}
    rows = [
        (row.example, gold[place.nearest], place.cosine)
        for entry in record.rounds
        for row in entry.kept
        if (place := record.row_map.synthetic.get(row.example.id)) is not None and place.nearest in gold
    ]
    if not rows:
        return None
    cosines = [cosine for *_, cosine in rows]
    low = min(0.0, *cosines)
    bins = 20
    counts = [0] * bins
    for cosine in cosines:
        counts[min(bins - 1, max(0, int((cosine - low) / (1 - low) * bins)))] += 1
    edges = [low + (1 - low) * place / bins for place in range(bins + 1)]
    chart = charts.histogram(
        "How near is each synthetic row to the nearest of yours?",
        f"The median cosine is {np.median(cosines):.2f}, the highest {max(cosines):.2f}.",
        [counts],
        limits=(low, 1),
        styles=["s0"],
        tips=[f"{edges[place]:.2f} to {edges[place + 1]:.2f}: {count:,} rows" for place, count in enumerate(counts)],
        x_ticks=[(value, f"{value:.2f}") for value in charts.nice_ticks(low, 1, 4) if low <= value <= 1],
        x_label="cosine of the embeddings; 1: the same text",
    )
    copies = ("copies_dev", "overlaps_dev", "near_dev", "copies_test", "overlaps_test", "near_test", "copies_gold")
    dropped = sum(drop.reason in copies for entry in record.rounds for drop in entry.dropped)
    nearest = sorted(rows, key=lambda pair: -pair[2])[:SHOWN_PAIRS]
    return Neighbours(chart, nearest, float(np.median(cosines)), dropped)


# Time, configuration


@dataclass(frozen=True, slots=True)
class StageTime:
    """What a stage took: seconds, and the teacher's tokens and seconds where it wrote."""

    name: str
    seconds: float
    tokens: int | None = None
    teacher_seconds: float | None = None


def _times(record: RunRecord) -> list[StageTime]:
    summary = record.summary
    stages = []
    for entry in summary.rounds:
        name, synthesis = _stage_name(entry.stage), entry.synthesis
        writing = max(synthesis.seconds, synthesis.teacher_seconds)
        stages.append(StageTime(f"{name}: writing and filtering", writing, synthesis.tokens, synthesis.teacher_seconds))
        stages.append(StageTime(f"{name}: measuring the gap", entry.gap.seconds))
        stages.append(StageTime(f"{name}: training", entry.student.seconds))
    judging = summary.label_check.judges.seconds + sum(it.reading.seconds for it in summary.rounds if it.reading)
    finals = [
        ("label check", judging),
        ("final: training", summary.final.seconds),
        ("model selection", summary.model_selection.seconds),
        *((f"{name}: training", student.seconds) for name, student, _ in _students(record)[len(summary.rounds) + 1 :]),
    ]
    return [*stages, *(StageTime(name, seconds) for name, seconds in finals if seconds)]


def _flat(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """All values of nested mappings with their whole names."""

    def walk(value: Any, name: str) -> Iterable[tuple[str, str]]:
        if isinstance(value, Mapping):
            for key, inner in value.items():
                yield from walk(inner, f"{name}.{key}" if name else str(key))
        elif isinstance(value, list) and value and all(isinstance(inner, Mapping) for inner in value):
            for place, inner in enumerate(value):
                yield from walk(inner, f"{name}[{inner.get('name', place)}]")
        else:
            yield name, "" if value is None else ", ".join(map(str, value)) if isinstance(value, list) else str(value)

    return list(walk(config, ""))
