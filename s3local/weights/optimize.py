"""Convert a GGUF file to the format that this processor computes fastest, if the model's predictions stay the same.

Quantisations that save the most space are often slow for batches on a CPU. Each candidate is made once and measured.
The fastest stays beside the original, the others are deleted.

The measurement runs on one core and counts processor time, so that other programs do not change the choice: with
several threads on a busy machine, the speed of one model varies tenfold. The score is the time of one prompt token plus
that of one sampled token in a batch of 32 sequences, about the mix of few-shot prompts.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3local.exceptions import ModelError, S3LocalError, StorageError
from s3local.hardware import cpu_name, total_memory_bytes
from s3local.progress import Progress
from s3local.storage import replace_durably, sha256_of, translated_errors, write_text
from s3local.weights.headers import read_gguf_header
from s3local.weights.llama_runtime import llama_errors, model_parameters, silence_llama_log
from s3local.weights.manifest import Model, WeightFile
from s3local.weights.store import (
    OPTIMIZED_NAME,
    Measured,
    Optimized,
    fast_file,
    folder_of,
    read_optimized,
    require,
)
from s3local.weights.verified import record_verified

BYTES_PER_PARAMETER = {"Q4_0": 18 / 32, "Q8_0": 34 / 32, "BF16": 2.0}
"""The candidate formats, with their bytes per parameter."""

ORIGINAL = "original"
UNFINISHED = ".optimizing-"
MAX_ORIGINAL_BYTES = 4_000_000_000
MAX_SHARE_OF_MEMORY = 0.5
MAX_DRIFT = 0.05
"""Nats. Q8_0 and BF16 made from Q4_1 drift by about 0.005, Q4_0 by 0.3."""
MIN_GAIN = 1.1
"""A copy must be this many times as fast as the original, and a bigger copy as a smaller one."""
N_SEQUENCES = 32
N_PROMPT_TOKENS = 256
ROUNDS = 2
SECONDS_A_ROUND = 1.5

DRIFT_TEXT = (
    "The film is a slow but moving portrait of a family that falls apart, and the actors carry it well. I would not "
    "watch it twice, but I am glad that I saw it once.\n1. My order arrived two weeks late and the box was open; when "
    "I wrote to support, nobody answered for days.\n2. The council voted on Tuesday to close the old bridge until "
    "spring.\nQuestion: How many people live in the capital of Peru?\nAnswer: About ten million, counting the suburbs."
)


def optimize(name: str, progress: Progress, *, force: bool = False, seconds: float = SECONDS_A_ROUND) -> None:
    """Measure the formats of a teacher, keep the fastest and record it in ``optimized.json``.

    ``seconds`` is the processor time of one measurement. With a build for graphics cards, or a file above 4 GB without
    ``force``, it only says that it does nothing. If it is interrupted, the former choice stays.
    Raises ``ModelError`` if the model is missing or llama.cpp cannot load it; ``StorageError`` if the disk is full.
    """
    import llama_cpp

    silence_llama_log()
    model = require(name, "teacher")
    folder = folder_of(model)
    original = folder / model.files[0].path
    size = original.stat().st_size
    if llama_cpp.llama_supports_gpu_offload():
        progress.say(f"{name}: not optimised, this build computes on the graphics card, where the original is fastest")
        return
    if size > MAX_ORIGINAL_BYTES and not force:
        progress.say(f"{name}: not optimised, {size / 1e9:.1f} GB is too large for a gain (--force does it anyway)")
        return

    llama_cpp.llama_backend_init()
    files = {ORIGINAL: original}
    try:
        wanted = _affordable_formats(original, folder, progress)
        with progress.step(f"optimising {name}", len(wanted) + (len(wanted) + 1) * ROUNDS, "steps") as advance:
            for form in wanted:
                files[form] = _convert(original, form, folder)
                advance(1)
            measured = _measure(files, seconds, advance)
        optimized = _choose(original, files, measured)
        if optimized.file is not None:
            with translated_errors(folder / optimized.file.path):
                replace_durably(files[optimized.format], folder / optimized.file.path)
            record_verified(folder, {optimized.file.path: optimized.file.sha256})
        write_text(folder / OPTIMIZED_NAME, optimized.model_dump_json(indent=2) + "\n")
    finally:
        _delete(folder.glob(f"{UNFINISHED}*"))
    _delete(path for path in folder.glob("*.fast-*.gguf") if not optimized.file or path.name != optimized.file.path)
    progress.say(f"{name}: {optimized.why}")


def optimize_embedded(model: Model, progress: Progress) -> None:
    """Optimise an embedded teacher, unless that was done for this processor and this version of llama.cpp.

    An error is reported, not raised: the original works too, only slower.
    """
    if not model.embedded or "teacher" not in model.roles:
        return
    try:
        if not _is_decided(model):
            optimize(model.id, progress)
    except S3LocalError as exc:
        progress.say(f"{model.id}: not optimised: {exc}")


def _is_decided(model: Model) -> bool:
    from llama_cpp import __version__ as llama_version

    former = read_optimized(model)
    if former is None or (former.cpu, former.llama_cpp) != (cpu_name(), llama_version):
        return False
    return former.file is None or fast_file(model, former) is not None


def _affordable_formats(original: Path, folder: Path, progress: Progress) -> list[str]:
    """The formats that fit into half of the memory. Raises ``StorageError`` if they do not fit on the disk together."""
    n_parameters = read_gguf_header(original).n_parameters
    sizes = {form: n_parameters * share for form, share in BYTES_PER_PARAMETER.items()}
    wanted = [form for form, size in sizes.items() if size < total_memory_bytes() * MAX_SHARE_OF_MEMORY]
    for form in sizes.keys() - set(wanted):
        progress.say(f"{form} is left out: {sizes[form] / 1e9:.1f} GB is more than half of this machine's memory")
    needed, free = sum(sizes[form] for form in wanted), shutil.disk_usage(folder).free
    if needed > free:
        raise StorageError(f"optimising needs {needed / 1e9:.1f} GB in {folder} for a while, {free / 1e9:.1f} are free")
    return wanted


def _convert(original: Path, form: str, folder: Path) -> Path:
    import llama_cpp

    target = folder / f"{UNFINISHED}{form}"
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{form}")
    parameters.allow_requantize = True
    code = llama_cpp.llama_model_quantize(os.fsencode(original), os.fsencode(target), ctypes.byref(parameters))
    if code != 0:
        raise ModelError(f"llama.cpp could not convert {original} to {form}: {llama_errors() or f'code {code}'}")
    return target


def _measure(files: dict[str, Path], seconds: float, advance: Any) -> dict[str, Measured]:
    """The best of ``ROUNDS`` measurements of each file; the files take turns."""
    decode = dict.fromkeys(files, 0.0)
    prompt = dict.fromkeys(files, 0.0)
    log_probabilities: dict[str, NDArray[np.float64]] = {}
    for _ in range(ROUNDS):
        for form, path in files.items():
            with _loaded(path) as context:
                if form not in log_probabilities:
                    log_probabilities[form] = _log_probabilities(context)
                prompt[form] = max(prompt[form], _prompt_speed(context))
                decode[form] = max(decode[form], _decode_speed(context, seconds))
            advance(1)
    reference = log_probabilities[ORIGINAL]
    return {
        form: Measured(
            decode_tokens_per_second=round(decode[form], 1),
            prompt_tokens_per_second=round(prompt[form], 1),
            drift=round(float((np.exp(reference) * (reference - log_probabilities[form])).sum(1).mean()), 5),
            size=path.stat().st_size,
        )
        for form, path in files.items()
    }


def _choose(original: Path, files: dict[str, Path], measured: dict[str, Measured]) -> Optimized:
    import llama_cpp

    def score(form: str) -> float:
        speeds = measured[form]
        return 1 / (1 / speeds.decode_tokens_per_second + 1 / speeds.prompt_tokens_per_second)

    faithful = [form for form in files if form != ORIGINAL and measured[form].drift <= MAX_DRIFT]
    best = ORIGINAL
    for form in sorted(faithful, key=lambda form: measured[form].size):
        if score(form) > score(best) * MIN_GAIN:
            best = form
    gains = ", ".join(f"{form} x{score(form) / score(ORIGINAL):.2f}" for form in files if form != ORIGINAL)
    why = f"kept {best}; speed against the original: {gains}"
    refused = [f"{form} {measured[form].drift:.2f}" for form in files if measured[form].drift > MAX_DRIFT]
    if refused:
        why += f"; refused because the predictions drift from the original's (nats, limit {MAX_DRIFT}): "
        why += ", ".join(refused)
    kept = None
    if best != ORIGINAL:
        name = f"{original.stem}.fast-{best}.gguf"
        kept = WeightFile(path=name, size=measured[best].size, sha256=sha256_of(files[best]))
    return Optimized(
        format=best,
        file=kept,
        why=why,
        cpu=cpu_name(),
        llama_cpp=llama_cpp.__version__,
        original_sha256=sha256_of(original),
        measured=measured,
    )


@contextlib.contextmanager
def _loaded(path: Path) -> Iterator[Any]:
    """A context of ``path`` on one thread, for 32 sequences; freed at the end."""
    import llama_cpp

    on_processor = model_parameters(gpu_layers=0)  # the processor is measured
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), on_processor)
    if not model:
        raise ModelError(f"llama.cpp cannot load {path}: {llama_errors() or 'no reason given'}")
    parameters = llama_cpp.llama_context_default_params()
    parameters.n_ctx = 128 * N_SEQUENCES
    parameters.n_batch = parameters.n_ubatch = 512
    parameters.n_seq_max = N_SEQUENCES
    parameters.kv_unified = True
    parameters.n_threads = parameters.n_threads_batch = 1
    context = llama_cpp.llama_init_from_model(model, parameters)
    try:
        if not context:
            raise ModelError(f"llama.cpp cannot use {path}: {llama_errors() or 'no reason given'}")
        yield context
    finally:
        if context:
            llama_cpp.llama_free(context)
        llama_cpp.llama_model_free(model)


def _decode(context: Any, tokens: list[int], positions: list[int], sequences: list[int], logits: bool) -> float:
    """Decode one batch; the processor time it took, in seconds."""
    import llama_cpp

    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, (token, position, sequence) in enumerate(zip(tokens, positions, sequences, strict=True)):
        batch.token[i], batch.pos[i], batch.logits[i] = token, position, logits
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
    start = time.thread_time()
    code = llama_cpp.llama_decode(context, batch)
    taken = time.thread_time() - start
    llama_cpp.llama_batch_free(batch)
    if code != 0:
        raise ModelError(f"llama.cpp could not compute with this model: {llama_errors() or f'code {code}'}")
    return taken


def _clear(context: Any) -> None:
    import llama_cpp

    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)


def _prompt_speed(context: Any) -> float:
    _clear(context)
    numbers = list(range(N_PROMPT_TOKENS))
    return N_PROMPT_TOKENS / _decode(context, numbers, numbers, [0] * N_PROMPT_TOKENS, logits=False)


def _decode_speed(context: Any, seconds: float) -> float:
    """Tokens a second of the fastest batch, in about ``seconds`` of processor time after one batch to warm up."""
    _clear(context)
    sequences = list(range(N_SEQUENCES))
    times: list[float] = []
    while len(times) < 2 or (sum(times) < seconds and len(times) < 100):
        times.append(_decode(context, sequences, [len(times)] * N_SEQUENCES, sequences, logits=True))
    return N_SEQUENCES / min(times[1:])


def _log_probabilities(context: Any) -> NDArray[np.float64]:
    """Next-token log-probabilities on ``DRIFT_TEXT``, shape (n_tokens, n_vocabulary)."""
    import llama_cpp

    vocabulary = llama_cpp.llama_model_get_vocab(llama_cpp.llama_get_model(context))
    text = DRIFT_TEXT.encode()
    buffer = (llama_cpp.llama_token * len(text))()
    n_tokens = llama_cpp.llama_tokenize(vocabulary, text, len(text), buffer, len(text), False, False)
    if n_tokens < 1:
        raise ModelError(f"llama.cpp could not split a text into this model's tokens: {llama_errors()}")
    _clear(context)
    _decode(context, list(buffer[:n_tokens]), list(range(n_tokens)), [0] * n_tokens, logits=True)
    shape = (n_tokens, llama_cpp.llama_vocab_n_tokens(vocabulary))
    logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), shape=shape).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits


def _delete(paths: Iterable[Path]) -> None:
    for path in list(paths):
        with translated_errors(path, "delete"):
            path.unlink(missing_ok=True)
