"""Contrastive fine-tuning: rows of one label come together, whether the rows are tokens or cached hidden states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toys import LABELS, reviews, write_body

from s3local.student.body import embeddings, layers, load_body, part
from s3local.student.contrastive import ContrastiveSettings, fine_tune_by_contrast
from s3local.student.encoding import encode
from s3local.student.optimisation import cached_states, forward, seeded
from s3local.student.pooling import Pooling

NUMBERS = np.array([LABELS.index(row.label) for row in reviews()])


def gap(body: Any, rows: Any) -> float:
    """By how much rows of one label are more alike than rows of two labels, as mean cosines."""
    with torch.inference_mode():
        output, mask = forward(body, rows, half=False)
        vectors = Pooling(["mean"])(output.last_hidden_state, mask).numpy()
    cosines, alike = vectors @ vectors.T, NUMBERS[:, None] == NUMBERS[None, :]
    return float(cosines[alike].mean() - cosines[~alike].mean())


@pytest.mark.parametrize("model_type", ["distilbert", "mpnet"])
def test_the_upper_layers_learn_from_cached_states(model_type: str, tmp_path: Path) -> None:
    write_body(tmp_path, model_type)
    body, tokenizer = load_body(tmp_path)
    ids = encode(tokenizer, reviews(), 32)
    cached = cached_states(part(body, 0, 1), ids, half=False)
    below = {name: value.clone() for name, value in layers(body)[0].state_dict().items()}
    below |= {name: value.clone() for name, value in embeddings(body).state_dict().items()}
    before = gap(body, ids)
    told: list[int] = []
    settings = ContrastiveSettings(passes=1600, learning_rate=2e-3)
    with seeded(1):
        fine_tune_by_contrast(part(body, 1), cached, NUMBERS, settings, 1, Pooling(["mean"]), "fp32", told.append)
    assert sum(told) == 1600
    assert not body.training and not layers(body)[2].training
    assert gap(body, ids) > before + 0.5
    after = {**layers(body)[0].state_dict(), **embeddings(body).state_dict()}
    assert all(torch.equal(value, after[name]) for name, value in below.items())
