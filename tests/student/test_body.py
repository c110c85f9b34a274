"""Bodies: they compute what transformers' own models compute, whole or in parts; any other folder is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from toys import CONFIGS, ROBERTA_TOKENS, tiny_tokenizer, write_body
from transformers import AutoModel, BertModel, DistilBertForMaskedLM, RobertaModel

from s3local.exceptions import ModelError
from s3local.student.body import build_classifier, build_reader, embeddings, layers, load_body, part
from s3local.student.encoding import POSITIONS_AFTER_PADDING, encode, longest_input, pad
from s3local.student.optimisation import cached_states, forward

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
    ids, mask = (torch.from_numpy(array) for array in pad(encode(tokenizer, TEXTS, 64), 0))
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


def encoded(tokenizer: Any, padding: int) -> tuple[Any, Any]:
    """Token ids and mask of ``TEXTS``, as tensors."""
    ids, mask = pad(encode(tokenizer, TEXTS, 60), padding)
    return torch.from_numpy(ids), torch.from_numpy(mask)


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_a_body_computes_what_transformers_computes(model_type: str, tmp_path: Path) -> None:
    write_body(tmp_path, model_type)
    body, tokenizer = load_body(tmp_path)
    padding = tokenizer.pad_token_id
    assert padding == body.config.pad_token_id == (1 if model_type in POSITIONS_AFTER_PADDING else 0)
    ids, mask = encoded(tokenizer, padding)
    original = AutoModel.from_pretrained(tmp_path, local_files_only=True).eval()
    with torch.inference_mode():
        expected = original(input_ids=ids, attention_mask=mask).last_hidden_state
        assert (expected - body(input_ids=ids, attention_mask=mask).last_hidden_state)[mask.bool()].abs().max() < 1e-5
    assert longest_input(body.config.to_dict()) == 64


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_upper_layers_on_cached_states_give_the_whole_bodys_output(model_type: str, tmp_path: Path) -> None:
    """Also when the cached rows are batched in another way than they were computed."""
    write_body(tmp_path, model_type)
    body, tokenizer = load_body(tmp_path)
    ids, mask = encoded(tokenizer, body.config.pad_token_id)
    with torch.no_grad():
        whole = body(input_ids=ids, attention_mask=mask).last_hidden_state
        assert torch.equal(part(body)(input_ids=ids, attention_mask=mask).last_hidden_state, whole)
        for k in range(1, len(layers(body))):
            told: list[int] = []
            cached = cached_states(part(body, 0, k), encode(tokenizer, TEXTS, 60), False, told.append)
            assert sum(told) == len(TEXTS)
            assert (cached[0] - whole[0][: len(cached[0])]).abs().max() > 0.1  # the layers above matter
            for rows in ([0, 1, 2, 3, 4, 5], [3, 1], [4]):
                output, seen = forward(part(body, k), [cached[row] for row in rows], half=False)
                expected = whole[rows][:, : seen.shape[1]]
                assert (output.last_hidden_state - expected)[seen.bool()].abs().max() < 1e-5


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_training_the_upper_part_trains_the_body_and_leaves_the_lower_part(model_type: str, tmp_path: Path) -> None:
    write_body(tmp_path, model_type)
    body, _ = load_body(tmp_path)
    upper = part(body, 2)
    output, _ = forward(upper, [torch.ones(5, 32), torch.ones(3, 32)], half=False)
    output.last_hidden_state.square().sum().backward()
    own = {id(parameter) for parameter in layers(body)[2].parameters()}
    trained = {id(parameter) for parameter in body.parameters() if parameter.grad is not None}
    assert own <= trained
    below = [*layers(body)[:2], embeddings(body)]
    assert not any(id(parameter) in trained for module in below for parameter in module.parameters())
    assert len(layers(body)) == 3 and len(layers(upper)) == 1
    assert embeddings(upper) is not embeddings(body)


def test_parts_that_do_not_exist_are_refused(tiny_bert: Path) -> None:
    body, _ = load_body(tiny_bert)
    for first, stop in ((0, 3), (2, 2), (-1, 1), (1, 0)):
        with pytest.raises(ValueError, match="the body has 2 layers"):
            part(body, first, stop)


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_a_rows_logits_do_not_depend_on_its_batch(model_type: str, tmp_path: Path) -> None:
    write_body(tmp_path, model_type)
    model, tokenizer = build_classifier(tmp_path, ["a", "b"])
    rows = encode(tokenizer, TEXTS, 60)
    with torch.inference_mode():
        together = forward(model.eval(), rows, half=False)[0].logits
        for row, expected in zip(rows, together, strict=True):
            assert (forward(model, [row], half=False)[0].logits[0] - expected).abs().max() < 1e-5


def test_the_tokenizers_padding_counts_where_positions_do_not(tmp_path: Path) -> None:
    """As in multilingual MiniLMs: shaped like BERT, with the tokenizer of XLM-R and an id 0 in config.json."""
    write_body(tmp_path, "bert", layer_norm_eps=1e-12)
    tiny_tokenizer(ROBERTA_TOKENS).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": {"content": "<pad>"}}), encoding="utf-8")
    body, tokenizer = load_body(tmp_path)
    assert (body.config.model_type, body.config.pad_token_id, tokenizer.pad_token) == ("distilbert", 1, "<pad>")
    assert len(tokenizer) == body.config.vocab_size  # no token was added
    write_body(tmp_path, "roberta")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<s>"}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"the tokenizer pads with id 0, config\.json with 1"):
        load_body(tmp_path)


def test_weights_with_a_prefix_beside_a_head_and_with_old_names_are_read(tmp_path: Path) -> None:
    write_body(tmp_path, "bert")
    body, _ = load_body(tmp_path)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = {"cls.predictions.bias": torch.zeros(3), "bert.embeddings.position_ids": torch.arange(64)[None]}
    for name, value in load_file(tmp_path / "model.safetensors").items():
        for new, former in old.items():
            name = name.replace(new, former)
        weights[f"bert.{name}"] = value
    save_file(weights, tmp_path / "model.safetensors")
    again, _ = load_body(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in body.state_dict().items())


def test_nothing_of_a_model_folder_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_body(tmp_path, "roberta")
    program = "from pathlib import Path\nPath(__file__).with_name('executed').touch()\nclass Other: pass\n"
    (tmp_path / "modeling_other.py").write_text(program, encoding="utf-8")
    code = {"AutoConfig": "modeling_other.Other", "AutoModel": "modeling_other.Other"}
    edit_config(auto_map=code, _attn_implementation="a/kernel", quantization_config={"quant_method": "awq"})(tmp_path)
    tokenizer = {"auto_map": {"AutoTokenizer": ["modeling_other.Other", None]}, "tokenizer_class": "Other"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    body, _ = load_body(tmp_path)
    assert type(body) is RobertaModel
    assert not hasattr(body.config, "auto_map") and not hasattr(body.config, "quantization_config")
    assert not list(tmp_path.rglob("executed"))


def test_the_head_of_a_reader_depends_on_the_seed_alone(tiny_bert: Path) -> None:
    state = torch.get_rng_state()
    first, same, other = (build_reader(tiny_bert, seed)[0] for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in first.state_dict().items())
    assert not torch.equal(first.qa_outputs.weight, other.qa_outputs.weight)


def test_a_classifier_names_its_labels_and_is_undecided_at_first(tiny_bert: Path) -> None:
    model, tokenizer = build_classifier(tiny_bert, ["a", "b", "c"])
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    assert model.config.label2id == {"a": 0, "b": 1, "c": 2}
    ids = torch.tensor(encode(tokenizer, TEXTS[:1], 60))
    assert model(ids, torch.ones_like(ids)).logits.tolist() == [[0.0, 0.0, 0.0]]


@pytest.mark.parametrize("model_type", sorted(CONFIGS))
def test_a_head_has_no_weight_that_is_left_to_chance(model_type: str, tmp_path: Path) -> None:
    write_body(tmp_path, model_type)
    makers = [lambda: build_classifier(tmp_path, ["a", "b", "c"])[0]]
    if model_type != "modernbert":
        makers.append(lambda: build_reader(tmp_path, seed=3)[0])
    for make in makers:
        first = {name: value.clone() for name, value in make().state_dict().items()}
        rubbish = torch.full((200_000,), 1e9)  # what memory may hold
        del rubbish
        second = make().state_dict()
        assert all(torch.equal(value, second[name]) for name, value in first.items())
        assert all(value.abs().max() < 10 for value in first.values())


@pytest.mark.parametrize("labels", [["a"], ["a", "a"], []])
def test_labels_are_two_or_more_and_distinct(tiny_bert: Path, labels: list[str]) -> None:
    with pytest.raises(ValueError, match="two or more distinct labels"):
        build_classifier(tiny_bert, labels)


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
        (edit_config(model_type="new"), "model_type is 'new'; one of bert, deberta-v2, distilbert"),
        (edit_config(model_type="mpnet"), "the weights do not fit config.json"),
        (edit_config(position_embedding_type="relative_key"), "position_embedding_type is 'relative_key'"),
        (edit_config(is_decoder=True), "is_decoder is True"),
        (edit_config(num_hidden_layers=1), "the weights do not fit config.json"),
        (edit_config(pad_token_id=None), "the tokenizer pads with id None"),
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
