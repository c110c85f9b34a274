"""``s3local predict``: label the rows of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from s3local.cli.options import path_type, quiet_option, with_reading
from s3local.cli.terminal import progress
from s3local.wording import counted

if TYPE_CHECKING:
    from s3local.prediction import Format, TargetFormat
    from s3local.sources import Reading

format_type = click.Choice(["jsonl", "json", "csv", "tsv", "txt", "xlsx", "parquet", "dataset"])
target_format_type = click.Choice(["jsonl", "csv", "tsv", "txt"])


@click.command()
@click.argument("model", type=path_type)
@click.argument("source", type=click.Path(path_type=Path, allow_dash=True), default="-")
@click.option("-o", "--output", type=path_type, help="File to write. [default: standard output]")
@click.option("--format", "source_format", type=format_type, help="Format of SOURCE. [default: as its name ends]")
@click.option(
    "--output-format",
    type=target_format_type,
    help="Format of the output. [default: as the name of OUTPUT ends, else the format of SOURCE]",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="Column of SOURCE that holds a field of the task, if it has another name.",
)
@with_reading("SOURCE")
@click.option("--probabilities", is_flag=True, help="Add the probability of every label.")
@click.option("--prefix", default="", help="Beginning of the names of new columns, such as new_ for new_predicted.")
@quiet_option
def predict(
    model: Path,
    source: Path,
    output: Path | None,
    source_format: Format | None,
    output_format: TargetFormat | None,
    columns: tuple[str, ...],
    reading: Reading,
    probabilities: bool,
    prefix: str,
    quiet: bool,
) -> None:
    """Predict the rows of a file with a trained model.

    MODEL is a run folder or an exported model, SOURCE a file or - for standard input. Rows keep their columns and gain
    "predicted" and "probability". For question answering, "predicted" is the answer and "predicted_start" the character
    of the context where it begins. Files of any size need the same memory.

    \b
    Examples:
      s3local predict runs/my_task/default messages.csv -o labelled.csv
      echo '{"text": "my router is broken"}' | s3local predict runs/my_task/default
    """
    from s3local.prediction import predict_file
    from s3local.runner.state import selected_student
    from s3local.student.inference import META_FILE
    from s3local.student.reader import load_student

    folder = model if (model / META_FILE).is_file() else selected_student(model)
    student = load_student(folder)
    with progress(quiet).step("predicting", None, "rows") as advance:
        count = predict_file(
            student,
            None if str(source) == "-" else source,
            output,
            source_format=source_format,
            target_format=output_format,
            reading=reading,
            columns=dict(_pair(column) for column in columns),
            prefix=prefix,
            all_probabilities=probabilities,
            advance=advance,
        )
    if output is not None and not quiet:
        click.echo(f"wrote {counted(count, 'row')} to {output}", err=True)


def _pair(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text} is not FIELD=COLUMN", param_hint="--column")
    return field, column
