"""What this installation is: versions, machine, models, speed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

from s3local import __version__
from s3local.exceptions import S3LocalError
from s3local.hardware import available_memory_bytes, cpu_name, physical_cores, torch_device, total_memory_bytes
from s3local.weights.store import find_encoder, find_teacher, survey
from s3local.wording import about

PACKAGES = ("llama-cpp-python", "onnxruntime", "sentence-transformers", "torch", "transformers", "tokenizers", "numpy")
SPEED_TEXTS = 64
DEMONSTRATION, DEMONSTRATION_ROWS = "support_desk", 600


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the survey."""

    name: str
    value: str


def describe(speed: bool = True) -> list[Fact]:
    """The installation and the machine; with ``speed``, the embedded models are measured for some seconds."""
    facts = [
        Fact("s3local", f"{__version__}, Python {platform.python_version()}, {platform.platform()}"),
        Fact("processor", f"{cpu_name()}, {physical_cores()} cores"),
        Fact("memory", f"{total_memory_bytes() / 2**30:.1f} GiB, {(available_memory_bytes() or 0) / 2**30:.1f} free"),
        Fact("graphics card", _graphics_card()),
        *(Fact(name, version(name)) for name in PACKAGES),
        *(Fact(f"model {local.model.id}", f"{local.state}, {', '.join(local.model.roles)}") for local in survey()),
    ]
    return [*facts, *_speed()] if speed else facts


def version(package: str) -> str:
    """The installed version of a package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _graphics_card() -> str:
    if torch_device() != "cuda":
        return "none that torch can use"
    import torch

    return str(torch.cuda.get_device_name())


def _speed() -> list[Fact]:
    """Texts a second of the embedded encoder, tokens a second of the embedded teacher, and the time for a run."""
    facts = []
    try:
        from s3local.embedder import SentenceTransformerEmbedder

        embedder = SentenceTransformerEmbedder(find_encoder())
        started = time.perf_counter()
        embedder.embed([f"Text number {number} says how fast this machine is." for number in range(SPEED_TEXTS)])
        facts.append(Fact("speed, encoder", f"{SPEED_TEXTS / (time.perf_counter() - started):.0f} texts a second"))
    except S3LocalError as exc:
        facts.append(Fact("speed, encoder", f"not measured: {exc}"))
    try:
        from s3local.teacher.recommend import measure_speed

        facts.append(Fact("speed, teacher", f"{measure_speed(find_teacher().path):.0f} tokens a second"))
    except S3LocalError as exc:
        facts.append(Fact("speed, teacher", f"not measured: {exc}"))
    return [*facts, _demonstration()]


def _demonstration() -> Fact:
    """How long the demonstration would take here."""
    name = f"run {DEMONSTRATION} --rows {DEMONSTRATION_ROWS}"
    try:
        from s3local.runner.forecast import forecast
        from s3local.runner.models import find_models
        from s3local.runner.settings import RunSettings
        from s3local.task.model import PRESETS, load_task

        settings = RunSettings(rows=DEMONSTRATION_ROWS)
        task = load_task(PRESETS / DEMONSTRATION)
        expected = forecast(task, settings, find_models(settings), None, Path(os.devnull))
        return Fact(name, about(expected.seconds_left))
    except S3LocalError as exc:
        return Fact(name, f"not estimated: {exc}")
