"""Random seeds: each is derived from the seed of a run and from its purpose.

A purpose is a few numbers, such as the stage and the shard. numpy's spawn keys keep all purposes apart; a plain list of
numbers does not, because ``SeedSequence([7, 3])`` and ``SeedSequence([7, 3, 0])`` are the same.
"""

from __future__ import annotations

import numpy as np


def seed_sequence(seed: int, *purpose: int) -> np.random.SeedSequence:
    """The source of all random numbers for one purpose in a run with ``seed``."""
    return np.random.SeedSequence(entropy=seed, spawn_key=purpose)


def derive_seed(seed: int, *purpose: int) -> int:
    """One seed of 32 bits for a purpose in a run with ``seed``."""
    return int(seed_sequence(seed, *purpose).generate_state(1)[0])
