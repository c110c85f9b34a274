"""``s3local init`` and ``s3local check``: begin a task, and validate one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from s3local.cli.options import json_option, path_type, with_task
from s3local.cli.terminal import show, show_json

if TYPE_CHECKING:
    from s3local.task.model import Kind, Task


@click.command()
@click.argument("name", type=path_type)
@click.option(
    "--kind",
    type=click.Choice(["classification", "pair", "extractive_qa"]),
    default="classification",
    show_default=True,
    help="What is learnt: a label for one text, a label for a pair of texts, or answers to questions about a text.",
)
def init(name: Path, kind: Kind) -> None:
    """Write a commented starter task into a new folder.

    \b
    Examples:
      s3local init my_task
      s3local init my_task --kind pair
    """
    from s3local.task.starter import write_starter

    written = write_starter(name, kind)
    click.echo(f"wrote {written} and example rows beside it; edit them, then run: s3local check {name}")


@click.command()
@with_task
@json_option
def check(task: Task, as_json: bool) -> None:
    """Validate a task; print counts, text lengths and warnings.

    TASK is a folder, a task.yaml or a preset.

    \b
    Examples:
      s3local check my_task
      s3local check my_task --dev other_rows.csv --json
    """
    from s3local.report.check import render
    from s3local.task.check import summarize
    from s3local.task.rows import load_contexts, load_dev, load_rows

    if task.contexts is not None:
        load_contexts(task.contexts, task)  # raises an error if a row is invalid
    summary = summarize(task, load_dev(task), load_rows(task.test, task) if task.test else None)
    if as_json:
        show_json(summary.to_row())
    else:
        show(render(task, summary))
