"""What every training loop here shares: which weights move and decay, how the rate rises and falls, in what precision,
and how a batch goes through a model.

Knows nothing of rows, labels or losses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from s3local.hardware import bf16_is_fast
from s3local.student.encoding import pad

MAX_GRADIENT_NORM = 1.0
FUSED_ATTENTION_TOKENS = 100
"""From this length on, fused attention is the faster one on a processor: 16 rows of 256 tokens take 1.4 s a step with
it, 1.9 without; 16 rows of 12 tokens 124 and 74 ms."""


def forward(model: Any, token_ids: Sequence[Sequence[int]], half: bool) -> tuple[Any, Any]:
    """What ``model`` makes of a batch of rows on its own device, and the batch's mask; ``half``: in 16-bit products."""
    device = next(model.parameters()).device
    ids, mask = (torch.from_numpy(array).to(device) for array in pad(token_ids))
    plain = device.type == "cpu" and ids.shape[1] < FUSED_ATTENTION_TOKENS
    attention = sdpa_kernel(SDPBackend.MATH) if plain else contextlib.nullcontext()
    with attention, torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
        return model(input_ids=ids, attention_mask=mask), mask


def learning_rate_factor(done: int, total: int, warmup: float) -> float:
    """The share of the peak rate that step number ``done`` (from 0) of ``total`` trains with.

    It rises over the first ``warmup`` share of the steps, then falls in a line that meets zero when the last
    step is done, not before: every step moves the weights.
    """
    rising = round(warmup * total)
    if done < rising:
        return (done + 1) / (rising + 1)
    return (total - done) / (total - rising)


def parameter_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for the optimiser: matrices, which decay, and vectors, which do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim == 1], "weight_decay": 0.0},
    ]


def uses_bf16(precision: str, device: Any) -> bool:
    """Whether products on ``device`` are computed in 16 bits, see ``TrainingSettings.precision``."""
    if precision != "auto":
        return precision == "bf16"
    return bool(torch.cuda.is_bf16_supported()) if device.type == "cuda" else bf16_is_fast()
