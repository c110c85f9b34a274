"""A run folder under faults: a full disk, a lost permission, a power cut at every moment, damaged files.

The law: a marker that is there has its artefacts whole, and the same calls again give the same files.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from lossy_disk import LossyDisk
from small_world import settings, toy_models

from s3local.exceptions import RunError, S3LocalError, StorageError
from s3local.results import StageResult
from s3local.runner.loop import RunResult, run
from s3local.runner.state import RunFolder
from s3local.task.model import Task

posix = pytest.mark.skipif(os.name == "nt", reason="Windows cannot sync a folder")
N_STAGES, N_ROWS = 3, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(StageResult):
    rows: int


def rows_of_stage(stage: int) -> list[dict[str, object]]:
    return [{"id": f"{stage}-{number}", "text": "x" * 100} for number in range(N_ROWS)]


def work(folder: Path) -> None:
    """What a run does: rows first, the marker of their stage last, stage after stage; done stages are not repeated."""
    with RunFolder.open(folder, {"settings": {"rows": N_ROWS}}) as state:
        for stage in range(N_STAGES):

            def compute(stage: int = stage) -> Done:
                state.write_rows(f"stage-{stage}/rows.jsonl", rows_of_stage(stage))
                return Done(rows=N_ROWS)

            state.once(f"stage-{stage}/done.json", Done, compute)


def check_markers(folder: Path) -> None:
    """Every marker that is there has its artefact, whole."""
    state = RunFolder(folder)
    for stage in range(N_STAGES):
        if state.read(f"stage-{stage}/done.json", Done) is not None:
            assert state.read_rows(f"stage-{stage}/rows.jsonl") == rows_of_stage(stage)


def check_finished(folder: Path) -> None:
    check_markers(folder)
    assert all((folder / f"stage-{stage}" / "done.json").is_file() for stage in range(N_STAGES))
    assert not list(folder.rglob("*.part"))


class Faults:
    """Raises an error in the n-th call that changes the disk: a write, a sync, a rename."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
        self.left = -1
        self._error = error
        for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "mkdir"), (Path, "open")):
            monkeypatch.setattr(owner, name, self._watched(getattr(owner, name), name))

    def _watched(self, really: Callable[..., object], name: str) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            mode = str(kwargs.get("mode", args[1] if len(args) > 1 else "r")) if name == "open" else "w"
            if self.left >= 0 and set(mode) & set("wa+"):
                self.left -= 1
                if self.left < 0:
                    raise self._error
            return really(*args, **kwargs)

        return call


@posix
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.EDQUOT, None])
def test_a_fault_at_any_write_is_told_and_the_same_command_goes_on(
    number: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = KeyboardInterrupt() if number is None else OSError(number, os.strerror(number))
    faults = Faults(monkeypatch, error)
    for moment in range(200):
        folder = tmp_path / str(moment)
        faults.left = moment
        try:
            work(folder)
        except (StorageError, KeyboardInterrupt) as exc:
            assert len(str(exc).splitlines()) <= 1
            faults.left = -1
            check_markers(folder)
            work(folder)
            check_finished(folder)
        else:
            fired, faults.left = faults.left < 0, -1
            check_finished(folder)  # a folder that cannot be synced is no error
            if not fired:
                assert moment > 30
                return
    pytest.fail("the faults never ended")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux")
def test_after_a_power_cut_at_any_moment_no_marker_is_without_its_artefacts_and_the_work_goes_on(
    tmp_path: Path,
) -> None:
    for moment in range(200):
        root = tmp_path / f"before-{moment}"
        root.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            disk = LossyDisk(root, patch)
            disk.cut_after = moment
            try:
                work(root / "run")
                done = True
            except KeyboardInterrupt:
                done = False
        after = tmp_path / f"after-{moment}"
        disk.after_the_cut(after)
        check_markers(after / "run")
        work(after / "run")
        check_finished(after / "run")
        if done:
            assert moment > 20
            return
    pytest.fail("the work never ended")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("round-0/synthetic.jsonl", lambda path: path.unlink()),
        ("round-0/synthetic.jsonl", lambda path: path.write_bytes(path.read_bytes()[:-40])),
        ("round-0/synthetic.jsonl", lambda path: path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:-2]))),
        ("round-0/synthesis.json", lambda path: path.write_text("{")),
        ("round-0/metrics.json", lambda path: path.write_text("[]")),
        ("config.json", lambda path: path.write_text("")),
    ],
)
def test_a_damaged_run_folder_is_told_in_one_line(
    name: str, damage: Callable[[Path], object], finished: RunResult, task: Task, tiny_bert: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    damage(folder / name)
    chosen = settings(tiny_bert, model_selection=True, both_finals=True)
    with pytest.raises(S3LocalError) as caught:
        run(task, chosen, folder=folder, models=toy_models(chosen))
    assert len(str(caught.value).splitlines()) == 1
    assert folder.name in str(caught.value)


def test_a_run_folder_that_was_moved_goes_on(finished: RunResult, task: Task, tiny_bert: Path, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    shutil.copytree(finished.folder, folder)
    (folder / "result.json").unlink()
    chosen = settings(tiny_bert, model_selection=True, both_finals=True)
    again = run(task, chosen, folder=folder, models=toy_models(chosen))
    assert again.summary.dataset_sha256 == finished.summary.dataset_sha256
    with pytest.raises(RunError, match="begun with other settings"):
        other = settings(tiny_bert, rows=25)
        run(task, other, folder=folder, models=toy_models(other))
