"""One call of the engine: its requests run through the slots of a cache, one batch of tokens after the other.

``scheduler.py`` decides which request runs where, ``llama_cache.py`` computes, ``sampling.py`` draws and ``writing.py``
collects the texts. This module moves tokens between them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from s3local.progress import Advance
from s3local.teacher import sampling
from s3local.teacher.llama_cache import Feed, LlamaModel, Logits, LogitsOf, SequenceCache
from s3local.teacher.protocol import Completion, Request
from s3local.teacher.scheduler import Assignment, Prompts, SlotScheduler
from s3local.teacher.writing import Writing


@dataclass(slots=True)
class EngineStats:
    """Tokens and seconds since the engine was made.

    ``seconds_prefill`` and ``seconds_decode`` divide the time of each batch in proportion to its tokens of prompts and
    of texts. ``seconds_python`` is the time of ``generate`` that is neither these nor ``seconds_sampling``.
    """

    prompt_tokens_computed: int = 0
    prompt_tokens_reused: int = 0
    tokens_sampled: int = 0
    tokens_scored: int = 0
    seconds_prefill: float = 0.0
    seconds_decode: float = 0.0
    seconds_sampling: float = 0.0
    seconds_python: float = 0.0
    seconds_scoring: float = 0.0


@dataclass(slots=True)
class SlotSequence:
    """One sequence of a slot: a prompt and the text after it.

    ``position`` tokens are in the cache, ``pending`` ones must still be computed. ``logits``, shape (vocabulary,), are
    those after the last computed token once nothing is pending.
    """

    prompt_length: int
    position: int
    pending: Sequence[int]
    logits: Logits | None = None

    @property
    def in_prompt(self) -> bool:
        return self.position < self.prompt_length


@dataclass(slots=True)
class ActiveSlot:
    """What a slot works on: a request, its group, its text, and its one or two sequences."""

    request: int
    group: int
    writing: Writing
    sequences: list[SlotSequence]

    @property
    def can_draw(self) -> bool:
        """Whether the logits of the next token are computed."""
        return not any(sequence.pending for sequence in self.sequences)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token for a slot, and its log-probability."""

    slot: int
    token: int
    logprob: float


