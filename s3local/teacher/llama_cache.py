"""llama.cpp as two Python objects: a model, and a cache of streams that decodes batches.

A *stream* is one sequence's key-value cache. Every stream has its own buffer (not ``kv_unified``): on a CPU, 64
sequences in one shared buffer attend over each other's masked cells and run at a third of the speed. Streams can
be cloned (one copy of the buffer) and cut back. llama.cpp puts only streams with consecutive numbers into one
computation, so callers keep the active ones together.

Knows nothing of requests, sampling or scheduling.
"""

from __future__ import annotations

import ctypes
import datetime
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jinja2
import llama_cpp
import numpy as np
from numpy.typing import NDArray

from s3local.exceptions import ModelError, TeacherError
from s3local.weights.headers import read_gguf_header
from s3local.weights.llama_runtime import llama_complaint, model_parameters, silence_llama_log

Logits = NDArray[np.float32]
CacheType = Literal["f16", "q8_0"]
Wanted = Literal["none", "last", "all"]

STREAM_ROUNDING = 256
"""llama.cpp pads a stream to a multiple of this many cells."""

TEMPLATE_DAY = datetime.date(2025, 1, 1)
"""Today, for chat templates that say so: with the true day, the same seed would give other texts tomorrow."""

SMALLER_CACHE = "lower --slots, shorten the prompts or use the cache type q8_0"

_CACHE_TYPES = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0}
_CACHE_BYTES = {"f16": 2.0, "q8_0": 34 / 32}


