"""Generation of synthetic rows, shard by shard: plan, generate, filter, count.

A shard is a list of requests that is decoded from an empty cache and written whole. Its content depends only on the
task, the settings, the seed and the shards before it. A resumed run reads the finished shards and filters them again,
which gives the same rows.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from s3local.allocation import divide_rows
from s3local.curation.dedup import Deduplicator
from s3local.curation.privacy import PersonalData
from s3local.curation.rules import check_rules
from s3local.interruption import stop_if_asked
from s3local.records import Candidate, Dropped, Example, FilterResult
from s3local.results import RationalesResult, SynthesisResult
from s3local.runner.context import RATIONALES, SYNTHESIS, RunContext
from s3local.runner.state import RunFolder
from s3local.runner.task_kinds import SeedOrder
from s3local.synthesis.extrapolation import plan_extrapolation
from s3local.synthesis.planning import Planned, Reply, read_candidates
from s3local.synthesis.rationales import plan_rationales, select_rationales
from s3local.synthesis.replies import cleaner_for
from s3local.teacher.protocol import TeacherLostError

MIN_SHARD = 32
"""The last shards of a stage are smaller than the others, but not smaller than this, if as many may be asked for."""

EXPECTED_RATE = 0.8
"""Share of texts expected to pass the checks, before any were seen."""

Plan = Callable[[Mapping[str, int], int], list[Planned]]
"""The requests for a number of texts of each label, in the shard of this number."""


class Generation:
    """The generator of a run's rows. ``test_texts`` are target texts of test, which no row may copy."""

    def __init__(self, context: RunContext, test_texts: Sequence[str]) -> None:
        self.context = context
        self._contrast = context.models.contrast(context.settings)
        self.curation = Curation(context, test_texts)
        task = context.task
        self._cleaner = cleaner_for(context.target_texts, [*task.label_names, *task.fields])

    # Plans

    def rationales(self) -> Mapping[str, Sequence[str]]:
        """Distinct rationales of each label: those in the task or, for a label without any, the teacher's."""
        return self.context.state.once("rationales.json", RationalesResult, self._ask_for_rationales).rationales

    def _ask_for_rationales(self) -> RationalesResult:
        context, count = self.context, self.context.settings.rationales
        rationales = {label.name: tuple(label.rationales) for label in context.task.labels}
        if count and not all(rationales.values()):
            seed = [context.settings.seed, RATIONALES]
            planned = plan_rationales(context.prompts(), count, context.settings.sampling, seed)
            with context.progress.step("rationales: the teacher writes", len(planned), "texts") as advance:
                completions = context.teacher.open().generate([item.request for item in planned], advance)
            for label in {item.label for item in planned}:
                mine = [text for item, text in zip(planned, completions, strict=True) if item.label == label]
                rationales[label] = tuple(select_rationales(mine, count))
        return RationalesResult(rationales=rationales)

    def seed_plan(self) -> Plan:
        """The plan of the first round, guided by rationales where the task's kind uses them."""

        def plan(wanted: Mapping[str, int], shard: int) -> list[Planned]:
            rationales = self.rationales() if self.context.kind.uses_rationales else {}
            seed = [self.context.settings.seed, SYNTHESIS, 0, shard]
            order = SeedOrder(wanted, seed, rationales, self._contrast)
            return self.context.kind.plan_seed(self.context.prompts(), order)

        return plan

    def extrapolation_plan(self, errors: Sequence[Example], number: int) -> Plan:
        """The plan of round ``number``: rows like the dev rows ``errors``."""
        context, settings = self.context, self.context.settings
        rows = context.redacted(context.dev)
        gold = {name: [row for row in rows if row.label == name] for name in context.task.groups}
        by_id = {row.id: row for row in rows}
        shown = [by_id[error.id] for error in errors]

        def plan(wanted: Mapping[str, int], shard: int) -> list[Planned]:
            return plan_extrapolation(
                context.prompts(),
                wanted,
                shown,
                gold,
                shots=settings.shots,
                samples=settings.samples,
                sampling=settings.sampling,
                seed=[settings.seed, SYNTHESIS, number, shard],
                length_like=context.kind.length_like,
                contrast=self._contrast,
            )

        return plan

    # Rows

    def fill(self, stage: str, quotas: Mapping[str, int], plan: Plan, before: Sequence[Candidate]) -> SynthesisResult:
        """Fill ``quotas`` (rows of each label) and write synthetic.jsonl and dropped.jsonl; the counts.

        ``before`` are the rows of earlier rounds, which no new row may repeat. Texts beyond a quota are dropped as
        ``surplus``; so that there are few of them, a shard asks for what is missing, and for as many more as are
        likely to fail. Ends early, with a shortfall, after ``attempts`` requests for each row.
        """
        state, settings = self.context.state, self.context.settings
        max_requests = settings.attempts * sum(quotas.values())
        self.curation.begin(before)
        tally = _Tally(quotas)
        while tally.missing and tally.requests < max_requests:
            wanted = tally.wanted(min(settings.shard_size, max_requests - tally.requests))
            replies = self._shard(stage, tally.shards, plan, wanted)
            result = self.curation.filter(self._candidates(replies, f"{stage}-{tally.shards:04d}"))
            if tally.add(replies, result):
                self.curation.keep_only([*before, *tally.kept])
        state.write_rows(f"{stage}/synthetic.jsonl", (candidate.to_row() for candidate in tally.kept))
        state.write_rows(f"{stage}/dropped.jsonl", (drop.to_row() for drop in tally.dropped))
        return tally.result(_teacher_seconds(state, stage))

    def _candidates(self, replies: Sequence[Reply], prefix: str) -> list[Candidate]:
        task = self.context.task
        return read_candidates(
            replies, prefix=prefix, fields=task.fields, target_field=task.target_field, cleaner=self._cleaner
        )

    def _shard(self, stage: str, number: int, plan: Plan, wanted: Mapping[str, int]) -> list[Reply]:
        """The replies of a shard, from disk or from the teacher.

        If the teacher goes away in the middle, what it has written is stored, and asked for no more.
        """
        state = self.context.state
        name, part = (f"{stage}/shards/{number:04d}{suffix}.jsonl" for suffix in ("", ".part"))
        if (state.path / name).is_file():
            return list(map(Reply.from_row, state.read_rows(name)))
        teacher = self.context.teacher.open()
        planned = plan(wanted, number)
        stored = state.read_rows(part) if (state.path / part).is_file() else []
        found = {item["place"]: Reply.from_row(item) for item in stored}
        waiting = [place for place in range(len(planned)) if place not in found]
        started = time.perf_counter()
        step = f"{stage}: the teacher writes, shard {number + 1}"
        try:
            with self.context.progress.step(step, len(waiting), "texts") as advance:
                completions = teacher.generate([planned[place].request for place in waiting], advance)
        except TeacherLostError as exc:
            found |= {waiting[n]: Reply.to(planned[waiting[n]], written) for n, written in exc.completions.items()}
            state.write_rows(part, ({**found[place].to_row(), "place": place} for place in sorted(found)))
            raise
        found |= {place: Reply.to(planned[place], text) for place, text in zip(waiting, completions, strict=True)}
        replies = [found[place] for place in range(len(planned))]
        state.write_rows(name, (reply.to_row() for reply in replies))
        (state.path / part).unlink(missing_ok=True)
        state.event("shard done", stage=stage, shard=number, seconds=round(time.perf_counter() - started, 3))
        stop_if_asked()
        return replies


