"""Train a body by contrast: what it makes of rows of one label is pulled together, and away from all other rows.

In each batch every row is to be nearer to the rows of its own label than to the others (Khosla et al., "Supervised
Contrastive Learning", 2020, equation 2). With n rows that gives n * n pairs to learn from, which is why it does more
with few rows than a classifier's loss does (the idea of SetFit, Tunstall et al. 2022).
Knows nothing of heads, and nothing of where rows come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s3local.progress import Advance, ignore
from s3local.student.optimisation import MAX_GRADIENT_NORM, forward, learning_rate_factor, parameter_groups, uses_bf16

Pool = Callable[[Any, Any], Any]
"""Unit rows (n, dim) from hidden states (n, length, dim) and their mask (n, length)."""


@dataclass(frozen=True, slots=True)
class ContrastiveSettings:
    """How a body is trained by contrast.

    ``passes``         texts that go through the body in all, over as many batches as that makes.
    ``batch_size``     texts a batch, the same number of each label.
    ``learning_rate``  the peak; it falls in a line to zero.
    ``temperature``    that cosines are divided by in the contrast.
    """

    passes: int = 800
    batch_size: int = 32
    learning_rate: float = 1e-4
    temperature: float = 0.1


def pull_together(
    body: Any,
    token_ids: Sequence[Sequence[int]],
    labels: NDArray[np.int64],
    settings: ContrastiveSettings,
    seed: int,
    pool: Pool,
    precision: str = "auto",
    advance: Advance = ignore,
) -> None:
    """Train ``body`` in place, on the device that it is on; it is left in evaluation mode.

    ``labels`` are the numbers of the labels of ``token_ids``; ``advance`` is told ``settings.passes`` texts in all.
    Random numbers other than the order of the rows are torch's own, whose state is the caller's to keep.
    """
    body.train()
    body.embeddings.word_embeddings.weight.requires_grad_(False)
    optimizer = torch.optim.AdamW(parameter_groups(body, weight_decay=0.01), fused=True)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    half = uses_bf16(precision, next(body.parameters()).device)
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
        output, mask = forward(body, [token_ids[place] for place in batch], half)
        loss = contrastive_loss(pool(output.last_hidden_state.float(), mask), labels[batch], settings.temperature)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        advance(min(batch_size, settings.passes - step * batch_size))
    body.eval()


def contrastive_loss(vectors: Any, labels: NDArray[np.int64], temperature: float) -> Any:
    """The supervised contrastive loss of unit ``vectors`` (n, dim); a row without another of its label counts 0."""
    numbers = torch.from_numpy(labels).to(vectors.device)
    itself = torch.eye(len(labels), dtype=torch.bool, device=vectors.device)
    scores = (vectors @ vectors.T / temperature).masked_fill(itself, float("-inf"))
    log_shares = (scores - torch.logsumexp(scores, dim=1, keepdim=True)).masked_fill(itself, 0.0)
    alike = (numbers[:, None] == numbers[None, :]) & ~itself
    return -((log_shares * alike).sum(dim=1) / alike.sum(dim=1).clamp(min=1)).mean()


def mean_of_tokens(hidden: Any, mask: Any) -> Any:
    """See ``Pool``: the mean of the tokens where ``mask`` is 1."""
    shares = mask[:, :, None].to(hidden.dtype)
    return torch.nn.functional.normalize((hidden * shares).sum(dim=1) / shares.sum(dim=1), dim=1)


def mean_and_first(hidden: Any, mask: Any) -> Any:
    """See ``Pool``: the mean of the tokens beside the first one, which a classifier reads; dim is twice as large."""
    first = torch.nn.functional.normalize(hidden[:, 0], dim=1)
    return torch.nn.functional.normalize(torch.cat([mean_of_tokens(hidden, mask), first], dim=1), dim=1)
