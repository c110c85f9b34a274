"""Placement: cores, cards and memory of a machine are never promised twice, and the choice is explained."""

from __future__ import annotations

import random

import pytest

from s3local.exceptions import RunError
from s3local.placement import Machine, Needs, in_words, place

GIB = 1 << 30


def test_no_machine_is_asked_for_more_than_it_has() -> None:
    chance = random.Random(0)
    for _ in range(500):
        machines = [
            Machine(name, chance.randrange(1, 65), chance.choice([None, chance.randrange(1, 64) * GIB]))
            for name in "abc"[: chance.randrange(1, 4)]
        ]
        needs = Needs("worker", chance.choice([None, chance.randrange(1, 9)]), chance.randrange(1, 8) * GIB)
        most = chance.choice([None, chance.randrange(1, 5)])
        try:
            placements = place(machines, needs, most)
        except RunError:
            assert all(machine.memory is not None and machine.memory < needs.memory for machine in machines)
            continue
        for its, machine in zip(placements, machines, strict=True):
            assert its.machine == machine and 0 <= its.workers <= (most or 64)
            assert its.workers * its.threads <= machine.cores
            assert machine.memory is None or its.workers * needs.memory <= machine.memory
            more = its.workers + 1  # nothing is left that another worker would fit into
            assert (
                more * its.threads > machine.cores
                or (machine.memory is not None and more * needs.memory > machine.memory)
                or more > (most or 64)
            )


def test_each_graphics_card_has_one_worker() -> None:
    needs = Needs("teacher", None, GIB)
    placements = place([Machine("a", 8, 64 * GIB, cards=2), Machine("b", 8, 64 * GIB, cards=0)], needs)
    assert [its.workers for its in placements] == [2, 0]
    assert in_words(placements, needs) == "2 machines: 2 teachers of 4 threads (one for each graphics card)"
    with pytest.raises(RunError, match="no machine of --workers offers a graphics card"):
        place([Machine("b", 8, 64 * GIB, cards=0)], needs)


def test_the_choice_is_one_line_with_its_reason() -> None:
    needs = Needs("teacher", 2, 3 * GIB)
    a, b, c = Machine("a", 4, 16 * GIB), Machine("b", 4, 4 * GIB), Machine("c", 8, 2 * GIB)
    assert in_words(place([a, b], needs), needs) == "2 machines: 3 teachers of 2 threads (b has memory for 1)"
    assert in_words(place([a, c], needs), needs) == "2 machines: 2 teachers of 2 threads (c has memory for none)"
    assert in_words(place([a], needs), needs) == "a: 2 teachers of 2 threads (4 cores)"
    assert in_words(place([b], needs), needs) == "b: 1 teacher of 2 threads (there is memory for 1)"
    whole = Needs("teacher")
    assert in_words(place([a, c], whole), whole) == "2 machines: 2 teachers of 4 to 8 threads (12 cores)"


def test_without_memory_for_one_the_error_says_how_much_is_needed_and_how_much_there_is() -> None:
    machines = [Machine("a", 4, 4 * GIB), Machine("b", 4, GIB // 2)]
    problem = "no machine has memory for one teacher: it needs about 5.0 GiB, a has 4.0 GiB, b has 0.5 GiB free"
    with pytest.raises(RunError, match=problem):
        place(machines, Needs("teacher", 2, 5 * GIB))
