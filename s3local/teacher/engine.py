"""The batched llama.cpp engine: thousands of short texts sampled side by side on one machine.

One call of ``generate`` decodes its requests from an empty cache, so that the texts depend on the requests, the
model and the settings alone. ``lanes.py`` decides what runs where, ``llama.py`` computes, ``sampling.py`` draws;
this file moves tokens between them. Knows nothing of labels, tasks, rounds or files other than the model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from s3local.exceptions import TeacherError
from s3local.hardware import physical_cores, total_memory_bytes
from s3local.progress import Advance, ignore
from s3local.teacher import Completion, FinishReason, Request, Score, sampling
from s3local.teacher.grammar import Grammar
from s3local.teacher.lanes import Assignment, LaneSchedule, Prompts
from s3local.teacher.llama import STREAM_ROUNDING, CacheType, Feed, LlamaModel, Logits, StreamCache
from s3local.teacher.scoring import score_continuations

DEFAULT_SLOTS = 64
"""Beyond this many texts side by side, two cores gain less than 5 % and memory keeps growing."""

CACHE_SHARE_OF_MEMORY = 4
"""The cache may take one part in this many of the machine's memory, when ``slots`` is left to the engine."""

SCORE_ROWS = 128
"""Rows of logits that scoring asks for at once; each is as wide as the vocabulary."""

THREADED_ROWS = 8
"""From this many rows on, sampling is worth dividing among threads."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the engine uses the machine. None chooses by itself.

    ``slots``: texts decoded side by side. ``threads``: physical cores. ``gpu_layers``: all, if the build has a GPU.
    ``context``: the most tokens of prompt and text together; what the model was trained for.
    ``batch_tokens``: tokens computed in one step, prompts and texts together.
    ``cache_type``: "f16", or "q8_0" for half the memory.
    """

    slots: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    context: int | None = None
    batch_tokens: int = 512
    flash_attention: bool = True
    cache_type: CacheType = "f16"

    def __post_init__(self) -> None:
        for name in ("slots", "threads", "context"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.cache_type == "q8_0" and not self.flash_attention:
            raise ValueError("the cache type q8_0 needs flash_attention")


@dataclass(slots=True)
class EngineAccount:
    """What was computed, in tokens and seconds, since the engine was made.

    ``seconds_prefill`` and ``seconds_decode`` share the time of each step by its tokens; ``seconds_python`` is all
    of ``generate`` that is neither these nor ``seconds_sampling``.
    """

    prompt_tokens_computed: int = 0
    prompt_tokens_shared: int = 0
    tokens_sampled: int = 0
    tokens_scored: int = 0
    seconds_prefill: float = 0.0
    seconds_decode: float = 0.0
    seconds_sampling: float = 0.0
    seconds_python: float = 0.0
    seconds_scoring: float = 0.0

    def to_row(self) -> dict[str, float]:
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}


@dataclass(slots=True)
class _Writing:
    """A text being written: what a request needs between two tokens."""

    request: Request
    chance: np.random.Generator
    recent: list[int]
    grammar: Grammar | None
    data: bytearray = field(default_factory=bytearray)
    n_tokens: int = 0
    logprob: float = 0.0

    def take(self, token: int, logprob: float, piece: bytes, ends: bool) -> Completion | None:
        """Add a token; the completion, if the text ends with it."""
        self.n_tokens += 1
        self.logprob += logprob
        self.recent.append(token)
        if ends:
            return self._complete("end", len(self.data))
        if self.grammar is not None:
            self.grammar.accept(token)
        before = len(self.data)
        self.data += piece
        places = []
        for stop in self.request.stop:
            mark = stop.encode()
            place = self.data.find(mark, max(0, before - len(mark) + 1))
            if place >= 0:
                places.append(place)
        if places:
            return self._complete("stop", min(places))
        if self.n_tokens >= self.request.max_tokens:
            return self._complete("length", len(self.data))
        return None

    def _complete(self, finish: FinishReason, end: int) -> Completion:
        if self.grammar is not None:
            self.grammar.close()
        data = bytes(self.data[:end])
        if finish == "length":
            data = _without_broken_end(data)
        return Completion(data.decode(errors="replace"), self.n_tokens, finish, self.logprob)


