"""The final students of a finished run again, with people's decisions on its rows and with new dev rows.

Everything is written into a folder of its own inside the run, retrained-1, retrained-2 and so on. That folder is a run
itself: ``report``, ``predict`` and ``review`` read it as they read the run that it comes from, which stays as it is.

A row that a person decided on carries the label that the person left it with, for certain. All other rows keep the
label probabilities of the run's judges. Nothing is generated, and no judge is trained.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from s3local import offline
from s3local.embedder import CachedEmbedder
from s3local.exceptions import RunError
from s3local.executor import executor_for
from s3local.progress import Progress
from s3local.records import Candidate, Dropped, Example
from s3local.results import DEV_FILE, RESULT_FILE, RoundResult, RunSummary, score_of
from s3local.review.decisions import DECISIONS_FILE, REJECTIONS, Decision, read_decisions
from s3local.review.rows import RETRAINED, dataset_checksum, read_finished
from s3local.runner.context import Folds, RunContext
from s3local.runner.finish import finish
from s3local.runner.loop import RunResult, score_on_test
from s3local.runner.models import Models, TeacherSource, files_of, find_models
from s3local.runner.relabel import Relabelled, Relabeller
from s3local.runner.row_map import map_rows
from s3local.runner.settings import RunSettings
from s3local.runner.state import CONFIG_FILE, FILES, RunFolder, read_config
from s3local.runner.task_kinds import Targets, kind_of
from s3local.storage import sha256_of
from s3local.task.model import Task, load_task
from s3local.task.rows import load_dev, load_rows
from s3local.teacher.protocol import Teacher
from s3local.text import normal_form
from s3local.wording import counted, shown

MOST_RETRAININGS = 1000
REJECTED = "rejected_in_review"
"""The reason of rows that a person dropped."""
DONE = {"keep": "kept", "drop": "dropped", "relabel": "relabelled", "edit": "edited"}
"""What a report calls decisions."""


@dataclasses.dataclass(frozen=True, slots=True)
class Retrained:
    """A run that was trained again: the result beside the one ``before``, and what changed.

    ``decisions`` counts the decisions that hold, by kind. ``new_dev`` is the number of dev rows that the run had not.
    """

    result: RunResult
    before: RunSummary
    decisions: Mapping[str, int]
    new_dev: int

    def in_words(self) -> str:
        """What was learned in addition, and the scores before and after."""
        done = ", ".join(f"{count:,} {DONE[action]}" for action, count in self.decisions.items())
        lines = [
            f"Learned in addition: {counted(self.new_dev, 'new dev row')}; synthetic rows: {done or 'as they were'}."
        ]
        after = self.result.summary
        cross = [summary.model_selection.verdict for summary in (self.before, after)]
        if cross[0] is not None and cross[1] is not None:
            lines.append(f"Cross-validated on dev: {cross[1].selected:.1%}, before {cross[0].selected:.1%}.")
        test = [summary.selected_student.test for summary in (self.before, after)]
        if test[0] is not None and test[1] is not None:
            scores = f"{score_of(test[1]):.1%}, before {score_of(test[0]):.1%}"
            lines.append(f"On test: {scores}. The more often test is looked at, the less it says.")
        return "\n".join(lines)


def retrain(folder: Path, task: Path | None = None, *, progress: Progress, models: Models | None = None) -> Retrained:
    """Train the final students of the run in ``folder`` again, or go on where that was interrupted.

    ``task`` says where the task is; None: where it was when the run began. ``models`` replace those of the run.
    Raises ``RunError`` if there is nothing new to learn, or the run, its dev rows or its models are not the same any
    more; ``InputError`` for bad rows.
    """
    offline.engage()
    before = read_finished(folder)
    config = read_config(folder)
    settings = _settings(folder, config)
    found = _task(folder, config, task)
    dev = load_dev(found)
    dev_before = _dev_of_run(folder, dev, found.dev)
    test = load_rows(found.test, found) if found.test else []
    decisions = read_decisions(folder / DECISIONS_FILE, dataset_checksum(folder, before)).holding()
    if not decisions and len(dev) == len(dev_before):
        raise RunError(
            f"{folder}: nothing new to learn, there are no decisions and no new dev rows; "
            f"begin with 's3local review {folder}' or 's3local label'"
        )
    models = models or find_models(settings, teacher=_no_teacher, progress=progress)
    if config.get("student_sha256") not in (None, models.identity.get("student_sha256")):
        raise RunError(f"{folder}: the student's pretrained body is not the one that the run began with; restore it")
    made = {"run": folder.resolve().name, "decisions": _checksum(decisions)}
    wanted = {**config, "dev_sha256": sha256_of(found.dev), FILES: files_of(found), RETRAINED: made}
    target = _target(folder, wanted)
    models = dataclasses.replace(models, embedder=CachedEmbedder(models.embedder))
    with RunFolder.open(target, wanted) as state, contextlib.closing(executor_for(None)) as executor:
        _copy_rounds(folder, target, before)
        kind = kind_of(found, dev, [], settings)
        teacher = TeacherSource(models.teacher, "list")
        context = RunContext(found, kind, dev, settings, state, progress, models, teacher, executor)
        folds = _folds(dataclasses.replace(context, dev=dev_before).divide_dev(), dev)
        relabeller = ReviewedRelabeller(context, folds, decisions)
        kept = relabeller.read_rounds([entry.stage for entry in before.rounds])
        rounds = _review_rounds(folder, context, before, kept, decisions, len(dev_before))
        if not rounds.rows:
            raise RunError(f"{folder}: every synthetic row was dropped; keep some, or train on dev rows alone")
        finals = finish(context, relabeller, rounds.rows, rounds.results)
        map_rows(context, rounds.rows)
        summary = state.once(
            RESULT_FILE, RunSummary, lambda: score_on_test(context, rounds.rows, rounds.results, finals, test)
        )
        state.event("ended")
    counts: Counter[str] = Counter(decision.action for decision in decisions.values())
    return Retrained(RunResult(target, summary), before, counts, len(dev) - len(dev_before))


class ReviewedRelabeller(Relabeller):
    """The label probabilities of reviewed rows: of rows with a decision, certainty; of all others, the run's."""

    def __init__(self, context: RunContext, folds: Folds, decisions: Mapping[str, Decision]) -> None:
        super().__init__(context, folds)
        self._decisions = decisions
        self.originals: list[Candidate] = []

    def read_rounds(self, stages: Sequence[str]) -> dict[str, list[Candidate]]:
        """Read the rows of each round, and what the run's judges said of them; the rows by round."""
        found = {}
        for stage in stages:
            rows = [Candidate.from_row(row) for row in self.context.state.read_rows(f"{stage}/synthetic.jsonl")]
            self.read(stage, rows)
            self.originals += rows
            found[stage] = rows
        return found

    def relabel(self, candidates: Sequence[Candidate]) -> Relabelled:
        """Reviewed ``candidates`` as students learn them."""
        of_run = super().relabel(self.originals)
        targets = self._with_decisions(candidates, of_run.targets)
        rows = [candidate.example for candidate in candidates]
        if targets is not None:
            labels = self.context.task.label_names
            best = targets.argmax(axis=1)
            rows = [dataclasses.replace(row, label=labels[place]) for row, place in zip(rows, best, strict=True)]
        return Relabelled(rows, targets, of_run.figures)

    def fold_targets(self, candidates: Sequence[Candidate], fold: int) -> Targets | None:
        """See ``Relabeller.fold_targets``."""
        return self._with_decisions(candidates, super().fold_targets(self.originals, fold))

    def _with_decisions(self, candidates: Sequence[Candidate], of_run: Targets | None) -> Targets | None:
        if of_run is None:
            return None
        place_of = {candidate.example.id: place for place, candidate in enumerate(self.originals)}
        certain = np.eye(len(self.context.task.label_names), dtype=np.float32)
        numbers = self.context.label_numbers([candidate.example for candidate in candidates])
        return np.stack(
            [
                certain[number] if candidate.example.id in self._decisions else of_run[place_of[candidate.example.id]]
                for candidate, number in zip(candidates, numbers, strict=True)
            ]
        )


