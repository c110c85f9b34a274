"""Arguments and options that several commands share."""

from __future__ import annotations

import functools
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click
from click.core import ParameterSource

from s3local.cli.completion import (
    complete_encoder,
    complete_judge,
    complete_student,
    complete_task,
    complete_teacher,
)

if TYPE_CHECKING:
    from s3local.embedder import Embedder
    from s3local.sources import Reading
    from s3local.teacher.llama_cache import CacheType

Function: TypeAlias = Callable[..., None]
Decorator: TypeAlias = Callable[[Function], Function]

path_type = click.Path(path_type=Path)


class FiniteRange(click.FloatRange):
    """Numbers of a range, without "nan" and "inf"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def folder_name(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """The callback of an option whose value is the name of one folder."""
    from s3local.storage import safe_folder_name

    try:
        return safe_folder_name(value)
    except ValueError as exc:
        raise click.BadParameter(f"{exc}; --out takes a path", ctx, param) from exc


def _part_of_reading(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The callback of an option that is a part of ``Reading``."""
    from pydantic import ValidationError

    from s3local.sources import Reading

    try:
        Reading(**{str(param.name): value})
    except ValidationError as exc:
        raise click.BadParameter(exc.errors()[0]["msg"].removeprefix("Value error, "), ctx, param) from exc
    return value


def _reading_options(files: str) -> Decorator:
    encoding = f"Encoding of {files}, such as cp1252. [default: utf-8]"
    separator = f"Separator of the columns of {files}: a character, or the word tab. [default: the one in the header]"
    sheet = f"Sheet of {files}, for workbooks. [default: the only one that is not empty]"
    return with_options(
        click.option("--encoding", metavar="NAME", callback=_part_of_reading, help=encoding),
        click.option("--separator", metavar="CHARACTER", callback=_part_of_reading, help=separator),
        click.option("--sheet", metavar="NAME", callback=_part_of_reading, help=sheet),
    )


def with_reading(files: str) -> Decorator:
    """Add the options that say how ``files`` are read; the command gets them as one ``Reading``."""

    def decorate(command: Function) -> Function:
        @functools.wraps(command)
        def gathering(encoding: str | None, separator: str | None, sheet: str | None, **others: Any) -> None:
            from s3local.sources import Reading

            command(reading=Reading(encoding=encoding, separator=separator, sheet=sheet), **others)

        return _reading_options(files)(gathering)

    return decorate


def with_options(*options: Decorator) -> Decorator:
    """A decorator that adds ``options`` to a command, in this order."""

    def decorate(command: Function) -> Function:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def command_line() -> str:
    """The command that is being run, as a shell takes it: its arguments, and the options that the user gave.

    Those that change only what is shown are left out.
    """
    context = click.get_current_context()
    words = context.command_path.split()
    for param in context.command.params:
        if param.name in SHOWING or context.get_parameter_source(param.name or "") is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[param.name or ""]
        if isinstance(param, click.Option):
            words.append(param.secondary_opts[0] if value is False and param.secondary_opts else param.opts[0])
        if not (isinstance(param, click.Option) and param.is_flag):
            words.append(str(value))
    return shlex.join(words)


SHOWING = ("as_json", "quiet", "open_page")
"""Parameters that change only what a command shows."""

seed_option = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed.")


