"""Headers say what was written; damaged and hostile ones are refused in one line."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from weights_world import N_NUMBERS, gguf_string, gguf_value, make_gguf, make_safetensors

from s3local.exceptions import ModelError
from s3local.weights import headers
from s3local.weights.headers import check_safetensors, read_gguf_header


def test_a_header_says_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(make_gguf(template=True, parts=2))
    header = read_gguf_header(path)
    assert (header.architecture, header.context_length, header.n_parameters) == ("llama", 512, N_NUMBERS)
    assert (header.has_chat_template, header.licence, header.parts) == (True, "mit", 2)


@pytest.mark.parametrize("missing", [1, 4 * N_NUMBERS, 4 * N_NUMBERS + 40, 300, 400])
def test_every_truncated_copy_is_recognised(missing: int, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(make_gguf()[:-missing])
    with pytest.raises(ModelError, match="truncated"):
        read_gguf_header(path)


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html>", b"PK\x03\x04"])
def test_another_format_is_recognised_by_its_first_bytes(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"is not a GGUF file: it (starts with|is empty)"):
        read_gguf_header(path)


def counts(n_tensors: int, n_values: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_values)


HOSTILE = {
    "more values than there can be": counts(0, 1 << 40),
    "more tensors than there can be": counts(1 << 40, 0),
    "a string longer than the file": counts(0, 1) + struct.pack("<Q", 1 << 60),
    "an array longer than the file": counts(0, 1) + gguf_value("a", 9, "IQ", 0, 1 << 60),
    "more strings than there can be": counts(0, 1) + gguf_value("a", 9, "IQ", 8, 1 << 40),
    "nested arrays": counts(0, 1) + gguf_value("a", 9, "IQ", 9, 1) + struct.pack("<IQ", 9, 1) * 10_000,
    "an unknown type": counts(0, 1) + gguf_value("a", 77, "Q", 0),
    "a tensor of a million dimensions": counts(1, 0) + gguf_string("t") + struct.pack("<I", 1_000_000),
    "a tensor larger than any disk": counts(1, 0) + gguf_string("t") + struct.pack("<IQQIQ", 2, 1 << 63, 1 << 63, 0, 0),
    "an alignment of 0": make_gguf(gguf_value("general.alignment", 4, "I", 0)),
    "an alignment that is a text": make_gguf(
        gguf_string("general.alignment") + struct.pack("<I", 8) + gguf_string("x")
    ),
    "a context length that is not a number": make_gguf(gguf_value("llama.context_length", 6, "f", float("nan"))),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_header_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(HOSTILE[name] + bytes(1000))
    with pytest.raises(ModelError, match=r"damaged|truncated"):
        read_gguf_header(path)


def test_a_header_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headers, "MAX_GGUF_HEADER_BYTES", 1 << 20)
    path = tmp_path / "a.gguf"
    path.write_bytes(make_gguf(gguf_string("a") + struct.pack("<I", 8) + gguf_string("x" * (1 << 20))))
    with pytest.raises(ModelError, match="longer than 1 MB"):
        read_gguf_header(path)


@pytest.mark.parametrize("cut", [slice(-1), slice(20), slice(4), slice(1, None)])
def test_damaged_safetensors_are_refused(cut: slice, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(make_safetensors())
    check_safetensors(path)
    path.write_bytes(make_safetensors()[cut])
    with pytest.raises(ModelError):
        check_safetensors(path)


@pytest.mark.parametrize("header", [b"[" * 100_000, b'{"a": 1}', b" " * ((16 << 20) + 1)])
def test_a_hostile_safetensors_header_is_refused(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ModelError, match=r"a\.safetensors is (damaged|longer)"):
        check_safetensors(path)
