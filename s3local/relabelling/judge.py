"""A judge that learns from a few dozen rows: a body that is trained by contrast alone, see contrast.py, and a head.

A logistic regression on the embeddings (mean of the tokens, length 1) is the head.
Knows nothing of synthetic rows, and never sees test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s3local.hardware import room_on_card, torch_device
from s3local.progress import Advance, ignore
from s3local.records import Example
from s3local.student.body import load_body
from s3local.student.contrastive import ContrastiveSettings, fine_tune_by_contrast
from s3local.student.encoding import Text, batches_by_length, encode
from s3local.student.optimisation import forward, seeded, uses_bf16
from s3local.student.pooling import mean_of_tokens
from s3local.student.training import PREDICTION_BATCH

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class JudgeSettings(ContrastiveSettings):
    """How a judge is trained: its body as ``ContrastiveSettings`` says.

    ``penalty``        the inverse strength C of the head's regularisation.
    ``max_length``     tokens kept of a text.
    """

    penalty: float = 10.0
    max_length: int = 256


class Judge:
    """A body and a head that say how probable each label of a text is. Made by ``train_judge``."""

    def __init__(self, body: Any, tokenizer: Any, head: Any, n_labels: int, max_length: int) -> None:
        self._body = body
        self._tokenizer = tokenizer
        self._head = head
        self._n_labels = n_labels
        self._max_length = max_length

    def predict_proba(self, texts: Sequence[Text], advance: Advance = ignore) -> Floats:
        """Label probabilities (n_texts, n_labels); ``advance`` is told the texts of each batch.

        Raises ``ModelError`` if a graphics card has no room for them.
        """
        if not texts:
            return np.zeros((0, self._n_labels), dtype=np.float32)
        vectors = _embed(self._body, self._tokenizer, texts, self._max_length, advance)
        return np.asarray(self._head.predict_proba(vectors), dtype=np.float32)


def train_judge(
    body_folder: Path,
    rows: Sequence[Example],
    labels: Sequence[str],
    settings: JudgeSettings,
    seed: int,
    advance: Advance = ignore,
) -> Judge:
    """A judge trained on ``rows``, of which each label needs one at least; ``advance`` is told the texts of each step.

    The same arguments give the same judge in the same environment. Raises ``ModelError`` as ``load_body`` does,
    ``ValueError`` for a label without rows.
    """
    from sklearn.linear_model import LogisticRegression

    numbers = np.array([labels.index(row.label) for row in rows])
    if missing := set(range(len(labels))) - set(numbers.tolist()):
        raise ValueError(f"a judge needs a row of each label; {labels[min(missing)]!r} has none")
    body, tokenizer = load_body(body_folder)
    tokens = encode(tokenizer, rows, settings.max_length)
    with seeded(seed):
        body.to(torch_device())
        fine_tune_by_contrast(body, tokens, numbers, settings, seed, mean_of_tokens, advance=advance)
        vectors = _embed(body, tokenizer, rows, settings.max_length)
    head = LogisticRegression(C=settings.penalty, max_iter=2000).fit(vectors, numbers)
    return Judge(body, tokenizer, head, len(labels), settings.max_length)


JudgeTrainer = Callable[[Path, Sequence[Example], Sequence[str], JudgeSettings, int, Advance], Judge]
"""What trains a judge as ``train_judge`` does, with its arguments in their order."""


def _embed(body: Any, tokenizer: Any, texts: Sequence[Text], max_length: int, advance: Advance = ignore) -> Floats:
    """Unit rows (n_texts, dim)."""
    rows = encode(tokenizer, texts, max_length)
    vectors = np.zeros((len(rows), body.config.hidden_size), dtype=np.float32)
    half = uses_bf16("auto", next(body.parameters()).device)
    with room_on_card("for a judge"), torch.inference_mode():
        for batch in batches_by_length(rows, PREDICTION_BATCH):
            output, mask = forward(body, [rows[place] for place in batch], half)
            vectors[batch] = mean_of_tokens(output.last_hidden_state.float(), mask).cpu().numpy()
            advance(len(batch))
    return vectors
