"""Lines of text files in any encoding: UTF-8, or one that the user names. The likely one is named in the error."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from s3local.exceptions import InputError
from s3local.storage import decoded_lines

COMMON_ENCODINGS = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257"),
    *("cp932", "gb18030", "big5", "cp949", "euc_jp"),
)
"""Encodings other than UTF-8 that tables have: those of Windows in most languages."""

GUESSED_BYTES = 100_000
"""From how much of a file its encoding is guessed."""

MOSTLY_ASCII = 0.75
"""A text is in Latin script if this share of its bytes is ASCII; in other scripts, most bytes are not."""


def checked_encoding(name: str) -> str:
    """Python's name of the text encoding ``name``. Raises ``ValueError`` if there is no such encoding."""
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError) as exc:
        raise ValueError(f"unknown encoding {name}; known are utf-8, cp1252, latin-1, utf-16 and others") from exc
    if not getattr(found, "_is_text_encoding", True):
        raise ValueError(f"{name} is no encoding of texts; utf-8, cp1252, latin-1, utf-16 and others are")
    return found.name


def text_lines(stream: Iterable[bytes], path: Path, encoding: str | None = None) -> Iterator[str]:
    """Each line of an open file as text, with its end, without a byte order mark at the beginning of the file.

    ``encoding`` is a name that Python knows; None is UTF-8. ``path`` is for messages.
    Raises ``InputError`` with the line for bytes that are not of this encoding; where none was named, the message says
    which one the bytes are likely to have.
    """
    if encoding is None:
        yield from decoded_lines(stream, path, lambda line: _advice(path, line))
        return
    number = 1
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
        held = ""
        for block in chain(stream, [b""]):
            *lines, held = (held + decoder.decode(block, final=not block)).split("\n")
            for line in lines:
                yield (line.removeprefix("\ufeff") if number == 1 else line) + "\n"
                number += 1
        if held:
            yield held.removeprefix("\ufeff") if number == 1 else held
    except UnicodeError as exc:
        reason = exc.reason if isinstance(exc, UnicodeDecodeError) else str(exc)
        raise InputError(path, f"not {encoding} ({reason}); name another --encoding", line=number) from exc


def likely_encoding(sample: bytes) -> str | None:
    """Which of ``COMMON_ENCODINGS`` the bytes are likely to have; None if none fits.

    Several of them fit most texts in Latin script. Of these, Western European Windows is by far the most frequent.
    """
    from charset_normalizer import from_bytes

    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf_16"
    matches = from_bytes(sample, cp_isolation=list(COMMON_ENCODINGS))
    found = [name for match in matches for name in match.could_be_from_charset]
    if not found:
        return None
    ascii_share = sum(byte < 128 for byte in sample) / len(sample)
    return "cp1252" if "cp1252" in found and ascii_share > MOSTLY_ASCII else found[0]


def _advice(path: Path, line: bytes) -> str:
    """What to do about a file that is not UTF-8; ``line`` is all that is known of standard input."""
    sample = line
    if path.is_file():
        with path.open("rb") as stream:
            sample = stream.read(GUESSED_BYTES)
    found = likely_encoding(sample)
    if found is None:
        return "save the file as UTF-8, or name its encoding with --encoding"
    return f"it is probably {found}: read it with --encoding {found}, or save it as UTF-8"
