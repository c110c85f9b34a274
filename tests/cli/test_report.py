"""``report`` prints the tables, writes the page, and tells in one line why it cannot; ``run`` writes the page too."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from unittest.mock import patch

import click
import pytest
from click.testing import CliRunner
from program import call, complains
from report_world import write_run
from some_results import compare_summary

from s3local.cli.options import command_line
from s3local.cli.run import run
from s3local.report.text import read_summary
from s3local.results import COMPARE_FILE, write_result
from s3local.runner import loop
from s3local.runner.loop import RunResult


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    return folder


def test_it_prints_tables_and_writes_the_page(folder: Path) -> None:
    result = call("report", str(folder))
    assert result.exit_code == 0, result.output
    assert "desk: accuracy" in result.stdout and f"report:   {folder / 'report.html'}" in result.stdout
    assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_json_is_all_that_it_prints(folder: Path, tmp_path: Path) -> None:
    result = call("report", str(folder), "--json", "-o", str(tmp_path / "page.html"))
    assert json.loads(result.stdout)["task"] == "desk"
    assert (tmp_path / "page.html").is_file()


def test_open_opens_the_page(folder: Path) -> None:
    with patch.object(webbrowser, "open", return_value=True) as opened:
        assert call("report", str(folder), "--open").exit_code == 0
    opened.assert_called_once_with((folder / "report.html").as_uri())
    with patch.object(webbrowser, "open", return_value=False):
        result = call("report", str(folder), "--open")
    assert result.exit_code == 0 and "found no browser" in result.stderr


def test_a_comparison(tmp_path: Path) -> None:
    write_result(tmp_path / COMPARE_FILE, compare_summary("gold", "s3"))
    result = call("report", str(tmp_path))
    assert result.exit_code == 0 and "After each round" in result.stdout
    assert (tmp_path / "report.html").is_file()


def test_what_cannot_be_reported_is_told_in_one_line(folder: Path, tmp_path: Path) -> None:
    complains(call("report", str(tmp_path / "nowhere")), "no finished run")
    (tmp_path / "file").write_text("in the way")
    complains(call("report", str(folder), "-o", str(tmp_path / "file" / "page.html")), "file")
    complains(call("report", str(folder), "-o", str(tmp_path)), str(tmp_path))


def test_a_run_writes_its_page_at_the_end(task: Path, folder: Path) -> None:
    finished = RunResult(folder, read_summary(folder))
    with patch.object(loop, "run", return_value=finished) as started:
        result = call("run", str(task), "--rows", "40", "--quiet")
    assert result.exit_code == 0, result.output
    assert f"report:   {folder / 'report.html'}" in result.stdout
    assert started.call_args.kwargs["command"] == f"s3local run {task} --rows 40"


def test_the_command_line_is_what_the_user_gave(tmp_path: Path) -> None:
    """Run again, it gives the same parameters; options that only show something are left out."""
    said: list[str] = []
    original = run.callback

    def note(**_: object) -> None:
        said.append(command_line())

    arguments = [str(tmp_path / "my task"), "--rows", "40", "--without-gold", "--name", "a b", "--json", "--quiet"]
    with patch.object(run, "callback", note):
        CliRunner().invoke(
            click.Group(commands=[run]), ["run", *arguments], prog_name="s3local", catch_exceptions=False
        )
    assert run.callback is original
    assert said == [f"s3local run '{tmp_path / 'my task'}' --name 'a b' --rows 40 --without-gold"]
