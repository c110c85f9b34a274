"""The body: a converted MiniLM computes what the original computes, and what cannot be converted is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertModel, DistilBertForMaskedLM

from s3local.exceptions import ModelError
from s3local.student.body import build_classifier, load_body
from s3local.student.encoding import encode, pad

TEXTS = [
    "The harbour was closed for two days after the storm.",
    "a stirring , funny and finally transporting re imagining of beauty and the beast",
    "",
    "Why?",
    ("No one was hurt, the police said on Tuesday.", "The police said that nobody was hurt."),
    "An argument went on, " + "and on, " * 100 + "until it ended.",
]


def states_of_both(folder: Path) -> tuple[Any, Any, Any]:
    """Hidden states (n_texts, length, dim) of the original and of the conversion, and the attention mask."""
    body, tokenizer = load_body(folder)
    ids, mask = (torch.from_numpy(array) for array in pad(encode(tokenizer, TEXTS, 64)))
    original = BertModel.from_pretrained(folder, local_files_only=True).eval()
    with torch.inference_mode():
        return original(ids, mask).last_hidden_state, body(ids, mask).last_hidden_state, mask.bool()


def test_a_tiny_bert_keeps_its_hidden_states(tiny_bert: Path) -> None:
    original, converted, mask = states_of_both(tiny_bert)
    assert (original - converted)[mask].abs().max() < 1e-5


@pytest.mark.models
def test_minilm_keeps_its_hidden_states(minilm: Path) -> None:
    original, converted, mask = states_of_both(minilm)
    assert not mask.all()
    assert (original - converted)[mask].abs().max() < 1e-5


def test_a_distilbert_is_used_as_it_is(tiny_bert: Path, tmp_path: Path) -> None:
    body, _ = load_body(tiny_bert)
    masked = DistilBertForMaskedLM(body.config)
    masked.distilbert.load_state_dict(body.state_dict())
    masked.save_pretrained(tmp_path)
    shutil.copy(tiny_bert / "tokenizer.json", tmp_path)
    again, _ = load_body(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in body.state_dict().items())


def test_the_head_depends_on_the_seed_alone(tiny_bert: Path) -> None:
    state = torch.get_rng_state()
    first, _ = build_classifier(tiny_bert, ["a", "b", "c"], seed=3)
    same, _ = build_classifier(tiny_bert, ["a", "b", "c"], seed=3)
    other, _ = build_classifier(tiny_bert, ["a", "b", "c"], seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in first.state_dict().items())
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert not torch.equal(first.pre_classifier.weight, other.pre_classifier.weight)
    assert first.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert first.config.label2id == {"a": 0, "b": 1, "c": 2}


@pytest.mark.parametrize("labels", [["a"], ["a", "a"], []])
def test_labels_are_two_or_more_and_distinct(tiny_bert: Path, labels: list[str]) -> None:
    with pytest.raises(ValueError, match="two or more distinct labels"):
        build_classifier(tiny_bert, labels, seed=0)


def edit_config(**changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")

    return apply


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def lose_a_layer(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "layer.1." not in k}, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda folder: shutil.rmtree(folder), "config.json is missing"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json or tokenizer.json is damaged"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "config.json or tokenizer.json is damaged"),
        (cut_weights, "model.safetensors is damaged"),
        (lose_a_layer, "the weights do not fit config.json"),
        (edit_config(hidden_size=64), "the weights do not fit config.json"),
        (edit_config(model_type="roberta"), "model_type is 'roberta'"),
        (edit_config(layer_norm_eps=1e-5), "layer_norm_eps is 1e-05"),
        (edit_config(position_embedding_type="relative_key"), "position_embedding_type is 'relative_key'"),
    ],
)
def test_a_folder_that_is_no_body_is_refused_in_one_line(
    tiny_bert: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "body"
    shutil.copytree(tiny_bert, folder)
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        load_body(folder)
    assert "\n" not in str(caught.value)