class Curation:
    """Decides which candidates of a run are kept: rules, personal data of gold rows, the demands of the task's kind,
    copies and duplicates."""

    def __init__(self, context: RunContext, test_texts: Sequence[str]) -> None:
        self._context = context
        self._compared_field = context.task.target_field if context.task.source_fields else None
        self._dedup = Deduplicator(context.models.embedder, context.settings.dedup, compared_field=self._compared_field)
        drop_personal = context.settings.privacy.drop_personal
        self._personal = PersonalData([*context.target_texts, *test_texts]) if drop_personal else None
        self._unprotected: dict[str, Sequence[str]] = {"dev": context.target_texts, "test": test_texts}

    def begin(self, kept: Sequence[Candidate]) -> None:
        """Begin a round after the rows ``kept`` so far. The first call also embeds dev and test, to find copies."""
        waiting, self._unprotected = self._unprotected, {}
        for name, texts in waiting.items():
            if texts:
                step = f"reading {name}, to keep it apart"
                with self._context.progress.step(step, len(texts), "rows") as advance:
                    self._dedup.protect(texts, name, advance)
        self._dedup.restore(kept)

    def keep_only(self, kept: Sequence[Candidate]) -> None:
        """Forget all candidates but ``kept``: others may now repeat the rest."""
        self._dedup.restore(kept)

    def filter(self, candidates: list[Candidate]) -> FilterResult:
        """Apply each filter to what the one before it kept, and remember the rest as rows that none may repeat."""
        context, task = self._context, self._context.task
        prompts = [task.texts, *(label.description for label in task.labels)]
        names = task.label_names if self._compared_field is None else (*task.label_names, *task.fields)
        result = check_rules(
            candidates,
            context.settings.rules,
            gold=context.target_texts,
            length=task.length_of_texts(context.dev),
            names=names,
            prompts=prompts,
            compared_field=self._compared_field,
        )
        if (personal := self._personal) is not None:
            result = result.then(lambda kept: personal.filter(kept, task.target_field))
        result = result.then(lambda kept: context.kind.check(kept, lambda: (context.teacher.open(), context.prompts())))
        with context.progress.step("looking for duplicates", len(result.kept), "rows") as advance:
            return result.then(lambda kept: self._dedup.filter(kept, advance))