class Batch:
    """The requests of one call. ``cache`` must be empty and hold enough sequences for all ``n_slots`` slots."""

    def __init__(
        self,
        model: LlamaModel,
        cache: SequenceCache,
        stats: EngineStats,
        requests: Sequence[Request],
        prompts: Sequence[Prompts],
        n_slots: int,
    ) -> None:
        self._model = model
        self._cache = cache
        self._stats = stats
        self._requests = requests
        self._n_slots = n_slots
        self._scheduler = SlotScheduler(prompts, n_slots, reuse=model.can_truncate)
        self._active: dict[int, ActiveSlot] = {}
        self._first_logits: dict[int, list[Logits | None]] = {}
        self._completions: dict[int, Completion] = {}
        self._scratch = np.empty((2, model.vocabulary_size), np.float32)

    def run(self, advance: Advance) -> list[Completion]:
        """A completion for each request, in their order."""
        while self._fill_slots(advance):
            self._compact_active_slots()
            self._compute()
            self._draw([slot for slot, active in self._active.items() if active.can_draw], advance)
        return [self._completions[request] for request in range(len(self._requests))]

    def _fill_slots(self, advance: Advance) -> bool:
        """Give every free slot a request while there are any. Returns whether there is anything to compute.

        A text whose prompt is already computed gets its first token here, and may end with it.
        """
        while assignments := self._scheduler.assign():
            for assignment in assignments:
                self._activate(assignment)
            self._draw([assignment.slot for assignment in assignments if not assignment.computes_prompt], advance)
        for group in [group for group in self._first_logits if not self._scheduler.groups[group].waiting]:
            del self._first_logits[group]
        return bool(self._active)

    def _activate(self, assignment: Assignment) -> None:
        """Put a request into its slot, on the part of the cache that it reuses."""
        request = self._requests[assignment.request]
        prompts = self._scheduler.groups[assignment.group].prompts
        sequences = []
        for index, (prompt, reused) in enumerate(zip(prompts, assignment.reused, strict=True)):
            number = self._sequence_number(assignment.slot, index)
            if reused and assignment.source != assignment.slot:
                self._cache.copy(self._sequence_number(assignment.source, index), number)
            self._cache.truncate(number, reused)
            sequences.append(SlotSequence(len(prompt), reused, prompt[reused:]))
            self._stats.prompt_tokens_reused += reused
            self._stats.prompt_tokens_computed += len(prompt) - reused
        if not assignment.computes_prompt:
            for sequence, logits in zip(sequences, self._first_logits[assignment.group], strict=True):
                sequence.logits = logits
        writing = Writing(request, prompts[0])
        self._active[assignment.slot] = ActiveSlot(assignment.request, assignment.group, writing, sequences)

    def _compact_active_slots(self) -> None:
        """Move texts so that active slots are adjacent: llama.cpp batches only sequences with consecutive numbers.

        On two cores, 16 active sequences with gaps between them took 131 ms a step, 16 adjacent ones 39 ms; the copy
        of a sequence takes 0.4 ms.
        """
        for source, target in self._scheduler.compact():
            active = self._active.pop(source)
            for index in range(len(active.sequences)):
                self._cache.copy(self._sequence_number(source, index), self._sequence_number(target, index))
            self._active[target] = active

    def _sequence_number(self, slot: int, index: int) -> int:
        """Number first sequences downwards and second ones upwards, so that those of the first slots are adjacent."""
        return self._n_slots + slot if index else self._n_slots - 1 - slot

    def _compute(self) -> None:
        """Compute one batch: a token of every text, then as many tokens of unfinished prompts as fit, oldest first."""
        fed: list[tuple[SlotSequence, Feed]] = []
        room, n_prompt_tokens = self._cache.batch_tokens, 0
        for number, sequence in sorted(self._sequences(), key=lambda entry: entry[1].in_prompt):
            tokens = sequence.pending[:room]
            if tokens:
                logits_of: LogitsOf = "last" if len(tokens) == len(sequence.pending) else "none"
                fed.append((sequence, Feed(number, sequence.position, tokens, logits_of)))
                room -= len(tokens)
                n_prompt_tokens += len(tokens) if sequence.in_prompt else 0
        fed.sort(key=lambda entry: entry[1].sequence)

        started = time.perf_counter()
        rows = iter(self._cache.decode([feed for _, feed in fed]))
        seconds = time.perf_counter() - started
        prompt_share = n_prompt_tokens / (self._cache.batch_tokens - room)
        self._stats.seconds_prefill += seconds * prompt_share
        self._stats.seconds_decode += seconds * (1 - prompt_share)

        for sequence, feed in fed:
            if feed.logits_of == "last":
                # a prompt's logits outlive the next batch: all its samples use them, or they wait for the other prompt
                sequence.logits = next(rows).copy() if sequence.in_prompt else next(rows)
            sequence.position += len(feed.tokens)
            sequence.pending = sequence.pending[len(feed.tokens) :]
        for slot, active in self._active.items():
            if active.can_draw and not self._scheduler.slots[slot].ready:
                self._scheduler.finish_prompt(slot)
                self._first_logits[active.group] = [sequence.logits for sequence in active.sequences]

    def _sequences(self) -> list[tuple[int, SlotSequence]]:
        """All sequences with their numbers, in the order in which their requests started."""
        return [
            (self._sequence_number(slot, index), sequence)
            for slot, active in self._active.items()
            for index, sequence in enumerate(active.sequences)
        ]

    def _draw(self, slots: Sequence[int], advance: Advance) -> None:
        """Draw one token for each of the slots, and free those whose text ends with it.

        It runs on one thread. After a batch, llama.cpp's threads spin for some milliseconds on the other cores, so that
        a second sampling thread gained nothing; beside a graphics card, four threads were slower than one.
        """
        started = time.perf_counter()
        drawn = [self._drawn(slot) for slot in slots]
        self._stats.seconds_sampling += time.perf_counter() - started
        self._stats.tokens_sampled += len(drawn)
        for entry in drawn:
            active = self._active[entry.slot]
            piece, ends_turn = self._model.piece(entry.token), self._model.ends_turn(entry.token)
            completion = active.writing.add(entry.token, entry.logprob, piece, ends_turn)
            if completion is None:
                for sequence in active.sequences:
                    sequence.pending = (entry.token,)
            else:
                self._completions[active.request] = completion
                del self._active[entry.slot]
                self._scheduler.release(entry.slot)
                advance(1)

    def _drawn(self, slot: int) -> Drawn:
        active = self._active[slot]
        writing = active.writing
        request = writing.request
        logits, *others = [sequence.logits for sequence in active.sequences if sequence.logits is not None]
        token, logprob = sampling.draw(
            logits,
            request.sampling,
            writing.random.random(),
            self._scratch,
            recent=writing.recent,
            contrast=(others[0], request.contrast.gamma) if request.contrast and others else None,
            allowed=self._model.non_ending_tokens(request.stop) if writing.is_short else None,
        )
        return Drawn(slot, token, logprob)
