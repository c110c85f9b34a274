"""Secrets in gold rows do not come out of a run, though the teacher repeats them; and the figures that say so."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest
from faker import Faker
from program import call
from rich.console import Console
from small_world import make_task, rows_of, settings, toy_models, write

from s3local.curation.dedup import DedupSettings
from s3local.curation.privacy import PrivacySettings
from s3local.report.text import render
from s3local.results import RunSummary, read_result
from s3local.runner.loop import RunResult, run
from s3local.task.model import Task
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Request

N_SECRETS = 200
PRIVATE = ("shards", "dropped.jsonl", "errors.jsonl", "extrapolated.jsonl", "dev.jsonl")
"""What a run keeps for itself: the teacher's raw texts, and gold rows."""


def secrets() -> list[str]:
    """Invented secrets of ten kinds, each as a gold row would have it, all distinct."""
    made = Faker(["en_US"])
    made.seed_instance(42)
    kinds = (
        lambda: f"mail {made.email()}",
        lambda: f"call {made.numerify('(%##) 555-####')}",
        lambda: f"pay to {made.iban()}",
        lambda: f"customer number {made.numerify('%#######')}",
        lambda: f"see https://www.{made.domain_name()}/{made.slug()}",
        lambda: f"from {made.ipv4_public()}",
        lambda: f"born on {made.date_of_birth().strftime('%d %B %Y')}",
        lambda: f"at {made.building_number()} {made.last_name()} Street",
        lambda: f"ask {made.first_name()} {made.last_name()}",
        lambda: f"code {made.bothify('??-####-??').upper()}",
    )
    found: dict[str, None] = {}
    while len(found) < N_SECRETS:
        found[kinds[len(found) % len(kinds)]()] = None
    return list(found)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """A task with a secret in each dev row."""
    task = make_task(tmp_path_factory.mktemp("planted"))
    rows = [
        {"id": f"d{n}", "text": f"number {n} was odd, {secret}", "label": ("negative", "positive")[n % 2]}
        for n, secret in enumerate(secrets())
    ]
    task.dev.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return task


seen_in_prompts: set[str] = set()


def parrot(request: Request) -> str:
    """A teacher that puts the secret of the row that it was shown last into most of its texts."""
    seen_in_prompts.update(secret for secret in secrets_once if value_of(secret) in request.prompt)
    shown = [line for line in request.prompt.splitlines() if ", " in line and line.startswith("- ")]
    text = write(request)
    if not shown or random.Random(request.seed).random() < 0.2 or len(text) < 20:
        return text
    return f"{text.strip()}, {shown[-1].rpartition(', ')[2]}\n"


secrets_once = secrets()


def value_of(secret: str) -> str:
    """The secret without the words that lead to it."""
    return secret.split(" ", 1)[1].removeprefix("to ").removeprefix("number ").removeprefix("on ")


def generate(task: Task, body: Path, folder: Path, **changes: object) -> RunResult:
    chosen = settings(
        body,
        rows=200,
        samples=1,
        shard_size=200,
        rounds=0,
        extrapolate="dev",
        label_check=False,
        with_gold=False,
        **changes,
    )
    return run(task, chosen, folder=folder, models=toy_models(chosen, lambda: FakeTeacher(parrot)))


def leaked(result: RunResult) -> set[str]:
    """The secrets in a file of the run folder that is not private, in the report, or in an export with its card, in any
    case of letters."""
    console = Console(record=True, width=200, file=(result.folder / ".lock").open("a"))
    console.print(render(result.summary, result.folder))
    texts = [console.export_text()]
    exports = result.folder.parent / "exports"
    for form in ("jsonl", "hf", "argilla", "label-studio", "onnx"):
        exported = call("export", str(result.folder), "--to", form, "-o", str(exports / form))
        assert exported.exit_code == 0, exported.output
    files = [path for folder in (result.folder, exports) for path in folder.rglob("*") if path.is_file()]
    public = [path for path in files if not set(PRIVATE) & {path.name, path.parent.name}]
    texts += [path.read_bytes().decode("utf-8", errors="replace") for path in public]
    whole = "\n".join(texts).casefold()
    return {secret for secret in secrets_once if value_of(secret).casefold() in whole}


def test_no_planted_secret_comes_out_of_a_run(planted: Task, tiny_bert: Path, tmp_path: Path) -> None:
    result = generate(planted, tiny_bert, tmp_path / "run")
    assert len(seen_in_prompts) == N_SECRETS  # the teacher saw and repeated them
    assert leaked(result) == set()
    leakage = result.summary.leakage
    assert leakage is not None and leakage.personal_dropped + leakage.copies_dropped > 100
    assert leakage.redacted is None


def test_without_the_checks_they_do_come_out(planted: Task, tiny_bert: Path, tmp_path: Path) -> None:
    result = generate(
        planted,
        tiny_bert,
        tmp_path / "run",
        privacy=PrivacySettings(drop_personal=False),
        dedup=DedupSettings(gold_threshold=1.0, run_words=1000, short_share=1.0),
    )
    print(f"{len(leaked(result))} of {N_SECRETS} secrets come out with the checks off")
    assert len(leaked(result)) > N_SECRETS / 4


def test_redacted_rows_keep_secrets_out_of_every_prompt(planted: Task, tiny_bert: Path, tmp_path: Path) -> None:
    seen_in_prompts.clear()
    result = generate(planted, tiny_bert, tmp_path / "run", privacy=PrivacySettings(redact=True))
    assert not seen_in_prompts
    assert leaked(result) == set()
    shards = [path.read_text() for path in (result.folder / "round-0" / "shards").iterdir()]
    assert not [secret for secret in secrets_once if any(value_of(secret) in text for text in shards)]
    assert result.summary.leakage is not None and result.summary.leakage.redacted is not None
    assert sum(result.summary.leakage.redacted.values()) >= N_SECRETS


def test_every_row_has_its_leakage_and_the_report_tells_it(finished: RunResult) -> None:
    leakage = finished.summary.leakage
    assert leakage is not None
    rows = rows_of(finished.folder / "final" / "leakage.jsonl")
    assert [row["id"] for row in rows] == [row["id"] for row in rows_of(finished.dataset)]
    assert max(row["run"] for row in rows) == leakage.synthetic.longest_run
    assert leakage.synthetic.n_rows == len(rows)
    membership = leakage.membership
    assert membership is not None and membership.held_out == "test" and membership.gold_only is not None
    assert (membership.selected.members, membership.selected.others) == (12, 6)
    console = Console(record=True, width=200)
    console.print(render(finished.summary, finished.folder))
    text = console.export_text()
    assert f"{leakage.synthetic.longest_run} at most" in text
    assert f"{100 * membership.selected.auc:.1f} % of cases" in text


def test_without_test_rows_the_folds_are_held_out(task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    chosen = settings(tiny_bert, model_selection=True, rounds=0)
    result = run(task.model_copy(update={"test": None}), chosen, folder=tmp_path / "run", models=toy_models(chosen))
    assert result.summary.leakage is not None
    membership = result.summary.leakage.membership
    assert membership is not None and membership.held_out == "folds"
    assert membership.selected.others == membership.selected.members == 12


def test_a_result_of_before_is_read_without_leakage(finished: RunResult, tmp_path: Path) -> None:
    content = json.loads((finished.folder / "result.json").read_text())
    del content["leakage"]
    (tmp_path / "result.json").write_text(json.dumps(content))
    summary = read_result(tmp_path / "result.json", RunSummary)
    assert summary == dataclasses.replace(finished.summary, leakage=None)
    render(summary, tmp_path)
