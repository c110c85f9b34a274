"""A download is resumed, never mixed from two files, and kept only if size and checksum are right."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from weights_world import Listening, Site, sha256

from s3local import offline
from s3local.exceptions import ModelError, NetworkError
from s3local.progress import Silent
from s3local.weights import download as module
from s3local.weights.download import download

DATA = bytes(range(256)) * 1000


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "file"


@pytest.fixture
def address(site: Site) -> str:
    site.content["/file"] = DATA
    return f"{site.address}/file"


def get(address: str, target: Path, **others: float) -> str:
    return download(address, target, len(DATA), sha256(DATA), Silent(), **others)  # type: ignore[arg-type]


def test_a_broken_download_is_resumed(address: str, target: Path, site: Site) -> None:
    site.break_after = [100_000, 50_000]
    assert get(address, target) == sha256(DATA)
    assert site.ranges_asked == [None, "bytes=100000-", "bytes=150000-"]
    assert target.read_bytes() == DATA


def test_it_gives_up_only_if_nothing_more_arrives(address: str, target: Path, site: Site) -> None:
    site.break_after = [10_000] * (module.ATTEMPTS + 2)
    get(address, target)
    site.content["/file"] = DATA[:-1] + b"!"
    site.break_after = [0] * module.ATTEMPTS
    target.write_bytes(DATA[:1000])
    with pytest.raises(NetworkError, match=r"the connection broke; 0\.0 MB are kept, the same command continues"):
        get(address, target)


def test_an_interrupted_download_is_resumed_by_the_next_call(address: str, target: Path, site: Site) -> None:
    site.content["/file"] = data = bytes(3_000_000)
    with pytest.raises(KeyboardInterrupt):
        download(address, target, len(data), sha256(data), Listening(interrupt_after=1_500_000))
    kept = target.stat().st_size
    assert 0 < kept < len(data)
    download(address, target, len(data), sha256(data), Silent())
    assert site.ranges_asked[-1] == f"bytes={kept}-"
    assert target.read_bytes() == data


def test_a_server_without_ranges_starts_again(address: str, target: Path, site: Site) -> None:
    site.ranges = False
    site.break_after = [100_000]
    get(address, target)
    assert target.read_bytes() == DATA


def test_a_file_that_changed_meanwhile_is_not_joined_to_its_old_part(address: str, target: Path, site: Site) -> None:
    site.etags["/file"] = '"old"'
    site.break_after = [1000, 0, 0, 0, 0]
    with pytest.raises(NetworkError):
        download(address, target, None, None, Silent())
    assert target.stat().st_size == 1000
    site.break_after.clear()
    site.content["/file"], site.etags["/file"] = DATA[::-1], '"new"'
    assert download(address, target, None, None, Silent()) == sha256(DATA[::-1])


def test_a_complete_download_needs_no_connection(address: str, target: Path, site: Site) -> None:
    target.parent.mkdir()
    target.write_bytes(DATA)
    get(address, target)
    assert site.asked == []


def test_without_a_known_size_the_server_says_that_it_is_complete(address: str, target: Path, site: Site) -> None:
    target.parent.mkdir()
    target.write_bytes(DATA)
    download(address, target, None, sha256(DATA), Silent())
    assert site.ranges_asked == [f"bytes={len(DATA)}-"]


def test_a_wrong_checksum_leaves_nothing(address: str, target: Path, site: Site) -> None:
    site.content["/file"] = DATA[::-1]
    with pytest.raises(ModelError, match=f"wrong checksum: its SHA-256 is [0-9a-f]{{64}}, {sha256(DATA)} belongs"):
        get(address, target)
    assert not target.parent.exists()


@pytest.mark.parametrize("data", [DATA + b"!", b"<html>Please log in</html>"])
def test_another_size_is_refused_before_it_is_downloaded(data: bytes, address: str, target: Path, site: Site) -> None:
    site.content["/file"] = data
    with pytest.raises(ModelError, match=f"offers {len(data):,} bytes, not {len(DATA):,}"):
        get(address, target)
    assert not target.exists()


def test_a_server_that_does_not_answer_is_given_up(address: str, target: Path, site: Site) -> None:
    site.hangs_at = "/"
    with pytest.raises(NetworkError, match=r"file: the connection to 127.0.0.1 broke \(no answer within 0.05 seconds"):
        get(address, target, answer_seconds=0.05, attempts=1)


def test_what_the_server_does_not_have_is_one_clear_line(address: str, target: Path, site: Site) -> None:
    site.content.clear()
    with pytest.raises(NetworkError, match=r"127.0.0.1 does not have it \(404\)"):
        get(address, target)


def test_no_network_is_one_clear_line(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    with offline.allowed(), pytest.raises(NetworkError, match=r"file: no connection to no.such.host.invalid"):
        get("http://no.such.host.invalid/file", target)


def test_an_address_without_its_beginning_is_named(target: Path) -> None:
    with offline.allowed(), pytest.raises(NetworkError, match="must begin with https://"):
        get("mirror.invalid/a.gguf", target)
