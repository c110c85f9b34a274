"""``export``: files and folders of a finished run, and bad input in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from program import call, complains

from s3local.finished_run import FinishedRun


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "argilla", "label-studio", "onnx"])
def test_every_format_is_written(toy_run: FinishedRun, tmp_path: Path, form: str) -> None:
    result = call("export", str(toy_run.folder), "--to", form, "-o", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("wrote ") and (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_told_in_one_line(toy_run: FinishedRun, tmp_path: Path) -> None:
    run, out = str(toy_run.folder), str(tmp_path / "out")
    complains(call("export", str(tmp_path), "--to", "csv", "-o", out), "holds no finished run")
    complains(call("export", run, "--to", "onnx", "-o", str(toy_run.folder)), "something else than an export")
    complains(call("export", run, "--to", "csv", "-o", str(tmp_path)), "this is a folder, where a file belongs")
    complains(call("export", run, "--to", "csv", "--task", str(tmp_path), "-o", out), "task.yaml")
    result = call("export", run, "--to", "onnx", "--task", "x", "-o", out)
    assert result.exit_code == 2 and "leave out --task" in result.stderr
    assert not (tmp_path / "out").exists()
