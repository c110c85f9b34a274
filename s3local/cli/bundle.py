"""``s3local bundle``: carry an installation into an air-gapped network. Parses, calls one function, prints."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from pathlib import Path

import click

from s3local.cli.completion import complete_model
from s3local.cli.options import path_type
from s3local.cli.terminal import Terminal
from s3local.exceptions import S3LocalError


@click.group()
def bundle() -> None:
    """Carry an installation into an air-gapped network."""


@bundle.command()
@click.argument("target", type=path_type)
@click.option(
    "platform_name",
    "--platform",
    metavar="NAME",
    help="The other machine: linux-x86_64, linux-aarch64, macos-aarch64 or windows-x86_64. [default: as this one]",
)
@click.option("python", "--python", metavar="VERSION", help="Its Python, such as 3.11. [default: as this one]")
@click.option(
    "models",
    "--model",
    multiple=True,
    metavar="ID",
    shell_complete=complete_model,
    help="A model to pack. [default: the embedded ones]",
)
@click.option("--no-judge", is_flag=True, help="Leave out the embedded judge (0.4 GB).")
@click.option("--cuda", is_flag=True, help="Pack PyTorch for graphics cards (several GB), not its build for CPUs.")
@click.option("--find-links", multiple=True, type=path_type, metavar="FOLDER", help="A folder with further wheels.")
@click.option("--llama-wheel", type=path_type, metavar="FILE", help="Pack this wheel of llama-cpp-python.")
def create(
    target: Path,
    platform_name: str | None,
    python: str | None,
    models: tuple[str, ...],
    no_judge: bool,
    cuda: bool,
    find_links: tuple[Path, ...],
    llama_wheel: Path | None,
) -> None:
    """Pack the program, its packages and models into TARGET.

    TARGET is a new folder, or a ZIP archive if its name ends with .zip. On the other machine, Python alone is needed:
    "python3 TARGET install FOLDER". This command uses the network, and builds llama.cpp once.

    \b
    Examples:
      s3local bundle create carry.zip
      s3local bundle create carry --platform windows-x86_64 --python 3.12 --llama-wheel llama_cpp_python-0.3.36-....whl
    """
    import re

    from s3local import offline
    from s3local.bundle.carried import this_platform
    from s3local.bundle.create import PLATFORMS, BundleSettings
    from s3local.bundle.create import create as create_bundle

    python = python or ".".join(platform.python_version_tuple()[:2])
    if not re.fullmatch(r"3\.\d\d", python):
        raise click.BadParameter(f"{python!r} is not a version such as 3.11", param_hint="--python")
    platform_name = platform_name or this_platform()
    if platform_name not in PLATFORMS:
        raise click.BadParameter(f"{platform_name!r} is none of {', '.join(PLATFORMS)}", param_hint="--platform")
    if models and no_judge:
        raise click.UsageError("--no-judge is for a bundle without --model")
    settings = BundleSettings(platform_name, python, models, not no_judge, cuda, find_links, llama_wheel)
    with offline.allowed():
        created = create_bundle(target, settings, Terminal())
    click.echo(f"{target}: {created.size / 1e6:,.0f} MB, {created.packages} packages")
    click.echo(f"models: {', '.join(created.contents.models)}")
    click.echo(f"for {created.contents.fits}; bundle.json has the SHA-256 {created.sha256}")
    click.echo(f"on the other machine: python3 {target.name} install FOLDER")


@bundle.command()
@click.argument("path", type=path_type)
def verify(path: Path) -> None:
    """Compare every file of a bundle with its checksum.

    Without s3local, "python3 PATH verify" does the same.

    \b
    Examples:
      s3local bundle verify carry.zip
    """
    from s3local.bundle import carried

    with translated_bundle_errors():
        contents, checksum = carried.verify(path, Terminal().say)
    click.echo(f"all files are right; bundle.json has the SHA-256 {checksum}")
    click.echo(f"for {contents.fits}; {carried.misfit(contents) or 'this machine fits'}")


@bundle.command()
@click.argument("path", type=path_type)
@click.argument("folder", type=path_type)
def install(path: Path, folder: Path) -> None:
    """Install a bundle into the new folder FOLDER, without a network.

    Without s3local, "python3 PATH install FOLDER" does the same.

    \b
    Examples:
      s3local bundle install carry.zip /opt/s3local
    """
    from s3local.bundle import carried

    with translated_bundle_errors():
        carried.install(path, folder, Terminal().say)
    click.echo(f"installed; the program is in {folder}")


@contextlib.contextmanager
def translated_bundle_errors() -> Iterator[None]:
    """Turn the error of ``bundle.carried``, which imports nothing of s3local, into an ``S3LocalError``."""
    from s3local.bundle.carried import BundleError

    try:
        yield
    except BundleError as exc:
        raise S3LocalError(str(exc)) from exc
