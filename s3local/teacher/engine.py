"""The batched llama.cpp engine: many short texts sampled side by side on one machine.

Each call of ``generate`` starts from an empty cache, so that the texts depend on the requests, the model and the
settings alone. This module chooses the sizes and opens the cache; ``batch.py`` runs a call.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3local.exceptions import TeacherError
from s3local.hardware import available_memory_bytes, total_memory_bytes, usable_threads
from s3local.progress import Advance, ignore
from s3local.teacher.batch import Batch, EngineStats
from s3local.teacher.llama_cache import (
    CACHE_BYTES,
    SEQUENCE_ROUNDING,
    SMALLER_CACHE,
    CacheType,
    LlamaModel,
    SequenceCache,
    max_sequences,
    require_gpu,
)
from s3local.teacher.protocol import Completion, Request, Score
from s3local.teacher.scheduler import Prompts
from s3local.teacher.scoring import score_continuations
from s3local.weights.headers import read_gguf_header

DEFAULT_SLOTS = 64
"""More slots gain less than 5 % on two cores, and need more memory."""

CACHE_SHARE_OF_MEMORY = 4
"""If ``slots`` is None, the cache takes at most one part in this many of the machine's memory."""

SCORE_ROWS = 128
"""The most rows of logits that scoring computes at once, each of shape (vocabulary,)."""

PLANNED_TOKENS = 512
"""Tokens of a prompt and its text, where memory is planned before any prompt is known."""