def reviewed(candidates: Sequence[Candidate], decisions: Mapping[str, Decision]) -> list[Candidate]:
    """The candidates with their decisions: without those that were dropped, with new labels and texts, in order.

    The decision is part of the row's origin from then on.
    """
    rows = []
    for candidate in candidates:
        decision = decisions.get(candidate.example.id)
        if decision is None:
            rows.append(candidate)
        elif decision.action not in REJECTIONS:
            example = candidate.example
            changed = {name: decision.fields.get(name, text) for name, text in example.fields.items()}
            label = decision.label or example.label
            asked = {"asked": example.label} if example.label != label else {}
            origin = {**candidate.origin, **asked, "decision": decision.action, "decided": decision.time}
            rows.append(Candidate(dataclasses.replace(example, fields=changed, label=label), origin))
    return rows


def _settings(folder: Path, config: Mapping[str, Any]) -> RunSettings:
    try:
        settings: RunSettings = TypeAdapter(RunSettings).validate_python(config.get("settings"))
    except (ValidationError, ValueError) as exc:
        problem = f"{folder / CONFIG_FILE} is of another version of s3local"
        raise RunError(f"{problem}; run again under another --name") from exc
    return settings


def _task(folder: Path, config: Mapping[str, Any], task: Path | None) -> Task:
    """The task of a run, with its files. Raises ``RunError`` if they are not where they were, or not the same."""
    if task is not None:
        found = load_task(task)
        same = found.model_dump(mode="json", exclude={"dev", "test", "contexts"}) == config["task"]
        if not same:
            raise RunError(f"{task} is not the task of {folder}, or was changed since; run again under another --name")
    else:
        files = config.get(FILES)
        if not isinstance(files, dict) or not files.get("dev"):
            raise RunError(f"{folder / CONFIG_FILE} does not say where the dev rows are; name the task with --task")
        paths = {name: Path(path) for name, path in files.items() if path is not None}
        for name in ("dev", "test"):
            if name in paths and not paths[name].is_file():
                raise RunError(f"{paths[name]}, the {name} rows of {folder}, is gone; name the task with --task")
        found = Task.model_validate(_without_defaults(config["task"])).model_copy(
            update={"dev": paths["dev"], "test": paths.get("test"), "contexts": None}
        )
    if (sha256_of(found.test) if found.test else None) != config.get("test_sha256"):
        raise RunError(f"the test rows of {folder} were changed since the run; results could not be compared")
    return found


