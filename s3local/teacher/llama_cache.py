"""llama.cpp as two Python objects: a model, and a key-value cache of numbered sequences that decodes batches.

Every sequence has its own buffer (not ``kv_unified``): on a CPU, 64 sequences in one shared buffer attend over each
other's masked cells and run at a third of the speed. Sequences can be copied and truncated. llama.cpp puts only
sequences with consecutive numbers into one computation, so callers keep the active ones adjacent.
"""

from __future__ import annotations

import ctypes
import datetime
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from s3local.exceptions import ModelError, TeacherError
from s3local.teacher.chat_template import ChatTemplate
from s3local.weights.headers import read_gguf_header
from s3local.weights.llama_runtime import llama_errors, model_parameters, silence_llama_log

Logits = NDArray[np.float32]
CacheType = Literal["f16", "q8_0"]
LogitsOf = Literal["none", "last", "all"]
"""Of which tokens of a ``Feed`` the logits are returned."""

SEQUENCE_ROUNDING = 256
"""llama.cpp pads a sequence to a multiple of this many cells."""

TEMPLATE_DAY = datetime.date(2025, 1, 1)
"""The date for chat templates that print one. With the true date, the same seed would give other texts tomorrow."""

SMALLER_CACHE = "lower --slots, shorten the prompts or use the cache type q8_0"

_CACHE_TYPES = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0}
CACHE_BYTES = {"f16": 2.0, "q8_0": 34 / 32}


