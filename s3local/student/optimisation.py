"""What trainings share: random seed, parameter groups, learning rate schedule, precision, forward pass, embedding."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel

from s3local.hardware import bf16_is_fast, room_on_card, torch_device
from s3local.progress import Advance, ignore
from s3local.student.encoding import batches_by_length, pad
from s3local.student.pooling import Pool

MAX_GRADIENT_NORM = 1.0
CACHING_BATCH = EMBEDDING_BATCH = 32
FUSED_ATTENTION_TOKENS = 100
"""From this length on, fused attention is faster on a processor: 16 rows of 256 tokens take 1.4 s a step with it and
1.9 s without; 16 rows of 12 tokens take 124 ms and 74 ms."""


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch inside the block, and make sums on a graphics card deterministic.

    Afterwards the caller's random state is as before, and the memory that torch cached on a card is released.
    Raises ``ModelError`` if a card runs out of memory inside.
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


def forward(model: Any, rows: Sequence[Any], half: bool) -> tuple[Any, Any]:
    """The output of ``model`` for a batch of rows on its own device, and the batch's attention mask (n_rows, length).

    A row is a sequence of token ids, or a tensor of hidden states (length, dim) for an upper ``part`` of a body.
    ``half`` computes products in 16 bits.
    """
    device = next(model.parameters()).device
    if torch.is_tensor(rows[0]):
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long().to(device)
        inputs = {"inputs_embeds": torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True).to(device)}
    else:
        ids, mask = (torch.from_numpy(array).to(device) for array in pad(rows, model.config.pad_token_id))
        inputs = {"input_ids": ids}
    plain = device.type == "cpu" and mask.shape[1] < FUSED_ATTENTION_TOKENS
    attention = sdpa_kernel(SDPBackend.MATH) if plain else contextlib.nullcontext()
    with attention, torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
        return model(**inputs, attention_mask=mask), mask


def cached_states(lower: Any, token_ids: Sequence[Sequence[int]], half: bool, advance: Advance = ignore) -> list[Any]:
    """The hidden states (length, dim) of each row after the ``lower`` part of a body, in 32 bits on the CPU.

    They are what ``forward`` takes for the upper part. ``lower`` is in evaluation mode. ``advance`` is called with the
    number of rows of each batch.
    """
    states: list[Any] = [None] * len(token_ids)
    with torch.no_grad():  # unlike those of inference mode, these tensors can be trained on
        for batch in batches_by_length(token_ids, CACHING_BATCH):
            output, _ = forward(lower, [token_ids[number] for number in batch], half)
            for number, hidden in zip(batch.tolist(), output.last_hidden_state.float().cpu(), strict=True):
                states[number] = hidden[: len(token_ids[number])].clone()
            advance(len(batch))
    return states


def embed(body: Any, pool: Pool, rows: Sequence[Any], half: bool) -> NDArray[np.float32]:
    """The unit vectors (n_rows, dim) of rows that ``forward`` takes, by a ``body`` in evaluation mode."""
    vectors: list[Any] = [None] * len(rows)
    with torch.no_grad():
        for batch in batches_by_length(rows, EMBEDDING_BATCH):
            output, mask = forward(body, [rows[number] for number in batch], half)
            embedded = pool(output.last_hidden_state.float(), mask).cpu().numpy()
            for number, vector in zip(batch.tolist(), embedded, strict=True):
                vectors[number] = vector
    return np.stack(vectors).astype(np.float32)


def learning_rate_factor(done: int, total: int, warmup: float) -> float:
    """The learning rate of step ``done`` (from 0) of ``total``, as a share of the peak.

    It rises over the first ``warmup`` share of the steps and then decays linearly. It reaches zero after the last step,
    not before, so that every step moves the weights.
    """
    rising = round(warmup * total)
    if done < rising:
        return (done + 1) / (rising + 1)
    return (total - done) / (total - rising)


def parameter_groups(model: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups for the optimiser: matrices, with weight decay, and vectors, without."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim == 1], "weight_decay": 0.0},
    ]


def uses_bf16(precision: str, device: Any) -> bool:
    """Whether to compute products on ``device`` in 16 bits, see ``TrainingSettings.precision``."""
    if precision != "auto":
        return precision == "bf16"
    return torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else bf16_is_fast()
