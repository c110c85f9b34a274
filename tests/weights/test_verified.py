"""A file counts as verified until its size or its time of modification changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from s3local.exceptions import StorageError
from s3local.weights import verified
from s3local.weights.verified import VERIFIED_NAME, record_verified, verified_sha256


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(b"aaa")
    (tmp_path / "b").write_bytes(b"bbb")
    record_verified(tmp_path, {"a": "1", "b": "2"})
    return tmp_path


def test_entries_are_kept_replaced_and_removed(folder: Path) -> None:
    record_verified(folder, {"a": None})
    assert (verified_sha256(folder, "a"), verified_sha256(folder, "b")) == (None, "2")
    record_verified(folder, {"b": "3"})
    assert verified_sha256(folder, "b") == "3"


def test_another_size_or_time_ends_it(folder: Path) -> None:
    (folder / "a").write_bytes(b"aaaa")
    status = (folder / "b").stat()
    os.utime(folder / "b", ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    assert verified_sha256(folder, "a") is None
    assert verified_sha256(folder, "b") is None


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"files": {"a": 1}}'])
def test_a_damaged_record_is_no_record(content: bytes, folder: Path) -> None:
    (folder / VERIFIED_NAME).write_bytes(content)
    assert verified_sha256(folder, "a") is None
    record_verified(folder, {"a": "1"})
    assert verified_sha256(folder, "a") == "1"


def test_a_folder_that_cannot_be_written_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise StorageError("read-only")

    monkeypatch.setattr(verified, "write_text", refuse)
    record_verified(folder, {"a": "9"})
    assert verified_sha256(folder, "a") == "1"
