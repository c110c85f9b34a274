"""Whole runs of every kind on scripted teachers, and what each kind adds to the loop."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import kinds_world as world
import pytest
from jobs import Accepting
from program import call, complains
from small_world import BagOfWords, candidates_of, context_for, rows_of, settings
from toys import SETTINGS

from s3local.allocation import divide_rows
from s3local.evaluation.errors import Error, balance_errors, choose_errors
from s3local.exceptions import InputError, ModelError
from s3local.records import Answer, Candidate, Example, FilterResult
from s3local.report.text import render
from s3local.results import FoldResult, read_result
from s3local.runner.generation import Generation
from s3local.runner.loop import RunResult, run
from s3local.runner.models import find_models
from s3local.runner.settings import AnswerSettings, RunSettings
from s3local.runner.task_kinds import SeedOrder, kind_of
from s3local.storage import sha256_of
from s3local.synthesis.planning import Reply, read_candidates
from s3local.synthesis.prompts import Prompts
from s3local.task.model import Task
from s3local.task.rows import load_dev, load_rows
from s3local.teacher.fake import FakeTeacher

QUICK = dataclasses.replace(SETTINGS, passes=64, max_length=48)


def start(task: Task, write: world.Write, body: Path, folder: Path, **changes: object) -> RunResult:
    chosen = settings(body, **{"training": QUICK, "rounds": 1, **changes})
    models = find_models(chosen, teacher=lambda: FakeTeacher(write), embedder=BagOfWords())
    return run(task, chosen, folder=folder, models=models, executor=Accepting())


KINDS: dict[str, tuple[Callable[[Path], Task], world.Write, dict[str, object]]] = {
    "pair": (world.pair_task, world.write_pair, {"model_selection": True}),
    "spans": (world.span_task, world.write_question, {"model_selection": True}),
    "ten labels": (world.ten_label_task, world.write_ten, {"rows": 60}),
    "chinese": (world.chinese_task, world.write_chinese, {}),
}

Finished = tuple[Task, RunResult]


@pytest.fixture(scope="module", params=KINDS)
def finished(request: pytest.FixtureRequest, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A task and its finished run."""
    make, write, changes = KINDS[request.param]
    folder = tmp_path_factory.mktemp("kind")
    task = make(folder / "task")
    return task, start(task, write, tiny_bert, folder / "run", **changes)


def test_a_run_ends_with_its_rows_and_its_figures(finished: Finished) -> None:
    task, result = finished
    dataset = rows_of(result.dataset)
    assert len(dataset) == result.summary.rows > 0
    first = result.summary.rounds[0].synthesis
    assert set(first.kept_per_label) == set(task.groups)
    assert first.shortfall == 0
    assert max(first.kept_per_label.values()) - min(first.kept_per_label.values()) <= 1
    scores = dataclasses.asdict(result.summary.final.test)  # type: ignore[type-var]
    config = json.loads((result.folder / "config.json").read_text())
    assert config["contexts_sha256"] == (sha256_of(task.contexts) if task.contexts else None)
    names = ("exact_match", "f1") if task.kind == "extractive_qa" else ("accuracy", "macro_f1")
    assert all(0 <= scores[name] <= 1 for name in names)
    assert result.summary.kind == task.kind


def test_rows_on_the_same_source_text_share_a_fold_of_model_selection(finished: Finished) -> None:
    task, result = finished
    found = result.summary.model_selection.verdict
    if found is None:
        assert not task.source_fields
        return
    assert 0 <= found.low <= found.selected <= found.high <= 1
    results = [read_result(path, FoldResult) for path in (result.folder / "model-selection").glob("fold-*.json")]
    fold_of = {name: number for number, fold in enumerate(results) for name in fold.ids}
    assert found.n_rows == len(fold_of)
    folds: dict[str, set[int]] = {}
    for row in load_dev(task):
        if row.id in fold_of:
            folds.setdefault(row.fields[task.source_fields[0]], set()).add(fold_of[row.id])
    assert all(len(mine) == 1 for mine in folds.values())


