"""A judge that learns from a few dozen rows: a body whose embeddings of one label are pulled together, and a head.

The body is first trained by contrast: in each batch every row is to be nearer to the rows of its own label than to
the others (Khosla et al., "Supervised Contrastive Learning", 2020, equation 2). With n rows that gives n * n pairs to
learn from, which is why it does more with few rows than a classifier does (the idea of SetFit, Tunstall et al. 2022).
A logistic regression on the embeddings (mean of the tokens, length 1) is the head.
Knows nothing of synthetic rows, and never sees test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from s3local.progress import Advance, ignore
from s3local.records import Example
from s3local.student.distilbert import load_body
from s3local.student.encoding import Text, batches_by_length, encode, pad
from s3local.student.training import (
    MAX_GRADIENT_NORM,
    PREDICTION_BATCH,
    learning_rate_factor,
    parameter_groups,
    uses_bf16,
)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ContrastiveSettings:
    """How a judge is trained.

    ``passes``         texts that go through the body in all, over as many batches as that makes.
    ``batch_size``     texts a batch, the same number of each label.
    ``learning_rate``  the peak; it falls in a line to zero.
    ``temperature``    that cosines are divided by in the contrast.
    ``penalty``        the inverse strength C of the head's regularisation.
    ``max_length``     tokens kept of a text.
    """

    passes: int = 800
    batch_size: int = 32
    learning_rate: float = 1e-4
    temperature: float = 0.1
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
        """Label probabilities (n_texts, n_labels); ``advance`` is told the texts of each batch."""
        if not texts:
            return np.zeros((0, self._n_labels), dtype=np.float32)
        vectors = _embed(self._body, self._tokenizer, texts, self._max_length, advance)
        return np.asarray(self._head.predict_proba(vectors), dtype=np.float32)


def train_judge(
    body_folder: Path,
    rows: Sequence[Example],
    labels: Sequence[str],
    settings: ContrastiveSettings,
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _pull_together(body, encode(tokenizer, rows, settings.max_length), numbers, settings, seed, advance)
    vectors = _embed(body, tokenizer, rows, settings.max_length)
    head = LogisticRegression(C=settings.penalty, max_iter=2000).fit(vectors, numbers)
    return Judge(body, tokenizer, head, len(labels), settings.max_length)


class JudgeMaker(Protocol):
    """What trains a judge as ``train_judge`` does."""

    def __call__(
        self,
        body_folder: Path,
        rows: Sequence[Example],
        labels: Sequence[str],
        settings: ContrastiveSettings,
        seed: int,
        advance: Advance = ignore,
    ) -> Judge: ...


def _pull_together(
    body: Any,
    token_ids: Sequence[Sequence[int]],
    numbers: NDArray[np.int64],
    settings: ContrastiveSettings,
    seed: int,
    advance: Advance,
) -> None:
    """Train ``body`` in place by contrast between the labels."""
    body.train()
    body.embeddings.word_embeddings.weight.requires_grad_(False)
    optimizer = torch.optim.AdamW(parameter_groups(body, weight_decay=0.01), fused=True)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    half = uses_bf16("auto", torch.device("cpu"))
    of_label = [np.flatnonzero(numbers == number) for number in range(int(numbers.max()) + 1)]
    each = max(2, settings.batch_size // len(of_label))
    generator = np.random.default_rng(seed)
    batch_size = sum(min(each, len(places)) for places in of_label)
    total = -(-settings.passes // batch_size)
    for step in range(total):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor(step, total, 0.1)
        picked = [generator.choice(places, min(each, len(places)), replace=False) for places in of_label]
        batch = np.concatenate(picked)
        ids, mask = (torch.from_numpy(array) for array in pad([token_ids[place] for place in batch]))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            hidden = body(input_ids=ids, attention_mask=mask).last_hidden_state
        loss = contrastive_loss(_mean_of_tokens(hidden.float(), mask), numbers[batch], settings.temperature)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        advance(len(batch))
    body.eval()


def contrastive_loss(vectors: Any, labels: NDArray[np.int64], temperature: float) -> Any:
    """The supervised contrastive loss of unit ``vectors`` (n, dim); a row without another of its label counts 0."""
    numbers = torch.from_numpy(labels)
    itself = torch.eye(len(labels), dtype=torch.bool)
    scores = (vectors @ vectors.T / temperature).masked_fill(itself, float("-inf"))
    log_shares = (scores - torch.logsumexp(scores, dim=1, keepdim=True)).masked_fill(itself, 0.0)
    alike = (numbers[:, None] == numbers[None, :]) & ~itself
    return -((log_shares * alike).sum(dim=1) / alike.sum(dim=1).clamp(min=1)).mean()


def _embed(body: Any, tokenizer: Any, texts: Sequence[Text], max_length: int, advance: Advance = ignore) -> Floats:
    """Unit rows (n_texts, dim)."""
    rows = encode(tokenizer, texts, max_length)
    vectors = np.zeros((len(rows), body.config.dim), dtype=np.float32)
    half = uses_bf16("auto", torch.device("cpu"))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
        for batch in batches_by_length(rows, PREDICTION_BATCH):
            ids, mask = (torch.from_numpy(array) for array in pad([rows[place] for place in batch]))
            hidden = body(input_ids=ids, attention_mask=mask).last_hidden_state.float()
            vectors[batch] = _mean_of_tokens(hidden, mask).numpy()
            advance(len(batch))
    return vectors


def _mean_of_tokens(hidden: Any, mask: Any) -> Any:
    """Unit rows (n, dim) from hidden states (n, length, dim): their mean where ``mask`` is 1."""
    shares = mask[:, :, None].to(hidden.dtype)
    return torch.nn.functional.normalize((hidden * shares).sum(dim=1) / shares.sum(dim=1), dim=1)
