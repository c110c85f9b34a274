"""Generation of synthetic rows, shard by shard: plan, generate, filter, count.

A shard is a list of requests that is decoded from an empty cache and written whole. Shards come in waves: how many
texts of each label the shards of a wave ask for is decided from the rows before the wave. So they can be generated side
by side and in any order; they are filtered in their own. The content of a shard depends only on the task, the settings,
the seed and the waves before it. A resumed run reads the finished shards and filters them again, which gives the same
rows.
"""

from __future__ import annotations

import contextlib
import math
import platform
import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from s3local.allocation import divide_rows
from s3local.curation.dedup import Deduplicator
from s3local.curation.privacy import PersonalData
from s3local.curation.rules import check_rules
from s3local.interruption import stop_if_asked
from s3local.progress import Advance, ignore
from s3local.records import Candidate, Dropped, Example, FilterResult
from s3local.results import RationalesResult, SynthesisResult
from s3local.runner.context import RATIONALES, SYNTHESIS, RunContext, prompts_for
from s3local.runner.state import RunFolder
from s3local.runner.task_kinds import SeedOrder, Texts
from s3local.synthesis.extrapolation import plan_extrapolation
from s3local.synthesis.planning import Planned, Reply, read_candidates
from s3local.synthesis.prompts import Prompts
from s3local.synthesis.rationales import plan_rationales, select_rationales
from s3local.synthesis.replies import cleaner_for
from s3local.teacher.protocol import Teacher, TeacherLostError
from s3local.weights.manifest import PromptStyle

MIN_SHARD = 32
"""The last shards of a stage are smaller than the others, but not smaller than this, if as many may be asked for."""

EXPECTED_RATE = 0.8
"""Share of texts expected to pass the checks, before any were seen."""


class Plan(Protocol):
    """What the shards of a round ask for. It goes to the worker of each shard."""

    def requests(self, kind: Texts, prompts: Prompts, wanted: Mapping[str, int], shard: int) -> list[Planned]:
        """The requests for ``wanted`` texts of each label, in the shard of this number."""
        ...


@dataclass(frozen=True, slots=True)
class SeedPlan:
    """The plan of the first round, guided by ``rationales`` of each label."""

    seed: int
    rationales: Mapping[str, Sequence[str]]
    contrast: float

    def requests(self, kind: Texts, prompts: Prompts, wanted: Mapping[str, int], shard: int) -> list[Planned]:
        """See ``Plan.requests``."""
        order = SeedOrder(wanted, [self.seed, SYNTHESIS, 0, shard], self.rationales, self.contrast)
        return kind.plan_seed(prompts, order)


@dataclass(frozen=True, slots=True)
class ExtrapolationPlan:
    """The plan of round ``number``: rows like the ``errors``; ``gold`` are dev's rows of each group."""

    seed: int
    number: int
    errors: Sequence[Example]
    gold: Mapping[str, Sequence[Example]]
    contrast: float

    def requests(self, kind: Texts, prompts: Prompts, wanted: Mapping[str, int], shard: int) -> list[Planned]:
        """See ``Plan.requests``."""
        return plan_extrapolation(
            prompts,
            wanted,
            self.errors,
            self.gold,
            shots=kind.settings.shots,
            samples=kind.settings.samples,
            sampling=kind.settings.sampling,
            seed=[self.seed, SYNTHESIS, self.number, shard],
            length_like=kind.length_like,
            contrast=self.contrast,
        )


@dataclass(frozen=True, slots=True)
class _Written:
    """Replies of a shard by their places, the seconds they took and the machine; ``lost`` says why some are missing."""

    replies: Mapping[int, Reply]
    seconds: float
    machine: str
    lost: str | None = None