def _named_workers(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    """The callback of ``--workers``: a number of processes, or the address of a Ray cluster."""
    from s3local.ray_executor import THIS_MACHINE, host_and_port

    if value is None or value == THIS_MACHINE:
        return value
    if value.isascii() and value.isdigit() and int(value):
        return int(value)
    try:
        host_and_port(value)
    except ValueError as exc:
        raise click.BadParameter(f"{exc}.", ctx, param) from exc
    return value


def workers_option(text: str) -> Decorator:
    """The option ``--workers``, with its help."""
    return click.option("--workers", callback=_named_workers, metavar="N|ray|ray://HOST:PORT", help=text)


json_option = click.option("as_json", "--json", is_flag=True, help="Print JSON instead of tables.")

quiet_option = click.option("--quiet", is_flag=True, help="Show no progress.")

threshold_options = with_options(
    click.option(
        "--threshold",
        type=FiniteRange(0, 1),
        help="Abstain from rows whose probability is lower. [default: label every row]",
    ),
    click.option(
        "--target-accuracy",
        type=FiniteRange(0, 1, max_open=True),
        help="Choose the threshold for this accuracy, such as 0.95, on held-out dev rows of the run.",
    ),
)


def chosen_threshold(model: Path, threshold: float | None, target_accuracy: float | None, quiet: bool) -> float:
    """The threshold of a command with ``threshold_options``; says how it was chosen, unless ``quiet``."""
    if target_accuracy is None:
        return threshold or 0.0
    if threshold is not None:
        raise click.UsageError("--threshold and --target-accuracy exclude each other")
    from s3local.finished_run import held_out_threshold, in_words

    found = held_out_threshold(model, target_accuracy)
    if not quiet:
        click.echo(in_words(found), err=True)
    return found.threshold


budget_options = with_options(
    click.option("--rows", type=click.IntRange(1), default=1000, show_default=True, help="Synthetic rows to train on."),
    click.option(
        "--rounds",
        type=click.IntRange(0),
        default=2,
        show_default=True,
        help="Maximum number of rounds of error extrapolation.",
    ),
)

_task_options = with_options(
    click.argument("task", type=path_type, shell_complete=complete_task),
    click.option("--dev", type=path_type, help="Labelled rows to learn from, instead of the task's own file."),
    click.option("--test", type=path_type, help="Labelled rows for the final score, instead of the task's own file."),
    click.option(
        "--contexts",
        type=path_type,
        help="Unlabelled source texts to write about, instead of the task's own file (pairs and questions only).",
    ),
    click.option(
        "--unlabelled",
        type=path_type,
        help="Real rows without labels, instead of the task's own file. They are taken before the teacher writes more.",
    ),
)

_model_options = with_options(
    click.option(
        "--teacher",
        metavar="ID|FILE|URL",
        shell_complete=complete_teacher,
        help="Model id or .gguf file of the LLM, or a server with the OpenAI-compatible API, as "
        "http://127.0.0.1:8080/v1#MODEL. A key goes into the environment variable S3LOCAL_TEACHER_KEY. [default: the "
        "embedded one]",
    ),
    click.option(
        "--allow-host",
        metavar="HOST",
        help="Host of the teacher's server, if it is not this machine. The program connects to its port and nothing "
        "else.",
    ),
    click.option(
        "--student",
        metavar="SIZE|ID|FOLDER",
        shell_complete=complete_student,
        help="Pretrained model that becomes the classifier: an id or a folder, or large for the judges' encoder, which "
        "is more accurate and a tenth as fast. [default: small, the embedded one]",
    ),
    click.option(
        "--judge",
        metavar="ID|FOLDER",
        shell_complete=complete_judge,
        help="Encoder of the judges, which say what label a text has; none takes the sentence encoder. [default: the "
        "embedded one, if it was fetched]",
    ),
    click.option(
        "--encoder",
        metavar="ID|FOLDER",
        shell_complete=complete_encoder,
        help="Sentence encoder that finds near-duplicates. [default: the embedded one]",
    ),
    click.option(
        "--slots",
        type=click.IntRange(1),
        help="Texts that the teacher generates in parallel. [default: as many as memory allows, at most 64; 16 for a "
        "server]",
    ),
    click.option("--threads", type=click.IntRange(1), help="CPU threads of the teacher. [default: physical cores]"),
    click.option(
        "--gpu-layers",
        type=click.IntRange(0),
        help="Layers of the teacher on the GPU. [default: all if there is a GPU]",
    ),
    click.option(
        "--cache-type",
        type=click.Choice(["f16", "q8_0"]),
        default="f16",
        show_default=True,
        help="Number format of the teacher's key-value cache; q8_0 needs half the memory.",
    ),
)


encoder_option = click.option(
    "--encoder",
    metavar="ID|FOLDER",
    shell_complete=complete_encoder,
    help="Sentence encoder that compares texts. [default: the embedded one]",
)


def embedder_of(encoder: str | None) -> Embedder:
    """The embedder that ``--encoder`` names, loaded when it is first used. Raises ``ModelError`` if it is missing."""
    from s3local.embedder import LazyEmbedder
    from s3local.weights.store import find_encoder

    return LazyEmbedder(find_encoder(encoder))


def with_task(command: Function) -> Function:
    """Add the argument TASK and its options; the command gets the loaded task, its dev rows checked.

    Bad rows are reported before the libraries of the models are imported, which takes seconds.
    """

    @functools.wraps(command)
    def loading(
        task: Path,
        dev: Path | None,
        test: Path | None,
        contexts: Path | None,
        unlabelled: Path | None,
        reading: Reading,
        **others: Any,
    ) -> None:
        from s3local.task.model import load_task
        from s3local.task.rows import load_dev, load_rows

        loaded, skipped = load_task(task, dev, test, contexts, unlabelled, reading), list[str]()
        load_dev(loaded, skipped)
        if loaded.test is not None:
            load_rows(loaded.test, loaded, skipped)
        for sentence in skipped:
            click.echo(sentence, err=True)
        command(task=loaded, **others)

    return _task_options(with_reading("the rows")(loading))


def with_models(command: Function) -> Function:
    """Add the options of the models; the command gets those of the engine as one ``EngineSettings``, and a ``size``."""

    @functools.wraps(command)
    def gathering(
        slots: int | None,
        threads: int | None,
        gpu_layers: int | None,
        cache_type: CacheType,
        student: str | None,
        **others: Any,
    ) -> None:
        from s3local.teacher.engine import EngineSettings

        engine = EngineSettings(slots=slots, threads=threads, gpu_layers=gpu_layers, cache_type=cache_type)
        size = student if student in ("small", "large") else "small"
        command(engine=engine, size=size, student=None if student == size else student, **others)

    return _model_options(gathering)
