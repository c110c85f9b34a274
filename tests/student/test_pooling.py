"""Pooling: what a folder declares is what sentence-transformers computes; other modules are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer

from s3local.exceptions import ModelError
from s3local.student.body import load_body
from s3local.student.encoding import encode
from s3local.student.optimisation import forward
from s3local.student.pooling import Pooling, load_pooling

HIDDEN = torch.tensor([[[3.0, 0.0], [0.0, 4.0], [9.0, 9.0]], [[1.0, 1.0], [0.0, 1.0], [2.0, 0.0]]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1]])


def unit(*rows: Any) -> Any:
    values = np.array(rows)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def declare(folder: Path, pooling: dict[str, Any], *others: tuple[str, str]) -> Path:
    """A folder with a Transformer, a Pooling and ``others``: types and paths."""
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), *others]
    entries = [
        {"idx": n, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(entries), encoding="utf-8")
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder


def test_padding_does_not_count() -> None:
    assert np.allclose(Pooling(["mean"])(HIDDEN, MASK), unit([1.5, 2.0], [1.0, 2 / 3]), atol=1e-6)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ({"pooling_mode": "mean"}, unit([1.5, 2.0], [1.0, 2 / 3])),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, unit([1.5, 2.0], [1.0, 2 / 3])),
        ({"pooling_mode_cls_token": True}, unit([3.0, 0.0], [1.0, 1.0])),
        ({"pooling_mode": "max"}, unit([3.0, 4.0], [2.0, 1.0])),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, unit([1.5, 2.0], [1.0, 2 / 3])),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, unit([3, 0, 3, 4], [1, 1, 2, 1])),
    ],
)
def test_a_folder_says_how_to_pool(tmp_path: Path, declared: dict[str, Any], expected: Any) -> None:
    pool = load_pooling(declare(tmp_path, declared, ("Normalize", "2_Normalize")))
    assert np.allclose(pool(HIDDEN, MASK), expected, atol=1e-6)


def test_without_modules_it_is_the_mean(tmp_path: Path) -> None:
    assert torch.equal(load_pooling(tmp_path)(HIDDEN, MASK), Pooling(["mean"])(HIDDEN, MASK))


def test_a_dense_module_follows(tmp_path: Path) -> None:
    folder = declare(tmp_path, {"pooling_mode": "cls"}, ("Dense", "2_Dense"))
    dense = folder / "2_Dense"
    dense.mkdir()
    settings = {
        "in_features": 2,
        "out_features": 3,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    (dense / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        load_pooling(folder)
    matrix, bias = torch.tensor([[0.5, 0.0], [0.0, 1.0], [0.25, 0.25]]), torch.tensor([0.1, 0.0, 0.0])
    save_file({"linear.weight": matrix, "linear.bias": bias}, dense / "model.safetensors")
    expected = unit(np.tanh([1.6, 0.0, 0.75]), np.tanh([0.6, 1.0, 0.5]))
    assert np.allclose(load_pooling(folder)(HIDDEN, MASK), expected, atol=1e-6)
    save_file({"linear.weight": matrix}, dense / "model.safetensors")
    with pytest.raises(ModelError, match=r"does not fit config\.json"):
        load_pooling(folder)
    (dense / "config.json").write_text(json.dumps({**settings, "activation_function": "os.system"}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"the activation 'os\.system' is not known"):
        load_pooling(folder)


def test_other_modules_and_poolings_are_refused_in_one_line(tmp_path: Path) -> None:
    for kind in ("LSTM", "custom.Module"):
        with pytest.raises(ModelError, match=rf"{kind} is not known, only Transformer, Pooling") as caught:
            load_pooling(declare(tmp_path, {"pooling_mode": "mean"}, (kind, "2_Other")))
        assert "\n" not in str(caught.value)
    (tmp_path / "modules.json").write_text(json.dumps([{"path": "", "type": "custom.Pooling"}]), encoding="utf-8")
    with pytest.raises(ModelError, match=r"custom\.Pooling is not known"):
        load_pooling(tmp_path)
    for pooling in ({"pooling_mode": "lasttoken"}, {"pooling_mode_weightedmean_tokens": True}):
        with pytest.raises(ModelError, match=r"is not known, only cls, max, mean"):
            load_pooling(declare(tmp_path, pooling))
    for damaged in ("{", "[1]", '{"a": 1}'):
        (tmp_path / "modules.json").write_text(damaged, encoding="utf-8")
        with pytest.raises(ModelError, match=r"is damaged"):
            load_pooling(tmp_path)


@pytest.mark.models
@pytest.mark.parametrize("name", ["minilm", "mpnet"])
def test_it_embeds_as_sentence_transformers_does(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    texts = ["The harbour was closed.", "a stirring , funny film about " + "the sea and " * 20, "Why?"]
    body, tokenizer = load_body(folder)
    with torch.inference_mode():
        output, mask = forward(body, encode(tokenizer, texts, 128), half=False)
        vectors = load_pooling(folder)(output.last_hidden_state, mask)
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(texts)
    assert np.allclose(vectors, theirs, atol=1e-5)
