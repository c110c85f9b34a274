"""One file over HTTP, with its size and checksum compared, resumed where an earlier download broke off.

This is our own code because no library does all of it: ``huggingface_hub`` compares no checksum and fetches from the
hub alone, ``pooch`` cannot resume, and pip keeps nothing of a broken download.
"""

from __future__ import annotations

import contextlib
import http.client
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from s3local.exceptions import ModelError, NetworkError, StorageError
from s3local.progress import Progress
from s3local.storage import HASH_BLOCK_BYTES, sha256_of, translated_errors

TIMEOUT_SECONDS = 60
"""A connection without a byte for this long is broken."""
ATTEMPTS = 4
"""In a row, without a new byte."""
PAUSE_SECONDS = 2.0
"""After the first failed attempt; doubled after each further one."""
SPARE_BYTES = 50_000_000
"""Left free on the disk, for the records and for other programs."""


class _BrokenError(Exception):
    """The connection broke or the server has a temporary problem: worth another attempt."""


def download(
    address: str,
    target: Path,
    size: int | None,
    sha256: str | None,
    progress: Progress,
    *,
    answer_seconds: float = TIMEOUT_SECONDS,
    attempts: int = ATTEMPTS,
) -> str:
    """Download ``address`` to ``target``, continuing what is there from an earlier attempt. Returns the SHA-256.

    ``size`` in bytes and ``sha256`` are what the file must have (None: anything). A server that does not begin to
    answer within ``answer_seconds``, name resolution included, has failed; ``attempts`` failures in a row end it.
    Raises ``NetworkError``, ``StorageError`` (disk full), or ``ModelError`` for another size or checksum, and then
    deletes the file. In any other case ``target`` may be incomplete, and the next call continues it.
    """
    with translated_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    while size is None or size_of(target) != size:
        before = size_of(target)
        try:
            _continue_download(address, target, size, sha256, progress, answer_seconds)
            break
        except _BrokenError as exc:
            kept = size_of(target)
            failures = 0 if kept > before else failures + 1
            if failures >= attempts:
                state = f"; {kept / 1e6:,.1f} MB are kept, the same command continues from there" if kept else ""
                raise NetworkError(f"{target.name}: {exc}{state}") from exc
            progress.say(f"{target.name}: {exc}; trying again after {kept / 1e6:,.1f} MB")
            time.sleep(PAUSE_SECONDS * 2 ** max(0, failures - 1))
    with translated_errors(target, "read"):
        found = sha256_of(target)
    if sha256 not in (None, found):
        forget_download(target)
        raise wrong_checksum(target.name, found, sha256)
    return found


def wrong_checksum(name: str, found: str, expected: str | None) -> ModelError:
    """The error about a file with another checksum than the one that belongs there."""
    return ModelError(f"{name} has a wrong checksum: its SHA-256 is {found}, {expected} belongs there")


def forget_download(target: Path) -> None:
    """Delete a download, complete or not, and the folder around it if that is empty."""
    for path in (target, _version_file(target)):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        target.parent.rmdir()


def require_space(folder: Path, needed: int) -> None:
    """Raise ``StorageError`` if the disk of ``folder`` has no room for ``needed`` bytes. Creates the folder."""
    with translated_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    if needed + SPARE_BYTES > free:
        raise StorageError(
            f"not enough room in {folder}: {needed / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free"
        )


def size_of(path: Path) -> int:
    """The size of a file in bytes; 0 if it is not there."""
    return path.stat().st_size if path.is_file() else 0


