"""What is on the disk: states, the file to load for a role, and that a wrong file is never loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from weights_world import World, make_gguf, sha256

from s3local.exceptions import ModelError
from s3local.progress import Silent
from s3local.storage import sha256_of
from s3local.weights import store
from s3local.weights.fetch import fetch
from s3local.weights.store import find_encoder, find_judge, find_student_body, find_teacher, survey, verify


def put(world: World, model: str, files: dict[str, bytes]) -> Path:
    """Copy files into a model's folder by hand."""
    folder = world.folder / model
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def test_a_missing_model_says_how_to_get_it(world: World) -> None:
    with pytest.raises(ModelError, match=r"hubbed is not here \(.*hubbed.gguf is missing\): run 's3local models fetch"):
        find_teacher("hubbed")


def test_an_unknown_id_lists_the_known_ones(world: World) -> None:
    with pytest.raises(ModelError, match='unknown model "nobody"; known are "packed", "hubbed", "split"'):
        find_teacher("nobody")


def test_a_model_of_another_role_is_refused(world: World) -> None:
    with pytest.raises(ModelError, match="packed is not a teacher; it is: student, encoder"):
        find_teacher("packed")


def test_a_short_file_is_damaged(world: World) -> None:
    put(world, "hubbed", {"hubbed.gguf": world.hubbed[:-1]})
    with pytest.raises(ModelError, match="damaged"):
        find_teacher("hubbed")
    states = {local.model.id: local.state for local in survey()}
    assert states == {"packed": "missing", "hubbed": "damaged", "split": "missing"}


def test_a_file_of_the_right_size_is_hashed_once_and_again_when_it_changes(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []

    def counted(path: Path, *others: object) -> str:
        hashed.append(path.name)
        return sha256_of(path, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "sha256_of", counted)
    folder = put(world, "hubbed", {"hubbed.gguf": world.hubbed})
    for _ in range(3):
        assert find_teacher("hubbed").sha256 == sha256(world.hubbed)
    assert hashed == ["hubbed.gguf"]
    (folder / "hubbed.gguf").write_bytes(make_gguf(salt=1))
    with pytest.raises(ModelError, match=r"hubbed is damaged \(.* has a wrong checksum\): run"):
        find_teacher("hubbed")


def test_what_was_fetched_is_not_hashed_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(["hubbed", "packed", "split"], Silent())
    monkeypatch.setattr(store, "sha256_of", lambda *_: pytest.fail("hashed again"))
    find_teacher("hubbed")
    find_student_body("packed")
    assert find_judge() == world.folder / "split"


def test_verify_hashes_every_file_and_a_wrong_one_is_not_used_afterwards(world: World) -> None:
    fetch(["hubbed"], Silent())
    path = world.folder / "hubbed" / "hubbed.gguf"
    before = path.stat()
    path.write_bytes(make_gguf(salt=1))
    store.record_verified(path.parent, {path.name: sha256(world.hubbed)})  # as if the disk had changed a bit
    assert path.stat().st_size == before.st_size
    find_teacher("hubbed")
    (problem,) = verify([], Silent())["hubbed"]
    assert "is damaged: its SHA-256 is" in problem
    with pytest.raises(ModelError, match="wrong checksum"):
        find_teacher("hubbed")


def test_without_the_embedded_judge_there_is_none(world: World) -> None:
    assert find_judge() is None
    with pytest.raises(ModelError, match="split is not here"):
        find_judge("split")
    folder = put(world, "split", world.split)
    assert find_judge() == find_judge("split") == find_judge(str(folder)) == folder
    (folder / "model.safetensors").write_bytes(bytes(len(world.split["model.safetensors"])))
    with pytest.raises(ModelError, match="split is damaged"):
        find_judge()


def test_any_encoder_can_be_the_judge(world: World) -> None:
    folder = put(world, "packed", world.packed)
    assert find_judge("packed") == find_judge(str(folder)) == folder
    with pytest.raises(ModelError, match="hubbed is not a judge; it is: teacher"):
        find_judge("hubbed")


def test_a_folder_without_a_model_is_named(world: World, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a model folder: it has no config\.json"):
        find_encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("template", "n_large", "style"), [(True, 64, "chat"), (True, 65, "list"), (False, 64, "list")]
)
def test_a_path_is_loaded_as_it_is(
    template: bool, n_large: int, style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