@dataclass(frozen=True, slots=True)
class _ShardJob:
    """A shard, and those of its replies that an earlier sitting ``found``."""

    kind: Texts
    style: PromptStyle
    plan: Plan
    wanted: Mapping[str, int]
    number: int
    found: Mapping[int, Reply]

    def accepts(self, result: object) -> bool:
        """Whether ``result`` can be this shard: as many replies of each label as it asks for, or fewer if its teacher
        was lost."""
        if not isinstance(result, _Written):
            return False
        found, wanted = Counter(reply.label for reply in result.replies.values()), Counter(self.wanted)
        places = set(result.replies) <= set(range(wanted.total()))
        return places and (found == wanted or (result.lost is not None and found <= wanted))

    def __call__(self, teacher: Teacher, advance: Advance) -> _Written:
        """Plan the shard and let ``teacher`` write it."""
        started = time.perf_counter()
        prompts = prompts_for(self.kind, self.style, teacher)
        planned = self.plan.requests(self.kind, prompts, self.wanted, self.number)
        waiting = [place for place in range(len(planned)) if place not in self.found]
        lost = None
        try:
            written = dict(enumerate(teacher.generate([planned[place].request for place in waiting], advance)))
        except TeacherLostError as exc:
            written, lost = dict(exc.completions), str(exc)
        replies = {waiting[n]: Reply.to(planned[waiting[n]], completion) for n, completion in written.items()}
        seconds = round(time.perf_counter() - started, 3)
        return _Written({**self.found, **replies}, seconds, platform.node(), lost)


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

    def seed_plan(self) -> SeedPlan:
        """The plan of the first round; asks the teacher, if there is one, for rationales where the task's kind uses
        them."""
        asks = self.context.kind.uses_rationales and self.context.settings.generate
        rationales = self.rationales() if asks else {}
        return SeedPlan(self.context.settings.seed, rationales, self._contrast)

    def extrapolation_plan(self, errors: Sequence[Example], number: int) -> ExtrapolationPlan:
        """The plan of round ``number``: rows like the dev rows ``errors``."""
        context = self.context
        rows = context.redacted(context.dev)
        gold = {name: [row for row in rows if row.label == name] for name in context.task.groups}
        by_id = {row.id: row for row in rows}
        shown = [by_id[error.id] for error in errors]
        return ExtrapolationPlan(context.settings.seed, number, shown, gold, self._contrast)

    # Rows

    def fill(self, stage: str, quotas: Mapping[str, int], plan: Plan, before: Sequence[Candidate]) -> SynthesisResult:
        """Fill ``quotas`` (rows of each label) and write synthetic.jsonl and dropped.jsonl; the counts.

        ``before`` are the rows of earlier rounds, which no new row may repeat. Texts beyond a quota are dropped as
        ``surplus``; so that there are few of them, the last shards ask for what is missing, and for as many more as are
        likely to fail. Ends early, with a shortfall, after ``attempts`` requests for each row.
        """
        state, settings = self.context.state, self.context.settings
        max_requests = settings.attempts * sum(quotas.values())
        self.curation.begin(before)
        tally = _Tally(quotas)
        while tally.missing and tally.requests < max_requests:
            wave = tally.wave(settings.shard_size, max_requests - tally.requests)
            with contextlib.closing(self._shards(stage, plan, tally.shards, wave)) as shards:
                for replies in shards:
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

    def _shards(
        self, stage: str, plan: Plan, first: int, wave: Sequence[Mapping[str, int]]
    ) -> Generator[list[Reply], None, None]:
        """The replies of each shard of a wave, in order, from disk or from a teacher; ``first`` is the first's number.

        If a teacher goes away in the middle of a shard, what it has written is stored, and asked for no more.
        """
        context, numbers = self.context, range(first, first + len(wave))
        ready = {number: replies for number in numbers if (replies := self._read(stage, number)) is not None}
        jobs = [
            _ShardJob(context.kind, context.teacher.style, plan, wanted, number, self._read_part(stage, number))
            for number, wanted in zip(numbers, wave, strict=True)
            if number not in ready
        ]
        left = sum(sum(job.wanted.values()) - len(job.found) for job in jobs)
        shown: Advance = ignore

        def advance(count: int) -> None:
            nonlocal left
            left -= count
            shown(count)

        with contextlib.closing(context.teacher.completed(jobs, advance)) as written:
            for number in numbers:
                if number not in ready:
                    step = f"{stage}: the teacher writes, shard {number + 1}"
                    with context.progress.step(step, max(left, 0), "texts") as shown:
                        while number not in ready:
                            place, its = next(written)
                            ready[jobs[place].number] = self._keep(stage, jobs[place].number, its)
                yield ready.pop(number)

    def _read(self, stage: str, number: int) -> list[Reply] | None:
        """The replies of a shard that is done."""
        state, name = self.context.state, _shard_file(stage, number)
        return list(map(Reply.from_row, state.read_rows(name))) if (state.path / name).is_file() else None

    def _read_part(self, stage: str, number: int) -> dict[int, Reply]:
        """The replies of a shard whose teacher went away, by their places."""
        state, name = self.context.state, _shard_file(stage, number, ".part")
        rows = state.read_rows(name) if (state.path / name).is_file() else []
        return {item["place"]: Reply.from_row(item) for item in rows}

    def _keep(self, stage: str, number: int, written: _Written) -> list[Reply]:
        """Write a shard to the disk. Raises ``TeacherLostError`` if a part of it is missing."""
        state, part = self.context.state, _shard_file(stage, number, ".part")
        places = sorted(written.replies)
        if written.lost is not None:
            state.write_rows(part, ({**written.replies[place].to_row(), "place": place} for place in places))
            raise TeacherLostError(written.lost, {})
        replies = [written.replies[place] for place in places]
        state.write_rows(_shard_file(stage, number), (reply.to_row() for reply in replies))
        (state.path / part).unlink(missing_ok=True)
        state.event("shard done", stage=stage, shard=number, seconds=written.seconds, machine=written.machine)
        stop_if_asked()
        return replies