def _without_defaults(content: Any) -> Any:
    """What a configuration says of a task, as a user would write it: without what is empty."""
    if isinstance(content, Mapping):
        return {key: _without_defaults(value) for key, value in content.items() if value not in (None, "", [], {})}
    return [_without_defaults(value) for value in content] if isinstance(content, list) else content


def _dev_of_run(folder: Path, dev: Sequence[Example], file: Path) -> list[Example]:
    """The dev rows that the run in ``folder`` had, which are the first ones of ``dev``, the rows of ``file``.

    Raises ``RunError`` if they are not: other rows than new ones at the end would belong to a new run.
    """
    if not (folder / DEV_FILE).is_file():
        raise RunError(
            f"{folder / DEV_FILE} is missing: the run is of an older s3local; run again under another --name"
        )
    before = [Example.from_row(row) for row in RunFolder(folder).read_rows(DEV_FILE)]
    for old, new in zip_longest(before, dev[: len(before)]):
        if old != new:
            found = f"the row {shown(old.id)} was changed" if new is not None else "rows are missing"
            raise RunError(f"{file}: {found} since the run {folder}; put it back, or run again under another --name")
    return before


def _folds(before: Folds, dev: Sequence[Example]) -> Folds:
    """The folds of the run's dev rows, which its judges know, with the new rows spread over them by label.

    A copy of a row shares its fold.
    """
    if not before.count:
        return Folds(np.full(len(dev), before.of_row[0], dtype=np.int64))
    folds = before.of_row.tolist()
    of_form = {normal_form(row.text): fold for row, fold in zip(dev, folds, strict=False)}
    sizes = Counter((row.label, fold) for row, fold in zip(dev, folds, strict=False))
    for row in dev[len(folds) :]:
        form = normal_form(row.text)
        if form not in of_form:
            of_form[form] = min(range(before.count), key=lambda fold: (sizes[row.label, fold], fold))
        sizes[row.label, of_form[form]] += 1
        folds.append(of_form[form])
    return Folds(np.array(folds, dtype=np.int64))


