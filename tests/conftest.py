"""What many tests share: bodies of students that train in a second, and where the real models and data lie."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from safetensors.torch import save_file
from toys import LABELS, SETTINGS, Exported, reviews, tiny_tokenizer
from transformers import BertConfig, BertModel

from s3local import executor
from s3local.student.export import export
from s3local.student.training import TrainedStudent, train

CHECKOUT = Path(__file__).parents[1]

settings.register_profile("no deadline", deadline=None)  # a loaded machine is no failure
settings.load_profile("no deadline")
torch.set_num_threads(1)  # the toys are too small to share


def pytest_configure(config: pytest.Config) -> None:
    """Each of several test processes keeps to one core: threads of llama.cpp that wait for one another are slow."""
    if hasattr(config, "workerinput") and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(config.workerinput["workerid"].removeprefix("gw")) % len(cores)]})


@pytest.fixture(scope="session", autouse=True)
def one_process() -> Iterator[None]:
    """Runs train in this process unless a test says otherwise: workers take seconds to start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "physical_cores", lambda: 1)
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
    folder = tmp_path_factory.mktemp("tiny-bert")
    tokenizer = tiny_tokenizer()
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        weights = {name: value.contiguous() for name, value in BertModel(config).state_dict().items()}
    # token types far from zero, so that forgetting them shows
    weights["embeddings.token_type_embeddings.weight"] = weights["embeddings.token_type_embeddings.weight"] + 0.5
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="session")
def tiny_student(tiny_bert: Path) -> TrainedStudent:
    """A student that has learned ``reviews``. Tests share it: they may not change it."""
    return train(tiny_bert, reviews(), LABELS, SETTINGS, seed=1)


@pytest.fixture(scope="session")
def exported(tiny_student: TrainedStudent, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """``tiny_student`` in its ONNX folder, with temperature 2. Tests share it: they may not change it."""
    folder = tmp_path_factory.mktemp("exported") / "student"
    return Exported(folder, export(tiny_student, folder, reviews(), temperature=2.0))
