"""``s3local models`` on a small manifest."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result
from weights_world import World, make_gguf

from s3local.cli.models import models
from s3local.exceptions import ModelError
from s3local.progress import Silent
from s3local.weights.fetch import fetch


def call(*arguments: str) -> Result:
    return CliRunner().invoke(models, arguments)


def test_verify_finds_a_flipped_byte(world: World) -> None:
    fetch(["hubbed"], Silent())
    assert call("verify").stdout == "ok     hubbed\n"
    path = world.folder / "hubbed" / "hubbed.gguf"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))
    found = call("verify")
    assert found.stdout.startswith("wrong  hubbed: ")
    assert isinstance(found.exception, ModelError)
    assert found.exception.exit_code == 2


def test_list_shows_the_states(world: World, tmp_path: Path) -> None:
    source = tmp_path / "a.gguf"
    source.write_bytes(make_gguf(salt=5))
    assert call("import", str(source), "--as", "mine").exit_code == 0
    assert call("fetch", "--no-judge").exit_code == 0
    rows = json.loads(call("list", "--json").stdout)
    states = {row["id"]: row["state"] for row in rows}
    assert states == {"packed": "ready", "hubbed": "missing", "split": "missing", "mine": "imported"}
    table = call("list").stdout
    assert all(row["id"] in table and row["state"] in table for row in rows)


def test_a_judge_is_fetched_unless_told_otherwise(world: World) -> None:
    assert call("fetch", "packed", "--no-judge").exit_code == 2
    assert call("fetch").exit_code == 0
    assert (world.folder / "split" / "model.safetensors").is_file()


def test_wheels_are_imported_together(world: World, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.whl" for number in range(2)]
    for path, data in zip(paths, world.wheels, strict=True):
        path.write_bytes(data)
    assert call("import", *map(str, paths)).exit_code == 0
    assert call("verify").stdout == "ok     split\n"
