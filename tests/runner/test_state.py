"""Laws of a run folder: a marker stands for a finished stage, other settings are refused, one process works in it."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from s3local.exceptions import RunError
from s3local.results import ReadingResult
from s3local.runner.loop import RunResult
from s3local.runner.state import RunFolder, selected_student


def test_a_stage_is_computed_once_and_timed(tmp_path: Path) -> None:
    calls: list[int] = []

    def compute() -> ReadingResult:
        calls.append(1)
        return ReadingResult(rows=7)

    state = RunFolder(tmp_path)
    first, second = (state.once("a/judge.json", ReadingResult, compute) for _ in range(2))
    assert first == second and first.rows == 7 and len(calls) == 1
    assert [event["event"] for event in state.events()] == ["stage begun", "stage done"]


def test_a_stage_that_fails_leaves_no_marker(tmp_path: Path) -> None:
    def fail() -> ReadingResult:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        RunFolder(tmp_path).once("judge.json", ReadingResult, fail)
    assert RunFolder(tmp_path).read("judge.json", ReadingResult) is None


def test_a_damaged_marker_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "judge.json").write_text('{"seconds": 1')
    with pytest.raises(RunError, match=r"judge\.json is damaged .*; delete it"):
        RunFolder(tmp_path).read("judge.json", ReadingResult)


def test_an_event_after_an_unfinished_line_is_read(tmp_path: Path) -> None:
    state = RunFolder(tmp_path)
    state.event("begun")
    with (tmp_path / "events.jsonl").open("a") as stream:
        stream.write('{"event": "cut o')
    state.event("ended")
    assert [event["event"] for event in state.events()] == ["begun", "ended"]


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, {"settings": {"rows": 24, "seed": 0}}):
        pass
    with (
        pytest.raises(RunError, match=r"settings\.rows: was 24, now 25"),
        RunFolder.open(tmp_path, {"settings": {"rows": 25, "seed": 0}}),
    ):
        pass


def test_another_version_with_the_same_prompts_may_go_on_and_one_with_others_is_refused(tmp_path: Path) -> None:
    def config(version: str, prompts: str) -> dict[str, Any]:
        return {"settings": {}, "versions": {"s3local": version}, "program": {"prompts_sha256": prompts}}

    for version in ("0.1.0", "0.1.1"):
        with RunFolder.open(tmp_path, config(version, "a")):
            pass
    with (
        pytest.raises(RunError, match=r"begun by another s3local \(version 0\.1\.0; this is 0\.2\.0\).*--name"),
        RunFolder.open(tmp_path, config("0.2.0", "b")),
    ):
        pass


def test_another_machine_may_go_on(tmp_path: Path) -> None:
    for name in ("one", "another"):
        with RunFolder.open(tmp_path, {"settings": {}, "machine": {"processor": name}}):
            assert json.loads((tmp_path / "config.json").read_text())["machine"] == {"processor": "one"}


def test_a_run_that_was_killed_before_its_first_file_was_whole_is_begun_again(tmp_path: Path) -> None:
    for name in (".config.json.17.part", "..owner.json.17.part", ".owner.json", ".lock"):
        (tmp_path / name).write_text("{")
    with RunFolder.open(tmp_path, {"settings": {}}):
        assert (tmp_path / "config.json").is_file()
    (tmp_path / "config.json").unlink()
    (tmp_path / "letter.txt").write_text("not a run")
    with pytest.raises(RunError, match="holds other files"), RunFolder.open(tmp_path, {}):
        pass


def test_two_runs_cannot_share_a_folder(tmp_path: Path) -> None:
    who = rf"another s3local \(process {os.getpid()} on {re.escape(platform.node())}\) is working"
    for _ in range(2):  # a run that has ended does not hold the folder
        with (
            RunFolder.open(tmp_path / "run", {"settings": {}}),
            pytest.raises(RunError, match=who),
            RunFolder.open(tmp_path / "run", {"settings": {}}),
        ):
            pass


def test_a_killed_process_gives_the_folder_back(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys\nfrom s3local.runner.state import RunFolder\n"
        "with RunFolder.open(pathlib.Path(sys.argv[1]), {}): os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], cwd=Path(__file__).parents[2])
    assert done.returncode == 9
    with RunFolder.open(tmp_path / "run", {}):
        pass


def test_the_selected_student_of_a_folder(finished: RunResult, tmp_path: Path) -> None:
    assert selected_student(finished.folder) == finished.model
    assert selected_student(tmp_path) == tmp_path / "final" / "student"  # the run has not ended
