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
from collections.abc import Sequence
from dataclasses import dataclass, field

Prompts = tuple[tuple[int, ...], ...]
"""The token ids of a request's prompt and, where there is one, of its contrasting prompt."""

MIN_SHARED_TOKENS = 16
"""A shorter common beginning is cheaper to compute again than to wait for or copy."""


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
    """A free lane takes a request.

    ``source`` is the lane whose cache it begins with (its own index: no copy), ``shared`` the tokens of each track
    that it takes over. ``leads`` says that the rest of the prompt must be computed first.
    """

    lane: int
    request: int
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
        self._unstarted = deque(range(len(self.groups)))
        self._n_waiting = len(prompts)

    @property
    def n_waiting(self) -> int:
        """Requests that no lane has taken yet."""
        return self._n_waiting

    @property
    def active(self) -> list[Lane]:
        """Lanes with a request, in their order."""
        return [lane for lane in self.lanes if lane.request is not None]

    def group_of(self, lane: int) -> Group:
        """The group whose prompt the lane holds or computes."""
        index = self.lanes[lane].group
        assert index is not None, "a lane in use has a group"
        return self.groups[index]

    def assign(self) -> list[Assignment]:
        """Give free lanes their next requests. An empty list: nothing can begin before something else ends."""
        made = []
        free = [lane for lane in self.lanes if lane.request is None]
        for lane in list(free):
            if self._sharing and lane.ready and lane.group is not None and self.groups[lane.group].waiting:
                made.append(self._join(lane, lane.group, lane.index))
                free.remove(lane)
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
        used = self.active
        while free and used and used[-1].index > free[0].index:
            source, target = used.pop(), free.pop(0)
            target.group, target.ready, target.request = source.group, source.ready, source.request
            source.request = None
            moves.append((source.index, target.index))
        return moves

    def _next_for(self, lane: Lane) -> Assignment | None:
        if not self._sharing:
            return self._begin_afresh(lane)
        for group in self._unstarted:
            source, shared = self._longest_shared(group, ready=True)
            _, coming = self._longest_shared(group, ready=False)
            if coming - shared < MIN_SHARED_TOKENS:
                return self._start(lane, group, source, shared)
        helpful = [
            (len(self.groups[other.group].waiting), -other.index, other.group)
            for other in self.lanes
            if other.ready and other.group is not None
        ]
        n_waiting, source, group = max(helpful, default=(0, 0, 0))
        return self._join(lane, group, -source) if n_waiting else None

    def _begin_afresh(self, lane: Lane) -> Assignment | None:
        group = next(index for index, group in enumerate(self.groups) if group.waiting)
        return self._take(lane, group, lane.index, tuple(0 for _ in self.groups[group].prompts), leads=True)

    def _start(self, lane: Lane, group: int, source: int | None, shared: int) -> Assignment:
        self._unstarted.remove(group)
        prompts = self.groups[group].prompts
        if source is None or shared < MIN_SHARED_TOKENS:
            return self._take(lane, group, lane.index, tuple(0 for _ in prompts), leads=True)
        held = self.group_of(source).prompts
        # the last token of each prompt is computed again: its logits are wanted
        lengths = [
            min(common_length(mine, held[track]), len(mine) - 1) if track < len(held) else 0
            for track, mine in enumerate(prompts)
        ]
        return self._take(lane, group, source, tuple(lengths), leads=True)

    def _join(self, lane: Lane, group: int, source: int) -> Assignment:
        lengths = tuple(len(prompt) for prompt in self.groups[group].prompts)
        return self._take(lane, group, source, lengths, leads=False)

    def _take(self, lane: Lane, group: int, source: int, shared: tuple[int, ...], *, leads: bool) -> Assignment:
        request = self.groups[group].waiting.popleft()
        self._n_waiting -= 1
        lane.group, lane.ready, lane.request = group, not leads, request
        return Assignment(lane.index, request, source, shared, leads)

    def _longest_shared(self, group: int, *, ready: bool) -> tuple[int | None, int]:
        """The lane with the longest common beginning among those that hold (or are computing) their prompt.

        In sorted order the best one is a nearest neighbour, and what two groups share is the least that any two
        neighbours between them share.
        """
        holders: dict[int, int] = {}
        for lane in self.lanes:
            if lane.group is not None and lane.ready == ready and (ready or lane.request is not None):
                holders.setdefault(lane.group, lane.index)
        places = sorted(holders)
        at = bisect.bisect_left(places, group)
        best: tuple[int | None, int] = (None, 0)
        for place in places[max(0, at - 1) : at + 1]:
            low, high = sorted((place, group))
            shared = min(self._shared_with_next[low:high])
            if shared > best[1]:
                best = (holders[place], shared)
        return best


