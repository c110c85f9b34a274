"""One call of the engine: requests go through the lanes of a cache, one batch of tokens after the other.

``lanes.py`` decides what runs where, ``llama.py`` computes, ``sampling.py`` draws, ``writing.py`` keeps the texts; this
file moves tokens between them. Knows nothing of what the texts are for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s3local.progress import Advance
from s3local.teacher import sampling
from s3local.teacher.account import EngineAccount
from s3local.teacher.llama_cache import Feed, LlamaModel, Logits, StreamCache, Wanted
from s3local.teacher.protocol import Completion, Request
from s3local.teacher.scheduler import Assignment, LaneSchedule, Prompts
from s3local.teacher.writing import Writing


@dataclass(slots=True)
class Track:
    """One prompt of a lane with the text after it: how far its stream has come, and what it still has to be fed.

    ``logits`` are those after the last token fed, once nothing is pending.
    """

    prompt_length: int
    position: int
    pending: Sequence[int]
    logits: Logits | None = None

    @property
    def in_prompt(self) -> bool:
        return self.position < self.prompt_length


@dataclass(slots=True)
class Occupied:
    """What a busy lane works on."""

    request: int
    group: int
    writing: Writing
    tracks: list[Track]

    @property
    def is_due(self) -> bool:
        """Whether the next token can be drawn."""
        return not any(track.pending for track in self.tracks)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token for a lane, and its log-probability."""

    lane: int
    token: int
    logprob: float


