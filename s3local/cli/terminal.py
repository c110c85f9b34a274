"""What the commands show: progress on standard error, tables and JSON on standard output.

Texts, labels and paths of a user are printed as they are: rich's markup and emoji codes are off, and characters that
control a terminal are shown as escape sequences.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from s3local.progress import Advance, Progress, Silent, ignore
from s3local.wording import about, escaped

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import ProgressColumn

    from s3local.runner.forecast import Forecast


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

    Where standard error is not a terminal, each step is one line. ``foresee`` is called before the first step; what it
    returns says how long the whole takes, and is shown beside each step.
    """

    def __init__(self, foresee: Callable[[], Forecast] | None = None) -> None:
        self.console = _console(stderr=True, highlight=False)
        self._foresee = foresee
        self._forecast: Forecast | None = None
        self._note = ""

    @contextlib.contextmanager
    def step(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        if self._foresee is not None:
            foresee, self._foresee = self._foresee, None
            with self._bar("measuring the speed of this machine", None, "steps"):
                self._forecast = foresee()
            self.say(_in_words(self._forecast))
        with (
            self._forecast.step(name, total) if self._forecast else contextlib.nullcontext(ignore) as follow,
            self._bar(name, total, unit) as advance,
        ):

            def both(units: int) -> None:
                follow(units)
                advance(units)

            yield both

    @contextlib.contextmanager
    def _bar(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        from rich import progress as bars
        from rich.console import Group
        from rich.live import Live

        if not self.console.is_terminal:
            left = f" ({about(self._forecast.seconds_left)} left)" if self._forecast else ""
            self.say(f"{name} ...{left}")
            yield ignore
            return
        amounts: list[ProgressColumn] = [bars.MofNCompleteColumn(), bars.TextColumn(unit, markup=False)]
        if unit == "B":
            amounts = [bars.DownloadColumn(), bars.TransferSpeedColumn()]
        title = bars.TextColumn("{task.description}", markup=False)
        times = (bars.TimeElapsedColumn(), bars.TimeRemainingColumn())
        bar = bars.Progress(title, bars.BarColumn(), *amounts, *times, console=self.console)
        task = bar.add_task(name, total=total)
        shown = Group(bar, _Note(lambda: self._note), *([_Whole(self._forecast)] if self._forecast else []))
        with Live(shown, console=self.console, transient=True, refresh_per_second=4):
            yield lambda n: bar.advance(task, n)

    def say(self, message: str) -> None:
        self.console.print(message, soft_wrap=True)

    def note(self, text: str) -> None:
        self._note = text


class _Note:
    """The line of a note, if there is one."""

    def __init__(self, note: Callable[[], str]) -> None:
        self._note = note

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        note = self._note()
        return Text(note, style="dim") if note else Group()


class _Whole:
    """The line of a whole run: its bar, the time left, and the stages still to come."""

    def __init__(self, forecast: Forecast) -> None:
        self._forecast = forecast

    def __rich__(self) -> RenderableType:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        line = Table.grid(padding=(0, 1))
        share, to_come = self._forecast.share, self._forecast.to_come
        then = f", then {', '.join(to_come)}" if to_come else ""
        left = f"{about(self._forecast.seconds_left)} left{then}"
        line.add_row("the whole run", ProgressBar(total=1.0, completed=share, width=40), f"{share:.0%}", left)
        return line


def _in_words(forecast: Forecast) -> str:
    """How long a run takes, and which part of it is not known yet."""
    without = "" if forecast.is_whole else ", and the time that the teacher needs"
    return f"this takes {about(forecast.seconds_left)} on this machine{without}"


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


def progress(quiet: bool, foresee: Callable[[], Forecast] | None = None) -> Progress:
    """The progress of a command, silent if the user asked for that; ``foresee`` as ``Terminal`` takes it."""
    return Silent() if quiet else Terminal(foresee)


def show(tables: RenderableType) -> None:
    """Print tables on standard output."""
    _console().print(tables)


def show_json(value: object) -> None:
    """Print ``value`` as indented JSON on standard output."""
    click.echo(escaped(json.dumps(value, indent=2, ensure_ascii=False)))
