"""``s3local report``: the results of a finished run."""

from __future__ import annotations

from pathlib import Path

import click

from s3local.cli.options import json_option, path_type
from s3local.cli.terminal import show, show_json


@click.command()
@click.argument("folder", type=path_type)
@json_option
def report(folder: Path, as_json: bool) -> None:
    """Print the results of a finished run.

    FOLDER is the run's folder, such as runs/my_task/default.

    \b
    Examples:
      s3local report runs/my_task/default
      s3local report runs/my_task/default --json
    """
    from s3local.report.text import read_summary, render
    from s3local.results import to_plain

    summary = read_summary(folder)
    if as_json:
        show_json(to_plain(summary))
    else:
        show(render(summary, folder))
