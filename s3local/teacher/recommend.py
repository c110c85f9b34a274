"""Which known teachers fit this machine, and how long they would write here, by the measured speed of one of them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import llama_cpp

from s3local.hardware import torch_device, total_memory_bytes
from s3local.teacher.engine import LlamaTeacher
from s3local.teacher.protocol import Request, Teacher
from s3local.weights.manifest import Model

ROWS = 1000
TOKENS_PER_ROW = 40
"""Tokens that a teacher writes for each row that is kept, of some twenty words; 35 in the demonstration."""
CONTRAST_FACTOR = 2.0
"""Contrast, which is on for teachers that continue lists, computes every token under two prompts."""

MEASURED_TEXTS, FIRST_TOKENS, MEASURED_TOKENS = 32, 2, 24
MEASURED_SECONDS = 3.0
"""How long the second measurement takes, at most."""
PROMPT = (
    "A list of messages to the support desk of a shop that report a fault, each in the words of its writer:\n\n"
    "- The kettle leaks at the handle since yesterday.\n- One of the lamps does not go on.\n-"
)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A teacher on this machine: whether it ``fits`` the memory, and the ``minutes`` for ``ROWS`` rows here."""

    model: Model
    fits: bool
    minutes: float


def memory_for_teachers() -> int:
    """The memory that a teacher can use, in bytes: of the graphics card if llama.cpp uses one, else of the machine."""
    if llama_cpp.llama_supports_gpu_offload() and torch_device() == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[1])
    return total_memory_bytes()


def measure_speed(path: Path, texts: int = MEASURED_TEXTS) -> float:
    """The tokens a second that the teacher in ``path`` writes here; see ``writing_speed``."""
    with contextlib.closing(LlamaTeacher(path)) as teacher:
        return writing_speed(teacher, texts)


def writing_speed(teacher: Teacher, texts: int = MEASURED_TEXTS) -> float:
    """The tokens a second that ``teacher`` writes, with its prompt, ``texts`` side by side.

    A slow teacher writes few tokens, so that this takes some seconds.
    """
    speed = _speed_of(teacher, texts, FIRST_TOKENS)
    tokens = min(MEASURED_TOKENS, int(speed * MEASURED_SECONDS / texts))
    return _speed_of(teacher, texts, tokens) if tokens > FIRST_TOKENS else speed


def _speed_of(teacher: Teacher, texts: int, tokens: int) -> float:
    started = time.perf_counter()
    done = teacher.generate([Request(PROMPT, seed, tokens) for seed in range(texts)])
    return sum(completion.n_tokens for completion in done) / (time.perf_counter() - started)


def estimate(models: Sequence[Model], measured: Model, tokens_per_second: float, memory: int) -> list[Estimate]:
    """An estimate for each of the teachers among ``models`` whose size is known, the smallest first.

    ``measured`` writes ``tokens_per_second``; another one takes longer in proportion to the size of its file, which is
    pessimistic for large ones. ``memory`` is what they may use, in bytes.
    """
    if not measured.size:
        raise ValueError(f"{measured.id} has no size")
    found = []
    for model in models:
        if "teacher" not in model.roles or not model.size:
            continue
        speed = tokens_per_second * measured.size / model.size
        factor = CONTRAST_FACTOR if model.prompt_style == "list" else 1.0
        needed = model.memory_gb * 1e9 if model.memory_gb else 1.3 * model.size
        found.append(Estimate(model, needed <= memory, factor * ROWS * TOKENS_PER_ROW / speed / 60))
    return sorted(found, key=lambda entry: (entry.model.size or 0, entry.model.id))


def recommended(estimates: Sequence[Estimate], within_minutes: float) -> Estimate | None:
    """The largest teacher that fits and needs at most ``within_minutes``; None if there is none."""
    possible = [entry for entry in estimates if entry.fits and entry.minutes <= within_minutes]
    return possible[-1] if possible else None
