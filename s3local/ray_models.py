"""Models on the workers of a Ray cluster: found by their checksum, or sent once.

A worker looks for a model at the driver's path and in its own folder of models. If it has none of that name, the helper
beside the driver hands out its files.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from platformdirs import user_cache_path

from s3local.exceptions import ModelError
from s3local.storage import replace_durably, sha256_of, sha256_of_folder, translated_errors
from s3local.weights.manifest import models_folder

CHUNK_BYTES = 64 << 20
"""The most bytes of a model in one message."""


class ModelFiles:
    """The files of the driver's ``models``, for workers that have none."""

    def __init__(self, models: Mapping[Path, str]) -> None:
        self._models = models

    def files(self, model: Path) -> list[tuple[str, int]]:
        """The files of a model with their sizes, by their paths in its folder; "" for a model that is one file."""
        if model not in self._models:
            raise ValueError(f"{model} is no model of this run")
        if model.is_file():
            return [("", model.stat().st_size)]
        return [
            (path.relative_to(model).as_posix(), path.stat().st_size)
            for path in sorted(model.rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        ]

    def read(self, model: Path, name: str, start: int) -> bytes:
        """Up to ``CHUNK_BYTES`` of one of ``files``, from the byte ``start`` on."""
        if name not in dict(self.files(model)):
            raise ValueError(f"{model} has no file {name}")
        with (model / name if name else model).open("rb") as stream:
            stream.seek(start)
            return stream.read(CHUNK_BYTES)


_found: dict[tuple[Path, str], Path] = {}
"""The models that this worker has found, by the driver's path and the checksum."""


def find_model(path: Path, checksum: str, receive: Callable[[Path, Path], None]) -> Path:
    """Where the driver's model ``path``, a file or a folder, lies on this machine.

    It is looked for at the same path and in the folder of models. If it is at neither, ``receive`` writes it to a path
    in this user's cache, once. Raises ``ModelError`` if a model of that name has another checksum here.
    """
    key = path, checksum
    if key in _found and _found[key].exists():
        return _found[key]
    for candidate in (path, models_folder() / path.name, models_folder() / path.parent.name / path.name):
        if candidate.exists():
            if _checksum(candidate) != checksum:
                raise ModelError(
                    f"the worker on {platform.node()} has another {path.name}: the checksum of {candidate} is not that "
                    f"of the model here; fetch the same one there, or delete it there, so that it is sent"
                )
            return _found.setdefault(key, candidate)
    target = user_cache_path("s3local") / "models" / checksum[:32] / path.name
    with translated_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / ".lock"):
            if not (target.exists() and _checksum(target) == checksum):
                with tempfile.TemporaryDirectory(dir=target.parent) as folder:
                    part = Path(folder) / path.name
                    receive(path, part)
                    if _checksum(part) != checksum:
                        raise ModelError(
                            f"{path.name} arrived damaged on {platform.node()}; run the same command again"
                        )
                    replace_durably(part, target)
    return _found.setdefault(key, target)


def _checksum(path: Path) -> str:
    return sha256_of_folder(path) if path.is_dir() else sha256_of(path)


def receive_model(helper: Any, model: Path, target: Path) -> None:
    """Write the driver's ``model`` to ``target``, from ``helper``, an actor with the methods of ``ModelFiles``."""
    import ray

    for name, size in ray.get(helper.files.remote(model)):
        path = target / name if name else target
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            while stream.tell() < size:
                stream.write(ray.get(helper.read.remote(model, name, stream.tell())))