def _without_broken_end(data: bytes) -> bytes:
    """``data`` less the first bytes of a character whose rest was never written."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return data[:-back] if back < length else data
        if byte < 0x80:
            break
    return data


@dataclass(slots=True)
class _Occupied:
    """What a busy lane still has to feed, track by track, and how far each track has come."""

    writing: _Writing
    request_index: int
    pending: list[list[int]]
    positions: list[int]
    prompt_ends: tuple[int, ...]
    rows: list[np.ndarray[Any, np.dtype[np.float32]] | None]


class LlamaTeacher:
    """A ``Teacher`` on a GGUF file.

    Raises ``ModelError`` if the file is missing, damaged or unknown to this build of llama.cpp.
    """

    def __init__(self, path: Path, settings: EngineSettings = EngineSettings()) -> None:  # noqa: B008 - frozen
        self.settings = settings
        self.account = EngineAccount()
        self._threads = settings.threads or physical_cores()
        self._model = LlamaModel(path, settings.gpu_layers)
        self._cache: StreamCache | None = None
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="sampling")
        self._scratch = np.empty((self._threads, self._model.vocabulary_size), np.float32)

    def generate(self, requests: Sequence[Request], advance: Advance = ignore) -> list[Completion]:
        """See ``Teacher.generate``. Raises ``TeacherError`` for a prompt too long, a bad grammar, too little memory."""
        if not requests:
            return []
        started = time.perf_counter()
        busy_before = self._busy_seconds()
        prompts = self._tokenized(requests)
        cache = self._open_cache(prompts, requests)
        n_tracks = cache.n_streams // self._n_lanes
        batch = _Batch(self, cache, LaneSchedule(prompts, self._n_lanes, sharing=self._model.can_share), n_tracks)
        completions = batch.run(requests, advance)
        self.account.seconds_python += time.perf_counter() - started - (self._busy_seconds() - busy_before)
        return completions

    def score(self, prompt: str, continuations: Sequence[str]) -> list[Score]:
        """See ``Teacher.score``. Raises ``TeacherError`` if prompt and continuation do not fit the context."""
        started = time.perf_counter()
        start = self._model.prompt_tokens(prompt, special=False)
        ends = [self._continuation(prompt, start, text) for text in continuations]
        longest = max((len(end) for end in ends), default=0)
        if not longest:
            return [Score(0.0, ()) for _ in ends]
        self._check_length(len(start) + longest, f"a prompt of {len(start)} and a continuation of {longest} tokens")
        n_streams = min(self.settings.slots or DEFAULT_SLOTS, len(ends), SCORE_ROWS)
        cache = self._cache_of(n_streams, len(start) + longest)
        scores = score_continuations(cache, start, ends, self._scratch[0])
        self.account.tokens_scored += sum(len(end) for end in ends)
        self.account.seconds_scoring += time.perf_counter() - started
        return scores

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """See ``Teacher.chat``."""
        return self._model.chat_prompt(messages)

    def count_tokens(self, text: str) -> int:
        """How many of this model's tokens ``text`` has."""
        return len(self._model.tokenize(text, begin=False))

    def close(self) -> None:
        """Give all memory back, the GPU's too."""
        if self._cache is not None:
            self._cache.close()
            self._cache = None
        self._pool.shutdown()
        self._model.close()

    def _tokenized(self, requests: Sequence[Request]) -> list[Prompts]:
        known: dict[tuple[str, bool], tuple[int, ...]] = {}

        def tokens(prompt: str, special: bool) -> tuple[int, ...]:
            key = (prompt, special)
            if key not in known:
                known[key] = tuple(self._model.prompt_tokens(prompt, special))
            return known[key]

        prompts: list[Prompts] = []
        for request in requests:
            tracks = [tokens(request.prompt, request.special)]
            if request.contrast is not None and request.contrast.gamma != 0:
                tracks.append(tokens(request.contrast.prompt, request.special))
            longest = max(len(track) for track in tracks)
            self._check_length(
                longest + request.max_tokens,
                f"a prompt of {longest} tokens and a text of up to {request.max_tokens}",
            )
            prompts.append(tuple(tracks))
        return prompts

    def _check_length(self, length: int, what: str) -> None:
        limit = self.settings.context or self._model.trained_context
        if length > limit:
            raise TeacherError(
                f"{what} do not fit the context of {limit} tokens; shorten the examples, show fewer of them, or "
                f"choose a teacher with a longer context"
            )

    def _continuation(self, prompt: str, start: list[int], text: str) -> list[int]:
        """The tokens of ``text`` after ``prompt``, as the model would read both in one go where that is possible."""
        together = self._model.prompt_tokens(prompt + text, special=False)
        if together[: len(start)] == start:
            return together[len(start) :]
        return self._model.tokenize(text, begin=False)

    def _open_cache(self, prompts: Sequence[Prompts], requests: Sequence[Request]) -> StreamCache:
        n_tracks = max(len(tracks) for tracks in prompts)
        cells = max(
            max(len(track) for track in tracks) + request.max_tokens
            for tracks, request in zip(prompts, requests, strict=True)
        )
        self._n_lanes = min(self.settings.slots or self._fitting_slots(cells, n_tracks), len(requests))
        return self._cache_of(self._n_lanes * n_tracks, cells)

    def _fitting_slots(self, cells: int, n_tracks: int) -> int:
        per_slot = self._model.cache_bytes_per_token(self.settings.cache_type) * _rounded(cells) * n_tracks
        fitting = total_memory_bytes() // CACHE_SHARE_OF_MEMORY // max(1, per_slot)
        return max(1, min(DEFAULT_SLOTS, fitting))

    def _cache_of(self, n_streams: int, cells: int) -> StreamCache:
        """An empty cache of exactly this shape: made anew if the present one has another."""
        cells = _rounded(cells)
        cache = self._cache
        if cache is None or (cache.n_streams, cache.stream_cells) != (n_streams, cells):
            if cache is not None:
                cache.close()
                self._cache = None
            limit = llama_max_streams()
            if n_streams > limit:
                raise TeacherError(f"{n_streams} streams asked for, this llama.cpp allows {limit}; lower --slots")
            self._cache = cache = StreamCache(
                self._model,
                n_streams=n_streams,
                stream_cells=cells,
                batch_tokens=max(self.settings.batch_tokens, n_streams),
                max_rows=max(n_streams, SCORE_ROWS),
                threads=self._threads,
                cache_type=self.settings.cache_type,
                flash_attention=self.settings.flash_attention,
            )
        cache.clear()
        return cache

    def _busy_seconds(self) -> float:
        account = self.account
        return account.seconds_prefill + account.seconds_decode + account.seconds_sampling


