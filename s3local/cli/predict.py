"""``s3local predict``: label the rows of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from s3local.cli.completion import complete_run
from s3local.cli.options import chosen_threshold, path_type, quiet_option, threshold_options, with_reading
from s3local.cli.terminal import progress
from s3local.wording import counted

if TYPE_CHECKING:
    from s3local.prediction import Format, TargetFormat
    from s3local.sources import Reading

format_type = click.Choice(["jsonl", "json", "csv", "tsv", "txt", "xlsx", "parquet", "dataset"])
target_format_type = click.Choice(["jsonl", "csv", "tsv", "txt"])


@click.command()
@click.argument("model", type=path_type, shell_complete=complete_run)
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
@threshold_options
@click.option(
    "--top", type=click.IntRange(1), default=1, show_default=True, help="Labels for each row, likeliest first."
)
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
    threshold: float | None,
    target_accuracy: float | None,
    top: int,
    probabilities: bool,
    prefix: str,
    quiet: bool,
) -> None:
    """Predict the rows of a file with a trained model.

    MODEL is a run folder or an exported model, SOURCE a file or - for standard input. Rows keep their columns and gain
    "predicted" and "probability". For question answering, "predicted" is the answer and "predicted_start" the character
    of the context where it begins. Files of any size need the same memory.

    With a threshold, rows whose probability is lower get "abstain" in place of a label: leave these to a person.
    --target-accuracy chooses the threshold on the dev rows that cross-validation held out.

    \b
    Examples:
      s3local predict runs/my_task/default messages.csv -o labelled.csv
      s3local predict runs/my_task/default tickets.xlsx -o labelled.csv --target-accuracy 0.95 --top 3
      echo '{"text": "my router is broken"}' | s3local predict runs/my_task/default
    """
    from s3local.prediction import Wanted, predict_file
    from s3local.student.reader import load_student

    chosen = chosen_threshold(model, threshold, target_accuracy, quiet)
    student = load_student(model)
    with progress(quiet).step("predicting", None, "rows") as advance:
        done = predict_file(
            student,
            None if str(source) == "-" else source,
            output,
            source_format=source_format,
            target_format=output_format,
            reading=reading,
            columns=dict(_pair(column) for column in columns),
            wanted=Wanted(chosen, top, probabilities, prefix),
            advance=advance,
        )
    if quiet:
        return
    if output is not None:
        click.echo(f"wrote {counted(done.rows, 'row')} to {output}", err=True)
    if chosen > 0:
        click.echo(f"{done.abstained:,} of {counted(done.rows, 'row')} without a label (abstain)", err=True)


def _pair(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text} is not FIELD=COLUMN", param_hint="--column")
    return field, column
