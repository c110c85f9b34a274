"""Fetching: sources in turn, only right files under their names, and nothing downloaded twice."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from weights_world import Listening, Site, World, files_in, make_gguf, sha256

from s3local.exceptions import ModelError, NetworkError, StorageError
from s3local.progress import Silent
from s3local.weights import download, fetch
from s3local.weights.manifest import Wheel, known_models
from s3local.weights.store import verify

WHEEL_ADDRESSES = fetch.wheel_addresses


def under(model: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{model}/{path}": data for path, data in files.items()}


def test_the_embedded_models_are_fetched_and_a_second_call_asks_for_nothing(world: World, site: Site) -> None:
    fetch.fetch([], Silent())
    assert files_in(world.folder) == under("packed", world.packed) | under("split", world.split)
    asked = len(site.asked)
    listening = Listening()
    fetch.fetch([], listening)
    assert len(site.asked) == asked
    assert "nothing to do" in listening.said[-1]


def test_the_judge_can_be_left_out(world: World) -> None:
    fetch.fetch([], Silent(), judge=False)
    assert files_in(world.folder) == under("packed", world.packed)


def test_an_unknown_id_is_named(world: World) -> None:
    with pytest.raises(ModelError, match='unknown model "nobody"; known are "packed", "hubbed", "split"'):
        fetch.fetch(["packed", "nobody"], Silent())


def test_every_file_is_on_the_disk_before_it_gets_its_name(world: World, renames: list[str]) -> None:
    fetch.fetch(["packed", "hubbed", "split"], Silent())
    assert {"hubbed.gguf", "config.json", "model.safetensors"} <= set(renames)


class TestSources:
    def test_the_hub_is_asked_first(self, world: World, site: Site) -> None:
        site.content |= {f"/the/hub/{path}": data for path, data in world.split.items()}
        fetch.fetch(["split"], Silent())
        assert {path for path, _ in site.asked} == {"/the/hub/config.json", "/the/hub/model.safetensors"}
        assert files_in(world.folder) == under("split", world.split)

    def test_a_hub_that_does_not_answer_is_given_up_soon(
        self, world: World, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fetch, "HUB_ANSWER_SECONDS", 0.05)
        site.hangs_at = "/the/hub"
        listening = Listening()
        fetch.fetch(["split"], listening)
        assert [path for path, _ in site.asked] == ["/the/hub/config.json", "/part-0.whl", "/part-1.whl"]
        assert any("no answer within 0.05 seconds" in line for line in listening.said)
        assert verify(["split"], Silent()) == {"split": []}

    def test_a_hub_with_another_file_is_not_believed(self, world: World, site: Site) -> None:
        site.content |= {f"/the/hub/{path}": bytes(len(data)) for path, data in world.split.items()}
        fetch.fetch(["split"], Silent())
        assert files_in(world.folder) == under("split", world.split)

    def test_what_the_hub_has_is_not_fetched_again(self, world: World, site: Site) -> None:
        site.content["/the/hub/config.json"] = world.split["config.json"]
        listening = Listening()
        fetch.fetch(["split"], listening)
        assert any("split: 1 files from packages" in line for line in listening.said)
        assert verify(["split"], Silent()) == {"split": []}

    def test_if_all_fail_one_line_says_why(self, world: World, site: Site) -> None:
        site.content.clear()
        message = (
            r"part-0-1\.0\.whl: 127\.0\.0\.1 does not have it .*by hand\); before that, .*config\.json: 127\.0\.0\.1"
        )
        with pytest.raises(NetworkError, match=message):
            fetch.fetch(["split"], Silent())
        assert files_in(world.folder) == {}

    def test_an_interrupted_archive_is_resumed_with_the_parts_that_are_here(self, world: World, site: Site) -> None:
        del site.content["/part-1.whl"]
        with pytest.raises(NetworkError):
            fetch.fetch(["split"], Silent())
        site.content["/part-1.whl"] = world.wheels[1]
        site.asked.clear()
        fetch.fetch(["split"], Silent())
        assert [path for path, _ in site.asked] == ["/the/hub/config.json", "/part-1.whl"]
        assert files_in(world.folder) == under("split", world.split)

    def test_an_imported_model_has_none(self, world: World, tmp_path: Path) -> None:
        record = {"id": "mine", "roles": ["student"], "licence": "MIT", "files": [{"path": "x", "sha256": "0" * 64}]}
        (world.folder / "mine").mkdir(parents=True)
        (world.folder / "mine" / "s3local.json").write_text(json.dumps(record))
        with pytest.raises(ModelError, match="mine was imported; import it again"):
            fetch.fetch(["mine"], Silent())


OTHER = sha256(b"other")


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        ("packed", {"wheel": OTHER}),
        ("packed", {"file_1": OTHER}),
        ("hubbed", {"hub": f', sha256 = "{OTHER}"'}),
        ("split", {"archive": OTHER}),
    ],
)
def test_a_wrong_checksum_leaves_nothing_under_the_final_name(
    model: str, changes: dict[str, str], world: World
) -> None:
    world.write_manifest(**changes)
    with pytest.raises(ModelError, match=f"wrong checksum: its SHA-256 is [0-9a-f]{{64}}, {OTHER} belongs there"):
        fetch.fetch([model], Silent())
    assert not [path for path in files_in(world.folder) if path.endswith((".safetensors", ".gguf", ".zip"))]


def test_a_wrong_size_is_refused(world: World) -> None:
    world.write_manifest(wheel_size=1000)
    with pytest.raises(ModelError, match="wrong size"):
        fetch.fetch(["packed"], Silent())
    assert files_in(world.folder) == {}


def test_a_damaged_file_is_fetched_again(world: World) -> None:
    fetch.fetch(["hubbed"], Silent())
    path = world.folder / "hubbed" / "hubbed.gguf"
    for damaged in (bytes(len(world.hubbed)), b"short"):
        path.write_bytes(damaged)
        fetch.fetch(["hubbed"], Silent())
        assert path.read_bytes() == world.hubbed


def test_without_a_checksum_in_the_manifest_that_of_the_received_file_holds(world: World) -> None:
    world.write_manifest(hub="")
    listening = Listening()
    fetch.fetch(["hubbed"], listening)
    assert any("recorded what was received" in line for line in listening.said)
    assert known_models()["hubbed"].files[0].sha256 == sha256(world.hubbed)
    (world.folder / "hubbed" / "hubbed.gguf").write_bytes(make_gguf(salt=1))
    assert "damaged" in verify([], Silent())["hubbed"][0]


@pytest.mark.parametrize("model", ["packed", "split"])
def test_a_full_disk_is_seen_before_the_download(
    model: str, world: World, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = len(site.content["/a-package.whl"]) if model == "packed" else sum(map(len, world.wheels))
    free = download.SPARE_BYTES + wheels  # room for the wheels, but not for what is in them
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    with pytest.raises(StorageError, match=r"not enough room .* are needed and .* are free"):
        fetch.fetch([model], Silent())
    assert files_in(world.folder) == {}


class TestWheelAddresses:
    @staticmethod
    def answer(monkeypatch: pytest.MonkeyPatch, stdout: str, stderr: str) -> list[list[str]]:
        """Let pip answer so; the commands that it was given."""
        commands: list[list[str]] = []

        def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
            commands.append(command)
            return subprocess.CompletedProcess(command, 0, stdout, stderr)

        monkeypatch.setattr(subprocess, "run", run)
        return commands

    WHEELS = tuple(Wheel(name=name, version="1.0", size=1, sha256="0" * 64) for name in ("a-b", "c"))

    def test_one_call_of_pip_finds_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = [
            {"metadata": {"name": name}, "download_info": {"url": f"file:///mirror/{name}-1.0.whl"}}
            for name in ("c", "A_B")
        ]
        commands = self.answer(monkeypatch, json.dumps({"install": found}), "WARNING: something")
        assert WHEEL_ADDRESSES(self.WHEELS) == ["file:///mirror/A_B-1.0.whl", "file:///mirror/c-1.0.whl"]
        assert [command[-2:] for command in commands] == [["a-b==1.0", "c==1.0"]]

    def test_pips_error_is_passed_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer(monkeypatch, "", "WARNING: x\nERROR: No matching distribution found for a-b==1.0\n")
        with pytest.raises(NetworkError, match=r"pip cannot find a-b==1.0 c==1.0: No matching distribution"):
            WHEEL_ADDRESSES(self.WHEELS)

    def test_a_missing_connection_is_not_taken_for_a_missing_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        retry = "WARNING: Retrying after connection broken by 'NewConnectionError'\nERROR: No matching distribution\n"
        self.answer(monkeypatch, "", retry)
        with pytest.raises(NetworkError, match="no connection to the package registry"):
            WHEEL_ADDRESSES(self.WHEELS)

    def test_an_incomplete_answer_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer(monkeypatch, '{"install": []}', "")
        with pytest.raises(NetworkError, match="pip gave no reason"):
            WHEEL_ADDRESSES(self.WHEELS)
