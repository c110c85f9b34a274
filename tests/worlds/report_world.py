"""Finished run folders of every kind of task, written in a moment: for tests of reports. Nothing was trained."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from some_results import student

from s3local.evaluation.errors import Error
from s3local.evaluation.gap import Diversity, Gap
from s3local.evaluation.metrics import classification_metrics, share_interval
from s3local.evaluation.squad import answer_metrics
from s3local.records import SPAN, Answer, Candidate, Dropped, Example, write_jsonl
from s3local.results import (
    AVERAGED,
    DEV_FILE,
    FINAL,
    GOLD_ONLY,
    MAP_FILE,
    MAP_OF_DEV,
    MAP_OF_SYNTHETIC,
    RESULT_FILE,
    SHARES,
    FoldResult,
    GapResult,
    JudgesResult,
    LabelCheckResult,
    LabelModelFigures,
    MapResult,
    ModelSelectionResult,
    RoundResult,
    RunSummary,
    StudentResult,
    SynthesisResult,
    Verdict,
    write_result,
)

HOSTILE = (
    "<script>window.attacked = 'script'</script>",
    "<img src=x onerror=\"window.attacked = 'img'\">",
    "</script><script>window.attacked = 'end'</script>",
    '"><svg onload="window.attacked = 1">',
    "{{ 7 * 7 }} {% raw %}",
    "javascript:window.attacked=1",
    "nul \0 escape \x1b[31m bell \x07 delete \x7f next \x85",
    "turned \u202egnp.exe\u202c around",
    "مرحبا بالعالم، هذه رسالة",
    "שלום עולם",
    "long " * 2000,
    "ends in </bdi></li></ul></main></body></html>",
    "&lt;b&gt; &amp; <!-- no comment",
)
"""Texts that a page must show as they are."""

STAGES = ("round-0", "round-1", "round-2")
LABELS = ("billing", "fault", "praise")
COMMAND = "s3local run data/desk --rows 30"

FIELDS = {"classification": ("text",), "pair": ("note", "claim"), "extractive_qa": ("context", "question")}


@dataclasses.dataclass(frozen=True, kw_only=True)
class World:
    """What a run folder holds; see ``write_run``."""

    kind: str = "classification"
    labels: Sequence[str] = LABELS
    rows: int = 30
    dropped: int = 9
    dev: int = 12
    test: bool = True
    selection: bool = True
    label_check: bool = True
    with_map: bool = True
    texts: Sequence[str] = ()
    name: str = "desk"


def write_run(folder: Path, world: World | None = None, **changes: Any) -> RunSummary:
    """Write the finished run that ``World`` describes; its summary. ``texts`` are the first texts of each part."""
    with patch("os.fsync"):  # waiting for the disk is most of the time
        return _write_run(folder, dataclasses.replace(world or World(), **changes))


def _write_run(folder: Path, world: World) -> RunSummary:
    spans = world.kind == "extractive_qa"
    labels = () if spans else tuple(world.labels)
    fields = FIELDS[world.kind]
    generator = np.random.default_rng(3)

    def example(name: str, number: int) -> Example:
        text = world.texts[number] if number < len(world.texts) else f"{name} message {number} about an invoice"
        values = {field: f"{field} of {name}: {text}" for field in fields[:-1]} | {fields[-1]: text}
        if spans:
            first = values[fields[0]].split()[0]
            return Example(name, values, SPAN, (Answer(first, 0),))
        return Example(name, values, labels[number % len(labels)])

    dev = [example(f"dev-{number}", number) for number in range(world.dev)]
    guesses = (
        [row.label if number % 4 else labels[(number + 1) % len(labels)] for number, row in enumerate(dev)]
        if labels
        else []
    )
    write_jsonl(folder / DEV_FILE, [row.to_row() for row in dev])
    rounds, everything = [], []
    per_round = np.array_split(np.arange(world.rows), len(STAGES))
    for stage, places in zip(STAGES, per_round, strict=True):
        origin = {} if stage == "round-0" else {"error": dev[0].id}
        kept = []
        for number, place in enumerate(places.tolist()):
            row = example(f"{stage}-{place}", number)
            extra: dict[str, Any] = {}
            if labels and world.label_check:
                asked = labels[place % len(labels)]
                chances = generator.dirichlet(np.ones(len(labels)))
                row = dataclasses.replace(row, label=labels[int(chances.argmax())])
                extra = {"asked": asked, "probabilities": dict(zip(labels, chances.round(4).tolist(), strict=True))}
            kept.append(Candidate(row, {**origin, **extra}))
        dropped = [
            Dropped(Candidate(example(f"{stage}-x{number}", number), origin), reason, 0.5, "because")
            for number, reason in zip(
                range(world.dropped), ("too_short", "near_dev", "surplus") * world.dropped, strict=False
            )
        ]
        everything += kept
        write_jsonl(folder / stage / "dropped.jsonl", [drop.to_row() for drop in dropped])
        predictions = _predictions(dev, guesses)
        write_jsonl(folder / stage / "predictions.jsonl", predictions)
        if stage != "round-0":
            errors = [
                Error(row, row.label if spans else guess, 0.7, 0.2)
                for row, guess in zip(dev, guesses or dev, strict=True)
            ]
            errors = [dataclasses.replace(error, predicted="none") if spans else error for error in errors]
            write_jsonl(folder / stage / "extrapolated.jsonl", [error.to_row() for error in errors[:5]])
        rounds.append(_round(stage, kept, dropped, _metrics(dev, guesses, labels)))
    write_jsonl(folder / FINAL / "dataset.jsonl", [row.to_row() for row in everything])
    if world.with_map:
        _write_map(folder, dev, [row.example for row in everything], generator)
    verdict = _write_folds(folder, dev, labels, generator) if world.selection else None
    metrics = _metrics(dev, guesses, labels)
    test = metrics if world.test else None
    selected = AVERAGED if world.selection else FINAL
    summary = RunSummary(
        task=world.name,
        kind=world.kind,
        dataset_sha256="0" * 64,
        rows=world.rows,
        with_gold=True,
        rounds=tuple(
            dataclasses.replace(entry, student=dataclasses.replace(entry.student, test=test)) for entry in rounds
        ),
        label_check=_label_check(labels)
        if labels and world.label_check
        else LabelCheckResult(judges=JudgesResult(outcome="off")),
        model_selection=ModelSelectionResult(outcome="done" if verdict else "off", verdict=verdict, seconds=3.0),
        final=_student(FINAL, metrics, test),
        final_without_gold=None,
        gold_only=_student(GOLD_ONLY, metrics, test) if world.selection else None,
        averaged=_student(AVERAGED, metrics, test) if world.selection else None,
        selected=selected,
    )
    if test is not None:
        for one in summary.students:
            write_jsonl(folder / one.stage / "test_predictions.jsonl", _predictions(dev, guesses))
    _write_config(folder, world, labels)
    event = {"time": 1.75e9, "event": "begun", "command": COMMAND}
    write_jsonl(folder / "events.jsonl", [event, {"time": 1.75e9 + 60, "event": "ended"}])
    write_result(folder / RESULT_FILE, summary)
    return summary


def _predictions(rows: Sequence[Example], guesses: Sequence[str]) -> list[dict[str, Any]]:
    chances = np.linspace(0.35, 0.99, len(rows)).round(4).tolist()
    if not guesses:
        return [
            {
                "id": row.id,
                SPAN: [row.answers[0].text],
                "predicted": row.answers[0].text if place % 3 else "none",
                "predicted_start": 0,
                "probability": chance,
            }
            for place, (row, chance) in enumerate(zip(rows, chances, strict=True))
        ]
    return [
        {"id": row.id, "label": row.label, "predicted": guess, "probability": chance}
        for row, guess, chance in zip(rows, guesses, chances, strict=True)
    ]


def _metrics(rows: Sequence[Example], guesses: Sequence[str], labels: Sequence[str]) -> Any:
    if labels:
        return classification_metrics([row.label for row in rows], guesses, labels)
    predicted: list[str] = [row["predicted"] for row in _predictions(rows, [])]
    return answer_metrics(rows, predicted)


def _student(stage: str, metrics: Any, test: Any) -> StudentResult:
    return dataclasses.replace(student(stage, metrics), test=test, temperature=1.5)


def _round(stage: str, kept: Sequence[Candidate], dropped: Sequence[Dropped], metrics: Any) -> RoundResult:
    number = STAGES.index(stage)
    gap = Gap(0.9 - 0.1 * number, 0.2, 0.5 + 0.1 * number)
    diversity = Diversity(0.4, 0.6, 0.1, 0.3)
    reasons: dict[str, int] = {}
    for drop in dropped:
        reasons[drop.reason] = reasons.get(drop.reason, 0) + 1
    return RoundResult(
        synthesis=SynthesisResult(
            kept=len(kept),
            kept_per_label={},
            shortfall=0,
            dropped=len(dropped),
            dropped_by_reason=reasons,
            requests=len(kept) + len(dropped),
            shards=1,
            tokens=40 * len(kept),
            teacher_seconds=12.0,
            seconds=13.0,
        ),
        gap=GapResult(gap=gap, diversity=diversity, gap_of_new=gap, diversity_of_new=diversity),
        student=student(stage, metrics),
    )


def _label_check(labels: Sequence[str]) -> LabelCheckResult:
    figures = LabelModelFigures(correct=dict.fromkeys(labels, 0.75), correct_overall=0.75, relabelled=7)
    return LabelCheckResult(judges=JudgesResult(outcome="applied", judges=4, n_rows=12, accuracy=0.8), figures=figures)


def _write_map(folder: Path, dev: Sequence[Example], rows: Sequence[Example], generator: np.random.Generator) -> None:
    for name, these, others in ((MAP_OF_DEV, dev, rows), (MAP_OF_SYNTHETIC, rows, dev)):
        places = generator.normal(size=(len(these), 2)).round(4).tolist()
        write_jsonl(
            folder / name,
            [
                {
                    "id": row.id,
                    "x": x,
                    "y": y,
                    "nearest": others[place % len(others)].id,
                    "cosine": round(0.5 + place % 40 / 100, 4),
                }
                for place, (row, (x, y)) in enumerate(zip(these, places, strict=True))
            ],
        )
    write_result(folder / MAP_FILE, MapResult(explained=(0.3, 0.1)))


def _write_folds(
    folder: Path, dev: Sequence[Example], labels: Sequence[str], generator: np.random.Generator
) -> Verdict:
    """Two folds whose students get three of four rows right, with every share."""
    for fold, rows in enumerate((dev[::2], dev[1::2])):
        logits = None
        scores = [1.0 if place % 4 else 0.0 for place in range(len(rows))]
        if labels:
            one = np.eye(len(labels))[[labels.index(row.label) for row in rows]] * 4.0
            one = one + generator.normal(size=one.shape) * 0.1
            for place, score in enumerate(scores):
                one[place] = one[place] if score else np.roll(one[place], 1)
            logits = (tuple(map(tuple, one.tolist())),) * len(SHARES)
        result = FoldResult(
            synthetic_rows=9, ids=tuple(row.id for row in rows), scores=(tuple(scores),) * len(SHARES), logits=logits
        )
        write_result(folder / "model-selection" / f"fold-{fold}.json", result)
    n_rows = len(dev)
    value = float(np.mean([1.0 if place % 4 else 0.0 for rows in (dev[::2], dev[1::2]) for place in range(len(rows))]))
    low, high = share_interval(value, n_rows)
    gain = 0.1 if labels else None
    return Verdict(
        share=0.5,
        final=value,
        gold_only=value,
        selected=value,
        low=low,
        high=high,
        gain=gain,
        n_rows=n_rows,
        synthetic_rows=(9, 9),
    )


def _write_config(folder: Path, world: World, labels: Sequence[str]) -> None:
    task: Mapping[str, Any] = {
        "name": world.name,
        "kind": world.kind,
        "language": "English",
        "texts": "messages to a desk",
        "labels": [{"name": name, "description": f"It is {name}.", "phrase": "", "rationales": []} for name in labels],
        "fields": list(FIELDS[world.kind]),
        "generated": None,
        "columns": {},
        "length": None,
    }
    config = {
        "settings": {"seed": 0, "rows": world.rows, "extrapolate": "errors"},
        "task": task,
        "versions": {"s3local": "0"},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
