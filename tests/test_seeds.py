"""Seeds: the same purpose always gives the same seed, and two purposes never do."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from s3local.runner import context
from s3local.seeds import derive_seed, seed_sequence
from s3local.synthesis.planning import random_generator, request_seeds

PURPOSES = (context.RATIONALES, context.SYNTHESIS, context.STUDENT, context.JUDGES, context.MODEL_SELECTION)


@given(st.integers(0, 2**40))
def test_all_purposes_of_a_run_have_seeds_of_their_own(seed: int) -> None:
    keys = [key for length in range(4) for key in itertools.product(range(len(PURPOSES)), repeat=length)]
    assert sorted(PURPOSES) == list(range(len(PURPOSES)))
    assert len({derive_seed(seed, *key) for key in keys}) == len(keys)
    assert [derive_seed(seed, *key) for key in keys] == [derive_seed(seed, *key) for key in keys]


def test_another_seed_of_a_run_changes_every_seed() -> None:
    assert not {derive_seed(0, *key) for key in ((), (0,), (1, 0))} & {
        derive_seed(1, *key) for key in ((), (0,), (1, 0))
    }


def test_requests_of_all_shards_and_the_order_of_each_shard_differ() -> None:
    plans = [[0, context.SYNTHESIS, number, shard] for number in range(3) for shard in range(3)]
    seeds = [value for plan in plans for value in request_seeds(plan, 50)]
    orders = [int(random_generator(plan).integers(2**62)) for plan in plans]
    sources = [int(seed_sequence(*plan).generate_state(1)[0]) for plan in plans]
    assert len({*seeds, *orders, *sources}) == len(seeds) + len(orders) + len(sources)
    assert request_seeds(plans[0], 50)[:10] == request_seeds(plans[0], 10)
