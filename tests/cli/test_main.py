"""The program: help for every command, one line for an error, output that other programs can read."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from program import CHECKOUT, call, complains

from s3local.cli.main import main


def all_commands(
    group: click.Group = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, (*path, name))
        else:
            yield (*path, name), command


@pytest.mark.parametrize("path", [path for path, _ in all_commands()], ids=" ".join)
def test_help_says_what_a_command_does_and_shows_how(path: tuple[str, ...]) -> None:
    result = call(*path, "--help")
    assert result.exit_code == 0
    assert f"s3local {' '.join(path)}" in result.output.partition("Options:")[0].partition("\n\n")[2]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from s3local.cli.main import main\n"
        "for path in sys.argv[1:]: assert CliRunner().invoke(main, [*path.split(), '--help']).exit_code == 0\n"
        "heavy = ('numpy', 'torch', 'llama_cpp', 'transformers', 'onnxruntime', 'pydantic', 'yaml', 'rich')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    paths = ["", *(" ".join(path) for path, _ in all_commands())]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True, cwd=CHECKOUT
    )
    assert done.stdout.strip() == "[]"


def test_cli_py_is_the_same_program() -> None:
    for arguments in (["--version"], ["check", "data/support_desk", "--json"]):
        command = [sys.executable, "cli.py", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT)
        here = [str(CHECKOUT / part) if part.startswith("data/") else part for part in arguments]
        assert done.stdout == call(*here).stdout


def test_a_name_that_no_file_can_have_is_told_in_one_line() -> None:
    complains(call("models", "import", "a" * 300 + ".gguf"), "aaa", "name too long")


def run_program(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "cli.py", *arguments]
    return subprocess.run(command, capture_output=True, check=False, cwd=CHECKOUT, **options)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_output_is_utf8_whatever_the_system_writes(tmp_path: Path, encoding: str) -> None:
    row = {"text": "客服 café", "label": "é"}
    (tmp_path / "pool.jsonl").write_text(json.dumps(row))
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = run_program("data", "draw", str(tmp_path / "pool.jsonl"), "--rows", "1", env=environment)
    assert json.loads(done.stdout.decode("utf-8")) == row
    done = run_program("check", str(tmp_path / "客服"), env=environment)
    assert done.returncode == 2 and "客服" in done.stderr.decode("utf-8")


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_a_closed_output_ends_the_program_quietly(tmp_path: Path) -> None:
    (tmp_path / "pool.jsonl").write_text('{"text": "a", "label": "b"}\n' * 20_000)
    program = f"{shlex.quote(sys.executable)} cli.py data draw {shlex.quote(str(tmp_path / 'pool.jsonl'))} --rows 20000"
    options: Any = {"shell": True, "capture_output": True, "text": True, "cwd": CHECKOUT}
    piped = subprocess.run(f"{program} | head -n 1", **options, check=True)
    assert json.loads(piped.stdout) == {"text": "a", "label": "b"}
    assert piped.stderr == ""
    closed = subprocess.run(f"{program} >&-", **options, check=False)
    assert closed.returncode == 2
    assert closed.stderr.startswith("error: cannot write the rows: standard output is closed")
    assert len(closed.stderr.splitlines()) == 1
