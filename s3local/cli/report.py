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
    from s3local.report.text import read_result, render

    result = read_result(folder)
    if as_json:
        show_json(result)
    else:
        show(render(result, folder))