def test_every_text_is_kept_or_dropped_with_a_reason(finished: Finished) -> None:
    _, result = finished
    for stage in sorted(result.folder.glob("round-*")):
        written = sum(len(rows_of(path)) for path in (stage / "shards").glob("*.jsonl"))
        kept, dropped = rows_of(stage / "synthetic.jsonl"), rows_of(stage / "dropped.jsonl")
        assert len(kept) + len(dropped) == written
        assert all(row["reason"] and isinstance(row["score"], float) for row in dropped)


def test_every_row_comes_back_as_it_was_and_has_the_fields_of_the_task(finished: Finished) -> None:
    task, result = finished
    for row in rows_of(result.dataset):
        example = Candidate.from_row(row).example
        assert tuple(example.fields) == task.fields
        assert bool(example.answers) == (task.kind == "extractive_qa")
        for answer in example.answers:
            assert answer.stands_in(example.fields["context"])


def test_a_row_from_an_error_keeps_what_the_error_was_given(finished: Finished) -> None:
    task, result = finished
    dev = {row.id: row for row in load_dev(task)}
    for stage in sorted(result.folder.glob("round-[1-9]")):
        for row in rows_of(stage / "synthetic.jsonl"):
            error, example = dev[row["origin"]["error"]], Candidate.from_row(row).example
            assert (example.label, example.answers) == (error.label, error.answers)
            assert all(example.fields[name] == error.fields[name] for name in task.source_fields)
            assert example.fields[task.target_field] != error.fields[task.target_field]


def test_no_row_is_written_on_a_context_of_test_alone(finished: Finished) -> None:
    task, result = finished
    assert task.test is not None
    own = {row.fields[name] for row in load_dev(task) for name in task.source_fields}
    foreign = {row.fields[name] for row in load_rows(task.test, task) for name in task.source_fields} - own
    used = [row[name] for row in rows_of(result.dataset) for name in task.source_fields]
    assert not foreign & set(used)
    if task.contexts:
        assert set(used) - own  # the unlabelled ones are written on as well


@pytest.mark.parametrize("kind", ["pair", "spans"])
def test_the_same_seed_gives_the_same_rows(kind: str, tiny_bert: Path, tmp_path: Path) -> None:
    make, write, _ = KINDS[kind]
    task, chosen = make(tmp_path / "task"), settings(tiny_bert)
    models = find_models(chosen, teacher=lambda: FakeTeacher(write), embedder=BagOfWords())
    for name in ("first", "second"):
        generation = Generation(context_for(task, chosen, tmp_path / name, models), [])
        generation.fill("round-0", dict.fromkeys(task.groups, 5), generation.seed_plan(), [])
    first, second = (candidates_of(tmp_path / name) for name in ("first", "second"))
    assert first == second and len(first) == 5 * len(task.groups)


def test_the_figures_can_be_printed(finished: Finished) -> None:
    from rich.console import Console

    task, result = finished
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(render(result.summary, result.folder))
    text = console.export_text()
    assert task.name in text
    assert ("dev exact" in text) == (task.kind == "extractive_qa")


def test_the_final_student_is_what_its_kind_says(finished: Finished) -> None:
    task, result = finished
    assert task.test is not None
    test = load_rows(task.test, task)
    if task.kind == "extractive_qa":
        assert all(text in row.fields["context"] for row, text in zip(test, result.reader().predict(test), strict=True))
        with pytest.raises(ModelError, match="answers questions"):
            result.classifier()
    else:
        assert set(result.classifier().predict(test)) <= set(task.label_names)
        with pytest.raises(ModelError, match="a Classifier, not a Reader"):
            result.reader()


