"""What every training loop here shares: which weights move and decay, how the rate rises and falls, in what precision.

Knows nothing of rows, labels or losses.
"""

from __future__ import annotations

from typing import Any

import torch

from s3local.hardware import bf16_is_fast

MAX_GRADIENT_NORM = 1.0


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
