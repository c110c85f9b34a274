"""``s3local data``: work with rows of your own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from s3local.cli.options import embedder_of, encoder_option, path_type, seed_option, with_reading
from s3local.cli.terminal import progress
from s3local.wording import counted

if TYPE_CHECKING:
    from s3local.sources import Reading


@click.group()
def data() -> None:
    """Draw samples of your own rows."""


@data.command()
@click.argument("pool", type=path_type)
@click.option("--rows", type=click.IntRange(1), required=True, help="Number of rows to draw, over all labels.")
@click.option("--per-label", is_flag=True, help="Draw the same number of each label, as far as the labels have rows.")
@click.option("--label-column", default="label", show_default=True, help="Column that holds the label.")
@click.option(
    "--diverse",
    is_flag=True,
    help="Draw typical texts of as many different kinds as there are rows, none nearly the same, not random ones. "
    "Of more than 10,000 rows, these are drawn at random first.",
)
@encoder_option
@seed_option
@with_reading("POOL")
@click.option("-o", "--output", type=path_type, help="The .jsonl file to write. [default: standard output]")
def draw(
    pool: Path,
    rows: int,
    per_label: bool,
    label_column: str,
    diverse: bool,
    encoder: str | None,
    seed: int,
    reading: Reading,
    output: Path | None,
) -> None:
    """Draw a sample of rows, to label or to use as dev.

    POOL is a file of rows (.jsonl, .json, .csv, .tsv, .xlsx, .parquet) or a datasets folder. The output is JSON Lines.
    The same seed draws the same rows. A smaller random sample is part of a larger one, without --per-label.

    \b
    Examples:
      s3local data draw tickets.csv --rows 200 -o to_label.jsonl
      s3local data draw tickets.csv --rows 60 --diverse -o to_label.jsonl
      s3local data draw labelled.jsonl --rows 60 --per-label --seed 1 -o dev.jsonl
    """
    from s3local.task.subsample import draw_file

    choose = None
    if diverse:
        from s3local.review.labelling import most_diverse

        choose = most_diverse(embedder_of(encoder), progress(False), seed)
    elif encoder is not None:
        raise click.UsageError("--encoder compares the texts of --diverse; name both, or neither")
    column = label_column if per_label else None
    count = draw_file(pool, output, rows, seed, label_column=column, reading=reading, choose=choose)
    if output is not None:
        click.echo(f"wrote {counted(count, 'row')} to {output}", err=True)
