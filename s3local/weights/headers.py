"""What a weight file says of itself: the headers of GGUF and safetensors, read without loading a tensor.

A header also tells where the last tensor ends, so that a truncated copy is recognised in milliseconds.
Knows nothing of the manifest, and never imports llama.cpp or torch.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from s3local.exceptions import ModelError
from s3local.storage import translated_errors

GGUF_MAGIC = b"GGUF"
GGUF_DEFAULT_ALIGNMENT = 32
MAX_COUNT = 1 << 24
"""More entries than this in a header means that the bytes are damaged."""

SCALAR_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""GGUF value type to ``struct`` format; 8 is a string and 9 an array."""

TENSOR_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""ggml tensor type to (numbers in a block, bytes of a block). A type that is not here is counted as empty."""


@dataclass(frozen=True, slots=True)
class GGUFHeader:
    """What the rest of the program needs of a GGUF header.

    ``parts`` is the number of files that the model was split into (1: it is whole).
    """

    architecture: str
    context_length: int
    n_parameters: int
    has_chat_template: bool
    licence: str
    parts: int


class _Reader:
    """Little-endian values from a stream; running out of bytes means that the file was cut inside its header."""

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self.stream = stream
        self.path = path

    def bytes(self, count: int) -> bytes:
        data = self.stream.read(count)
        if len(data) < count:
            raise ModelError(f"{self.path} is truncated: it ends inside its header, after {self.stream.tell():,} bytes")
        return data

    def scalar(self, form: str) -> Any:
        return struct.unpack("<" + form, self.bytes(struct.calcsize("<" + form)))[0]

    def count(self) -> int:
        number: int = self.scalar("Q")
        if number > MAX_COUNT:
            raise ModelError(f"{self.path} is damaged: its header claims {number:,} entries at once")
        return number

    def string(self) -> str:
        return self.bytes(self.count()).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        """A metadata value; arrays are passed over and given as None, nothing here needs one."""
        if kind in SCALAR_FORMATS:
            return self.scalar(SCALAR_FORMATS[kind])
        if kind == 8:
            return self.string()
        if kind == 9:
            item_kind, count = self.scalar("I"), self.count()
            if item_kind in SCALAR_FORMATS:
                self.bytes(count * struct.calcsize(SCALAR_FORMATS[item_kind]))
            else:
                for _ in range(count):
                    self.value(item_kind)
            return None
        raise ModelError(f"{self.path} is damaged: its header holds a value of the unknown type {kind}")


def read_gguf_header(path: Path) -> GGUFHeader:
    """The header of a GGUF file.

    Raises ``ModelError`` if the file is no GGUF, is damaged, or is shorter than its tensors need;
    ``StorageError`` if it cannot be read.
    """
    with translated_errors(path, "read"), path.open("rb") as stream:
        magic = stream.read(4)
        if magic != GGUF_MAGIC:
            found = f"it starts with {magic!r}" if magic else "it is empty"
            raise ModelError(f"{path} is not a GGUF file: {found}, where {GGUF_MAGIC!r} belongs")
        reader = _Reader(stream, path)
        version = reader.scalar("I")
        if version not in (2, 3):
            raise ModelError(f"{path} is a GGUF file of version {version}; versions 2 and 3 (little-endian) are known")
        n_tensors, n_values = reader.count(), reader.count()
        metadata: dict[str, Any] = {}
        for _ in range(n_values):
            key = reader.string()
            metadata[key] = reader.value(reader.scalar("I"))

        n_parameters = 0
        data_bytes = 0
        for _ in range(n_tensors):
            reader.string()  # the tensor's name
            dimensions = [reader.scalar("Q") for _ in range(reader.scalar("I"))]
            kind, offset = reader.scalar("I"), reader.scalar("Q")
            n_numbers = math.prod(dimensions)
            block_numbers, block_bytes = TENSOR_BLOCKS.get(kind, (1, 0))
            n_parameters += n_numbers
            data_bytes = max(data_bytes, offset + n_numbers // block_numbers * block_bytes)

        alignment = metadata.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
        promised = math.ceil(stream.tell() / alignment) * alignment + data_bytes
    _require_size(path, promised)
    architecture = str(metadata.get("general.architecture", "unknown"))
    return GGUFHeader(
        architecture=architecture,
        context_length=int(metadata.get(f"{architecture}.context_length", 0)),
        n_parameters=n_parameters,
        has_chat_template="tokenizer.chat_template" in metadata,
        licence=str(metadata.get("general.license", "unknown")),
        parts=int(metadata.get("split.count", 0)) or 1,
    )


def check_safetensors(path: Path) -> None:
    """Make sure that a safetensors file is whole.

    Raises ``ModelError`` if its header cannot be read or the file is shorter than its tensors need;
    ``StorageError`` if it cannot be read.
    """
    with translated_errors(path, "read"), path.open("rb") as stream:
        length = stream.read(8)
        header_bytes = struct.unpack("<Q", length)[0] if len(length) == 8 else 0
        if not 2 <= header_bytes <= path.stat().st_size - 8:
            raise ModelError(f"{path} is not a safetensors file, or is truncated inside its header")
        try:
            header = json.loads(stream.read(header_bytes))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as exc:
            raise ModelError(f"{path} is not a safetensors file: its header is not readable") from exc
    _require_size(path, 8 + header_bytes + max(ends, default=0))


def _require_size(path: Path, promised: int) -> None:
    found = path.stat().st_size
    if found < promised:
        raise ModelError(f"{path} is truncated: its header promises {promised:,} bytes, the file has {found:,}")
