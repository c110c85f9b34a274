"""Which request runs in which lane, and whose cache it may reuse: continuous batching without a model.

A *lane* is a place in the batch. It holds one text being written and, for a request with a contrasting prompt, a
second *track* that follows the same tokens under that prompt. Requests with the same prompts form a *group*. Groups
are kept in the order of their tokens, so that those with a common beginning are neighbours.

The rules, in turn, for a free lane:

1. Go on with the group whose prompt the lane still holds: cut back what the last text added, nothing is computed.
2. Begin a new group, on a copy of the lane that shares the longest beginning with it. A group waits as long as a
   longer beginning is just being computed elsewhere.
3. Help the group with the most requests waiting, on a copy of a lane that holds its prompt.

All of it depends on the requests alone, never on the clock. Knows nothing of llama.cpp, logits or texts.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Prompts = tuple[tuple[int, ...], ...]
"""The token ids of a request's prompt and, where there is one, of its contrasting prompt."""

MIN_SHARED_TOKENS = 8
"""A shorter common beginning is not worth a wait or a copy: as much time goes into each computation, however short."""


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many leading tokens two sequences share."""
    length = 0
    for a, b in zip(first, second):  # noqa: B905 - the shorter one ends the comparison
        if a != b:
            break
        length += 1
    return length


@dataclass(slots=True)
class Group:
    """Requests with the same prompts, by their place in the caller's list."""

    prompts: Prompts
    waiting: deque[int] = field(default_factory=deque)


@dataclass(slots=True)
class Lane:
    """One place in the batch. ``group`` is the index of the group whose prompt its cache begins with.

    ``ready`` says that this prompt is computed to its end; ``request`` is None while the lane is free.
    """

    index: int
    group: int | None = None
    ready: bool = False
    request: int | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """A free lane takes a request of a group.

    ``source`` is the lane whose cache it begins with (its own index: no copy), ``shared`` the tokens of each track
    that it takes over. ``leads`` says that the rest of the prompt must be computed first.
    """

    lane: int
    request: int
    group: int
    source: int
    shared: tuple[int, ...]
    leads: bool


class LaneSchedule:
    """Hands requests to lanes. ``prompts`` holds one entry a request, ``sharing`` False switches all reuse off."""

    def __init__(self, prompts: Sequence[Prompts], n_lanes: int, *, sharing: bool = True) -> None:
        by_prompts: dict[Prompts, Group] = {}
        for request, key in enumerate(prompts):
            by_prompts.setdefault(key, Group(key)).waiting.append(request)
        self.groups = [by_prompts[key] for key in sorted(by_prompts)]
        neighbours = zip(self.groups, self.groups[1:])  # noqa: B905 - pairs of neighbours
        self._shared_with_next = [common_length(a.prompts[0], b.prompts[0]) for a, b in neighbours]
        self.lanes = [Lane(index) for index in range(n_lanes)]
        self._sharing = sharing
        self._unstarted = list(range(len(self.groups)))
        self._n_waiting = len(prompts)

    def assign(self) -> list[Assignment]:
        """Give free lanes their next requests. An empty list: nothing can begin before something else ends.

        The assignments hold when they are carried out one after the other, in this order.
        """
        made, free = [], []
        for lane in self.lanes:
            if lane.request is None:
                if self._sharing and lane.ready and lane.group is not None and self.groups[lane.group].waiting:
                    made.append(self._join(lane, lane.group, lane.index))
                else:
                    free.append(lane)
        for lane in free:
            assignment = self._next_for(lane) if self._n_waiting else None
            if assignment is None:
                break
            made.append(assignment)
        return made

    def finish_prompt(self, lane: int) -> None:
        """The lane's prompt is computed to its end: others may copy it."""
        self.lanes[lane].ready = True

    def release(self, lane: int) -> None:
        """The lane's request is done. Its cache stays until the lane is given another prompt."""
        self.lanes[lane].request = None

    def compact(self) -> list[tuple[int, int]]:
        """Move the last active lanes into gaps, so that the active ones stand together: (from, to) pairs."""
        moves = []
        free = [lane for lane in self.lanes if lane.request is None]
        used = [lane for lane in self.lanes if lane.request is not None]
        for target, source in zip(free, reversed(used)):  # noqa: B905 - as many as there are of both
            if source.index < target.index:
                break
            target.group, target.ready, target.request = source.group, source.ready, source.request
            source.request = None
            moves.append((source.index, target.index))
        return moves

    def _next_for(self, lane: Lane) -> Assignment | None:
        if not self._sharing:
            group = next(index for index, group in enumerate(self.groups) if group.waiting)
            return self._take(lane, group, lane.index, tuple(0 for _ in self.groups[group].prompts), leads=True)
        ready: dict[int, int] = {}
        coming: dict[int, int] = {}
        for other in self.lanes:
            if other.group is not None and (other.ready or other.request is not None):
                (ready if other.ready else coming).setdefault(other.group, other.index)
        ready_groups, coming_groups = sorted(ready), sorted(coming)
        for group in self._unstarted:
            nearest, shared = self._longest_shared(group, ready_groups)
            _, soon = self._longest_shared(group, coming_groups)
            if soon < MIN_SHARED_TOKENS or soon - shared < MIN_SHARED_TOKENS <= shared:
                return self._start(lane, group, nearest, shared, ready)
        n_waiting, _, group = max(((len(self.groups[g].waiting), -ready[g], g) for g in ready), default=(0, 0, 0))
        return self._join(lane, group, ready[group]) if n_waiting else None

    def _start(self, lane: Lane, group: int, nearest: int, shared: int, holders: Mapping[int, int]) -> Assignment:
        """Begin a group, on a copy of the lane that holds the ``nearest`` group if they share enough."""
        self._unstarted.remove(group)
        prompts = self.groups[group].prompts
        if shared < MIN_SHARED_TOKENS:
            return self._take(lane, group, lane.index, tuple(0 for _ in prompts), leads=True)
        held = self.groups[nearest].prompts
        # the last token of each prompt is computed again: its logits are wanted
        lengths = tuple(
            min(common_length(mine, held[track]), len(mine) - 1) if track < len(held) else 0
            for track, mine in enumerate(prompts)
        )
        return self._take(lane, group, holders[nearest], lengths, leads=True)

    def _join(self, lane: Lane, group: int, source: int) -> Assignment:
        lengths = tuple(len(prompt) for prompt in self.groups[group].prompts)
        return self._take(lane, group, source, lengths, leads=False)

    def _take(self, lane: Lane, group: int, source: int, shared: tuple[int, ...], *, leads: bool) -> Assignment:
        request = self.groups[group].waiting.popleft()
        self._n_waiting -= 1
        lane.group, lane.ready, lane.request = group, not leads, request
        return Assignment(lane.index, request, group, source, shared, leads)

    def _longest_shared(self, group: int, others: Sequence[int]) -> tuple[int, int]:
        """Which of the ``others`` (groups, in order) shares the longest beginning with ``group``, and its length.

        In sorted order the best one is a nearest neighbour, and what two groups share is the least that any two
        neighbours between them share.
        """
        at = bisect.bisect_left(others, group)
        best = (group, 0)
        for other in others[max(0, at - 1) : at + 1]:
            shared = min(self._shared_with_next[min(other, group) : max(other, group)])
            if shared > best[1]:
                best = (other, shared)
        return best
