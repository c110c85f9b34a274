"""``s3local data``: work with rows of your own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from s3local.cli.options import path_type, seed_option, with_reading
from s3local.wording import counted

if TYPE_CHECKING:
    from s3local.sources import Reading


@click.group()
def data() -> None:
    """Draw random samples of your own rows."""


@data.command()
@click.argument("pool", type=path_type)
@click.option("--rows", type=click.IntRange(1), required=True, help="Number of rows to draw, over all labels.")
@click.option("--per-label", is_flag=True, help="Draw the same number of each label, as far as the labels have rows.")
@click.option("--label-column", default="label", show_default=True, help="Column that holds the label.")
@seed_option
@with_reading("POOL")
@click.option("-o", "--output", type=path_type, help="The .jsonl file to write. [default: standard output]")
def draw(
    pool: Path, rows: int, per_label: bool, label_column: str, seed: int, reading: Reading, output: Path | None
) -> None:
    """Draw a random sample of rows, to label or to use as dev.

    POOL is a file of rows (.jsonl, .json, .csv, .tsv, .xlsx, .parquet) or a datasets folder. The output is JSON Lines.
    The same seed draws the same rows. Without --per-label, a smaller sample is part of a larger one.

    \b
    Examples:
      s3local data draw tickets.csv --rows 200 -o to_label.jsonl
      s3local data draw labelled.jsonl --rows 60 --per-label --seed 1 -o dev.jsonl
    """
    from s3local.task.subsample import draw_file

    column = label_column if per_label else None
    count = draw_file(pool, output, rows, seed, label_column=column, reading=reading)
    if output is not None:
        click.echo(f"wrote {counted(count, 'row')} to {output}", err=True)
