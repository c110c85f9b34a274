"""``run``: what cannot be run is told in one line before anything is written; ``report`` on what was not run."""

from __future__ import annotations

from pathlib import Path

import llama_cpp
import pytest
from program import call, complains

from s3local.cli.main import main
from s3local.comparison.compare import CompareSettings
from s3local.runner.settings import RunSettings


@pytest.mark.models
def test_a_missing_and_a_corrupt_model(task: Path, tmp_path: Path, minilm: Path) -> None:
    out = ("--out", str(tmp_path / "out"))
    complains(call("run", str(task), *out, "--teacher", "no-such-model"), "no-such-model")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model at all, just some bytes")
    complains(call("run", str(task), *out, "--teacher", str(broken)), "broken.gguf")
    if not llama_cpp.llama_supports_gpu_offload():
        complains(call("run", str(task), *out, "--gpu-layers", "5"), "5 layers", "--gpu-layers")
    assert not (tmp_path / "out").exists()


@pytest.mark.models
def test_a_folder_that_cannot_be_written(task: Path, tmp_path: Path, minilm: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    complains(call("run", str(task), "--out", str(tmp_path / "file" / "run")), str(tmp_path / "file"))


@pytest.mark.parametrize("option", ["--contrast", "--error-cap", "--round-trip"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_number_is_finite(task: Path, option: str, value: str) -> None:
    result = call("run", str(task), option, value)
    assert result.exit_code == 2
    assert option in result.output and value in result.output


@pytest.mark.parametrize("command", ["run", "compare"])
@pytest.mark.parametrize("name", ["../../outside", "/outside", ".."])
def test_a_name_that_leaves_the_folder_of_runs_is_refused(task: Path, command: str, name: str) -> None:
    result = call(command, str(task), "--name", name)
    assert result.exit_code == 2
    assert "--name" in result.stderr and "cannot be the name of a folder" in result.stderr


@pytest.mark.parametrize("name", ["run", "compare"])
def test_options_have_the_defaults_of_the_settings(name: str) -> None:
    said = main.commands[name].make_context(name, ["my_task"]).params
    meant = {field: getattr(RunSettings(), field) for field in said.keys() & set(RunSettings.__dataclass_fields__)}
    assert {"rows", "rounds", "teacher"} <= set(meant)
    assert {field: said[field] for field in meant} == meant
    if name == "compare":
        defaults = CompareSettings()
        assert said["methods"] == ",".join(defaults.methods)
        assert said["seeds"] == ",".join(map(str, defaults.seeds))
        assert said["reference"] == defaults.reference


def test_report_and_predict_on_a_folder_without_a_run(tmp_path: Path) -> None:
    complains(call("report", str(tmp_path)), "no finished run")
    complains(call("predict", str(tmp_path), "-", stdin="{}\n"), "not an exported student")


@pytest.mark.parametrize("option", [("--rows", "5"), ("--teacher", "x"), ("--redact",), ("--rounds", "1"), ("--open",)])
def test_an_option_that_does_nothing_with_quick_is_refused(task: Path, tmp_path: Path, option: tuple[str, ...]) -> None:
    result = call("run", str(task), "--quick", "--out", str(tmp_path / "out"), *option)
    assert result.exit_code == 2
    assert f"{option[0]} has no effect with --quick" in result.output
    assert not (tmp_path / "out").exists()
