"""Supervised contrastive fine-tuning of a body.

In each batch, every row should be nearer to the rows of its own label than to the others (Khosla et al., "Supervised
Contrastive Learning", 2020, equation 2). n rows give n * n pairs, so that a few rows teach more than they do with a
classifier's loss (the idea of SetFit, Tunstall et al., 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s3local.progress import Advance, ignore
from s3local.student.optimisation import MAX_GRADIENT_NORM, forward, learning_rate_factor, parameter_groups, uses_bf16
from s3local.student.pooling import Pool

PADDED_TOGETHER = 8
"""Rows of a batch that go through the body together, sorted by length."""


@dataclass(frozen=True, slots=True)
class ContrastiveSettings:
    """How a body is fine-tuned.

    ``passes``         texts that go through the body in total, over all batches.
    ``batch_size``     texts in a batch, the same number of each label.
    ``learning_rate``  the peak; it decays linearly to zero.
    ``temperature``    divides the cosines in the loss.
    """

    passes: int = 800
    batch_size: int = 32
    learning_rate: float = 1e-4
    temperature: float = 0.1


def fine_tune_by_contrast(
    body: Any,
    rows: Sequence[Any],
    labels: NDArray[np.int64],
    settings: ContrastiveSettings,
    seed: int,
    pool: Pool,
    precision: str = "auto",
    advance: Advance = ignore,
) -> None:
    """Train ``body`` in place, on its device; it is left in evaluation mode.

    ``rows`` are what ``forward`` takes: token ids, or the cached hidden states that an upper ``part`` of a body reads.
    ``labels`` (n_rows,) are the indices of their labels. ``advance`` is called with the texts of each step,
    ``settings.passes`` in total. ``seed`` determines the batches; dropout uses torch's global random state, which the
    caller seeds.
    """
    body.train()
    optimizer = torch.optim.AdamW(parameter_groups(body, weight_decay=0.01), fused=True)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    device = next(body.parameters()).device
    half = uses_bf16(precision, device)
    of_label = [np.flatnonzero(labels == number) for number in np.unique(labels)]
    each = max(2, settings.batch_size // len(of_label))
    generator = np.random.default_rng(seed)
    batch_size = sum(min(each, len(places)) for places in of_label)
    total = -(-settings.passes // batch_size)
    for step in range(total):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * learning_rate_factor(step, total, 0.1)
        picked = [generator.choice(places, min(each, len(places)), replace=False) for places in of_label]
        batch = np.concatenate(picked)
        batch = batch[np.argsort([len(rows[place]) for place in batch], kind="stable")]
        vectors = []
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):  # the parts share weights in 16 bits
            for start in range(0, len(batch), PADDED_TOGETHER):
                output, mask = forward(body, [rows[place] for place in batch[start : start + PADDED_TOGETHER]], half)
                vectors.append(pool(output.last_hidden_state.float(), mask))
        loss = contrastive_loss(torch.cat(vectors), labels[batch], settings.temperature)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        advance(min(batch_size, settings.passes - step * batch_size))
    body.eval()


def contrastive_loss(vectors: Any, labels: NDArray[np.int64], temperature: float) -> Any:
    """The supervised contrastive loss of unit ``vectors`` (n, dim); a row that is alone with its label counts 0."""
    numbers = torch.from_numpy(labels).to(vectors.device)
    itself = torch.eye(len(labels), dtype=torch.bool, device=vectors.device)
    scores = (vectors @ vectors.T / temperature).masked_fill(itself, float("-inf"))
    log_shares = (scores - torch.logsumexp(scores, dim=1, keepdim=True)).masked_fill(itself, 0.0)
    alike = (numbers[:, None] == numbers[None, :]) & ~itself
    return -((log_shares * alike).sum(dim=1) / alike.sum(dim=1).clamp(min=1)).mean()