def _shard_file(stage: str, number: int, suffix: str = "") -> str:
    return f"{stage}/shards/{number:04d}{suffix}.jsonl"


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
        self._protect()
        self._dedup.restore(kept)

    def _protect(self) -> None:
        waiting, self._unprotected = self._unprotected, {}
        for name, texts in waiting.items():
            if texts:
                step = f"reading {name}, to keep it apart"
                with self._context.progress.step(step, len(texts), "rows") as advance:
                    self._dedup.protect(texts, name, advance)

    def keep_only(self, kept: Sequence[Candidate]) -> None:
        """Forget all candidates but ``kept``: others may now repeat the rest."""
        self._dedup.restore(kept)

    def filter(self, candidates: list[Candidate]) -> FilterResult:
        """Apply each filter to what the one before it kept, and remember the rest as rows that none may repeat."""
        context = self._context
        result = self._check_rules(candidates)
        result = result.then(lambda kept: context.kind.check(kept, lambda: (context.teacher.open(), context.prompts())))
        with context.progress.step("looking for duplicates", len(result.kept), "rows") as advance:
            return result.then(lambda kept: self._dedup.filter(kept, advance))

    def check_texts(self, candidates: list[Candidate]) -> FilterResult:
        """Apply the filters that look at one text alone and embed none: rules, personal data, copies of dev and
        test."""
        self._protect()
        return self._check_rules(candidates).then(self._dedup.drop_copies)

    def _check_rules(self, candidates: list[Candidate]) -> FilterResult:
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
        return result


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

    def wave(self, shard_size: int, most: int) -> list[dict[str, int]]:
        """How many texts of each label the next shards ask for, ``most`` in all.

        Full shards are in one wave as long as all of them together ask for no more texts than rows are missing: they
        are needed whatever becomes of them. What is left then goes into single shards, as many texts as are likely to
        be needed.

        The more texts of a label have failed so far, the more are asked for. Few texts tell little, so the pass rate
        over all labels counts for ``MIN_SHARD`` texts of each.
        """
        rate = (self.passed.total() + EXPECTED_RATE * MIN_SHARD) / (self.requests + MIN_SHARD)
        likely = {
            label: rows * (self.asked[label] + MIN_SHARD) / (self.passed[label] + rate * MIN_SHARD)
            for label, rows in self.missing.items()
        }
        full = min(sum(self.missing.values()), most) // shard_size
        if full > 1:
            return [divide_rows(shard_size, likely)] * full
        count = min(max(math.ceil(sum(likely.values())), MIN_SHARD), shard_size, most)
        return [divide_rows(count, likely)]

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
