"""The student's body: a DistilBERT read from a local folder, or made from a MiniLM that is shaped like BERT.

DistilBERT is BERT without token-type embeddings and pooler. So the weights of a BERT-shaped MiniLM (such as
all-MiniLM-L6-v2) become a DistilBERT of that size exactly: the embedding of token type 0, which every token of a
single text gets, is added to every position embedding, and the other weights get their new names.
Knows nothing of training, tasks or files other than the body's folder. Never reaches the network.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import (
    DistilBertConfig,
    DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification,
    DistilBertModel,
    DistilBertTokenizerFast,
)
from transformers.modeling_utils import no_init_weights

from s3local.exceptions import ModelError

BERT_TO_DISTILBERT_CONFIG = {
    "vocab_size": "vocab_size",
    "max_position_embeddings": "max_position_embeddings",
    "hidden_size": "dim",
    "intermediate_size": "hidden_dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
    "initializer_range": "initializer_range",
    "pad_token_id": "pad_token_id",
}
BERT_TO_DISTILBERT_NAMES = {
    "encoder.layer.": "transformer.layer.",
    "attention.self.query.": "attention.q_lin.",
    "attention.self.key.": "attention.k_lin.",
    "attention.self.value.": "attention.v_lin.",
    "attention.output.dense.": "attention.out_lin.",
    "attention.output.LayerNorm.": "sa_layer_norm.",
    "intermediate.dense.": "ffn.lin1.",
    "output.dense.": "ffn.lin2.",
    "output.LayerNorm.": "output_layer_norm.",
}
DISTILBERT_LAYER_NORM_EPS = 1e-12  # fixed in the architecture

Weights = dict[str, Any]


def build_classifier(body_folder: Path, labels: Sequence[str], seed: int) -> tuple[Any, Any]:
    """A ``DistilBertForSequenceClassification`` with the folder's body and a fresh head, and its tokenizer.

    The head's weights depend on ``seed`` alone; the global random state is left as it was.
    Raises ``ModelError`` as ``load_body`` does, ``ValueError`` for fewer than two labels or a label named twice.
    """
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise ValueError(f"a classifier needs two or more distinct labels, got {list(labels)}")
    body, tokenizer = load_body(body_folder)
    config = body.config
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: number for number, label in enumerate(labels)}
    with no_init_weights():
        model = DistilBertForSequenceClassification(config)
    model.distilbert = body
    generator = torch.Generator().manual_seed(seed)
    for layer in (model.pre_classifier, model.classifier):
        torch.nn.init.normal_(layer.weight, std=config.initializer_range, generator=generator)
        torch.nn.init.zeros_(layer.bias)
    return model, tokenizer


def build_reader(body_folder: Path, seed: int) -> tuple[Any, Any]:
    """A ``DistilBertForQuestionAnswering`` with the folder's body and a fresh head, and its tokenizer.

    The head's weights depend on ``seed`` alone; the global random state is left as it was.
    Raises ``ModelError`` as ``load_body`` does.
    """
    body, tokenizer = load_body(body_folder)
    body.config.num_labels = 2  # where the span begins, where it ends
    with no_init_weights():
        model = DistilBertForQuestionAnswering(body.config)
    model.distilbert = body
    generator = torch.Generator().manual_seed(seed)
    torch.nn.init.normal_(model.qa_outputs.weight, std=body.config.initializer_range, generator=generator)
    torch.nn.init.zeros_(model.qa_outputs.bias)
    return model, tokenizer


def load_body(folder: Path) -> tuple[Any, Any]:
    """The ``DistilBertModel`` of a folder in evaluation mode, and its ``DistilBertTokenizerFast``.

    The folder holds ``config.json``, ``model.safetensors`` and ``tokenizer.json`` of a DistilBERT, with or
    without a head, or of a BERT-shaped MiniLM.
    Raises ``ModelError`` if one of them is missing or damaged, or if the architecture is another one.
    """
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: {name} is missing; the folder of a DistilBERT or MiniLM model belongs here")
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as exc:  # tokenizers raises bare Exception
        kind = "model.safetensors" if isinstance(exc, SafetensorError) else "config.json or tokenizer.json"
        raise ModelError(f"{folder}: {kind} is damaged: {exc}") from exc
    family = settings.get("model_type") if isinstance(settings, dict) else None
    if family == "distilbert":
        config = {key: settings[key] for key in BERT_TO_DISTILBERT_CONFIG.values() if key in settings}
        weights = _without_prefix(weights, "distilbert.")
    elif family == "bert":
        config = _config_from_bert(settings, folder)
        weights = _weights_from_bert(_without_prefix(weights, "bert."), folder)
    else:
        raise ModelError(f"{folder}: model_type is {family!r}; 'distilbert' or 'bert' belongs here")
    try:
        with no_init_weights():
            # dropout inside attention takes as long as everything else together where texts are long (16 rows of 256
            # tokens: 2.7 s a step with it, 1.4 without), and fused attention cannot be used with it
            body = DistilBertModel(DistilBertConfig(**config, attention_dropout=0.0))
        body.load_state_dict(weights, strict=True)
    except (RuntimeError, ValueError, KeyError) as exc:
        first_line = str(exc).splitlines()[-1].strip()
        raise ModelError(f"{folder}: the weights do not fit config.json: {first_line}") from exc
    return body.eval(), _wrapped(tokenizer, body.config.max_position_embeddings)


def _config_from_bert(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """DistilBERT's settings from BERT's; refuses what DistilBERT cannot express."""
    expected = {"layer_norm_eps": DISTILBERT_LAYER_NORM_EPS, "position_embedding_type": "absolute", "is_decoder": False}
    for key, value in expected.items():
        if settings.get(key, value) != value:
            raise ModelError(f"{folder}: {key} is {settings[key]!r}; only {value!r} can become a DistilBERT")
    return {new: settings[old] for old, new in BERT_TO_DISTILBERT_CONFIG.items() if old in settings}


def _weights_from_bert(weights: Weights, folder: Path) -> Weights:
    """BERT's weights under DistilBERT's names, token type 0 added to every position."""
    converted: Weights = {}
    for name, value in weights.items():
        if name.startswith("embeddings."):
            converted[name] = value
        elif name.startswith("encoder."):
            for old, new in BERT_TO_DISTILBERT_NAMES.items():
                name = name.replace(old, new)
            converted[name] = value
    try:
        token_types = converted.pop("embeddings.token_type_embeddings.weight")
        positions = converted["embeddings.position_embeddings.weight"]
    except KeyError as exc:
        raise ModelError(f"{folder}: model.safetensors has no weight {exc}, which every BERT has") from exc
    converted["embeddings.position_embeddings.weight"] = positions + token_types[0]
    return converted


def _without_prefix(weights: Weights, prefix: str) -> Weights:
    """The body's weights in 32 bits, without the prefix that they carry beside a head."""
    named = {name.removeprefix(prefix): value.float() for name, value in weights.items()}
    wanted = ("embeddings.", "transformer.", "encoder.")
    return {name: value for name, value in named.items() if name.startswith(wanted) and "position_ids" not in name}


def _wrapped(tokenizer: Any, max_length: int) -> Any:
    """The tokenizer as transformers saves and loads it, with the casing of its own normalizer."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    normalizer = json.loads(tokenizer.to_str())["normalizer"] or {}
    return DistilBertTokenizerFast(
        tokenizer_object=tokenizer,
        do_lower_case=normalizer.get("lowercase", True),
        strip_accents=normalizer.get("strip_accents"),
        tokenize_chinese_chars=normalizer.get("handle_chinese_chars", True),
        model_max_length=max_length,
    )
