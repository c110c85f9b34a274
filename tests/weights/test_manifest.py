"""The manifest: what the real one promises, and how mistakes in one are reported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from weights_world import World

from s3local.exceptions import InputError
from s3local.weights import manifest
from s3local.weights.manifest import default_model, known_models, load_manifest, models_folder


def test_the_real_one_has_a_default_for_each_role_and_a_checksum_for_every_file() -> None:
    defaults = {role: default_model(role).id for role in ("teacher", "encoder", "student", "judge")}  # type: ignore[arg-type]
    assert defaults == {
        "teacher": "smollm2-135m-instruct",
        "encoder": "all-minilm-l6-v2",
        "student": "all-minilm-l6-v2",
        "judge": "all-mpnet-base-v2",
    }
    models = load_manifest()
    assert all(file.sha256 for model in models.values() for file in model.files)
    assert all(model.sources for model in models.values())


MODEL = '[[model]]\nid = "x"\nlicence = "MIT"\n'


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ('colour = "red"', "colour is unknown"),
        ('[[model]]\nid = "packed"', "model.3.roles"),
        (MODEL + 'roles = ["student"]\nfiles = [{path = "../x"}]', "inside"),
        (MODEL + 'roles = ["teacher"]\nfiles = [{path = "x.gguf"}]', "prompt_style"),
        ('[[model]]\nid = "packed"\nroles = ["student"]\nlicence = "MIT"\nfiles = [{path = "x"}]', "packed"),
        (
            MODEL + 'roles = ["student"]\nfiles = [{path = "x"}]\n'
            f'package = {{name = "x", version = "1", size = 1, sha256 = "{"0" * 64}", folder = "x"}}',
            "x comes out of a package; it needs size and sha256",
        ),
        ("=", "TOML"),
    ],
)
def test_a_mistake_is_named(more: str, named: str, world: World) -> None:
    world.write_manifest(more=more)
    with pytest.raises(InputError, match=named):
        load_manifest()


def test_an_installed_package_finds_its_copy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_CHECKOUT_MANIFEST", Path("/nowhere/manifest.toml"))
    assert "smollm2-135m-instruct" in load_manifest()


def test_the_models_of_an_installed_package_lie_in_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "_CHECKOUT_MANIFEST", Path("/nowhere/manifest.toml"))
    monkeypatch.delenv("S3LOCAL_MODELS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert models_folder().parts[-2:] == ("s3local", "models")
    monkeypatch.setenv("S3LOCAL_MODELS", str(tmp_path / "mine"))
    assert models_folder() == tmp_path / "mine"


def test_the_sources_are_tried_from_the_hub_on(world: World) -> None:
    split = load_manifest()["split"]
    assert [type(source).__name__ for source in split.sources] == ["Hub", "Archive"]
    assert split.origin == "hub the/hub at abc, else packages part-0==1.0 to part-1==1.0"


def write_record(world: World, content: bytes, folder: str = "mine") -> None:
    path = world.folder / folder / "s3local.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


RECORD = {"id": "mine", "roles": ["student"], "licence": "MIT", "files": [{"path": "x"}]}


def test_a_record_of_another_version_is_read(world: World) -> None:
    write_record(world, json.dumps(RECORD | {"context_length": 512}).encode())
    assert known_models()["mine"].roles == ("student",)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b'{"id": "m\xfcller"}', "not UTF-8"),
        (b"{}", "id"),
        (b"[]", "record|dictionary|object"),
        (json.dumps(RECORD | {"id": "other"}).encode(), "its id is 'other', the folder's name 'mine'"),
    ],
)
def test_a_damaged_record_is_named(content: bytes, named: str, world: World) -> None:
    write_record(world, content)
    with pytest.raises(InputError, match=named):
        known_models()