class _Batch:
    """One call of ``generate``: the lanes, what each still feeds, and the texts that are done."""

    def __init__(self, teacher: LlamaTeacher, cache: StreamCache, schedule: LaneSchedule, n_tracks: int) -> None:
        self._model = teacher._model
        self._account = teacher.account
        self._pool = teacher._pool
        self._scratch = teacher._scratch
        self._cache = cache
        self._schedule = schedule
        self._n_lanes = len(schedule.lanes)
        self._n_tracks = n_tracks
        self._occupied: dict[int, _Occupied] = {}
        self._first_rows: dict[int, list[np.ndarray[Any, np.dtype[np.float32]]]] = {}

    def run(self, requests: Sequence[Request], advance: Advance) -> list[Completion]:
        completions: list[Completion | None] = [None] * len(requests)

        def settle(drawn: Sequence[tuple[int, int, float]]) -> None:
            """Give each lane its token; free the lanes whose text ends."""
            for lane, token, logprob in drawn:
                occupied = self._occupied[lane]
                self._account.tokens_sampled += 1
                completion = occupied.writing.take(token, logprob, self._model.piece(token), self._model.ends(token))
                if completion is None:
                    occupied.pending = [[token] for _ in occupied.pending]
                    continue
                completions[occupied.request_index] = completion
                del self._occupied[lane]
                self._schedule.release(lane)
                advance(1)

        while True:
            while assignments := self._schedule.assign():
                joined = [self._occupy(assignment, requests) for assignment in assignments]
                for group_index in [index for index in self._first_rows if not self._schedule.groups[index].waiting]:
                    del self._first_rows[group_index]
                settle(self._draw([lane for lane in joined if lane is not None]))
            if not self._occupied:
                break
            for source, target in self._schedule.compact():
                for track in range(self._n_tracks):
                    self._cache.clone(self._stream(source, track), self._stream(target, track))
                self._occupied[target] = self._occupied.pop(source)
            settle(self._draw(self._compute()))
        return [completion for completion in completions if completion is not None]

    def _stream(self, lane: int, track: int) -> int:
        """Streams of one track stand together, so that llama.cpp computes them together."""
        return track * self._n_lanes + lane

    def _occupy(self, assignment: Assignment, requests: Sequence[Request]) -> int | None:
        """Put a request into its lane; the lane, if its first token can be drawn without computing anything."""
        request = requests[assignment.request]
        group_index = self._schedule.lanes[assignment.lane].group
        assert group_index is not None, "an assigned lane has a group"
        group = self._schedule.groups[group_index]
        for track, shared in enumerate(assignment.shared):
            stream = self._stream(assignment.lane, track)
            if assignment.source != assignment.lane:
                self._cache.clone(self._stream(assignment.source, track), stream)
            self._cache.cut(stream, shared)
            self._account.prompt_tokens_shared += shared
            self._account.prompt_tokens_computed += len(group.prompts[track]) - shared
        grammar = Grammar(self._model, request.grammar) if request.grammar is not None else None
        writing = _Writing(request, np.random.default_rng(request.seed), list(group.prompts[0]), grammar)
        rows: list[np.ndarray[Any, np.dtype[np.float32]] | None] = [None] * len(group.prompts)
        if not assignment.leads:
            rows = list(self._first_rows[group_index])
        self._occupied[assignment.lane] = _Occupied(
            writing=writing,
            request_index=assignment.request,
            pending=[list(prompt[shared:]) for prompt, shared in zip(group.prompts, assignment.shared, strict=True)],
            positions=list(assignment.shared),
            prompt_ends=tuple(len(prompt) for prompt in group.prompts),
            rows=rows,
        )
        return None if assignment.leads else assignment.lane

    def _compute(self) -> list[int]:
        """Feed one batch: a token to every text, and as much of the waiting prompts as fits; lanes that have logits."""
        room = self._cache.batch_tokens
        chosen: dict[int, tuple[int, int, int]] = {}
        n_prompt_tokens = 0
        in_turn = sorted(self._occupied.items(), key=lambda item: len(item[1].pending[0]) > 1)
        for lane, occupied in in_turn:
            for track, pending in enumerate(occupied.pending):
                count = min(len(pending), room)
                if count:
                    chosen[self._stream(lane, track)] = (lane, track, count)
                    room -= count
                if occupied.positions[track] < occupied.prompt_ends[track]:
                    n_prompt_tokens += count
        feeds = []
        for stream, (lane, track, count) in sorted(chosen.items()):
            occupied = self._occupied[lane]
            pending = occupied.pending[track]
            feeds.append(Feed(stream, occupied.positions[track], pending[:count], "last" if count == len(pending) else "none"))
        started = time.perf_counter()
        logits = self._cache.decode(feeds)
        seconds = time.perf_counter() - started
        prompt_share = n_prompt_tokens / (self._cache.batch_tokens - room)
        self._account.seconds_prefill += seconds * prompt_share
        self._account.seconds_decode += seconds * (1 - prompt_share)
        return self._advance_lanes(feeds, chosen, logits)

    def _advance_lanes(
        self, feeds: Sequence[Feed], chosen: Mapping[int, tuple[int, int, int]], logits: Logits
    ) -> list[int]:
        """Note what was fed; the lanes all of whose tracks have their logits."""
        row = 0
        touched: dict[int, None] = {}
        for feed in feeds:
            lane, track, count = chosen[feed.stream]
            occupied = self._occupied[lane]
            occupied.positions[track] += count
            del occupied.pending[track][:count]
            if feed.wanted == "last":
                occupied.rows[track] = logits[row]
                row += 1
            touched[lane] = None
        complete = []
        for lane in sorted(touched):
            occupied = self._occupied[lane]
            if any(occupied.pending):
                # the other track is still to be computed, and the next batch overwrites these logits
                occupied.rows = [None if rows is None else rows.copy() for rows in occupied.rows]
                continue
            complete.append(lane)
            if not self._schedule.lanes[lane].ready:
                self._finish_prompt(lane)
        return complete

    def _finish_prompt(self, lane: int) -> None:
        """The lane's prompt is computed: keep its last logits for the others of its group."""
        self._schedule.finish_prompt(lane)
        group_index = self._schedule.lanes[lane].group
        if group_index is not None and self._schedule.groups[group_index].waiting:
            rows = self._occupied[lane].rows
            self._first_rows[group_index] = [row.copy() for row in rows if row is not None]

    def _draw(self, lanes: Sequence[int]) -> list[tuple[int, int, float]]:
        """One token for each lane: (lane, token, log-probability)."""
        started = time.perf_counter()
        n_threads = len(self._scratch) if len(lanes) >= THREADED_ROWS else 1
        parts = [lanes[part::n_threads] for part in range(n_threads)]

        def work(part: int) -> list[tuple[int, int, float]]:
            return [self._draw_one(lane, self._scratch[part]) for lane in parts[part]]

        results = list(self._pool.map(work, range(n_threads))) if n_threads > 1 else [work(0)]
        drawn = sorted(entry for result in results for entry in result)
        self._account.seconds_sampling += time.perf_counter() - started
        return drawn

    def _draw_one(self, lane: int, scratch: np.ndarray[Any, np.dtype[np.float32]]) -> tuple[int, int, float]:
        occupied = self._occupied[lane]
        writing = occupied.writing
        request = writing.request
        row, *other = occupied.rows
        assert row is not None, "a lane that draws has its logits"
        contrast = None
        if request.contrast is not None and other and other[0] is not None:
            contrast = (other[0], request.contrast.gamma)
        token, logprob = sampling.draw(
            row,
            request.sampling,
            writing.chance.random(),
            scratch,
            recent=writing.recent,
            contrast=contrast,
            allowed=writing.grammar.allowed() if writing.grammar is not None else None,
        )
        return lane, token, logprob


def llama_max_streams() -> int:
    """The most sequences this build of llama.cpp keeps apart."""
    import llama_cpp

    return int(llama_cpp.llama_max_parallel_sequences())


def _rounded(cells: int) -> int:
    return -(-cells // STREAM_ROUNDING) * STREAM_ROUNDING
