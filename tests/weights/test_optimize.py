"""The selected format is the fastest one that leaves the predictions as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from weights_world import Listening, World, files_in, make_gguf, sha256

from s3local.exceptions import ModelError
from s3local.hardware import cpu_name
from s3local.progress import Silent
from s3local.weights import fetch, manifest
from s3local.weights import optimize as optimizing
from s3local.weights.store import Measured, find_teacher, folder_of, verify


@pytest.fixture(autouse=True)
def on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "llama_supports_gpu_offload", lambda: False)


@pytest.fixture
def measured(world: World, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[float, float]]:
    """The measurements that the formats will get: (tokens a second, drift)."""
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
    changes: dict[str, tuple[float, float]], kept: str, measured: dict[str, Any], world: World
) -> None:
    measured |= changes
    optimizing.optimize("hubbed", Silent())
    expected = {"hubbed.gguf", "optimized.json"} | ({f"hubbed.fast-{kept}.gguf"} if kept != "original" else set())
    assert files_in(world.folder / "hubbed").keys() == expected
    found = find_teacher("hubbed")
    assert found.path.name == (f"hubbed.fast-{kept}.gguf" if kept != "original" else "hubbed.gguf")
    assert found.sha256 == sha256(found.path.read_bytes())
    assert verify([], Silent()) == {"hubbed": []}


def test_a_damaged_copy_is_not_loaded(measured: dict[str, Any], world: World, renames: list[str]) -> None:
    measured["BF16"] = (300.0, 0.0)
    optimizing.optimize("hubbed", Silent())
    assert "hubbed.fast-BF16.gguf" in renames
    path = find_teacher("hubbed").path
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ModelError, match="is damaged: run 's3local models optimize hubbed'"):
        find_teacher("hubbed")


def test_it_holds_for_the_processor_it_was_measured_on_only(
    measured: dict[str, Any], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured["BF16"] = (300.0, 0.0)
    optimizing.optimize("hubbed", Silent())
    monkeypatch.setattr("s3local.weights.store.cpu_name", lambda: "another processor")
    assert find_teacher("hubbed").path.name == "hubbed.gguf"


def test_a_failure_keeps_the_former_choice(
    measured: dict[str, Any], world: World, monkeypatch: pytest.MonkeyPatch
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
    measured: dict[str, Any], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimizing, "MAX_ORIGINAL_BYTES", 10)
    listening = Listening()
    optimizing.optimize("hubbed", listening)
    assert "too large for a gain" in listening.said[-1]
    assert files_in(world.folder / "hubbed").keys() == {"hubbed.gguf"}
    optimizing.optimize("hubbed", listening, force=True)
    assert (world.folder / "hubbed" / "optimized.json").is_file()


def test_a_build_for_a_graphics_card_keeps_the_original(
    measured: dict[str, Any], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured["Q8_0"] = (900.0, 0.0)
    monkeypatch.setattr(llama_cpp, "llama_supports_gpu_offload", lambda: True)
    listening = Listening()
    optimizing.optimize("hubbed", listening)
    assert "graphics card" in listening.said[-1]
    assert files_in(world.folder / "hubbed").keys() == {"hubbed.gguf"}


@pytest.mark.models
def test_the_embedded_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
