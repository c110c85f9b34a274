"""``s3local review``, ``label``, ``suggest`` and ``retrain``: people's part in the data."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from s3local.cli.completion import complete_own_task, complete_run, complete_task
from s3local.cli.options import embedder_of, encoder_option, json_option, path_type, quiet_option, seed_option
from s3local.cli.report import show_page
from s3local.cli.terminal import progress, show, show_json
from s3local.wording import counted

if TYPE_CHECKING:
    from s3local.review.desk import Desk

port_option = click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1. [default: a free one]"
)
open_option = click.option("--open", "in_browser", is_flag=True, help="Open the page in your browser.")
source_option = click.option(
    "--from", "source", type=path_type, required=True, help="Real texts without labels: .jsonl, .csv, .tsv or .txt."
)
dev_option = click.option("--dev", type=path_type, help="Labelled rows, instead of the task's own file.")
run_option = click.option(
    "--run",
    "run_folder",
    type=path_type,
    shell_complete=complete_run,
    help="A finished run of this task, whose classifier says what it is unsure of.",
)


@click.command()
@click.argument("folder", type=path_type, shell_complete=complete_run)
@port_option
@open_option
def review(folder: Path, port: int, in_browser: bool) -> None:
    """Read and correct the synthetic rows of a finished run in the browser.

    FOLDER is the run's folder, such as runs/my_task/default. The page is for this machine alone, and its address holds
    a secret. Keep, drop, relabel or edit rows with the keyboard, the most doubtful first. Every decision is on the disk
    at once, in decisions.jsonl of the run; Ctrl-C ends the server. 's3local retrain' uses the decisions.

    \b
    Examples:
      s3local review runs/my_task/default
      s3local review runs/my_task/default --port 8080 --open
    """
    from s3local.review.decisions import DECISIONS_FILE, DecisionLog
    from s3local.review.desk import Desk
    from s3local.review.rows import dataset_checksum, read_finished, sheet_of_run

    sheet = sheet_of_run(folder)
    with DecisionLog.open(folder / DECISIONS_FILE, dataset_checksum(folder, read_finished(folder))) as log:
        _serve(Desk(sheet, log), port, in_browser, f"s3local retrain {folder}")


@click.command()
@click.argument("task", type=path_type, shell_complete=complete_own_task)
@source_option
@run_option
@dev_option
@encoder_option
@seed_option
@port_option
@open_option
@quiet_option
def label(
    task: Path,
    source: Path,
    run_folder: Path | None,
    dev: Path | None,
    encoder: str | None,
    seed: int,
    port: int,
    in_browser: bool,
    quiet: bool,
) -> None:
    """Label real texts in the browser, the most useful ones first.

    TASK is a folder or a task.yaml. Without --run, typical texts that differ from all labelled ones come first; with
    it, those that the run's classifier is unsure of, or that are like its errors. What it thinks of a text is shown
    only if you ask. Labelled rows are appended to the task's dev file at once; texts of dev and test are left out. The
    next 's3local run' or 's3local retrain' learns from them. Every decision is also kept in decisions.jsonl beside the
    dev file, so that it can be undone.

    \b
    Examples:
      s3local label my_task --from messages.jsonl
      s3local label my_task --from messages.csv --run runs/my_task/default
    """
    from s3local.review.decisions import DECISIONS_FILE, DecisionLog
    from s3local.review.desk import Desk
    from s3local.review.dev_file import DevFile
    from s3local.review.labelling import (
        Student,
        in_order,
        open_for_labelling,
        read_pool,
        refuse_preset,
        sheet_to_label,
    )

    refuse_preset(task, dev)
    loaded, gold = open_for_labelling(task, dev)
    student = Student(run_folder, loaded) if run_folder is not None else None
    file = DevFile(loaded)
    with DecisionLog.open(loaded.dev.parent / DECISIONS_FILE) as log:
        file.finish(log.decisions)
        pool = read_pool(source, loaded, gold, log.decisions, seed)
        picks = in_order(pool, gold, embedder_of(encoder), progress(quiet), student=student, seed=seed)
        if not quiet:
            click.echo(pool.in_words(), err=True)
        desk = Desk(
            sheet_to_label(pool, source, loaded, gold, picks, log.decisions),
            log,
            suggest=student.suggest if student is not None else None,
            after=file.apply,
        )
        following = f"s3local run {task} --name labelled" if run_folder is None else f"s3local retrain {run_folder}"
        _serve(desk, port, in_browser, following)


@click.command()
@click.argument("task", type=path_type, shell_complete=complete_task)
@source_option
@click.option("--rows", type=click.IntRange(1), default=40, show_default=True, help="Number of texts to suggest.")
@run_option
@dev_option
@encoder_option
@seed_option
@click.option("-o", "--output", type=path_type, required=True, help="The .csv or .tsv file to write.")
@quiet_option
def suggest(
    task: Path,
    source: Path,
    rows: int,
    run_folder: Path | None,
    dev: Path | None,
    encoder: str | None,
    seed: int,
    output: Path,
    quiet: bool,
) -> None:
    """Write the texts whose labels are worth most into a table, to label in a spreadsheet.

    TASK is a folder, a task.yaml or a preset. The choice is that of 's3local label'. The table has an empty column for
    the label; a text that a spreadsheet would take for a formula gets an apostrophe in front.

    From 20 labelled rows on, a learning curve says what as many more labels may bring.

    \b
    Examples:
      s3local suggest my_task --from messages.jsonl --rows 40 -o to-label.csv
      s3local suggest my_task --from messages.jsonl --run runs/my_task/default -o to-label.csv
    """
    from s3local.evaluation.learning_curve import learning_curve
    from s3local.exceptions import InputError
    from s3local.review.labelling import Student, in_order, open_for_labelling, read_pool, write_suggestions
    from s3local.storage import refuse_same_file

    if output.suffix.lower() not in (".csv", ".tsv"):
        raise InputError(output, "suggestions are a table; a file whose name ends in .csv or .tsv belongs here")
    loaded, gold = open_for_labelling(task, dev)
    for file in (source, loaded.dev, *((loaded.test,) if loaded.test else ())):
        refuse_same_file(file, output)
    student = Student(run_folder, loaded) if run_folder is not None else None
    pool = read_pool(source, loaded, gold, seed=seed)
    embedder = embedder_of(encoder)
    picks = in_order(pool, gold, embedder, progress(quiet), student=student, count=rows, seed=seed)
    write_suggestions(output, loaded, pool, picks)
    if not quiet:
        click.echo(f"wrote {counted(len(picks), 'text')} to {output}; {pool.in_words()}", err=True)
        vectors = embedder.embed([row.text for row in gold])
        if curve := learning_curve(vectors, [row.label for row in gold], seed):
            click.echo(f"learning curve: {curve.in_words(rows)}", err=True)


@click.command()
@click.argument("folder", type=path_type, shell_complete=complete_run)
@click.option("--task", type=path_type, help="The task of the run, if it is no longer where it was.")
@json_option
@quiet_option
def retrain(folder: Path, task: Path | None, as_json: bool, quiet: bool) -> None:
    """Train the classifier of a finished run again, with decisions of 'review' and new rows of 'label'.

    FOLDER is the run's folder. Rows that somebody decided on carry exactly the label that they were given; rows that
    were appended to dev are learned as well. Nothing is generated, so this takes minutes. The result is written to
    FOLDER/retrained-1 (then -2, and so on), which 'report' and 'predict' read like any run; FOLDER stays as it is.

    \b
    Examples:
      s3local retrain runs/my_task/default
      s3local predict runs/my_task/default/retrained-1 messages.csv
    """
    from s3local.report.html import write_report
    from s3local.report.text import render
    from s3local.results import to_plain
    from s3local.review.retrain import retrain as retrain_run

    found = retrain_run(folder, task, progress=progress(quiet or as_json))
    if as_json:
        show_json(to_plain(found.result.summary))
    else:
        show(render(found.result.summary, found.result.folder))
        click.echo(found.in_words())
    page = write_report(found.result.folder)
    if not as_json:
        show_page(page)


def _serve(desk: Desk, port: int, in_browser: bool, following: str) -> None:
    """Serve a desk, and say where; Ctrl-C ends it."""
    from s3local.review.server import serve

    def ready(address: str) -> None:
        click.echo(f"{address}\nOpen this address in a browser of this machine. Ctrl-C ends the server.")
        if in_browser:
            click.launch(address)

    with contextlib.suppress(KeyboardInterrupt):
        serve(desk, port, following, ready)
    decided = len(desk.decisions.holding())
    click.echo(f"{counted(decided, 'decision')} in {desk.path}; next: {following}")
