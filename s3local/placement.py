"""How many workers start on each machine: as many as its cores, its graphics cards and its free memory allow.

What a worker needs is estimated before any starts. A machine that is full swaps, or its system ends programs, and what
was computed there is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from s3local.exceptions import RunError
from s3local.wording import counted

WORKER_BYTES = 2 << 30
"""Memory that a worker takes while it trains a judge of 110 million parameters."""


@dataclass(frozen=True, slots=True)
class Needs:
    """What one worker takes of its machine: ``threads`` (None: all cores) and ``memory`` in bytes; ``name`` is what
    messages call it, such as "teacher"."""

    name: str
    threads: int | None = None
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine offers: cores, free ``memory`` in bytes (None: unknown), and ``cards``, the graphics cards that
    workers are to use, one each (None: they use cores)."""

    name: str
    cores: int
    memory: int | None
    cards: int | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """The workers of a machine, the threads of each, and what there are no more of because of."""

    machine: Machine
    workers: int
    threads: int
    limit: Literal["cores", "cards", "memory", "asked"]


def place(machines: Sequence[Machine], needs: Needs, most: int | None = None) -> list[Placement]:
    """The workers of each machine: threads times workers are at most its cores, and their memory at most what is free.

    ``most`` is how many a machine may have at most (None: any number). Raises ``RunError`` if none fits anywhere.
    """
    found = [_placed(machine, needs, most) for machine in machines]
    if any(its.workers for its in found):
        return found
    if not any(_by_cores(machine, needs)[0] for machine in machines):
        what = "graphics card" if machines and machines[0].cards is not None else "core"
        raise RunError(f"no worker can start: no machine of --workers offers a {what}")
    free = ", ".join(f"{machine.name} has {_gigabytes(machine.memory or 0)}" for machine in machines)
    raise RunError(
        f"no machine has memory for one {needs.name}: it needs about {_gigabytes(needs.memory)}, {free} free; end "
        f"other programs, or choose a smaller model"
    )


def _placed(machine: Machine, needs: Needs, most: int | None) -> Placement:
    count, threads = _by_cores(machine, needs)
    limit: Literal["cores", "cards", "memory", "asked"] = "cores" if machine.cards is None else "cards"
    if most is not None and most < count:
        count, limit = most, "asked"
    if machine.memory is not None and needs.memory * count > machine.memory:
        count, limit = machine.memory // needs.memory, "memory"
    return Placement(machine, count, threads, limit)


def _by_cores(machine: Machine, needs: Needs) -> tuple[int, int]:
    """How many workers a machine has cores or cards for, and the threads of each."""
    if machine.cards is not None:
        return machine.cards, max(1, machine.cores // machine.cards) if machine.cards else machine.cores
    threads = min(needs.threads or machine.cores, machine.cores)
    return machine.cores // threads if threads else 0, threads


def in_words(placements: Sequence[Placement], needs: Needs) -> str:
    """The choice and its reason in one line, such as "2 machines: 3 teachers of 2 threads (b has memory for 1)"."""
    used = [its for its in placements if its.workers]
    threads = sorted({its.threads for its in used})
    each = counted(threads[0], "thread") if len(threads) == 1 else f"{threads[0]} to {threads[-1]} threads"
    where = placements[0].machine.name if len(placements) == 1 else counted(len(placements), "machine")
    reasons = [
        f"{its.machine.name} has memory for {its.workers or 'none'}" for its in placements if its.limit == "memory"
    ]
    if len(placements) == 1 and reasons:
        reasons = [f"there is memory for {used[0].workers}"]
    if not reasons and any(its.limit == "cards" for its in used):
        reasons = ["one for each graphics card"]
    if not reasons:
        reasons = [counted(sum(its.machine.cores for its in used), "core")]
    return f"{where}: {counted(sum(its.workers for its in used), needs.name)} of {each} ({', '.join(reasons)})"


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
