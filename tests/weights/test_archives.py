"""Files out of wheels and archives: none gets its name that is missing, too long or has another checksum."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from weights_world import World, files_in, make_zip, sha256

from s3local.exceptions import ModelError
from s3local.progress import Silent
from s3local.weights.archives import join_parts, take_files
from s3local.weights.manifest import Archive, WeightFile, load_manifest


def take(zipped: Path, world: World) -> None:
    model = load_manifest()["split"]
    take_files(zipped, "judge", model, model.files, Silent())


def test_the_files_and_nothing_else_are_taken(world: World, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(world.archive)
    take(tmp_path / "a.zip", world)
    assert files_in(world.folder / "split") == world.split


def bomb() -> bytes:
    """A ZIP archive whose member is far longer than it should be."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("judge/config.json", bytes(50_000_000))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<html>", "not a readable ZIP archive"),
        (make_zip({"judge/other": b""}), r"does not contain judge/config\.json"),
        (make_zip({"judge/config.json": b"x" * 23}), "wrong checksum"),
        (make_zip({"judge/config.json": b"x"}), "wrong checksum"),
        (bomb(), "longer than it should be"),
    ],
)
def test_another_file_is_refused(data: bytes, message: str, world: World, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ModelError, match=message):
        take(tmp_path / "a.zip", world)
    assert files_in(world.folder) == {}


def archive_of(world: World, **changes: object) -> Archive:
    archive = load_manifest()["split"].archive
    assert archive is not None
    return archive.model_copy(update=changes)


def test_parts_are_joined_in_their_order(world: World, tmp_path: Path) -> None:
    wheels = [tmp_path / "0.whl", tmp_path / "1.whl"]
    for path, data in zip(wheels, world.wheels, strict=True):
        path.write_bytes(data)
    target = tmp_path / "whole.zip"
    join_parts(archive_of(world), wheels, target, Silent())
    assert target.read_bytes() == world.archive
    target.unlink()
    for archive, message in [
        (archive_of(world, sha256=sha256(b"")), "wrong checksum"),
        (archive_of(world, size=len(world.archive) - 1), "longer than it should be"),
    ]:
        with pytest.raises(ModelError, match=message):
            join_parts(archive, wheels, target, Silent())
    with pytest.raises(ModelError, match=r"does not contain part/judge\.zip\.0"):
        join_parts(archive_of(world), wheels[::-1], target, Silent())
    assert not target.exists()


def test_a_name_in_the_archive_never_leads_outside() -> None:
    """Files are asked for by the manifest's names, so that the names in an archive decide nothing."""
    with pytest.raises(ValueError, match="inside"):
        WeightFile(path="../outside")
