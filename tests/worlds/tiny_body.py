"""The folder of a BERT-shaped body that trains in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from toys import tiny_tokenizer
from transformers import BertConfig, BertModel


def write_tiny_bert(folder: Path) -> Path:
    """Write the body to ``folder``, which is created; always the same weights."""
    folder.mkdir(parents=True, exist_ok=True)
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
