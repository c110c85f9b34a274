"""What the commands show: texts of a user exactly as they are, nothing where nothing is wanted."""

from __future__ import annotations

import json
import re

import pytest
from program import call
from rich.table import Table
from rich.text import Text

from s3local.cli.terminal import Terminal, progress, show, show_json
from s3local.runner.forecast import Forecast, Stage

ODD = ["[urgent]", "[/b]", ":cat:", "[link=x]", "{x}"]


@pytest.mark.parametrize("name", ODD)
def test_a_step_and_a_message_show_names_as_they_are(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "200"}.items():
        monkeypatch.setenv(key, value)
    terminal = Terminal()
    terminal.say(f"about {name}")
    with terminal.step(f"reading {name}", 3, "rows") as advance:
        terminal.note(f"{name}: 4 done")
        advance(3)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert f"about {name}" in shown
    assert f"reading {name}" in shown
    assert f"{name}: 4 done" in shown


@pytest.mark.parametrize("name", ODD)
def test_a_table_shows_names_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(name, title=name)
    table.add_row(name)
    show(table)
    assert capsys.readouterr().out.count(name) == 3


def test_where_there_is_no_terminal_a_step_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(quiet=False).step("reading", 3, "rows") as advance:
        advance(3)
    assert capsys.readouterr().err == "reading ...\n"


def test_quiet_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    silent = progress(quiet=True)
    silent.say("something")
    with silent.step("reading", 3, "rows") as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")


def test_json_keeps_every_script(capsys: pytest.CaptureFixture[str]) -> None:
    show_json({"label": "café 客服"})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"label": "café 客服"}
    assert "客服" in printed


HOSTILE = "a\x1b[2Jb\x1b]0;title\x07c\x9b31md\x7f\u202ee"
"""Clears the screen, sets a title, colours, deletes, and turns the direction of text."""


def test_no_text_controls_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("texts", title="x")
    table.add_row(Text(HOSTILE))
    show(table)
    Terminal().say(HOSTILE)
    show_json({"text": HOSTILE})
    captured = capsys.readouterr()
    for output in (captured.out, captured.err):
        assert not set(output) & {"\x1b", "\x07", "\x9b", "\x7f", "\u202e"}
        assert "\\u001b" in output
    assert json.loads(captured.out[captured.out.index("{") :]) == {"text": HOSTILE}


def test_an_error_does_not_control_the_terminal_and_is_one_line() -> None:
    result = call("check", "no\x1b[31m\nwhere")
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr and len(result.stderr.splitlines()) == 1


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def foreseen() -> Forecast:
    stages = [Stage("round-0: training", "student", 300, "a"), Stage("[b] final: training", "student", 300, "b")]
    return Forecast(stages, {"student": 1.0}, Clock())


def test_the_first_step_says_how_long_the_whole_takes(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(foreseen)
    assert capsys.readouterr().err == ""
    for name in ("round-0: training", "[b] final: training"):  # a step ends the ones before it
        with terminal.step(name, 300, "texts"):
            pass
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "measuring the speed of this machine ...",
        "this takes about 10 minutes on this machine",
        "round-0: training ... (about 10 minutes left)",
        "[b] final: training ... (about 5 minutes left)",
    ]


def test_a_terminal_shows_the_whole_beside_the_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "200"}.items():
        monkeypatch.setenv(key, value)
    terminal = Terminal(foreseen)
    with terminal.step("round-0: training", 300, "texts") as advance:
        advance(1)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert "round-0: training" in shown
    assert re.search(r"the whole run .* about 10 minutes left, then \[b\] final", shown)
