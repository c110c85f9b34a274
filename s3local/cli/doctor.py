"""``s3local doctor``: what is installed here, how fast it is, and whether it works without a network."""

from __future__ import annotations

from pathlib import Path

import click

from s3local.cli.options import json_option, path_type, quiet_option
from s3local.cli.terminal import progress, show, show_json


@click.command()
@click.option(
    "--offline-proof",
    "proof",
    is_flag=True,
    help="Run a small job while the kernel forbids the network, count what was tried, and write a text file.",
)
@click.option(
    "-o",
    "--output",
    type=path_type,
    default=Path("offline-proof.txt"),
    show_default=True,
    help="The file that --offline-proof writes.",
)
@click.option("--speed/--no-speed", default=True, show_default=True, help="Measure the speed of the embedded models.")
@json_option
@quiet_option
def doctor(proof: bool, output: Path, speed: bool, as_json: bool, quiet: bool) -> None:
    """Show what is installed, the machine, the models and their speed.

    The last line says how long the demonstration would take on this machine, as it is busy now.

    With --offline-proof, the answer for an auditor: commands of the program run without a network, and the file says
    what each of them tried to reach. The exit code is 1 if anything was tried.

    \b
    Examples:
      s3local doctor
      s3local doctor --offline-proof -o proof.txt
    """
    from s3local.doctor import describe
    from s3local.offline_proof import prove_offline

    if proof:
        holds = prove_offline(output, progress(quiet or as_json))
        if as_json:
            show_json({"holds": holds, "file": str(output)})
        else:
            click.echo(output.read_text(encoding="utf-8"), nl=False)
        if not holds:
            raise click.exceptions.Exit(1)
        return
    facts = describe(speed)
    if as_json:
        show_json({fact.name: fact.value for fact in facts})
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table("", "", box=SIMPLE_HEAD, show_header=False)
    for fact in facts:
        table.add_row(Text(fact.name), Text(fact.value))
    show(table)