class Batch:
    """The requests of one call on their way. ``cache`` must be empty and hold a stream for each track of each lane."""

    def __init__(
        self,
        model: LlamaModel,
        cache: StreamCache,
        account: EngineAccount,
        requests: Sequence[Request],
        prompts: Sequence[Prompts],
        n_lanes: int,
    ) -> None:
        self._model = model
        self._cache = cache
        self._account = account
        self._requests = requests
        self._n_lanes = n_lanes
        self._schedule = LaneSchedule(prompts, n_lanes, sharing=model.can_share)
        self._occupied: dict[int, Occupied] = {}
        self._first_logits: dict[int, list[Logits | None]] = {}
        self._completions: dict[int, Completion] = {}
        self._scratch = np.empty((2, model.vocabulary_size), np.float32)

    def run(self, advance: Advance) -> list[Completion]:
        """A completion for each request, in their order."""
        while self._fill_lanes(advance):
            self._compact_active_slots()
            self._compute()
            self._draw([lane for lane, occupied in self._occupied.items() if occupied.is_due], advance)
        return [self._completions[request] for request in range(len(self._requests))]

    def _fill_lanes(self, advance: Advance) -> bool:
        """Give every free lane a request, as long as there are any; whether there is anything to compute.

        A text whose prompt is computed already gets its first token here, and may end with it.
        """
        while assignments := self._schedule.assign():
            for assignment in assignments:
                self._occupy(assignment)
            self._draw([assignment.lane for assignment in assignments if not assignment.leads], advance)
        for group in [group for group in self._first_logits if not self._schedule.groups[group].waiting]:
            del self._first_logits[group]
        return bool(self._occupied)

    def _occupy(self, assignment: Assignment) -> None:
        """Put a request into its lane, on what it shares with another one."""
        request = self._requests[assignment.request]
        prompts = self._schedule.groups[assignment.group].prompts
        tracks = []
        for index, (prompt, shared) in enumerate(zip(prompts, assignment.shared, strict=True)):
            stream = self._stream(assignment.lane, index)
            if shared and assignment.source != assignment.lane:
                self._cache.clone(self._stream(assignment.source, index), stream)
            self._cache.cut(stream, shared)
            tracks.append(Track(len(prompt), shared, prompt[shared:]))
            self._account.prompt_tokens_shared += shared
            self._account.prompt_tokens_computed += len(prompt) - shared
        if not assignment.leads:
            for track, logits in zip(tracks, self._first_logits[assignment.group], strict=True):
                track.logits = logits
        writing = Writing(request, prompts[0])
        self._occupied[assignment.lane] = Occupied(assignment.request, assignment.group, writing, tracks)

    def _compact_active_slots(self) -> None:
        """Move texts so that active lanes are adjacent: llama.cpp batches only streams with consecutive numbers.

        On two cores, 16 active streams with gaps between them took 131 ms a step, 16 adjacent ones 39; the copy of a
        stream takes 0.4.
        """
        for source, target in self._schedule.compact():
            occupied = self._occupied.pop(source)
            for index in range(len(occupied.tracks)):
                self._cache.clone(self._stream(source, index), self._stream(target, index))
            self._occupied[target] = occupied

    def _stream(self, lane: int, track: int) -> int:
        """First tracks in falling, second ones in rising order: those of the first lanes are adjacent in any case."""
        return self._n_lanes + lane if track else self._n_lanes - 1 - lane

    def _compute(self) -> None:
        """Feed one batch: a token to every text, then as much of the unfinished prompts as fits, oldest first."""
        fed: list[tuple[Track, Feed]] = []
        room, n_prompt_tokens = self._cache.batch_tokens, 0
        for stream, track in sorted(self._tracks(), key=lambda entry: entry[1].in_prompt):
            tokens = track.pending[:room]
            if tokens:
                wanted: Wanted = "last" if len(tokens) == len(track.pending) else "none"
                fed.append((track, Feed(stream, track.position, tokens, wanted)))
                room -= len(tokens)
                n_prompt_tokens += len(tokens) if track.in_prompt else 0
        fed.sort(key=lambda entry: entry[1].stream)

        started = time.perf_counter()
        rows = iter(self._cache.decode([feed for _, feed in fed]))
        seconds = time.perf_counter() - started
        prompt_share = n_prompt_tokens / (self._cache.batch_tokens - room)
        self._account.seconds_prefill += seconds * prompt_share
        self._account.seconds_decode += seconds * (1 - prompt_share)

        for track, feed in fed:
            if feed.wanted == "last":
                # a prompt's logits outlive the next batch: they serve all its samples, or wait for the other track
                track.logits = next(rows).copy() if track.in_prompt else next(rows)
            track.position += len(feed.tokens)
            track.pending = track.pending[len(feed.tokens) :]
        for lane, occupied in self._occupied.items():
            if occupied.is_due and not self._schedule.lanes[lane].ready:
                self._schedule.finish_prompt(lane)
                self._first_logits[occupied.group] = [track.logits for track in occupied.tracks]

    def _tracks(self) -> list[tuple[int, Track]]:
        """All tracks with their streams, those that began first before the others."""
        return [
            (self._stream(lane, index), track)
            for lane, occupied in self._occupied.items()
            for index, track in enumerate(occupied.tracks)
        ]

    def _draw(self, lanes: Sequence[int], advance: Advance) -> None:
        """One token for each of the lanes; those whose text ends with it become free.

        On one thread: when a batch is done, llama.cpp's own threads still spin for some milliseconds on the other
        cores, so that a second sampling thread won nothing. Beside a graphics card four were slower than one as well.
        """
        started = time.perf_counter()
        drawn = [self._drawn(lane) for lane in lanes]
        self._account.seconds_sampling += time.perf_counter() - started
        self._account.tokens_sampled += len(drawn)
        for entry in drawn:
            occupied = self._occupied[entry.lane]
            piece, ends = self._model.piece(entry.token), self._model.ends(entry.token)
            completion = occupied.writing.add(entry.token, entry.logprob, piece, ends)
            if completion is None:
                for track in occupied.tracks:
                    track.pending = (entry.token,)
            else:
                self._completions[occupied.request] = completion
                del self._occupied[entry.lane]
                self._schedule.release(entry.lane)
                advance(1)

    def _drawn(self, lane: int) -> Drawn:
        occupied = self._occupied[lane]
        writing = occupied.writing
        request = writing.request
        logits, *others = [track.logits for track in occupied.tracks if track.logits is not None]
        token, logprob = sampling.draw(
            logits,
            request.sampling,
            writing.random.random(),
            self._scratch,
            recent=writing.recent,
            contrast=(others[0], request.contrast.gamma) if request.contrast and others else None,
            allowed=self._model.going_on(request.stop) if writing.is_short else None,
        )
        return Drawn(lane, token, logprob)
