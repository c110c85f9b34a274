"""What the commands show: progress on standard error, tables and JSON on standard output.

Texts, labels and paths of a user are printed as they are: rich's markup and emoji codes are off, and characters that
control a terminal are shown as escape sequences.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from s3local.progress import Advance, Progress, Silent, ignore
from s3local.wording import escaped

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import ProgressColumn


def _console(**options: Any) -> Console:
    """A console of rich that interprets nothing of what it shows."""
    from rich.console import Console
    from rich.segment import Segment

    class PlainConsole(Console):
        def render(self, renderable: Any, options: Any = None) -> Any:
            for segment in super().render(renderable, options):
                yield segment if segment.control else Segment(escaped(segment.text), segment.style)

    return PlainConsole(markup=False, emoji=False, **options)


class Terminal:
    """The ``Progress`` of a person at a terminal: a bar with rate and time left for each step, on standard error.

    Where standard error is not a terminal, each step is one line.
    """

    def __init__(self) -> None:
        self.console = _console(stderr=True, highlight=False)

    @contextlib.contextmanager
    def step(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        from rich import progress as bars

        if not self.console.is_terminal:
            self.say(f"{name} ...")
            yield ignore
            return
        amounts: list[ProgressColumn] = [bars.MofNCompleteColumn(), bars.TextColumn(unit, markup=False)]
        if unit == "B":
            amounts = [bars.DownloadColumn(), bars.TransferSpeedColumn()]
        title = bars.TextColumn("{task.description}", markup=False)
        times = (bars.TimeElapsedColumn(), bars.TimeRemainingColumn())
        with bars.Progress(title, bars.BarColumn(), *amounts, *times, console=self.console, transient=True) as bar:
            task = bar.add_task(name, total=total)
            yield lambda n: bar.advance(task, n)

    def say(self, message: str) -> None:
        self.console.print(message, soft_wrap=True)


def write_utf8() -> None:
    """Write UTF-8 to files and pipes, also where the system has another encoding.

    A terminal keeps its encoding, and shows an escape sequence for a character that it cannot show.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="backslashreplace")
            else:
                stream.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")


def progress(quiet: bool) -> Progress:
    """The progress of a command, silent if the user asked for that."""
    return Silent() if quiet else Terminal()


def show(tables: RenderableType) -> None:
    """Print tables on standard output."""
    _console().print(tables)


def show_json(value: object) -> None:
    """Print ``value`` as indented JSON on standard output."""
    click.echo(escaped(json.dumps(value, indent=2, ensure_ascii=False)))
