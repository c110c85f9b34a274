"""The presets under data/: complete tasks without rows, which go with the benchmark data where that is at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from s3local.exceptions import InputError
from s3local.runner.settings import RunSettings
from s3local.runner.task_kinds import SeedOrder, kind_of
from s3local.synthesis.prompts import Prompts
from s3local.task.check import summarize
from s3local.task.model import Task, load_task
from s3local.task.rows import load_dev, load_rows
from s3local.teacher.fake import FakeTeacher

CHECKOUT = Path(__file__).parents[2]
DATASETS = CHECKOUT.parent / "shared" / "datasets"
PRESETS = {
    "imdb": "classification",
    "sst2": "classification",
    "trec": "classification",
    "ag_news": "classification",
    "rte": "pair",
    "qnli": "pair",
    "adversarial_qa": "extractive_qa",
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_task_without_rows(name: str) -> None:
    folder = CHECKOUT / "data" / name
    assert [path.name for path in folder.iterdir()] == ["task.yaml"]
    with pytest.raises(InputError, match="named by --dev"):
        load_task(folder)


def test_a_misspelt_preset_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r'adversarial_qa, .*; did you mean "ag_news"\?'):
        load_task("agnews")


def preset(name: str) -> Task:
    folder = DATASETS / name
    if not folder.is_dir():
        pytest.skip(f"needs the benchmark data: {folder} is absent")
    return load_task(CHECKOUT / "data" / name, folder / "pool.jsonl", folder / "test.jsonl")


@pytest.mark.datasets
@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_fits_its_benchmark_data(name: str) -> None:
    task = preset(name)
    assert (task.name, task.kind) == (name, PRESETS[name])
    dev, test = load_dev(task), load_rows(task.test, task) if task.test else []
    summary = summarize(task, dev[:60], test[:60])
    assert not [warning for warning in summary.warnings if "outside the allowed length" in warning]
    assert set(summary.dev.per_label) == set(task.groups)


@pytest.mark.datasets
@pytest.mark.parametrize("style", ["list", "chat"])
@pytest.mark.parametrize("name", PRESETS)
def test_prompts_of_real_rows_are_filled_and_fit(name: str, style: str) -> None:
    task = preset(name)
    dev = load_dev(task)[:40]
    teacher = FakeTeacher()
    prompts = Prompts(task, style, 300, teacher.chat, teacher.count_tokens, prompt_tokens=400)  # type: ignore[arg-type]
    kind = kind_of(task, dev, [], RunSettings())
    planned = kind.plan_seed(prompts, SeedOrder(dict.fromkeys(task.groups, 5), [1], {}))
    texts = [item.request.prompt for item in planned]
    texts += [prompts.extrapolation(dev[0].label, dev[1:5], row).text for row in dev[:10]]
    for text in texts:
        assert "$" not in text.replace("$1", "") or "$" in "".join(row.text for row in dev)
        assert teacher.count_tokens(text) <= 410
    assert all(len(item.source_fields) == len(task.source_fields) for item in planned)
