"""Files that a stranger could send, each of which must be refused in one line: GGUF, safetensors, model folders,
archives and YAML."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

from weights_world import gguf_string, gguf_value, make_gguf, make_safetensors, write_folder

from s3local.embedder import SentenceTransformerEmbedder
from s3local.progress import Silent
from s3local.task.yaml_file import read_yaml
from s3local.teacher.chat_template import ChatTemplate
from s3local.weights.folders import check_model_folder
from s3local.weights.headers import check_safetensors, read_gguf_header
from s3local.weights.importing import import_model

Case = Callable[[Path], object]
"""Makes a hostile file in a folder, and opens it as the program does."""


def _gguf(data: bytes) -> Case:
    def case(folder: Path) -> object:
        path = folder / "a.gguf"
        path.write_bytes(data)
        return read_gguf_header(path)

    return case


def _counts(n_tensors: int, n_values: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, n_tensors, n_values)


def _tensor(*dimensions: int, kind: int = 0, offset: int = 0) -> bytes:
    form = f"<I{len(dimensions)}QIQ"
    return gguf_string("t") + struct.pack(form, len(dimensions), *dimensions, kind, offset)


def _text_value(key: str, text: str) -> bytes:
    return gguf_string(key) + struct.pack("<I", 8) + gguf_string(text)


def _safetensors(header: bytes, data: bytes = b"") -> Case:
    def case(folder: Path) -> object:
        path = folder / "a.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header + data)
        check_safetensors(path)
        return None

    return case


def _entry(**entry: object) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **entry}}).encode()


def _model(open_it: Callable[[Path], object] = check_model_folder, **files: object) -> Case:
    """A model folder with these files beside an encoder's usual ones; names have __ for a dot and ___ for a slash."""

    def case(folder: Path) -> object:
        model = write_folder(folder / "model", encoder=True)
        for name, content in files.items():
            path = model / name.replace("___", "/").replace("__", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return open_it(model)

    return case


def _module(kind: str, path: str = "") -> list[dict[str, object]]:
    return [{"idx": 0, "name": "0", "path": path, "type": kind}]


def _linked(target: str) -> Case:
    def case(folder: Path) -> object:
        model = write_folder(folder / "model", encoder=True)
        (folder / "outside.txt").write_text("secret")
        (model / "notes.txt").symlink_to(target)
        return import_model([model], "mine", (), Silent())

    return case


def _zip(**members: bytes) -> Case:
    def case(folder: Path) -> object:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name.replace("___", "/").replace("__", "."), data)
        path = folder / "a.zip"
        path.write_bytes(stream.getvalue())
        return import_model([path], None, (), Silent())

    return case


def _wheel(data: bytes) -> Case:
    def case(folder: Path) -> object:
        path = folder / "a-1.0-py3-none-any.whl"
        path.write_bytes(data)
        return import_model([path], None, (), Silent())

    return case


def _yaml(text: str | bytes) -> Case:
    def case(folder: Path) -> object:
        path = folder / "task.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_yaml(path)

    return case


def _template(text: str) -> Case:
    def case(folder: Path) -> object:
        template = ChatTemplate(text, "a.gguf", "2025-01-01")
        try:
            return template.render([{"role": "user", "content": "Hi"}])
        finally:
            template.close()

    return case


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
EVIL = "import pathlib; pathlib.Path('executed').touch()"

