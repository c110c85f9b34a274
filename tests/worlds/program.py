"""The program as a user calls it, and what an error looks like: for the tests of commands."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from s3local.cli.main import main

CHECKOUT = Path(__file__).parents[2]


def call(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), input=stdin, prog_name="s3local")


def complains(result: Result, *parts: str) -> None:
    """One line that starts with "error:", exit code 2, no traceback, and each of ``parts`` in it."""
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    for part in parts:
        assert part in lines[0]