class LlamaModel:
    """A loaded GGUF file: its weights, its vocabulary, its chat template.

    ``gpu_layers`` None puts all layers on a GPU if this build of llama.cpp supports one.
    Raises ``ModelError`` if the file is missing, damaged or not supported by this build, or if ``gpu_layers`` needs a
    GPU that this build does not support. Using a closed model raises ``ValueError``.
    """

    def __init__(self, path: Path, gpu_layers: int | None = None) -> None:
        if not path.is_file():
            raise ModelError(f"{path}: no such model file; 's3local models list' shows what is here")
        header = read_gguf_header(path)
        has_gpu = require_gpu(gpu_layers)
        silence_llama_log()
        llama_cpp.llama_backend_init()
        self.path = path
        self.on_gpu = has_gpu and gpu_layers != 0
        parameters = model_parameters((10_000 if gpu_layers is None else gpu_layers) if self.on_gpu else 0)
        llama_errors()
        self._handle: Any = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._handle:
            errors = llama_errors()
            advice = "the file may be damaged, too large for the memory, or newer than this llama.cpp"
            if "architecture" in errors:
                advice = f"install a llama-cpp-python that supports {header.architecture!r}, or choose another teacher"
            raise ModelError(f"{path}: llama.cpp cannot load it ({errors or 'no reason given'}); {advice}")
        self._architecture = header.architecture
        self.vocabulary: Any = llama_cpp.llama_model_get_vocab(self._handle)
        self.vocabulary_size: int = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        self.trained_context: int = llama_cpp.llama_model_n_ctx_train(self._handle)
        self._pieces: dict[int, bytes] = {}
        self._ends_turn: dict[int, bool] = {}
        self._non_ending: dict[tuple[str, ...], NDArray[np.bool_]] = {}

    @property
    def handle(self) -> Any:
        """llama.cpp's pointer. Raises ``ValueError`` if the model was closed."""
        if self._handle is None:
            raise ValueError("the teacher is closed")
        return self._handle

    @property
    def can_truncate(self) -> bool:
        """Whether a sequence can be truncated. Recurrent models cannot: their state has no cells."""
        return not (llama_cpp.llama_model_is_recurrent(self.handle) or llama_cpp.llama_model_is_hybrid(self.handle))

    def cache_bytes_per_token(self, cache_type: CacheType) -> int:
        """Memory of one token in the key-value cache over all layers, in bytes (an upper bound)."""
        handle = self.handle
        width = llama_cpp.llama_model_n_embd(handle) // max(1, llama_cpp.llama_model_n_head(handle))
        # in some models, a head is not as wide as its share of the embedding
        key, value = (self._number(f"attention.{name}_length") or width for name in ("key", "value"))
        n_heads = llama_cpp.llama_model_n_layer(handle) * llama_cpp.llama_model_n_head_kv(handle)
        return int(n_heads * (key + value) * CACHE_BYTES[cache_type])

    def tokenize(self, text: str, *, begin: bool, special: bool = False) -> list[int]:
        """Token ids of ``text``; ``begin`` adds the start token, ``special`` parses spelled-out control tokens."""
        self._require_open()
        data = text.encode(errors="replace")  # a lone surrogate is no character
        room = len(data) + 8
        while True:
            tokens = (ctypes.c_int32 * room)()
            count = llama_cpp.llama_tokenize(self.vocabulary, data, len(data), tokens, room, begin, special)
            if count >= 0:
                return list(tokens[:count])
            room = -count

    def piece(self, token: int) -> bytes:
        """The bytes of a token; a control token has none."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._render(token, special=False)
        return piece

    def ends_turn(self, token: int) -> bool:
        """Whether a token ends the model's turn."""
        end = self._ends_turn.get(token)
        if end is None:
            end = self._ends_turn[token] = bool(llama_cpp.llama_vocab_is_eog(self.vocabulary, token))
        return end

    def non_ending_tokens(self, stops: tuple[str, ...]) -> NDArray[np.bool_]:
        """A mask of shape (vocabulary,) of the tokens that cannot end a text.

        Such a token does not end the turn, and holds no byte that one of the ``stops`` begins with.
        """
        mask = self._non_ending.get(stops)
        if mask is None:
            first = {stop.encode()[0] for stop in stops}
            non_ending = (
                not self.ends_turn(token) and first.isdisjoint(self.piece(token))
                for token in range(self.vocabulary_size)
            )
            mask = self._non_ending[stops] = np.fromiter(non_ending, np.bool_, self.vocabulary_size)
        return mask

    def prompt_tokens(self, prompt: str, special: bool) -> list[int]:
        """Token ids of a prompt, with the model's start token exactly once even if a chat template spells it out.

        For a model without a start token, an empty prompt becomes the end token, as if another text had just ended.
        """
        self._require_open()
        start, end = (llama_cpp.llama_vocab_bos(self.vocabulary), llama_cpp.llama_vocab_eos(self.vocabulary))
        spelled = special and start >= 0 and prompt.startswith(self._spelling(start))
        return self.tokenize(prompt, begin=not spelled, special=special) or [start if start >= 0 else end]

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        """``messages`` in the GGUF's own chat template, up to where the model's answer begins.

        Control tokens spelled out inside a message are removed, so that a text cannot end its own turn. Reasoning is
        switched off where the template allows it, and a template that prints a date gets ``TEMPLATE_DAY``.
        Raises ``TeacherError`` if there is no template, or if it rejects these messages.
        """
        safe = [{"role": message["role"], "content": self._without_control(message["content"])} for message in messages]
        start, end = (llama_cpp.llama_vocab_bos(self.vocabulary), llama_cpp.llama_vocab_eos(self.vocabulary))
        return self._formatter.render(
            safe,
            bos_token=self._spelling(start),
            eos_token=self._spelling(end),
            add_generation_prompt=True,
            enable_thinking=False,
            tools=None,
        )

    def close(self) -> None:
        """Free the memory. Calling it again does nothing."""
        formatter: ChatTemplate | None = vars(self).pop("_formatter", None)
        if formatter is not None:
            formatter.close()
        handle, self._handle = self._handle, None
        if handle is not None:
            llama_cpp.llama_model_free(handle)

    @functools.cached_property
    def _formatter(self) -> ChatTemplate:
        template = llama_cpp.llama_model_chat_template(self.handle, None)
        if not template:
            raise TeacherError(f"{self.path.name} has no chat template; use the prompt style 'list' for this model")
        return ChatTemplate(template.decode(errors="replace"), self.path.name, f"{TEMPLATE_DAY:%Y-%m-%d}")

    def _require_open(self) -> None:
        """Raise ``ValueError`` if the model was closed; llama.cpp would crash on a freed vocabulary."""
        _ = self.handle

    def _number(self, key: str) -> int | None:
        """An integer of the GGUF's header, ``key`` below the model's architecture; None if it is absent."""
        buffer = ctypes.create_string_buffer(64)
        name = f"{self._architecture}.{key}".encode()
        length = llama_cpp.llama_model_meta_val_str(self.handle, name, buffer, len(buffer))
        return int(buffer.value) if length > 0 and buffer.value.isdigit() else None

    def _spelling(self, token: int) -> str:
        """How a control token is spelled in a template; "" if the model has no such token."""
        return self._render(token, special=True).decode() if token >= 0 else ""

    def _render(self, token: int, *, special: bool) -> bytes:
        self._require_open()
        room = 64
        while True:
            buffer = ctypes.create_string_buffer(room)
            count = llama_cpp.llama_token_to_piece(self.vocabulary, token, buffer, room, 0, special)
            if count >= 0:
                return buffer.raw[:count]
            room = -count

    def _without_control(self, content: str) -> str:
        """``content`` without spelled-out control tokens, also those that appear when another one is removed."""
        control = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
        while True:
            tokens = self.tokenize(content, begin=False, special=True)
            spelled = {t for t in tokens if llama_cpp.llama_vocab_get_attr(self.vocabulary, t) & control}
            if not spelled:
                return content
            for token in spelled:
                content = content.replace(self._spelling(token), "")


@dataclass(frozen=True, slots=True)
class Feed:
    """Tokens for one sequence, from ``position`` on, and of which of them the logits are needed."""

    sequence: int
    position: int
    tokens: Sequence[int]
    logits_of: LogitsOf


