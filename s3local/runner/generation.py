"""Synthesis shard by shard, until every label has its rows: plan, generate, filter, count.

A shard is a list of requests decoded from an empty cache and written whole. What it holds depends only on the task,
the settings, the seed and the shards before it. A run that is resumed reads the finished shards and filters them
again, which gives the same rows. Knows nothing of students.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from s3local.allocation import divide_rows
from s3local.progress import Progress
from s3local.records import Candidate, Dropped, FilterResult
from s3local.results import SynthesisResult
from s3local.runner.state import RunFolder
from s3local.synthesis.planning import Planned, to_row
from s3local.teacher.protocol import Teacher

MIN_SHARD = 32
"""The last shards of a stage are smaller than the others, but not smaller than this, if as many may be asked for."""

EXPECTED_RATE = 0.8
"""Share of texts expected to pass the checks, before any were seen."""

Plan = Callable[[Mapping[str, int], int], list[Planned]]
"""How many texts of each label, the shard's number: the requests."""

Read = Callable[[Sequence[Mapping[str, Any]], str], list[Candidate]]
"""The rows of a shard, the beginning of their ids: a candidate each."""

Filter = Callable[[list[Candidate]], FilterResult]


def synthesize(
    folder: RunFolder,
    stage: str,
    quotas: Mapping[str, int],
    plan: Plan,
    read: Read,
    curate: Filter,
    correct: Callable[[list[Candidate]], None],
    teacher: Callable[[], Teacher],
    *,
    shard_size: int,
    max_requests: int,
    progress: Progress,
) -> SynthesisResult:
    """Fill ``quotas`` (rows of each label) and write synthetic.jsonl and dropped.jsonl; the counts, for the marker.

    ``curate`` filters a shard's candidates and remembers what it kept; ``correct`` tells it that only these rows of
    the stage stay, when a shard brought more than was asked for. Texts beyond a quota are dropped as ``surplus``;
    so that there are few of them, a shard asks for what is missing, and for as many more as are likely to fail.
    Ends early, with a shortfall, after ``max_requests``.
    """
    kept: list[Candidate] = []
    dropped: list[Dropped] = []
    per_label: Counter[str] = Counter()
    passed: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    n_requests = n_tokens = shard = 0
    while True:
        missing = {label: rows - per_label[label] for label, rows in quotas.items() if per_label[label] < rows}
        if not missing or n_requests >= max_requests:
            break
        wanted = _wanted(missing, passed, asked, min(shard_size, max_requests - n_requests))
        rows = _shard(folder, stage, shard, partial(plan, wanted, shard), teacher, progress)
        n_requests += len(rows)
        asked.update(row["label"] for row in rows)
        n_tokens += sum(row["n_tokens"] for row in rows)
        result = curate(read(rows, f"{stage}-{shard:04d}"))
        surplus = []
        for candidate in result.kept:
            label = candidate.example.label
            passed[label] += 1
            if per_label[label] < quotas[label]:
                per_label[label] += 1
                kept.append(candidate)
            else:
                surplus.append(Dropped(candidate, "surplus", float(quotas[label]), f"{label} has its rows"))
        dropped += result.dropped + surplus
        if surplus:
            correct(kept)
        shard += 1
    folder.write_rows(f"{stage}/synthetic.jsonl", (candidate.to_row() for candidate in kept))
    folder.write_rows(f"{stage}/dropped.jsonl", (drop.to_row() for drop in dropped))
    return SynthesisResult(
        kept=len(kept),
        kept_per_label={label: per_label[label] for label in quotas},
        shortfall=sum(quotas.values()) - len(kept),
        dropped=len(dropped),
        dropped_by_reason=dict(Counter(drop.reason for drop in dropped).most_common()),
        requests=n_requests,
        shards=shard,
        tokens=n_tokens,
        teacher_seconds=_teacher_seconds(folder, stage),
    )


def _wanted(
    missing: Mapping[str, int], passed: Mapping[str, int], asked: Mapping[str, int], most: int
) -> dict[str, int]:
    """How many texts of each label the next shard asks for, by the share of each that has passed so far; ``most`` in
    all.

    Few texts tell little, so the share over all labels counts for ``MIN_SHARD`` texts of each.
    """
    rate = (sum(passed.values()) + EXPECTED_RATE * MIN_SHARD) / (sum(asked.values()) + MIN_SHARD)
    likely = {
        label: rows * (asked[label] + MIN_SHARD) / (passed[label] + rate * MIN_SHARD) for label, rows in missing.items()
    }
    count = min(max(math.ceil(sum(likely.values())), MIN_SHARD), most)
    return divide_rows(count, likely)


def _shard(
    folder: RunFolder,
    stage: str,
    number: int,
    plan: Callable[[], list[Planned]],
    teacher: Callable[[], Teacher],
    progress: Progress,
) -> list[dict[str, Any]]:
    """The rows of a shard, from disk or from the teacher: label, origin and completion of each request."""
    name = f"{stage}/shards/{number:04d}.jsonl"
    if (folder.path / name).is_file():
        return folder.read_rows(name)
    model = teacher()
    planned = plan()
    started = time.perf_counter()
    with progress.step(f"{stage}: the teacher writes, shard {number + 1}", len(planned), "texts") as advance:
        completions = model.generate([item.request for item in planned], advance)
    rows = [to_row(item, completion) for item, completion in zip(planned, completions, strict=True)]
    folder.write_rows(name, rows)
    folder.event("shard done", stage=stage, shard=number, seconds=round(time.perf_counter() - started, 3))
    return rows


def _teacher_seconds(folder: RunFolder, stage: str) -> float:
    """Seconds of generation over all sittings of the run, from the events; a shard done twice counts once."""
    seconds: dict[int, float] = {
        event["shard"]: event["seconds"]
        for event in folder.events()
        if event["event"] == "shard done" and event["stage"] == stage
    }
    return round(sum(seconds.values()), 3)