def _continue_download(
    address: str, target: Path, size: int | None, sha256: str | None, progress: Progress, answer_seconds: float
) -> None:
    """Use one connection: append to ``target``, or start again if the server cannot continue."""
    have = size_of(target)
    if size is not None and have > size:
        have = 0
    version_file = _version_file(target)
    version = version_file.read_text(encoding="utf-8") if version_file.is_file() else ""
    headers = {"Accept-Encoding": "identity"}
    if have and (version or sha256):  # otherwise the halves of two different files might be joined
        headers["Range"] = f"bytes={have}-"
        if version:
            headers["If-Range"] = version
    with _opened(address, headers, target.name, answer_seconds) as response:
        first, whole = _range_of(response)
        if response.status == 416 and whole == have:
            return
        if response.status == 416 or (response.status == 206 and first != have):
            forget_download(target)
            raise _BrokenError("the server cannot continue the download, which starts again")
        done = have if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = done + int(length) if length is not None else size
        if None not in (size, total) and total != size:
            raise ModelError(f"{target.name} has a wrong size: the server offers {total:,} bytes, not {size:,}")
        require_space(target.parent, (total or 0) - done)
        with translated_errors(version_file):
            version_file.write_text(_version_of(response), encoding="utf-8")
        with (
            progress.step(f"fetching {target.name}", total, "B") as advance,
            translated_errors(target),
            target.open("ab" if done else "wb") as stream,
        ):
            advance(done)
            while block := _read(response, HASH_BLOCK_BYTES if total is None else min(HASH_BLOCK_BYTES, total - done)):
                stream.write(block)
                advance(len(block))
                done += len(block)
    if total is not None and done < total:
        raise _BrokenError("the connection broke")


@contextlib.contextmanager
def _opened(address: str, headers: dict[str, str], name: str, answer_seconds: float) -> Iterator[Any]:
    """The response to a GET. Status 416, nothing is left to continue, is a response too."""
    parts = urlsplit(address)
    host = parts.hostname or "this machine"
    try:
        response = _answer(urllib.request.Request(address, headers=headers), answer_seconds)
    except urllib.error.HTTPError as exc:
        if exc.code == 416:
            yield exc
            return
        if exc.code == 429 or exc.code >= 500:
            raise _BrokenError(f"{host} answered {exc.code} {exc.reason}") from exc
        reason = {401: "requires a login", 403: "denies access", 404: "does not have it"}.get(exc.code, "refuses it")
        raise NetworkError(f"{name}: {host} {reason} ({exc.code}): {parts.path}") from exc
    except (TimeoutError, ConnectionError, http.client.HTTPException) as exc:
        raise _BrokenError(f"the connection to {host} broke ({exc})") from exc
    except OSError as exc:
        raise NetworkError(f"{name}: no connection to {host}: {getattr(exc, 'reason', exc)}") from exc
    except ValueError as exc:
        problem = "an address must begin with https://, also in HF_ENDPOINT"
        raise NetworkError(f"{name}: {address} is not an address ({exc}); {problem}") from exc
    with response:
        yield response


def _answer(request: urllib.request.Request, seconds: float) -> Any:
    """The response, which must begin within ``seconds``. Raises ``TimeoutError``, or what ``urlopen`` raises.

    A thread waits for it, because a timeout of ``urlopen`` does not limit how long names are resolved.
    """
    answers: list[Any] = []
    abandoned = threading.Event()

    def ask() -> None:
        try:
            response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
        except BaseException as exc:
            answers.append(exc)
        else:
            answers.append(response)
            if abandoned.is_set():
                response.close()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    if not answers:
        abandoned.set()
        raise TimeoutError(f"no answer within {seconds:g} seconds")
    if isinstance(answers[0], BaseException):
        raise answers[0]
    return answers[0]


def _read(response: Any, count: int) -> bytes:
    try:
        block: bytes = response.read(count)
    except (OSError, http.client.HTTPException) as exc:
        raise _BrokenError(f"the connection broke ({exc})") from exc
    return block


def _range_of(response: Any) -> tuple[int | None, int | None]:
    """The first byte and the length of the whole file, from ``Content-Range: bytes FIRST-LAST/WHOLE``; None if it is
    not there."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", response.headers.get("Content-Range", ""))
    first, whole = found.groups() if found else (None, None)
    return (int(first) if first else None), (int(whole) if whole else None)


def _version_of(response: Any) -> str:
    """What ``If-Range`` needs to recognise the same file: a strong ETag, else the date, else ""."""
    etag = str(response.headers.get("ETag", ""))
    return etag if etag.startswith('"') else str(response.headers.get("Last-Modified", ""))


def _version_file(target: Path) -> Path:
    return target.with_name(target.name + ".version")