def test_what_a_reader_cannot_do_is_refused_in_one_line(finished: Finished, tmp_path: Path) -> None:
    task, result = finished
    if task.kind != "extractive_qa":
        pytest.skip("a classifier can")
    folder, rows = str(result.folder), str(task.test)
    complains(call("predict", folder, rows, "--threshold", "0.5", "--quiet"), "--threshold needs a classifier")
    complains(call("predict", folder, rows, "--target-accuracy", "0.9"), "--target-accuracy needs a classifier")
    complains(call("serve", folder), "answers questions", "use 's3local predict'")
    complains(call("export", folder, "--to", "onnx", "-o", str(tmp_path / "out")), "answers questions", "student")
    assert not (tmp_path / "out").exists()
    done = call("predict", folder, rows, "--quiet")
    assert done.exit_code == 0 and '"predicted_start"' in done.stdout


# What a kind adds


class World:
    """A kind without a run: its rows planned, written by the scripted teacher and checked."""

    def __init__(self, task: Task, write: world.Write, **changes: object) -> None:
        self.task = task
        self.teacher = FakeTeacher(write)
        self.kind = kind_of(task, load_dev(task), [], RunSettings(**changes))  # type: ignore[arg-type]
        self.prompts = Prompts(task, "list", 60, self.teacher.chat, self.teacher.count_tokens)

    def write(self, count: int) -> list[Candidate]:
        planned = self.kind.plan_seed(
            self.prompts, SeedOrder(divide_rows(count, dict.fromkeys(self.task.groups, 1.0)), [0], {})
        )
        completions = self.teacher.generate([item.request for item in planned])
        written = [Reply.to(item, completion) for item, completion in zip(planned, completions, strict=True)]
        return read_candidates(written, prefix="s", fields=self.task.fields, target_field=self.task.target_field)

    def check(self, candidates: list[Candidate]) -> FilterResult:
        return self.kind.check(candidates, lambda: (self.teacher, self.prompts))


def test_a_pair_can_write_its_first_field(tmp_path: Path) -> None:
    task = world.pair_task(tmp_path / "task", generated="note")
    claims = {row.fields["claim"] for row in load_dev(task)}
    written = World(task, world.write_pair).write(40)
    assert {candidate.example.label for candidate in written} == {"fits", "clashes"}
    for candidate in written:
        assert list(candidate.example.fields) == ["note", "claim"]
        assert candidate.example.fields["claim"] in claims


def test_contexts_are_written_on_in_turn(tmp_path: Path) -> None:
    task = world.span_task(tmp_path / "task")
    some = World(task, world.write_question)
    contexts = [candidate.origin["context"] for candidate in some.write(3 * len(some.kind.contexts))]
    assert set(Counter(contexts).values()) == {3}
    assert {candidate.origin["rule"] for candidate in some.write(60)} == {"numbers", "names", "phrases"}


def test_drops_of_a_pair_and_of_spans_have_their_own_reasons(tmp_path: Path) -> None:
    pair = World(world.pair_task(tmp_path / "pair"), world.write_pair)
    assert {drop.reason for drop in pair.check(pair.write(60)).dropped} == {"copies_source"}
    spans = World(world.span_task(tmp_path / "spans"), world.write_question)
    result = spans.check(spans.write(100))
    assert {drop.reason for drop in result.dropped} == {"gives_answer_away", "no_question"}
    kept = result.kept[0]
    moved = dataclasses.replace(kept.example, answers=(Answer("Nobody", 3),))
    (drop,) = spans.check([Candidate(moved)]).dropped
    assert (drop.reason, drop.detail) == ("answer_not_in_context", '"Nobody"')


def test_the_round_trip_drops_what_the_teacher_answers_otherwise(tmp_path: Path) -> None:
    task = world.span_task(tmp_path / "task")
    some = World(task, world.write_question, answers=AnswerSettings(round_trip=0.5))
    result = some.check(some.write(60))
    assert any(drop.reason == "round_trip" and 0 <= drop.score < 0.5 for drop in result.dropped)
    for candidate in result.kept:  # the scripted teacher always answers with the year
        (answer,) = candidate.example.answers
        assert any(part.isdigit() for part in answer.text.split())