@dataclass(slots=True)
class _Tally:
    """What a round has so far: rows kept and dropped, and for each label how many texts were asked for and passed."""

    quotas: Mapping[str, int]
    kept: list[Candidate] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    per_label: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    cleaned: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    shards: int = 0

    @property
    def requests(self) -> int:
        return self.asked.total()

    @property
    def missing(self) -> dict[str, int]:
        """The rows of each label that are still to come, without labels that have theirs."""
        return {
            label: rows - self.per_label[label] for label, rows in self.quotas.items() if self.per_label[label] < rows
        }

    def wanted(self, most: int) -> dict[str, int]:
        """How many texts of each label the next shard asks for, ``most`` in all.

        The more texts of a label have failed so far, the more are asked for. Few texts tell little, so the pass rate
        over all labels counts for ``MIN_SHARD`` texts of each.
        """
        rate = (self.passed.total() + EXPECTED_RATE * MIN_SHARD) / (self.requests + MIN_SHARD)
        likely = {
            label: rows * (self.asked[label] + MIN_SHARD) / (self.passed[label] + rate * MIN_SHARD)
            for label, rows in self.missing.items()
        }
        count = min(max(math.ceil(sum(likely.values())), MIN_SHARD), most)
        return divide_rows(count, likely)

    def add(self, replies: Sequence[Reply], result: FilterResult) -> bool:
        """Count a shard's ``replies`` and what the filters made of them; whether some were beyond their quota."""
        self.shards += 1
        self.asked.update(reply.label for reply in replies)
        self.tokens += sum(reply.completion.n_tokens for reply in replies)
        surplus = []
        for candidate in (*result.kept, *(drop.candidate for drop in result.dropped)):
            self.cleaned.update(candidate.origin.get("cleaned", ()))
        for candidate in result.kept:
            label = candidate.example.label
            self.passed[label] += 1
            if self.per_label[label] < self.quotas[label]:
                self.per_label[label] += 1
                self.kept.append(candidate)
            else:
                surplus.append(Dropped(candidate, "surplus", float(self.quotas[label]), f"{label} has its rows"))
        self.dropped += result.dropped + surplus
        return bool(surplus)

    def result(self, teacher_seconds: float) -> SynthesisResult:
        return SynthesisResult(
            kept=len(self.kept),
            kept_per_label={label: self.per_label[label] for label in self.quotas},
            shortfall=sum(self.quotas.values()) - len(self.kept),
            dropped=len(self.dropped),
            dropped_by_reason=dict(Counter(drop.reason for drop in self.dropped).most_common()),
            cleaned_by_rule=dict(self.cleaned.most_common()),
            requests=self.requests,
            shards=self.shards,
            tokens=self.tokens,
            teacher_seconds=teacher_seconds,
        )


def _teacher_seconds(folder: RunFolder, stage: str) -> float:
    """Seconds of generation over all sittings of the run, from the events; a shard done twice counts once."""
    seconds: dict[int, float] = {
        event["shard"]: event["seconds"]
        for event in folder.events()
        if event["event"] == "shard done" and event["stage"] == stage
    }
    return round(sum(seconds.values()), 3)
