"""A student's body: a transformer encoder from a local folder, its heads, and runs of its layers.

Only ``config.json``, ``model.safetensors``, ``tokenizer.json`` and ``tokenizer_config.json`` are read, and only the
model types in ``MODEL_TYPES`` are built, by transformers' own classes. No code of a model folder is ever executed.

A BERT without token types and pooler is a DistilBERT. So BERT-shaped bodies such as all-MiniLM-L6-v2 are converted
exactly: the embedding of token type 0 is added to every position embedding, and the other weights are renamed.
"""

from __future__ import annotations

import copy
import inspect
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    MODEL_MAPPING,
    DistilBertTokenizerFast,
    PreTrainedTokenizerFast,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.modeling_utils import no_init_weights

from s3local.exceptions import ModelError
from s3local.storage import parsed_json
from s3local.student.encoding import POSITIONS_AFTER_PADDING, longest_input
from s3local.student.pooling import Pooling, load_pooling

MODEL_TYPES = ("bert", "deberta-v2", "distilbert", "modernbert", "mpnet", "roberta", "xlm-roberta")
"""What ``model_type`` of ``config.json`` may be. GTE models are of type "bert" or "modernbert"."""

LAYERS = {"distilbert": "transformer.layer", "modernbert": "layers"}
"""Where the list of layers is in a body; "encoder.layer" in all other types."""

EXTRA_SETTINGS = {"deberta-v2": ("position_buckets", "norm_rel_ebd", "share_att_key")}
"""Entries of ``config.json`` that the class of the configuration reads without naming them."""

FIXED_SETTINGS = {"modernbert": {"reference_compile": False, "attn_implementation": "sdpa"}}

ATTENTION_DROPOUT = ("attention_dropout", "attention_probs_dropout_prob")
"""Settings that become 0: dropout inside attention takes as long as everything else together where texts are long (16
rows of 256 tokens: 2.7 s a step with it, 1.4 s without), and excludes fused attention."""

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
DISTILBERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

Weights = dict[str, Any]


class EmbeddingClassifier(torch.nn.Module):  # type: ignore[misc]
    """A body, its pooling, and a linear layer on the unit vector of a text; all zeros until it is fitted.

    ``head`` is the linear layer. ``config`` names the labels.
    """

    def __init__(self, body: Any, pool: Pooling, labels: Sequence[str]) -> None:
        super().__init__()
        self.body = body
        self.pool = pool
        self.config = body.config
        self.config.id2label = dict(enumerate(labels))
        self.config.label2id = {label: number for number, label in enumerate(labels)}
        hidden = torch.ones(1, 1, self.config.hidden_size)
        width = pool(hidden, torch.ones(1, 1)).shape[1]
        self.head = torch.nn.utils.skip_init(torch.nn.Linear, width, len(labels))  # leaves the random state alone
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    @property
    def base_model(self) -> Any:
        """The body, under the name that transformers gives it."""
        return self.body

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any = None) -> Any:
        """The ``logits`` (n, n_labels), as transformers' classifiers return them, of token ids and their mask, both
        (n, length). Token types are always 0 here; an exported BERT has an input for them."""
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = self.body(input_ids=input_ids, attention_mask=attention_mask, **types).last_hidden_state
        return SequenceClassifierOutput(logits=self.head(self.pool(hidden.float(), attention_mask)))


def build_classifier(body_folder: Path, labels: Sequence[str]) -> tuple[EmbeddingClassifier, Any]:
    """The body of a folder with the pooling that it declares and a head, and its tokenizer.

    Raises ``ModelError`` as ``load_body`` and ``load_pooling`` do, ``ValueError`` for fewer than two labels or
    duplicates among them.
    """
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise ValueError(f"a classifier needs two or more distinct labels, got {list(labels)}")
    body, tokenizer = load_body(body_folder)
    return EmbeddingClassifier(body, load_pooling(body_folder), labels).eval(), tokenizer


def build_reader(body_folder: Path, seed: int) -> tuple[Any, Any]:
    """The body of a folder with transformers' own head for extractive question answering, and its tokenizer.

    The head's initial weights depend on ``seed`` alone; the global random state is not changed.
    Raises ``ModelError`` as ``load_body`` does, and for ModernBERT, whose readers optimum cannot export to ONNX.
    """
    body, tokenizer = load_body(body_folder)
    if body.config.model_type == "modernbert":
        raise ModelError(f"{body_folder}: a reader of type 'modernbert' cannot be exported to ONNX; take another body")
    body.config.num_labels = 2  # the first and the last token of the answer
    return _with_head(body, seed), tokenizer


