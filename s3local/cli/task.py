"""``s3local init`` and ``s3local check``: begin a task, and validate one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from s3local.cli.options import embedder_of, encoder_option, json_option, path_type, seed_option, with_task
from s3local.cli.terminal import progress, show, show_json

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
@encoder_option
@seed_option
@json_option
def check(task: Task, encoder: str | None, seed: int, as_json: bool) -> None:
    """Validate a task; print counts, text lengths and warnings.

    TASK is a folder, a task.yaml or a preset. If it has unlabelled rows, the check also says how far dev differs from
    them: a classifier is only as good as dev is like the texts that come in.

    \b
    Examples:
      s3local check my_task
      s3local check my_task --dev other_rows.csv --json
      s3local check my_task --unlabelled inbox.jsonl
    """
    from s3local.report.check import render
    from s3local.review.drift import drift_of_task
    from s3local.review.drift import render as render_drift
    from s3local.task.check import summarize
    from s3local.task.rows import load_contexts, load_dev, load_rows

    if task.contexts is not None:
        load_contexts(task.contexts, task)  # raises an error if a row is invalid
    dev = load_dev(task)
    summary = summarize(task, dev, load_rows(task.test, task) if task.test else None)
    drift = None
    if task.unlabelled is not None:
        drift = drift_of_task(task, dev, embedder_of(encoder), progress(as_json), seed)
    if as_json:
        show_json({**summary.to_row(), "drift": drift.to_row() if drift else None})
        return
    show(render(task, summary))
    if drift is not None:
        show(render_drift(drift))
