"""What many tests share: bodies of students that train in a second, and where the real models and data lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from tiny_body import write_tiny_bert
from toys import LABELS, SETTINGS, Exported, reviews

from s3local import executor
from s3local.finished_run import FinishedRun
from s3local.student.export import export
from s3local.student.training import TrainedStudent, train

CHECKOUT = Path(__file__).parents[1]

# A loaded machine is no failure, and CI tries the same examples each time.
settings.register_profile("no deadline", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("no deadline")
torch.set_num_threads(1)  # the toys are too small to share


def pytest_configure(config: pytest.Config) -> None:
    """Each of several test processes keeps to one core: threads of llama.cpp that wait for one another are slow."""
    if hasattr(config, "workerinput") and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(config.workerinput["workerid"].removeprefix("gw")) % len(cores)]})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests with the real models come first: they take longest, and short ones at the end share out evenly."""
    items.sort(key=lambda item: "models" not in item.keywords)


@pytest.fixture(scope="session", autouse=True)
def one_process() -> Iterator[None]:
    """Runs train in this process unless a test says otherwise: workers take seconds to start. Memory that other
    programs take changes nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "physical_cores", lambda: 1)
        patch.setattr(executor, "available_memory_bytes", lambda: None)
        yield


@pytest.fixture(scope="session")
def minilm() -> Path:
    folder = CHECKOUT / "models" / "all-minilm-l6-v2"
    if not (folder / "model.safetensors").exists():
        pytest.skip("needs the embedded models: models/all-minilm-l6-v2 is absent")
    return folder


@pytest.fixture(scope="session")
def mpnet() -> Path:
    folder = CHECKOUT / "models" / "all-mpnet-base-v2"
    if not (folder / "model.safetensors").exists():
        pytest.skip("needs the larger encoder: models/all-mpnet-base-v2 is absent")
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a BERT-shaped body."""
    return write_tiny_bert(tmp_path_factory.mktemp("tiny-bert"))


@pytest.fixture(scope="session")
def tiny_student(tiny_bert: Path) -> TrainedStudent:
    """A student that has learned ``reviews``. Tests share it: they may not change it."""
    return train(tiny_bert, reviews(), LABELS, SETTINGS, seed=1)


@pytest.fixture(scope="session")
def exported(tiny_student: TrainedStudent, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """``tiny_student`` in its ONNX folder, with temperature 2. Tests share it: they may not change it."""
    folder = tmp_path_factory.mktemp("exported") / "student"
    return Exported(folder, export(tiny_student, folder, reviews(), temperature=2.0))


@pytest.fixture(scope="session")
def toy_run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A finished run of seconds with a round, judges and model selection; its task is beside its folder, in "task".

    Tests share it: they may not change it.
    """
    from small_world import make_task, settings, toy_models

    from s3local.runner.loop import run

    folder = tmp_path_factory.mktemp("toy-run")
    chosen = settings(tiny_bert, rows=16, rounds=1, model_selection=True)
    result = run(make_task(folder / "task"), chosen, folder=folder / "run", models=toy_models(chosen))
    return FinishedRun.read(result.folder)
