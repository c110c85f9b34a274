"""``s3local export``: take a finished run away as files of other programs."""

from __future__ import annotations

from pathlib import Path

import click

from s3local.cli.completion import complete_run, complete_task
from s3local.cli.options import path_type
from s3local.wording import counted

FORMATS = ("jsonl", "csv", "parquet", "hf", "onnx", "argilla", "label-studio")


@click.command()
@click.argument("run", type=path_type, shell_complete=complete_run)
@click.option("--to", "form", type=click.Choice(FORMATS), required=True, help="Format; see above.")
@click.option("-o", "--output", type=path_type, required=True, help="File or folder to write.")
@click.option(
    "--task",
    "task_path",
    type=path_type,
    shell_complete=complete_task,
    help="Add the gold rows of this task, the one of the run, as the splits validation (dev) and test.",
)
@click.option(
    "--include-real-texts",
    is_flag=True,
    help="Also write the rows that the run took from the task's unlabelled ones.",
)
def export(run: Path, form: str, output: Path, task_path: Path | None, include_real_texts: bool) -> None:
    """Export the rows or the classifier of a finished run.

    RUN is the run's folder. Rows come with their provenance. OUTPUT is a file for jsonl, csv and parquet, a folder for
    the others.

    \b
    jsonl, csv, parquet  synthetic rows; cells of a CSV never begin a formula
    hf                   synthetic rows for datasets.load_dataset and load_from_disk, with a dataset card
    argilla              synthetic rows as records, labels as suggestions
    label-studio         synthetic rows as tasks, labels as predictions
    onnx                 the selected classifier with predict.py and a model card; needs no s3local

    \b
    Examples:
      s3local export runs/my_task/default --to csv -o rows.csv
      s3local export runs/my_task/default --to hf --task my_task -o my_dataset
      s3local export runs/my_task/default --to onnx -o my_classifier
    """
    from s3local.export.dataset import export_dataset, gold_rows
    from s3local.export.model import export_model
    from s3local.finished_run import FinishedRun

    finished = FinishedRun.read(run)
    if form == "onnx":
        if task_path is not None:
            raise click.UsageError("a classifier has no rows; leave out --task")
        file = export_model(finished, output)
        click.echo(f"wrote the classifier ({file}) to {output}", err=True)
        return
    gold = gold_rows(finished, task_path) if task_path is not None else {}
    count = export_dataset(finished, form, output, gold, real_texts=include_real_texts)  # type: ignore[arg-type]
    click.echo(f"wrote {counted(count, 'row')} to {output}", err=True)
