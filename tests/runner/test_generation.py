"""Laws of generation: every text is kept or dropped with a reason, no filter is left out, no request goes beyond the
budget, and the seed decides every text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from small_world import candidates_of, context_for, rows_of, settings, toy_models, write

from s3local.executor import Executor, InThisProcess, OneResource, Resource
from s3local.placement import Needs
from s3local.progress import Advance, ignore
from s3local.records import Candidate
from s3local.results import SynthesisResult
from s3local.runner.generation import Generation, SeedPlan, _ShardJob
from s3local.runner.loop import RunResult
from s3local.runner.task_kinds import kind_of
from s3local.task.model import Task
from s3local.task.rows import load_dev
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Request


def stages(result: RunResult) -> list[Path]:
    return sorted(result.folder.glob("round-*"))


def test_every_text_of_the_teacher_is_kept_or_dropped_with_a_reason(finished: RunResult) -> None:
    for stage, entry in zip(stages(finished), finished.summary.rounds, strict=True):
        written = sum(len(rows_of(path)) for path in (stage / "shards").glob("*.jsonl"))
        kept, dropped = rows_of(stage / "synthetic.jsonl"), rows_of(stage / "dropped.jsonl")
        assert len(kept) + len(dropped) == written == entry.synthesis.requests
        assert len({row["id"] for row in kept + dropped}) == written
        assert all(row["reason"] and isinstance(row["score"], float) for row in dropped)
        assert (len(kept), len(dropped)) == (entry.synthesis.kept, entry.synthesis.dropped)


def test_no_synthetic_row_is_a_gold_row(task: Task, finished: RunResult) -> None:
    gold = {row["text"] for path in (task.dev, task.test) if path for row in rows_of(path)}
    assert not gold & {candidate.text for candidate in candidates_of(finished.folder)}


def test_what_the_teacher_is_asked_is_in_the_origin(finished: RunResult) -> None:
    for stage in stages(finished):
        for path in (stage / "shards").glob("*.jsonl"):
            for origin in (row["origin"] for row in rows_of(path)):
                assert origin["against"]
                if "error" in origin:
                    assert len(origin["shots"]) == 4 and origin["error"] not in origin["shots"]
                else:
                    assert origin["rationales"]


def fill(
    task: Task,
    body: Path,
    folder: Path,
    teacher: FakeTeacher,
    quota: int,
    executor: Executor | None = None,
    **changes: object,
) -> tuple[SynthesisResult, list[Candidate]]:
    """The first round's rows, ``quota`` of each label, without a student."""
    chosen = settings(body, rationales=0, **changes)
    context = context_for(task, chosen, folder, toy_models(chosen, lambda: teacher), executor)
    test = [row["text"] for row in rows_of(task.test)] if task.test else []
    generation = Generation(context, test)
    quotas = dict.fromkeys(task.label_names, quota)
    return generation.fill("round-0", quotas, generation.seed_plan(), []), candidates_of(folder)