def load_body(folder: Path) -> tuple[Any, Any]:
    """The encoder of a folder in evaluation mode and 32 bits, without head or pooler, and its fast tokenizer.

    The word embeddings are frozen: they are half of all weights of a small body, and training is faster without them.
    ``config.pad_token_id`` is the id that the tokenizer pads with.
    Raises ``ModelError`` if a file is missing or damaged, if the model type is not allowed, or if the weights do not
    fit ``config.json``.
    """
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise ModelError(f"{folder}: {name} is missing; the folder of a transformer encoder belongs here")
    try:
        settings = parsed_json((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as exc:  # tokenizers raises bare Exception
        kind = "model.safetensors" if isinstance(exc, SafetensorError) else "config.json or tokenizer.json"
        raise ModelError(f"{folder}: {kind} is damaged: {exc}") from exc
    family = settings.get("model_type") if isinstance(settings, dict) else None
    if family not in MODEL_TYPES:
        raise ModelError(f"{folder}: model_type is {family!r}; one of {', '.join(MODEL_TYPES)} belongs here")
    for key, allowed in {"position_embedding_type": "absolute", "is_decoder": False}.items():
        if settings.get(key, allowed) != allowed:
            raise ModelError(f"{folder}: {key} is {settings[key]!r}; only {allowed!r} is supported")
    if family == "bert" and settings.get("layer_norm_eps", DISTILBERT_LAYER_NORM_EPS) == DISTILBERT_LAYER_NORM_EPS:
        settings, weights = _as_distilbert(settings, weights, folder)
    try:
        config = _configuration(settings)
        with no_init_weights():
            body = MODEL_MAPPING[type(config)](config)
        if hasattr(body, "pooler"):
            body.pooler = None
        body.load_state_dict(_weights_of(body, weights), strict=True)
    except (RuntimeError, ValueError, KeyError, TypeError) as exc:
        first_line = str(exc).splitlines()[-1].strip()
        raise ModelError(f"{folder}: the weights do not fit config.json: {first_line}") from exc
    body.get_input_embeddings().weight.requires_grad_(False)
    tokens = _special_tokens(folder, tokenizer)
    padding = tokenizer.token_to_id(tokens["pad_token"]) if "pad_token" in tokens else config.pad_token_id
    if padding is None or (family in POSITIONS_AFTER_PADDING and padding != config.pad_token_id):
        raise ModelError(f"{folder}: the tokenizer pads with id {padding}, config.json with {config.pad_token_id}")
    config.pad_token_id = padding
    try:
        return body.eval(), _wrapped(tokenizer, tokens, config)
    except Exception as exc:  # tokenizers raises bare Exception
        raise ModelError(f"{folder}: tokenizer.json is damaged: {exc}") from exc


def embeddings(body: Any) -> Any:
    """The module that turns token ids into the hidden states (n, length, dim) that the first layer reads."""
    return body.embeddings


def layers(body: Any) -> list[Any]:
    """The transformer layers of a body, lowest first."""
    return list(body.get_submodule(_path_of_layers(body)))


def part(body: Any, first: int = 0, stop: int | None = None) -> Any:
    """The layers ``first`` to ``stop`` (not included) of a body, as a module that shares its weights.

    The architecture's own code runs them, with its attention mask, position bias and rotary positions. Called with
    ``attention_mask`` (n, length) and with ``input_ids`` if ``first`` is 0, else with ``inputs_embeds``: the hidden
    states (n, length, dim) that layer ``first`` reads. Its ``last_hidden_state`` is what layer ``stop`` reads, or the
    body's own output if ``stop`` is None. So ``part(body, k)`` turns the output of ``part(body, 0, k)``, which can be
    cached while these layers are frozen, into the output of ``body``.
    Raises ``ValueError`` if the body has no such layers.
    """
    all_layers = layers(body)
    stop = len(all_layers) if stop is None else stop
    if not 0 <= first < stop <= len(all_layers):
        raise ValueError(f"the body has {len(all_layers)} layers, got {first} to {stop}")
    *outer, name = _path_of_layers(body).split(".")
    shared = holder = _shallow_copy(body)
    for child in outer:
        inner = _shallow_copy(getattr(holder, child))
        setattr(holder, child, inner)
        holder = inner
    setattr(holder, name, torch.nn.ModuleList(all_layers[first:stop]))
    if first > 0:
        shared.embeddings = _CachedStates()
    if stop < len(all_layers) and hasattr(shared, "final_norm"):
        shared.final_norm = torch.nn.Identity()
    return shared


class _CachedStates(torch.nn.Module):  # type: ignore[misc]
    """Takes the place of a body's embeddings: returns the hidden states (n, length, dim) among its arguments."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return next(value for value in (*inputs, *named.values()) if torch.is_tensor(value) and value.ndim == 3)


def _path_of_layers(body: Any) -> str:
    return LAYERS.get(body.config.model_type, "encoder.layer")


def _shallow_copy(module: Any) -> Any:
    """A module with the same parameters and children, whose children can be replaced without changing ``module``."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin


def _with_head(body: Any, seed: int) -> Any:
    """The reader of the body's type, with this body and a head initialised from ``seed``."""
    with no_init_weights():
        model = MODEL_FOR_QUESTION_ANSWERING_MAPPING[type(body.config)](body.config)
    prefix = model.base_model_prefix
    head = [module for name, module in model.named_modules() if not name.startswith(f"{prefix}.")]
    setattr(model, prefix, body)
    generator = torch.Generator().manual_seed(seed)
    for module in head:
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=body.config.initializer_range, generator=generator)
        elif isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.ones_(module.weight)
        else:
            continue
        if module.bias is not None:
            torch.nn.init.zeros_(module.bias)
    return model.eval()


def _configuration(settings: dict[str, Any]) -> Any:
    """The configuration of ``config.json``: only entries that its class names, so that no other takes effect."""
    family = settings["model_type"]
    known = {*inspect.signature(CONFIG_MAPPING[family].__init__).parameters, *EXTRA_SETTINGS.get(family, ())}
    chosen = {key: value for key, value in settings.items() if key in known}
    chosen |= {key: 0.0 for key in ATTENTION_DROPOUT if key in known}
    return CONFIG_MAPPING[family](**chosen, **FIXED_SETTINGS.get(family, {}))


def _weights_of(body: Any, weights: Weights) -> Weights:
    """The body's own weights in 32 bits, by the names that its class gives them.

    In the file they may have a prefix, beside the weights of a head; old files have other names for layer norms.
    """
    wanted = set(body.state_dict())
    parts = {name for name, _ in body.named_children()}
    own: Weights = {}
    for name, value in weights.items():
        name = name.removeprefix(f"{body.base_model_prefix}.")
        name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
        unused = name.endswith(("position_ids", "position_embeddings.weight"))
        if name in wanted or (name.split(".")[0] in parts and not unused):
            own[name] = value.float()
    return own


def _as_distilbert(settings: dict[str, Any], weights: Weights, folder: Path) -> tuple[dict[str, Any], Weights]:
    """A BERT's settings and weights under DistilBERT's names, token type 0 added to every position."""
    converted: Weights = {}
    for name, value in weights.items():
        name = name.removeprefix("bert.")
        if name.startswith("encoder."):
            for old, new in BERT_TO_DISTILBERT_NAMES.items():
                name = name.replace(old, new)
        converted[name] = value.float()
    try:
        token_types = converted.pop("embeddings.token_type_embeddings.weight")
        positions = converted["embeddings.position_embeddings.weight"]
    except KeyError as exc:
        raise ModelError(f"{folder}: model.safetensors has no weight {exc}, which every BERT has") from exc
    converted["embeddings.position_embeddings.weight"] = positions + token_types[0]
    config = {new: settings[old] for old, new in BERT_TO_DISTILBERT_CONFIG.items() if old in settings}
    return {"model_type": "distilbert", **config}, converted


def _special_tokens(folder: Path, tokenizer: Any) -> dict[str, str]:
    """The special tokens that ``tokenizer_config.json`` names, if there is one, as far as the vocabulary has them."""
    try:
        named = parsed_json((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        entries = {name: named.get(name) for name in SPECIAL_TOKENS}
    except (OSError, ValueError, AttributeError):
        return {}
    texts = {name: entry.get("content") if isinstance(entry, dict) else entry for name, entry in entries.items()}
    return {
        name: text for name, text in texts.items() if isinstance(text, str) and tokenizer.token_to_id(text) is not None
    }


def _wrapped(tokenizer: Any, tokens: dict[str, str], config: Any) -> Any:
    """The tokenizer as transformers saves and loads it. It gives no token types: they are always 0 here."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    longest = longest_input(config.to_dict())
    fits = tokenizer.normalizer is not None and all(
        tokenizer.token_to_id(token) is not None for token in DISTILBERT_TOKENS
    )
    if config.model_type != "distilbert" or not fits:
        names = {"pad_token": tokenizer.id_to_token(config.pad_token_id), **tokens}
        inputs = ["input_ids", "attention_mask"]
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, model_max_length=longest, model_input_names=inputs, **names
        )
    normalizer = json.loads(tokenizer.to_str())["normalizer"] or {}
    return DistilBertTokenizerFast(
        tokenizer_object=tokenizer,
        do_lower_case=normalizer.get("lowercase", True),
        strip_accents=normalizer.get("strip_accents"),
        tokenize_chinese_chars=normalizer.get("handle_chinese_chars", True),
        model_max_length=longest,
    )
