"""``s3local report``: the results of a finished run or comparison, as tables and as an HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from s3local.cli.completion import complete_results
from s3local.cli.options import json_option, path_type
from s3local.cli.terminal import show, show_json


@click.command()
@click.argument("folder", type=path_type, shell_complete=complete_results)
@click.option("-o", "--output", type=path_type, help="File of the HTML page. [default: report.html in FOLDER]")
@click.option("--open", "open_page", is_flag=True, help="Open the page in the browser.")
@json_option
def report(folder: Path, output: Path | None, open_page: bool, as_json: bool) -> None:
    """Show the results of a finished run or comparison.

    FOLDER is the folder of a run, such as runs/my_task/default, or of a comparison. Prints tables, and writes one HTML
    page with charts, examples and all rows, which needs no network.

    \b
    Examples:
      s3local report runs/my_task/default --open
      s3local report runs/my_task/compare/default
      s3local report runs/my_task/default --json
    """
    from s3local.report import compare, text
    from s3local.report.html import read_results, write_report
    from s3local.results import CompareSummary, to_plain

    results = read_results(folder)
    page = write_report(folder, output)
    if as_json:
        show_json(to_plain(results))
    else:
        tables = compare if isinstance(results, CompareSummary) else text
        show(tables.render(results, folder))
        show_page(page)
    if open_page:
        open_in_browser(page)


def show_page(page: Path) -> None:
    """Say where the page is."""
    click.echo(f"report:   {page}")


def open_in_browser(page: Path) -> None:
    """Open the page in the user's browser, or say that there is none."""
    import webbrowser

    if not webbrowser.open(page.resolve().as_uri()):
        click.echo(f"found no browser; open {page} in one", err=True)