HOSTILE: dict[str, Case] = {
    "gguf: empty": _gguf(b""),
    "gguf: a page of HTML": _gguf(b"<!DOCTYPE html>"),
    "gguf: version 1": _gguf(b"GGUF" + struct.pack("<IQQ", 1, 0, 0)),
    "gguf: big-endian": _gguf(b"GGUF" + struct.pack(">IQQ", 3, 0, 0)),
    "gguf: more values than there can be": _gguf(_counts(0, 1 << 40)),
    "gguf: more tensors than there can be": _gguf(_counts(1 << 40, 0)),
    "gguf: the largest counts": _gguf(_counts(2**64 - 1, 2**64 - 1)),
    "gguf: a string longer than the file": _gguf(_counts(0, 1) + struct.pack("<Q", 1 << 60)),
    "gguf: a string of the largest length": _gguf(_counts(0, 1) + struct.pack("<Q", 2**64 - 1)),
    "gguf: an array longer than the file": _gguf(_counts(0, 1) + gguf_value("a", 9, "IQ", 0, 1 << 60)),
    "gguf: more strings than there can be": _gguf(_counts(0, 1) + gguf_value("a", 9, "IQ", 8, 1 << 40)),
    "gguf: nested arrays": _gguf(_counts(0, 1) + gguf_value("a", 9, "IQ", 9, 1) + struct.pack("<IQ", 9, 1) * 20_000),
    "gguf: an unknown type": _gguf(_counts(0, 1) + gguf_value("a", 77, "Q", 0)),
    "gguf: a million dimensions": _gguf(_counts(1, 0) + gguf_string("t") + struct.pack("<I", 1_000_000)),
    "gguf: a tensor larger than any disk": _gguf(_counts(1, 0) + _tensor(1 << 63, 1 << 63)),
    "gguf: an offset beyond the file": _gguf(_counts(1, 0) + _tensor(1, offset=2**64 - 1)),
    "gguf: an alignment of 0": _gguf(make_gguf(gguf_value("general.alignment", 4, "I", 0))),
    "gguf: a negative alignment": _gguf(make_gguf(gguf_value("general.alignment", 5, "i", -32))),
    "gguf: an alignment that is a text": _gguf(make_gguf(_text_value("general.alignment", "x"))),
    "gguf: a context length of NaN": _gguf(make_gguf(gguf_value("llama.context_length", 6, "f", float("nan")))),
    "gguf: a context length that is a text": _gguf(make_gguf(_text_value("llama.context_length", "long"))),
    "gguf: an infinite number of parts": _gguf(make_gguf(gguf_value("split.count", 6, "f", float("inf")))),
    "gguf: cut in its tensors": _gguf(make_gguf()[:-8]),
    "safetensors: empty": lambda folder: _safetensors_bytes(folder, b""),
    "safetensors: a header longer than the file": lambda folder: _safetensors_bytes(folder, struct.pack("<Q", 1 << 62)),
    "safetensors: brackets": _safetensors(b"[" * 100_000),
    "safetensors: no object": _safetensors(b'"text"'),
    "safetensors: a tensor without a description": _safetensors(b'{"a": 1}'),
    "safetensors: a negative offset": _safetensors(_entry(data_offsets=[-4, 0]), bytes(4)),
    "safetensors: an offset beyond the file": _safetensors(_entry(data_offsets=[0, 1 << 60]), bytes(4)),
    "safetensors: a huge dimension": _safetensors(_entry(shape=[1 << 62, 1 << 62]), bytes(4)),
    "safetensors: an unknown number format": _safetensors(_entry(dtype="EVIL"), bytes(4)),
    "safetensors: overlapping tensors": _safetensors(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "safetensors: a header of 17 MB": _safetensors(b" " * (17 << 20)),
    "safetensors: cut": lambda folder: _safetensors_bytes(folder, make_safetensors()[:-1]),
    "folder: a module beside the weights": _model(
        SentenceTransformerEmbedder, modules__json=_module("evil.Evil"), evil__py=f"{EVIL}\nclass Evil: pass"
    ),
    "folder: a module of another package": _model(modules__json=_module("os.path")),
    "folder: a module of the package that is not allowed": _model(
        modules__json=_module("sentence_transformers.models.Dense")
    ),
    "folder: a module without a type": _model(modules__json=[{"path": ""}]),
    "folder: a module outside of the folder": _model(
        modules__json=_module("sentence_transformers.models.Pooling", "../../outside")
    ),
    "folder: modules that are no list": _model(modules__json={"type": "x"}),
    "folder: modules that are no JSON": _model(modules__json="[" * 100_000),
    "folder: an auto_map": _model(config__json={"model_type": "bert", "auto_map": {"AutoModel": "evil.Evil"}}),
    "folder: a tokenizer of its own": _model(tokenizer_config__json={"auto_map": {"AutoTokenizer": ["evil.T", None]}}),
    "folder: an auto_map in a part": _model(
        SentenceTransformerEmbedder, **{"1_Pooling___config__json": {"auto_map": {"AutoModel": "evil.Evil"}}}
    ),
    "folder: a configuration that is a list": _model(config__json=[1, 2]),
    "folder: a link out of it": _linked("../outside.txt"),
    "folder: a link to a system file": _linked("/etc/hostname"),
    "archive: of a stranger": _zip(model__gguf=b"GGUF"),
    "archive: with a path out of it": _zip(**{"______evil__txt": b"x"}),
    "archive: a bomb": _zip(zeros=bytes(50_000_000)),
    "archive: no archive": lambda folder: _wheel(b"PK\x03\x04 not really")(folder),
    "yaml: aliases without end": _yaml(LAUGHS),
    "yaml: an alias for itself": _yaml("a: &a [*a]\n"),
    "yaml: brackets": _yaml("a: " + "[" * 5_000),
    "yaml: nested keys": _yaml("".join(f"{' ' * n}k:\n" for n in range(300))),
    "yaml: too large": _yaml("a: " + "x" * 1_000_001),
    "yaml: not UTF-8": _yaml(b"a: \xff\xfe"),
    "yaml: a control character": _yaml("a: \x07"),
    "yaml: a key twice": _yaml("a: 1\na: 2\n"),
    "yaml: a list": _yaml("- a\n- b\n"),
    "template: a loop without end": _template(
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}"
        "{% endfor %}"
    ),
    "template: a text of gigabytes": _template("{{ 'x' * 9999999999 }}"),
    "template: a text that doubles": _template("{% set s = 'xxxxxxxx' %}" + "{% set s = s ~ s %}" * 40 + "{{ s }}"),
    "template: Python's internals": _template("{{ ''.__class__.__mro__[1].__subclasses__() }}"),
    "template: a range beyond the limit": _template("{% for a in range(10**9) %}{% endfor %}"),
    "template: no template": _template("{% if %}"),
    "template: too long": _template("x" * 300_000),
}


def _safetensors_bytes(folder: Path, data: bytes) -> object:
    path = folder / "a.safetensors"
    path.write_bytes(data)
    check_safetensors(path)
    return None