def test_at_most_so_many_errors_are_used_the_hardest_of_each_label() -> None:
    errors = [
        Error(Example(f"{label}{n}", {"text": "x"}, label), "other", 0.9, n / 10) for label in "abc" for n in range(8)
    ]
    kept = balance_errors(errors, 3, 1.0, max_errors=6)
    assert [error.example.id for error in kept] == ["a0", "a1", "b0", "b1", "c0", "c1"]
    assert balance_errors(errors, 3, 1.5, max_errors=24) == balance_errors(errors, 3, 1.5)
    assert len(balance_errors(errors, 3, 3.0, max_errors=1)) == 1


def test_near_mistakes_are_added_where_errors_are_few() -> None:
    def rows(label: str, numbers: range) -> list[Error]:
        return [Error(Example(f"{label}{n}", {"text": "x"}, label), label, 0.5, 0.5 + n / 100) for n in numbers]

    wrong, right = rows("a", range(2)), [*rows("a", range(2, 9)), *rows("b", range(2, 9)), *rows("c", range(9))]
    chosen = choose_errors(wrong, right, 6, "abc", 1.5)
    assert [row.example.id for row in chosen] == ["a0", "c0", "c1", "a2", "b2", "c2"]
    assert len(choose_errors(wrong, right, 6, "abc", 1.5, max_errors=3)) == 3
    for too_few in (0, 1):
        assert choose_errors(wrong, right, too_few, "abc", 1.5) == balance_errors(wrong, 3, 1.5)
    assert choose_errors(wrong, [], 6, "abc", 1.5) == balance_errors(wrong, 3, 1.5)


def test_every_label_is_filled_up_with_its_hardest_right_rows() -> None:
    wrong = [Error(Example(f"a{n}", {"text": "x"}, "a"), "b", 0.9, n / 10) for n in range(8)]
    right = [Error(Example(f"b{n}", {"text": "x"}, "b"), "b", 0.5 + n / 10, 0.5 + n / 10) for n in range(4)]
    chosen = choose_errors(wrong, right, 4, "ab", 1.5, least=2)
    assert [row.example.id for row in chosen if row.example.label == "b"] == ["b0", "b1"]
    assert [row for row in chosen if row.example.label == "a"] == balance_errors(wrong, 2, 1.5)


def test_contexts_without_any_span_are_told(tmp_path: Path) -> None:
    row = {"context": "a b c", "question": "What?", "answer": "b"}
    description = {"name": "x", "kind": "extractive_qa", "texts": "questions"}
    task = world.write_task(tmp_path / "task", description, [row], [])
    with pytest.raises(InputError, match="no context holds a name, a number or a phrase"):
        kind_of(task, load_dev(task), [], RunSettings())


def test_long_rows_are_written_as_long_as_gold_ones(tmp_path: Path) -> None:
    long = "the film went on and on. " * 20
    description = {"name": "long", "texts": "reviews", "labels": {"a": "one", "b": "two"}}
    dev = [{"text": f"{name} {n} {long}", "label": name} for name in "ab" for n in range(4)]
    task = world.write_task(tmp_path / "task", description, dev, [])
    teacher = FakeTeacher()
    asked = kind_of(task, load_dev(task), [], RunSettings())
    assert asked.length_like == [row["text"] for row in dev]
    prompts = Prompts(task, "list", 500, teacher.chat, teacher.count_tokens)
    (planned, *_) = asked.plan_seed(prompts, SeedOrder(dict.fromkeys(task.label_names, 2), [0], {}))
    words = len(dev[0]["text"].split())
    assert planned.origin["characters"] == len(dev[0]["text"])
    assert f"about {words} words long" in planned.request.prompt
    assert 0.85 * words < planned.request.min_tokens < words < planned.request.max_tokens < 1.15 * words
    assert planned.request.stop == ()