PROCESS_BYTES = 768 << 20
"""Memory of the process of a teacher beside its weights and its cache: Python's libraries, and llama.cpp's buffers."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the engine uses the machine. None lets the engine choose.

    ``slots``: texts generated side by side (None: up to 64, as memory allows).
    ``threads``: threads of llama.cpp (None: the physical cores).
    ``gpu_layers``: layers on a graphics card (None: all of them if this build of llama.cpp supports one).
    ``context``: the most tokens of prompt and text together (None: what the model was trained with).
    ``batch_tokens``: the most tokens computed in one step, of prompts and texts together.
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
        for name, least in {"slots": 1, "threads": 1, "gpu_layers": 0, "context": 1, "batch_tokens": 1}.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if self.cache_type == "q8_0" and not self.flash_attention:
            raise ValueError("the cache type q8_0 needs flash_attention")


def planned_memory(path: Path, settings: EngineSettings, memory: int, prompts: int = 1) -> int:
    """The memory, in bytes, that a process with the teacher in the GGUF file ``path`` takes, estimated beforehand.

    ``memory`` is as in ``LlamaTeacher``, ``prompts`` how many prompts a text has (2: it is contrasted). Weights are
    counted in whole for each teacher, although teachers of one machine may share them. On a graphics card, weights and
    cache are not in this memory. Raises ``ModelError`` as ``read_gguf_header`` does.
    """
    if require_gpu(settings.gpu_layers) and settings.gpu_layers != 0:
        return PROCESS_BYTES
    slot = int(read_gguf_header(path).cache_width * CACHE_BYTES[settings.cache_type]) * PLANNED_TOKENS * prompts
    cache = (settings.slots or DEFAULT_SLOTS) * slot
    if settings.slots is None:
        cache = min(cache, max(slot, memory // CACHE_SHARE_OF_MEMORY))
    return PROCESS_BYTES + path.stat().st_size + cache


class LlamaTeacher:
    """A ``Teacher`` on a GGUF file. It is not thread-safe. After ``close``, any use raises ``ValueError``.

    ``memory`` is the memory in bytes that the number of slots depends on, if the settings leave that open (None: this
    machine's).
    Raises ``ModelError`` if the file is missing, damaged or not supported by this build of llama.cpp.
    """

    def __init__(self, path: Path, settings: EngineSettings = EngineSettings(), memory: int | None = None) -> None:
        self.settings = settings
        self._memory = memory
        self.stats = EngineStats()
        self._model = LlamaModel(path, settings.gpu_layers)
        self._cache: SequenceCache | None = None

    def generate(self, requests: Sequence[Request], advance: Advance = ignore) -> list[Completion]:
        """See ``Teacher.generate``. Raises ``TeacherError`` if a prompt is too long or the memory too small."""
        if not requests:
            return []
        started, busy = time.perf_counter(), self._busy_seconds()
        prompts = self._tokenized(requests)
        per_slot = max(len(own) for own in prompts)
        lengths = [max(map(len, own)) + request.max_tokens for own, request in zip(prompts, requests, strict=True)]
        n_slots, cache = self._cache_for(len(requests), max(lengths), per_slot)
        completions = Batch(self._model, cache, self.stats, requests, prompts, n_slots).run(advance)
        self.stats.seconds_python += time.perf_counter() - started - (self._busy_seconds() - busy)
        return completions

    def score(self, prompt: str, continuations: Sequence[str]) -> list[Score]:
        """See ``Teacher.score``. Raises ``TeacherError`` if prompt and continuation do not fit the context."""
        started = time.perf_counter()
        start = self._model.prompt_tokens(prompt, special=False)
        ends = [self._continuation(prompt, start, text) for text in continuations]
        longest = max((len(end) for end in ends), default=0)
        self._check_length(len(start), longest, "a continuation")
        if longest == 0:
            return [Score(0.0, ()) for _ in ends]
        _, cache = self._cache_for(len(ends), len(start) + longest)
        scores = score_continuations(cache, start, ends, can_truncate=self._model.can_truncate)
        self.stats.tokens_scored += sum(len(end) for end in ends)
        self.stats.seconds_scoring += time.perf_counter() - started
        return scores

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """See ``Teacher.chat``."""
        return self._model.chat_prompt(messages)

    def count_tokens(self, text: str) -> int:
        """How many of this model's tokens ``text`` has."""
        return len(self._model.tokenize(text, begin=False))

    def close(self) -> None:
        """Free all memory, including that of a graphics card. Calling it again does nothing."""
        self._drop_cache()
        self._model.close()

    def _tokenized(self, requests: Sequence[Request]) -> list[Prompts]:
        """The token ids of each request's prompts. Equal prompts are tokenised once."""
        known: dict[tuple[str, bool], tuple[int, ...]] = {}

        def tokens(prompt: str, special: bool) -> tuple[int, ...]:
            key = (prompt, special)
            if key not in known:
                known[key] = tuple(self._model.prompt_tokens(prompt, special))
            return known[key]

        prompts: list[Prompts] = []
        for request in requests:
            own = [tokens(request.prompt, request.special)]
            if request.contrast is not None and request.contrast.gamma != 0:
                own.append(tokens(request.contrast.prompt, request.special))
            self._check_length(max(map(len, own)), request.max_tokens, "a text of up to")
            prompts.append(tuple(own))
        return prompts

    def _check_length(self, n_prompt: int, n_text: int, what: str) -> None:
        limit = self.settings.context or self._model.trained_context
        if n_prompt + n_text > limit:
            raise TeacherError(
                f"a prompt of {n_prompt} tokens and {what} {n_text} do not fit the context of {limit} tokens; shorten "
                f"the examples, show fewer of them, or choose a teacher with a longer context"
            )

    def _continuation(self, prompt: str, start: list[int], text: str) -> list[int]:
        """The tokens of ``text`` after ``prompt``: those of both together, unless their border lies inside a token."""
        together = self._model.prompt_tokens(prompt + text, special=False)
        if together[: len(start)] == start:
            return together[len(start) :]
        return self._model.tokenize(text, begin=False)

    def _cache_for(self, n_texts: int, cells: int, per_slot: int = 1) -> tuple[int, SequenceCache]:
        """The number of slots for ``n_texts`` texts, and a cache with ``per_slot`` sequences of ``cells`` tokens each.

        The free memory of a graphics card is not known in advance: if the cache does not fit, half as many slots are
        tried.
        """
        n_slots = min(self._slots(cells, per_slot), n_texts)
        try:
            return n_slots, self._empty_cache(n_slots * per_slot, cells)
        except TeacherError:
            if not self._model.on_gpu or self.settings.slots is not None or n_slots == 1:
                raise
        return self._cache_for(n_slots // 2, cells, per_slot)

    def _slots(self, cells: int, per_slot: int) -> int:
        """The number of slots: as set, or ``DEFAULT_SLOTS`` as far as the memory allows."""
        if self.settings.slots is not None:
            return self.settings.slots
        slot_bytes = self._model.cache_bytes_per_token(self.settings.cache_type) * _rounded(cells) * per_slot
        fitting = (self._memory or total_memory_bytes()) // CACHE_SHARE_OF_MEMORY // max(1, slot_bytes)
        return max(1, min(DEFAULT_SLOTS, fitting))

    def _empty_cache(self, n_sequences: int, cells: int) -> SequenceCache:
        """An empty cache of exactly this shape; the present one is replaced if its shape differs.

        The shape decides in which order llama.cpp adds numbers, so it must not depend on earlier calls.
        """
        cells = _rounded(cells)
        cache = self._cache
        if cache is None or (cache.n_sequences, cache.sequence_cells) != (n_sequences, cells):
            self._drop_cache()
            self._check_memory(n_sequences, cells)
            self._cache = cache = SequenceCache(
                self._model,
                n_sequences=n_sequences,
                sequence_cells=cells,
                batch_tokens=max(self.settings.batch_tokens, n_sequences),
                max_rows=max(n_sequences, SCORE_ROWS),
                threads=self.settings.threads or usable_threads(),
                cache_type=self.settings.cache_type,
                flash_attention=self.settings.flash_attention,
            )
        cache.clear()
        return cache

    def _check_memory(self, n_sequences: int, cells: int) -> None:
        """Raise ``TeacherError`` before an allocation for which the system would later kill the program."""
        if n_sequences > max_sequences():
            limit = max_sequences()
            raise TeacherError(f"{n_sequences} sequences are needed, this llama.cpp allows {limit}; lower --slots")
        available = available_memory_bytes()
        needed = self._model.cache_bytes_per_token(self.settings.cache_type) * n_sequences * cells
        if available is not None and needed > available and not self._model.on_gpu:
            raise TeacherError(
                f"no memory for a cache of {n_sequences} sequences of {cells} tokens: it needs {needed >> 20:,} MiB, "
                f"{available >> 20:,} MiB are free; {SMALLER_CACHE}"
            )

    def _drop_cache(self) -> None:
        cache, self._cache = self._cache, None
        if cache is not None:
            cache.close()

    def _busy_seconds(self) -> float:
        stats = self.stats
        return stats.seconds_prefill + stats.seconds_decode + stats.seconds_sampling


def _rounded(cells: int) -> int:
    return -(-cells // SEQUENCE_ROUNDING) * SEQUENCE_ROUNDING