def test_no_filter_is_left_out(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    assert task.test is not None
    dev, test = (rows_of(path)[0]["text"] for path in (task.dev, task.test))
    said = [dev, f"so {dev} it was", test, "x", "the film was good and the plot of the story quite fine"]

    def dirty(request: Request) -> str:
        place = request.seed % 8
        return f"{said[place]}\n" if place < len(said) else write(request)

    counts, kept = fill(task, tiny_bert, tmp_path, FakeTeacher(dirty), quota=4)
    assert {"copies_gold", "overlaps_dev", "copies_test", "too_short", "exact_duplicate"} <= set(
        counts.dropped_by_reason
    )
    texts = [candidate.text for candidate in kept]
    assert len(set(texts)) == len(texts) and not set(said[:4]) & set(texts)


def test_what_was_cut_off_is_counted(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    """In the replies of all rows, kept or dropped."""
    teacher = FakeTeacher(lambda request: f"Text: {write(request)}" if request.seed % 2 else write(request))
    counts, kept = fill(task, tiny_bert, tmp_path, teacher, quota=6)
    cut = [
        row for path in sorted(tmp_path.glob("round-0/*.jsonl")) for row in rows_of(path) if "cleaned" in row["origin"]
    ]
    assert counts.cleaned_by_rule == {"label": len(cut)}
    assert len(cut) == sum(request.seed % 2 for request in teacher.requests)
    assert not any("Text" in candidate.text for candidate in kept)


@pytest.mark.parametrize("quota", [1, 5])
def test_every_label_gets_its_quota_and_no_row_more(task: Task, tiny_bert: Path, tmp_path: Path, quota: int) -> None:
    counts, kept = fill(task, tiny_bert, tmp_path, FakeTeacher(write), quota)
    assert counts.kept_per_label == dict.fromkeys(task.label_names, quota)
    assert (counts.shortfall, len(kept)) == (0, 2 * quota)


def test_no_more_texts_than_allowed_are_asked_for(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    teacher = FakeTeacher(lambda _: "!!!")
    counts, kept = fill(task, tiny_bert, tmp_path, teacher, quota=5, attempts=2)
    assert (counts.requests, counts.shortfall, kept) == (20, 10, [])


def test_another_seed_gives_other_texts_and_the_same_seed_the_same(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    first, same, other = (
        [candidate.text for candidate in fill(task, tiny_bert, tmp_path / name, FakeTeacher(write), 5, seed=seed)[1]]
        for name, seed in (("first", 0), ("same", 0), ("other", 1))
    )
    assert first == same
    assert not set(first) & set(other)


class Backwards(InThisProcess):
    """An executor whose pool ends the last job first, and tells the jobs' numbers to ``ended``."""

    ended: list[int]

    def pool(self, opener: Callable[[], Resource], needs: Needs, **_: bool) -> OneResource[Resource]:
        self.ended = ended = []

        class Pool(OneResource[Resource]):
            def completed(
                self, jobs: Sequence[Callable[[Resource, Advance], Any]], advance: Advance = ignore
            ) -> Generator[tuple[int, Any], None, None]:
                for number in reversed(range(len(jobs))):
                    ((_, result),) = super().completed([jobs[number]], advance)
                    ended.append(number)
                    yield number, result

        return Pool(opener)


def test_the_rows_do_not_depend_on_the_order_in_which_shards_end(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    _, rows = fill(task, tiny_bert, tmp_path / "forwards", FakeTeacher(write), quota=20)
    executor = Backwards()
    counts, others = fill(task, tiny_bert, tmp_path / "backwards", FakeTeacher(write), 20, executor)
    assert executor.ended[:5] == [4, 3, 2, 1, 0]  # 40 rows are missing: five shards of eight
    assert others == rows
    assert counts.kept == len(rows) == 40


def test_a_shard_is_accepted_only_whole_and_with_the_labels_it_was_asked_for(task: Task, tiny_bert: Path) -> None:
    kind = kind_of(task, load_dev(task), [], settings(tiny_bert))
    job = _ShardJob(kind, "list", SeedPlan(0, {}, 0.0), {"negative": 3, "positive": 2}, 0, {})
    whole = job(FakeTeacher(write), ignore)
    assert job.accepts(whole)
    replies = dict(whole.replies)
    other = next(place for place, reply in replies.items() if reply.label == "negative")
    wrong = [
        {place: reply for place, reply in replies.items() if place},
        {**replies, 9: replies[0]},
        {**{place: reply for place, reply in replies.items() if place}, 9: replies[0]},
        {**replies, other: dataclasses.replace(replies[other], label="positive")},
    ]
    assert not any(job.accepts(dataclasses.replace(whole, replies=its)) for its in wrong)
    assert job.accepts(dataclasses.replace(whole, replies=wrong[0], lost="the server is gone"))
    assert not job.accepts(dataclasses.replace(whole, replies=wrong[3], lost="the server is gone"))
    assert not job.accepts(None) and not job.accepts(list(replies.values()))


def test_a_wave_asks_for_no_more_texts_than_rows_are_missing(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    """So all of its shards are needed, whatever becomes of them: no text of theirs is surplus."""
    fill(task, tiny_bert, tmp_path, FakeTeacher(write), quota=16)
    sizes = [len(rows_of(path)) for path in sorted((tmp_path / "round-0/shards").iterdir())]
    assert sizes[:4] == [8] * 4
    of_the_wave = {f"round-0-{number:04d}" for number in range(4)}
    dropped = rows_of(tmp_path / "round-0/dropped.jsonl")
    assert not [row for row in dropped if row["reason"] == "surplus" and row["id"].rsplit("-", 1)[0] in of_the_wave]
