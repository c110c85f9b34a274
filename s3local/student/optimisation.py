"""What every training loop here shares: what its chance comes from, which weights move and decay, how the rate rises
and falls, in what precision, and how a batch goes through a model.

Knows nothing of rows, labels or losses.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from s3local.hardware import bf16_is_fast, room_on_card, torch_device
from s3local.student.encoding import pad

MAX_GRADIENT_NORM = 1.0
FUSED_ATTENTION_TOKENS = 100
"""From this length on, fused attention is the faster one on a processor: 16 rows of 256 tokens take 1.4 s a step with
it, 1.9 without; 16 rows of 12 tokens 124 and 74 ms."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's random numbers come from ``seed``, and a graphics card adds up its sums in the same order each
    time; the caller's random state is left as it was, and the memory that torch held back on a card is let go.

    Raises ``ModelError`` if a card has no room for what is done inside.
    """
    on_card = torch_device() == "cuda"
    exact_before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if on_card else []):
        torch.manual_seed(seed)
        if on_card:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as cuBLAS asks for the same sums each time
            torch.use_deterministic_algorithms(True)
        try:
            with room_on_card("to train a model"):
                yield
        finally:
            torch.use_deterministic_algorithms(exact_before)
            if on_card:
                torch.cuda.empty_cache()


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
    return torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else bf16_is_fast()
