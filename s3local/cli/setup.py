"""``s3local setup``: fetch what an installed package still needs. Parses, calls one function, prints."""

from __future__ import annotations

import click

from s3local.cli.terminal import Terminal


@click.command()
@click.option("--no-judge", is_flag=True, help="Leave out the embedded judge (0.4 GB).")
def setup(no_judge: bool) -> None:
    """Fetch the embedded models, once.

    They are verified by checksum and optimised for this processor. They lie in models/ of a checkout, else in your
    data folder; the variable S3LOCAL_MODELS names another place. The same command continues a broken download.

    \b
    Examples:
      s3local setup
      s3local setup --no-judge
    """
    from s3local import offline
    from s3local.weights.fetch import fetch
    from s3local.weights.manifest import models_folder

    with offline.allowed():
        fetch([], Terminal(), judge=not no_judge)
    click.echo(f"all is set up; the models are in {models_folder()}")
    click.echo("next: s3local init my_task, or the demonstration: s3local run support_desk --rows 600")
