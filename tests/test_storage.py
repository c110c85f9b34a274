"""Laws of files on disk: whole or not at all, also after a power cut, and nothing that leads elsewhere."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.exceptions import InputError, StorageError
from s3local.records import write_jsonl
from s3local.storage import (
    MAX_NAME_BYTES,
    NOT_IN_NAMES,
    atomic_write,
    decoded_lines,
    read_utf8,
    refuse_same_file,
    replace_durably,
    safe_folder_name,
    sha256_of,
    standard_output,
    write_text,
)


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_text(path, "old")

    def rows() -> Iterator[dict[str, int]]:
        yield {"a": 1}
        raise RuntimeError("the stage broke")

    with pytest.raises(RuntimeError, match="the stage broke"):
        write_jsonl(path, rows())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    program = (
        "import os, sys; from pathlib import Path; from s3local.storage import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as stream:\n"
        "    stream.write('new'); stream.flush(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)], check=False).returncode == 9
    assert path.read_text() == "old"


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "file.bin"
    with atomic_write(path, "wb") as stream:
        stream.write(b"half")
        stream.flush()
        assert not path.exists()
        stream.write(b" and half")
    assert path.read_bytes() == b"half and half"


def test_a_full_disk_is_told_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def full(_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left on the device; free some"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_through_a_file_or_onto_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "rows.jsonl", tmp_path / "file" / "deeper" / "rows.jsonl"):
        with pytest.raises(StorageError, match="a part of this path is a file, where a folder belongs"):
            write_text(path, "x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match="this is a folder, where a file belongs"):
        write_text(tmp_path / "folder", "x")


def test_line_ends_are_written_as_given(tmp_path: Path) -> None:
    write_text(tmp_path / "file.txt", "a\nb\r\n")
    assert (tmp_path / "file.txt").read_bytes() == b"a\nb\r\n"


def test_the_checksum_is_that_of_all_blocks(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    (tmp_path / "file.bin").write_bytes(content)
    heard: list[int] = []
    assert sha256_of(tmp_path / "file.bin", heard.append) == hashlib.sha256(content).hexdigest()
    assert len(heard) > 1
    assert sum(heard) == len(content)


# Power cuts

posix = pytest.mark.skipif(os.name == "nt", reason="Windows cannot sync a folder")


class PowerCutError(Exception):
    """Nothing happens on the disk any more."""


class Disk:
    """The order in which bytes are synced and names are given, as ("sync", inode) and ("rename", inode)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, int]] = []
        self.cut_after: int | None = None
        really_sync, really_replace = os.fsync, Path.replace

        def fsync(handle: int) -> None:
            self._happens("sync", os.fstat(handle).st_ino)
            really_sync(handle)

        def replace(path: Path, target: Path) -> Path:
            self._happens("rename", path.stat().st_ino)
            return really_replace(path, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", replace)

    def _happens(self, kind: str, inode: int) -> None:
        if len(self.events) == self.cut_after:
            raise PowerCutError
        self.events.append((kind, inode))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def inode(path: Path) -> int:
    return path.stat().st_ino


def make_artefact(folder: Path, content: str) -> Path:
    (folder / "deeper").mkdir(parents=True)
    (folder / "model.bin").write_text(content)
    (folder / "deeper" / "more.bin").write_text(content)
    return folder


def contents(folder: Path) -> set[str]:
    return {path.read_text() for path in folder.rglob("*.bin")}


@posix
def test_bytes_are_synced_before_a_file_has_its_name_and_the_name_after(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "marker.json"
    write_text(path, "old")
    disk.events.clear()
    write_text(path, "new")
    assert disk.events == [("sync", inode(path)), ("rename", inode(path)), ("sync", inode(tmp_path))]


@posix
def test_new_folders_are_on_the_disk_before_what_is_in_them(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "one" / "two" / "file"
    write_text(path, "x")
    renamed = disk.events.index(("rename", inode(path)))
    for folder in (tmp_path, tmp_path / "one"):
        assert disk.events.index(("sync", inode(folder))) < renamed


@posix
def test_all_of_a_folder_is_synced_before_it_has_its_name(tmp_path: Path, disk: Disk) -> None:
    target = tmp_path / "student"
    replace_durably(make_artefact(tmp_path / "part", "new"), target)
    renamed = disk.events.index(("rename", inode(target)))
    synced_before = {number for kind, number in disk.events[:renamed] if kind == "sync"}
    assert {inode(path) for path in (target, *target.rglob("*"))} <= synced_before
    assert ("sync", inode(tmp_path)) in disk.events[renamed:]


@posix
def test_a_file_is_synced_before_it_replaces_another(tmp_path: Path, disk: Disk) -> None:
    part, target = tmp_path / "part", tmp_path / "model.gguf"
    part.write_text("new")
    target.write_text("old")
    replace_durably(part, target)
    assert disk.events == [("sync", inode(target)), ("rename", inode(target)), ("sync", inode(tmp_path))]
    assert target.read_text() == "new"


@posix
@pytest.mark.parametrize("replaced", [False, True])
def test_a_power_cut_at_any_moment_leaves_the_old_folder_or_the_new_one(
    tmp_path: Path, disk: Disk, replaced: bool
) -> None:
    for moment in range(100):
        place = tmp_path / str(moment)
        target = place / "student"
        if replaced:
            make_artefact(target, "old")
        part = make_artefact(place / "part", "new")
        disk.events.clear()
        disk.cut_after = moment
        try:
            replace_durably(part, target)
        except PowerCutError:
            if target.exists():
                assert contents(target) in ({"old"}, {"new"})
                continue
            kept = {frozenset(contents(folder)) for folder in place.iterdir()}
            assert kept == ({frozenset({"old"}), frozenset({"new"})} if replaced else {frozenset({"new"})})
        else:
            assert contents(target) == {"new"}
            assert [path.name for path in place.iterdir()] == ["student"]
            assert moment > 4
            return
    pytest.fail("the folder never got its name")


@posix
@pytest.mark.parametrize("refusal", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_folders_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int
) -> None:
    really_sync = os.fsync

    def fsync(handle: int) -> None:
        if os.path.isdir(f"/dev/fd/{handle}"):  # noqa: PTH112
            raise OSError(refusal, os.strerror(refusal))
        really_sync(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(tmp_path / "file", "x")
    assert (tmp_path / "file").read_text() == "x"


# Links and devices


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    file, link, again = tmp_path / "elsewhere" / "file", tmp_path / "link", tmp_path / "again"
    file.write_text("old")
    link.symlink_to(Path("elsewhere", "file"))
    again.symlink_to(link)
    write_text(again, "new")
    assert link.is_symlink() and again.is_symlink()
    assert file.read_text() == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["again", "elsewhere", "file", "link"]


def test_a_link_to_nothing_gets_its_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


@posix
def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    write_text(Path(os.devnull), "x")
    assert not Path(os.devnull).is_file()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with contextlib.closing(os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))) as reader:
        write_text(fifo, "through")
        assert reader.read() == "through"
    assert fifo.is_fifo()


def test_a_file_is_the_same_by_any_path(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "hard").hardlink_to(file)
    for path in (file, tmp_path / "folder" / ".." / "rows.jsonl", tmp_path / "link", tmp_path / "hard"):
        with pytest.raises(InputError, match="would replace the file that is read"):
            refuse_same_file(file, path)
    (tmp_path / "copy").write_text("x")
    refuse_same_file(file, tmp_path / "copy")
    refuse_same_file(file, tmp_path / "new")
    refuse_same_file(tmp_path / "none", file)


# Names

letters = st.text(st.characters(categories=["L", "N", "M", "So"]), min_size=1, max_size=20)


@given(st.text(max_size=30) | letters.map("../".__add__) | letters.map("/".__add__))
def test_a_safe_name_is_one_folder_inside_and_stays_as_it_is(name: str) -> None:
    with contextlib.suppress(ValueError):
        assert safe_folder_name(name) == name
        assert Path("runs", name).parent == Path("runs")
        assert Path("runs", name).name == name
        assert not set(name) & set(NOT_IN_NAMES)


@given(st.lists(letters, min_size=1, max_size=3))
def test_names_in_any_script_are_allowed(words: list[str]) -> None:
    name = " ".join(words)
    if len(name.encode()) <= MAX_NAME_BYTES and name.lower() not in ("con", "prn", "aux", "nul"):
        assert safe_folder_name(name) == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../../outside", 'because of "/"; allowed are letters, digits, spaces and signs other than / \\ :'),
        ("/etc", 'because of "/"'),
        ("C:\\runs", 'because of ":"'),
        ("..", "begins or ends with a dot"),
        (".hidden", "begins or ends with a dot"),
        ("mine.", "begins or ends with a dot"),
        ("", "the name is empty"),
        (" ", "the name is empty"),
        ("a\tb", "because of"),
        ("Aux.old", "Windows has a device of this name"),
        ("客" * 100, "300 bytes, at most 200"),
    ],
)
def test_a_name_that_cannot_be_a_folder_is_refused_in_one_line(name: str, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        safe_folder_name(name)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


# Reading


def test_lines_are_decoded_with_their_ends_and_a_bad_byte_has_its_place() -> None:
    lines = [b"\xef\xbb\xbfone\r\n", b"\xef\xbb\xbftwo\n", "drei ü".encode()]
    assert list(decoded_lines(lines, Path("x"))) == ["one\r\n", "\ufefftwo\n", "drei ü"]
    with pytest.raises(InputError, match="x, line 2: byte 0xfc at position 3 is not UTF-8"):
        list(decoded_lines([b"one\n", b"fa\xfc"], Path("x")))


def test_a_file_is_read_without_its_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\xef\xbb\xbfone\ntwo\n")
    assert read_utf8(tmp_path / "file") == "one\ntwo\n"


def test_a_closed_standard_output_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(StorageError, match="standard output is closed"), standard_output():
        pass
