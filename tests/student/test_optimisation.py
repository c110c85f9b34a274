"""Training loops: the schedule of the rate, batches of either kind of row, and a card that is full."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toys import reviews

from s3local.exceptions import ModelError
from s3local.student.body import load_body
from s3local.student.encoding import encode
from s3local.student.optimisation import forward, learning_rate_factor, seeded


@pytest.mark.parametrize(("total", "warmup"), [(1, 0.0), (1, 0.1), (10, 0.1), (97, 0.1), (250, 0.0), (40, 0.5)])
def test_the_rate_reaches_zero_when_the_last_step_is_done_and_not_before(total: int, warmup: float) -> None:
    factors = [learning_rate_factor(step, total, warmup) for step in range(total + 1)]
    assert factors[-1] == 0.0
    assert all(0 < factor <= 1 for factor in factors[:-1])
    top = factors.index(max(factors))
    assert top == round(warmup * total)
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    falls = np.diff(factors[top:])
    assert np.allclose(falls, falls[0])


def test_hidden_states_are_padded_as_token_ids_are(tiny_bert: Path) -> None:
    body, tokenizer = load_body(tiny_bert)
    ids = encode(tokenizer, [row.text for row in reviews()[:3]] + ["bad"], 32)
    _, mask = forward(body, ids, half=False)
    states = [torch.full((len(row), 32), float(number)) for number, row in enumerate(ids)]

    class Echo(torch.nn.Linear):  # type: ignore[misc]
        def forward(self, inputs_embeds: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return inputs_embeds

    echoed, same_mask = forward(Echo(1, 1), states, half=False)
    assert torch.equal(mask, same_mask)
    assert [row[seen == 1].mean().item() for row, seen in zip(echoed, mask, strict=True)] == [0, 1, 2, 3]
    assert (echoed[mask == 0] == 0).all()


def test_a_card_without_room_is_one_clear_line_and_leaves_the_random_state() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ModelError, match=r"no room left to train.*--gpu-layers"), seeded(3):
        torch.rand(1)
        raise torch.OutOfMemoryError("2 GiB wanted")
    assert torch.equal(before, torch.get_rng_state())