class SequenceCache:
    """A key-value cache of ``n_sequences`` sequences with room for ``sequence_cells`` tokens each.

    ``batch_tokens`` is the most tokens that one ``decode`` takes, ``max_rows`` the most rows of logits that it returns.
    Raises ``TeacherError`` if there is not enough memory.
    """

    def __init__(
        self,
        model: LlamaModel,
        *,
        n_sequences: int,
        sequence_cells: int,
        batch_tokens: int,
        max_rows: int,
        threads: int,
        cache_type: CacheType,
        flash_attention: bool,
    ) -> None:
        self.n_sequences = n_sequences
        self.sequence_cells = sequence_cells
        self.batch_tokens = batch_tokens
        self.max_rows = max_rows
        self._vocabulary_size = model.vocabulary_size
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = n_sequences * sequence_cells
        parameters.n_batch = parameters.n_ubatch = batch_tokens
        parameters.n_outputs_max = max_rows
        parameters.n_seq_max = n_sequences
        parameters.kv_unified = False
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.type_k = parameters.type_v = _CACHE_TYPES[cache_type]
        parameters.flash_attn_type = int(flash_attention)
        parameters.no_perf = True
        llama_errors()
        self._context: Any = llama_cpp.llama_init_from_model(model.handle, parameters)
        if not self._context:
            needed = model.cache_bytes_per_token(cache_type) * n_sequences * sequence_cells
            raise TeacherError(
                f"no memory for a cache of {n_sequences} sequences of {sequence_cells} tokens: it needs "
                f"{needed >> 20:,} MiB ({llama_errors() or 'llama.cpp gave no reason'}); {SMALLER_CACHE}"
            )
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._tokens = np.zeros(batch_tokens, np.int32)
        self._positions = np.zeros(batch_tokens, np.int32)
        self._sequence_counts = np.ones(batch_tokens, np.int32)
        self._sequences = np.zeros(batch_tokens, np.int32)
        self._with_logits = np.zeros(batch_tokens, np.int8)
        first = self._sequences.ctypes.data
        pointers = ctypes.POINTER(ctypes.c_int32) * batch_tokens
        self._sequence_pointers = pointers(
            *(ctypes.cast(first + 4 * i, ctypes.POINTER(ctypes.c_int32)) for i in range(batch_tokens))
        )

    def clear(self) -> None:
        """Empty all sequences. Old values stay in the buffers but are masked: their weight is exactly 0."""
        llama_cpp.llama_memory_clear(self._memory, False)

    def truncate(self, sequence: int, length: int) -> None:
        """Keep only the first ``length`` tokens of a sequence.

        Raises ``TeacherError`` if the model's ``can_truncate`` is False.
        """
        if not llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1):
            raise TeacherError("llama.cpp cannot truncate this model's cache")

    def copy(self, source: int, target: int) -> None:
        """Replace the content of sequence ``target`` by that of ``source``."""
        llama_cpp.llama_memory_seq_rm(self._memory, target, -1, -1)
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def decode(self, feeds: Sequence[Feed]) -> Logits:
        """Compute all ``feeds``, at most one per sequence and sorted by sequence, and return the logits they ask for.

        The result has shape (rows asked for, vocabulary), in the order of the feeds and their tokens. It is a view of
        llama.cpp's memory and valid until the next call.
        """
        end = 0
        for feed in feeds:
            start, end = end, end + len(feed.tokens)
            self._tokens[start:end] = feed.tokens
            self._positions[start:end] = range(feed.position, feed.position + len(feed.tokens))
            self._sequences[start:end] = feed.sequence
            self._with_logits[start:end] = feed.logits_of == "all"
            if feed.logits_of == "last":
                self._with_logits[end - 1] = 1
        batch = llama_cpp.llama_batch(
            n_tokens=end,
            token=self._tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            embd=None,
            pos=self._positions.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            n_seq_id=self._sequence_counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=self._sequence_pointers,
            logits=self._with_logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )
        code = llama_cpp.llama_decode(self._context, batch)
        if code != 0:
            raise TeacherError(f"llama.cpp failed to decode (code {code}): {llama_errors() or 'no reason given'}")
        llama_cpp.llama_synchronize(self._context)
        rows = int(self._with_logits[:end].sum())
        if rows == 0:
            return np.empty((0, self._vocabulary_size), np.float32)
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._context), (rows, self._vocabulary_size))

    def close(self) -> None:
        """Free the memory. Calling it again does nothing."""
        context, self._context = self._context, None
        if context is not None:
            llama_cpp.llama_free(context)


def require_gpu(gpu_layers: int | None) -> bool:
    """Whether this build of llama.cpp supports a GPU. Raises ``ModelError`` if not and ``gpu_layers`` is above 0."""
    has_gpu = bool(llama_cpp.llama_supports_gpu_offload())
    if gpu_layers and not has_gpu:
        problem = f"{gpu_layers} layers are to run on a GPU, but this llama-cpp-python was built without GPU support"
        raise ModelError(f"{problem}; build it with support for yours, or omit --gpu-layers")
    return has_gpu


def max_sequences() -> int:
    """The most sequences that a cache of this build of llama.cpp can hold."""
    return int(llama_cpp.llama_max_parallel_sequences())