@dataclasses.dataclass(frozen=True, slots=True)
class _Rounds:
    """The rounds of a run after a review: their results, and the rows that are learned, round by round."""

    results: list[RoundResult]
    rows: list[Candidate]


def _review_rounds(
    folder: Path,
    context: RunContext,
    before: RunSummary,
    kept: Mapping[str, Sequence[Candidate]],
    decisions: Mapping[str, Decision],
    n_dev_before: int,
) -> _Rounds:
    """Write the rounds of the run in ``folder`` as they are after the review, ``kept`` by stage: what was kept and
    dropped, and, if dev has new rows, how well the round's student does on all of them."""
    state = context.state
    results: list[RoundResult] = []
    rows: list[Candidate] = []
    for entry in before.rounds:
        rejected = [row for row in kept[entry.stage] if _is_rejected(decisions.get(row.example.id))]
        drops = list(map(Dropped.from_row, RunFolder(folder).read_rows(f"{entry.stage}/dropped.jsonl")))
        back = [drop.candidate for drop in drops if _is_taken_back(decisions.get(drop.candidate.example.id))]
        names = {candidate.example.id for candidate in back}
        drops = [drop for drop in drops if drop.candidate.example.id not in names]
        drops += [Dropped(row, REJECTED, 0.0) for row in rejected]
        state.write_rows(f"{entry.stage}/dropped.jsonl", (drop.to_row() for drop in drops))
        learned = reviewed([*kept[entry.stage], *back], decisions)
        synthesis = dataclasses.replace(
            entry.synthesis,
            kept=len(learned),
            kept_per_label=dict(Counter(row.example.label for row in learned)),
            dropped=len(drops),
            dropped_by_reason=dict(Counter(drop.reason for drop in drops)),
        )
        student = entry.student
        if len(context.dev) > n_dev_before:
            evaluated = context.kind.evaluate(folder / entry.stage / "student", context.dev)
            state.write_rows(f"{entry.stage}/predictions.jsonl", (its.to_row() for its in evaluated.predictions))
            state.write_rows(f"{entry.stage}/errors.jsonl", (error.to_row() for error in evaluated.errors))
            student = dataclasses.replace(student, dev=evaluated.metrics, errors=len(evaluated.errors))
        results.append(dataclasses.replace(entry, synthesis=synthesis, student=student))
        rows += learned
    return _Rounds(results, rows)


def _is_rejected(decision: Decision | None) -> bool:
    return decision is not None and decision.action in REJECTIONS


def _is_taken_back(decision: Decision | None) -> bool:
    return decision is not None and not _is_rejected(decision)


def _copy_rounds(folder: Path, target: Path, before: RunSummary) -> None:
    """Copy what the rounds and the judges left, without students and shards."""
    for stage in ("judges", *(entry.stage for entry in before.rounds)):
        for file in sorted((folder / stage).glob("*.json*")):
            copy = target / stage / file.name
            if not copy.is_file():
                part = copy.with_name(f".{copy.name}.part")
                part.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, part)
                part.replace(copy)


def _target(folder: Path, wanted: Mapping[str, Any]) -> Path:
    """The folder of these decisions and dev rows: the one that was begun with them, or the next free one."""
    for number in range(1, MOST_RETRAININGS):
        target = folder / f"{RETRAINED}-{number}"
        if not (target / CONFIG_FILE).is_file():
            return target
        there = read_config(target)
        if all(there.get(key) == wanted[key] for key in (RETRAINED, "dev_sha256")):
            return target
    raise RunError(f"{folder} was trained again {counted(MOST_RETRAININGS, 'time')}; delete some of these folders")


def _checksum(decisions: Mapping[str, Decision]) -> str:
    rows = [decisions[name].to_row() for name in sorted(decisions)]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


def _no_teacher() -> Teacher:
    raise RuntimeError("nothing is generated when a run is trained again")
