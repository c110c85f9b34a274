"""Which request runs in which slot, and whose cache it may reuse: continuous batching without a model.

A *slot* is a place in the batch. It holds one request: one sequence of llama.cpp's cache, or two if the request has a
contrast prompt. Requests with the same prompts form a *group*. Groups are sorted by their tokens, so that groups with
a common beginning are neighbours.

Three rules, in this order, decide what a free slot does:

1. Take the next request of the group whose prompt the slot still holds. Nothing is computed.
2. Start a new group on a copy of the slot that shares the longest beginning with it. A group waits while another slot
   computes a longer beginning.
3. Take a request of the group with the most waiting requests, on a copy of a slot that holds its prompt.

The schedule depends on the requests alone, never on the clock.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Prompts = tuple[tuple[int, ...], ...]
"""The token ids of a request's prompt and, if it has one, of its contrast prompt."""

MIN_SHARED_TOKENS = 8
"""A shorter common beginning is not worth a wait or a copy: every computation has a fixed cost."""


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading tokens two prompts share."""
    length = 0
    for a, b in zip(first, second):  # noqa: B905 - the shorter one ends the comparison
        if a != b:
            break
        length += 1
    return length


@dataclass(slots=True)
class Group:
    """Requests with the same prompts, by their index in the caller's list."""

    prompts: Prompts
    waiting: deque[int] = field(default_factory=deque)


@dataclass(slots=True)
class Slot:
    """A place in the batch. ``group`` is the index of the group whose prompts its cache begins with.

    ``ready`` is true once these prompts are computed; ``request`` is None while the slot is free.
    """

    index: int
    group: int | None = None
    ready: bool = False
    request: int | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """A free slot takes a request of a group.

    ``source`` is the slot whose cache it starts from (its own index: no copy), and ``reused`` the number of tokens that
    it keeps of each of its sequences. If ``computes_prompt``, the rest of the prompts must be computed first.
    """

    slot: int
    request: int
    group: int
    source: int
    reused: tuple[int, ...]
    computes_prompt: bool


class SlotScheduler:
    """Assigns requests to slots. ``prompts`` holds one entry per request; ``reuse`` False switches all reuse off."""

    def __init__(self, prompts: Sequence[Prompts], n_slots: int, *, reuse: bool = True) -> None:
        by_prompts: dict[Prompts, Group] = {}
        for request, key in enumerate(prompts):
            by_prompts.setdefault(key, Group(key)).waiting.append(request)
        self.groups = [by_prompts[key] for key in sorted(by_prompts)]
        neighbours = zip(self.groups, self.groups[1:])  # noqa: B905 - pairs of neighbours
        self._shared_with_next = [common_length(a.prompts[0], b.prompts[0]) for a, b in neighbours]
        self.slots = [Slot(index) for index in range(n_slots)]
        self._reuse = reuse
        self._not_started = list(range(len(self.groups)))
        self._n_waiting = len(prompts)

    def assign(self) -> list[Assignment]:
        """Give free slots their next requests. An empty list: a slot must finish before anything can start.

        The assignments are valid if they are carried out one after the other, in this order.
        """
        made, free = [], []
        for slot in self.slots:
            if slot.request is None:
                if self._reuse and slot.ready and slot.group is not None and self.groups[slot.group].waiting:
                    made.append(self._join(slot, slot.group, slot.index))
                else:
                    free.append(slot)
        for slot in free:
            assignment = self._next_for(slot) if self._n_waiting else None
            if assignment is None:
                break
            made.append(assignment)
        return made

    def finish_prompt(self, slot: int) -> None:
        """Note that the slot's prompts are computed, so that other slots may copy them."""
        self.slots[slot].ready = True

    def release(self, slot: int) -> None:
        """Note that the slot's request is finished. Its cache stays until the slot gets another prompt."""
        self.slots[slot].request = None

    def compact(self) -> list[tuple[int, int]]:
        """Move the last active slots into gaps, so that the active ones are adjacent: (from, to) pairs."""
        moves = []
        free = [slot for slot in self.slots if slot.request is None]
        used = [slot for slot in self.slots if slot.request is not None]
        for target, source in zip(free, reversed(used)):  # noqa: B905 - as many as there are of both
            if source.index < target.index:
                break
            target.group, target.ready, target.request = source.group, source.ready, source.request
            source.request = None
            moves.append((source.index, target.index))
        return moves

    def _next_for(self, slot: Slot) -> Assignment | None:
        if not self._reuse:
            group = next(index for index, group in enumerate(self.groups) if group.waiting)
            return self._take(
                slot, group, slot.index, tuple(0 for _ in self.groups[group].prompts), computes_prompt=True
            )
        ready: dict[int, int] = {}
        in_progress: dict[int, int] = {}
        for other in self.slots:
            if other.group is not None and (other.ready or other.request is not None):
                (ready if other.ready else in_progress).setdefault(other.group, other.index)
        ready_groups, groups_in_progress = sorted(ready), sorted(in_progress)
        for group in self._not_started:
            nearest, shared = self._longest_shared(group, ready_groups)
            _, soon = self._longest_shared(group, groups_in_progress)
            if soon < MIN_SHARED_TOKENS or soon - shared < MIN_SHARED_TOKENS <= shared:
                return self._start(slot, group, nearest, shared, ready)
        n_waiting, _, group = max(((len(self.groups[g].waiting), -ready[g], g) for g in ready), default=(0, 0, 0))
        return self._join(slot, group, ready[group]) if n_waiting else None

    def _start(self, slot: Slot, group: int, nearest: int, shared: int, holders: Mapping[int, int]) -> Assignment:
        """Start a group, on a copy of the slot that holds the ``nearest`` group if they share enough."""
        self._not_started.remove(group)
        prompts = self.groups[group].prompts
        if shared < MIN_SHARED_TOKENS:
            return self._take(slot, group, slot.index, tuple(0 for _ in prompts), computes_prompt=True)
        held = self.groups[nearest].prompts
        # the last token of each prompt is computed again, because its logits are needed
        lengths = tuple(
            min(common_length(mine, held[index]), len(mine) - 1) if index < len(held) else 0
            for index, mine in enumerate(prompts)
        )
        return self._take(slot, group, holders[nearest], lengths, computes_prompt=True)

    def _join(self, slot: Slot, group: int, source: int) -> Assignment:
        lengths = tuple(len(prompt) for prompt in self.groups[group].prompts)
        return self._take(slot, group, source, lengths, computes_prompt=False)

    def _take(
        self, slot: Slot, group: int, source: int, reused: tuple[int, ...], *, computes_prompt: bool
    ) -> Assignment:
        request = self.groups[group].waiting.popleft()
        self._n_waiting -= 1
        slot.group, slot.ready, slot.request = group, not computes_prompt, request
        return Assignment(slot.index, request, group, source, reused, computes_prompt)

    def _longest_shared(self, group: int, others: Sequence[int]) -> tuple[int, int]:
        """Which of the ``others`` (groups, sorted) shares the longest beginning with ``group``, and its length.

        In sorted order the best one is a nearest neighbour. What two groups share is the minimum of what the
        neighbours between them share.
        """
        at = bisect.bisect_left(others, group)
        best = (group, 0)
        for other in others[max(0, at - 1) : at + 1]:
            shared = min(self._shared_with_next[min(other, group) : max(other, group)])
            if shared > best[1]:
                best = (other, shared)
        return best