class LlamaModel:
    """A GGUF in memory: its weights, its vocabulary, its chat template.

    ``gpu_layers`` None puts all layers on a GPU if this build of llama.cpp has one.
    Raises ``ModelError`` if the file is missing, damaged or unknown to this build, or if layers shall go to a GPU that
    it has not; using a closed model raises ``ValueError``.
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
        llama_complaint()
        self._handle: Any = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._handle:
            complaint = llama_complaint()
            advice = "the file may be damaged, too large for the memory, or newer than this llama.cpp"
            if "architecture" in complaint:
                advice = f"install a llama-cpp-python that knows {header.architecture!r}, or choose another teacher"
            raise ModelError(f"{path}: llama.cpp cannot load it ({complaint or 'no reason given'}); {advice}")
        self._architecture = header.architecture
        self.vocabulary: Any = llama_cpp.llama_model_get_vocab(self._handle)
        self.vocabulary_size: int = llama_cpp.llama_vocab_n_tokens(self.vocabulary)
        self.trained_context: int = llama_cpp.llama_model_n_ctx_train(self._handle)
        self._pieces: dict[int, bytes] = {}
        self._ends: dict[int, bool] = {}
        self._going_on: dict[tuple[str, ...], NDArray[np.bool_]] = {}

    @property
    def handle(self) -> Any:
        """llama.cpp's pointer. Raises ``ValueError`` if the model was closed."""
        if self._handle is None:
            raise ValueError("the teacher is closed")
        return self._handle

    @property
    def can_share(self) -> bool:
        """Whether a cache can be cut back: not so for recurrent models, whose state has no cells."""
        return not (llama_cpp.llama_model_is_recurrent(self.handle) or llama_cpp.llama_model_is_hybrid(self.handle))

    def cache_bytes_per_token(self, cache_type: CacheType) -> int:
        """Memory of one cell of the key-value cache over all layers, in bytes (an upper estimate)."""
        handle = self.handle
        width = llama_cpp.llama_model_n_embd(handle) // max(1, llama_cpp.llama_model_n_head(handle))
        # some models have heads that are wider or narrower than their share of the embedding
        key, value = (self._number(f"attention.{name}_length") or width for name in ("key", "value"))
        n_heads = llama_cpp.llama_model_n_layer(handle) * llama_cpp.llama_model_n_head_kv(handle)
        return int(n_heads * (key + value) * _CACHE_BYTES[cache_type])

    def tokenize(self, text: str, *, begin: bool, special: bool = False) -> list[int]:
        """Token ids of ``text``; ``begin`` adds the model's own start token, ``special`` reads control tokens."""
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
        """The bytes that a token stands for; control tokens stand for none."""
        piece = self._pieces.get(token)
        if piece is None:
            piece = self._pieces[token] = self._render(token, special=False)
        return piece

    def ends(self, token: int) -> bool:
        """Whether a token ends the model's turn."""
        end = self._ends.get(token)
        if end is None:
            end = self._ends[token] = bool(llama_cpp.llama_vocab_is_eog(self.vocabulary, token))
        return end

    def going_on(self, stops: tuple[str, ...]) -> NDArray[np.bool_]:
        """For each token of the vocabulary, whether a text is sure to go on after it, (vocabulary,): it does not end
        the turn, and none of the ``stops`` can begin in it."""
        allowed = self._going_on.get(stops)
        if allowed is None:
            first = {stop.encode()[0] for stop in stops}
            goes_on = (
                not self.ends(token) and first.isdisjoint(self.piece(token)) for token in range(self.vocabulary_size)
            )
            allowed = self._going_on[stops] = np.fromiter(goes_on, np.bool_, self.vocabulary_size)
        return allowed

    def prompt_tokens(self, prompt: str, special: bool) -> list[int]:
        """A prompt as the model expects it, its start token written once even if a chat template spells it out.

        An empty prompt of a model without a start token begins with the end token, as if a text had ended before.
        """
        self._require_open()
        start, end = (llama_cpp.llama_vocab_bos(self.vocabulary), llama_cpp.llama_vocab_eos(self.vocabulary))
        spelled = special and start >= 0 and prompt.startswith(self._spelling(start))
        return self.tokenize(prompt, begin=not spelled, special=special) or [start if start >= 0 else end]

    def chat_prompt(self, messages: Sequence[Mapping[str, str]]) -> str:
        """``messages`` in the chat template that the GGUF carries, up to where the model's answer begins.

        Control tokens spelled out inside a message are removed, so that a text cannot end its own turn. A model that
        thinks aloud is asked not to, and a template that names the day is given ``TEMPLATE_DAY``.
        Raises ``TeacherError`` if there is no template, or it refuses these messages.
        """
        safe = [{"role": message["role"], "content": self._without_control(message["content"])} for message in messages]
        try:
            return str(self._formatter(messages=safe, enable_thinking=False).prompt)
        except (jinja2.TemplateError, ValueError) as exc:  # a template refuses with ValueError
            raise TeacherError(f"the chat template of {self.path.name} refuses these messages: {exc}") from exc

    def close(self) -> None:
        """Give the memory back. Calling it again does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            llama_cpp.llama_model_free(handle)

    @functools.cached_property
    def _formatter(self) -> Any:
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        template = llama_cpp.llama_model_chat_template(self.handle, None)
        if not template:
            raise TeacherError(f"{self.path.name} carries no chat template; use the prompt style 'list' for this model")
        start, end = (llama_cpp.llama_vocab_bos(self.vocabulary), llama_cpp.llama_vocab_eos(self.vocabulary))
        formatter = Jinja2ChatFormatter(
            template.decode(), eos_token=self._spelling(end), bos_token=self._spelling(start)
        )
        formatter.strftime_now = TEMPLATE_DAY.strftime
        return formatter

    def _require_open(self) -> None:
        """llama.cpp itself would crash on a vocabulary that is gone."""
        _ = self.handle

    def _number(self, key: str) -> int | None:
        """A whole number from the GGUF's header, under the model's architecture; None if it is not there."""
        buffer = ctypes.create_string_buffer(64)
        name = f"{self._architecture}.{key}".encode()
        length = llama_cpp.llama_model_meta_val_str(self.handle, name, buffer, len(buffer))
        return int(buffer.value) if length > 0 and buffer.value.isdigit() else None

    def _spelling(self, token: int) -> str:
        """How a control token is written in a template; "" if the model has no such token."""
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
        """``content`` without spelled-out control tokens, those included that only appear when another one is gone."""
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
    """Tokens for one stream, placed from ``position`` on; ``wanted`` logits: of the last token, of all, or of none."""

    stream: int
    position: int
    tokens: Sequence[int]
    wanted: Wanted


class StreamCache:
    """``n_streams`` key-value caches of ``stream_cells`` tokens each, and the batch that feeds them.

    ``batch_tokens`` is the most tokens one ``decode`` may be given, ``max_rows`` the most rows of logits it may
    return. Raises ``TeacherError`` if the memory does not suffice.
    """

    def __init__(
        self,
        model: LlamaModel,
        *,
        n_streams: int,
        stream_cells: int,
        batch_tokens: int,
        max_rows: int,
        threads: int,
        cache_type: CacheType,
        flash_attention: bool,
    ) -> None:
        self.n_streams = n_streams
        self.stream_cells = stream_cells
        self.batch_tokens = batch_tokens
        self.max_rows = max_rows
        self._vocabulary_size = model.vocabulary_size
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = n_streams * stream_cells
        parameters.n_batch = parameters.n_ubatch = batch_tokens
        parameters.n_outputs_max = max_rows
        parameters.n_seq_max = n_streams
        parameters.kv_unified = False
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.type_k = parameters.type_v = _CACHE_TYPES[cache_type]
        parameters.flash_attn_type = int(flash_attention)
        parameters.no_perf = True
        llama_complaint()
        self._context: Any = llama_cpp.llama_init_from_model(model.handle, parameters)
        if not self._context:
            needed = model.cache_bytes_per_token(cache_type) * n_streams * stream_cells
            raise TeacherError(
                f"no memory for a cache of {n_streams} streams of {stream_cells} tokens: it needs {needed >> 20:,} MiB "
                f"({llama_complaint() or 'llama.cpp gave no reason'}); {SMALLER_CACHE}"
            )
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._tokens = np.zeros(batch_tokens, np.int32)
        self._positions = np.zeros(batch_tokens, np.int32)
        self._stream_counts = np.ones(batch_tokens, np.int32)
        self._streams = np.zeros(batch_tokens, np.int32)
        self._wanted = np.zeros(batch_tokens, np.int8)
        first = self._streams.ctypes.data
        pointers = ctypes.POINTER(ctypes.c_int32) * batch_tokens
        self._stream_pointers = pointers(
            *(ctypes.cast(first + 4 * i, ctypes.POINTER(ctypes.c_int32)) for i in range(batch_tokens))
        )

    def clear(self) -> None:
        """Empty all streams. The numbers stay in the buffers, masked: their weight is exactly 0."""
        llama_cpp.llama_memory_clear(self._memory, False)

    def cut(self, stream: int, length: int) -> None:
        """Keep only the first ``length`` tokens of a stream. Raises ``TeacherError`` where ``LlamaModel.can_share`` is
        False."""
        if not llama_cpp.llama_memory_seq_rm(self._memory, stream, length, -1):
            raise TeacherError("llama.cpp cannot cut this model's cache back to a part of a text")

    def clone(self, source: int, target: int) -> None:
        """Make ``target`` hold what ``source`` holds."""
        llama_cpp.llama_memory_seq_rm(self._memory, target, -1, -1)
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def decode(self, feeds: Sequence[Feed]) -> Logits:
        """Compute all ``feeds`` (one a stream, in rising order of streams) and return the wanted logits.

        The result has shape (wanted rows, vocabulary), rows in the order of the feeds and their tokens. It is a
        view of llama.cpp's memory, valid until the next call.
        """
        end = 0
        for feed in feeds:
            start, end = end, end + len(feed.tokens)
            self._tokens[start:end] = feed.tokens
            self._positions[start:end] = range(feed.position, feed.position + len(feed.tokens))
            self._streams[start:end] = feed.stream
            self._wanted[start:end] = feed.wanted == "all"
            if feed.wanted == "last":
                self._wanted[end - 1] = 1
        batch = llama_cpp.llama_batch(
            n_tokens=end,
            token=self._tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            embd=None,
            pos=self._positions.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            n_seq_id=self._stream_counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=self._stream_pointers,
            logits=self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )
        code = llama_cpp.llama_decode(self._context, batch)
        if code != 0:
            raise TeacherError(f"llama.cpp failed to decode (code {code}): {llama_complaint() or 'no reason given'}")
        llama_cpp.llama_synchronize(self._context)
        rows = int(self._wanted[:end].sum())
        if rows == 0:
            return np.empty((0, self._vocabulary_size), np.float32)
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._context), (rows, self._vocabulary_size))

    def close(self) -> None:
        """Give the memory back. Calling it again does nothing."""
        context, self._context = self._context, None
        if context is not None:
            llama_cpp.llama_free(context)


def require_gpu(gpu_layers: int | None) -> bool:
    """Whether this build of llama.cpp has a GPU. Raises ``ModelError`` if it has none, and layers shall go there."""
    has_gpu = bool(llama_cpp.llama_supports_gpu_offload())
    if gpu_layers and not has_gpu:
        problem = f"{gpu_layers} layers shall go to a GPU, and this llama-cpp-python was built without one"
        raise ModelError(f"{problem}; build it for yours, or leave --gpu-layers out")
    return has_gpu


def max_streams() -> int:
    """The most streams that this build of llama.cpp keeps apart."""
    return int(llama_cpp.llama_max_parallel_sequences())
