"""The command line: parse, call one function, print. All logic is elsewhere."""

from __future__ import annotations

import dataclasses
import errno
import functools
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from s3local import __version__, offline
from s3local.cli.models import Terminal, models
from s3local.comparison.methods import DEFAULT_METHODS, DEFAULT_REFERENCE, DEFAULT_SEEDS
from s3local.exceptions import S3LocalError
from s3local.progress import Progress, Silent
from s3local.wording import shown

if TYPE_CHECKING:
    from s3local.task.model import Task
    from s3local.teacher.engine import EngineSettings

INTERRUPTED = 130


class _FiniteRange(click.FloatRange):
    """Numbers of a range; "nan" and "inf" are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


class _Program(click.Group):
    """Shows an ``S3LocalError`` as one line, and says after Ctrl-C that nothing is lost."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except S3LocalError as exc:
            click.echo(f"error: {exc}", err=True)
            ctx.exit(exc.exit_code)
        except OSError as exc:  # what a path can be that no stage expects, such as a name of thousands of characters
            if exc.errno == errno.EPIPE:
                raise
            place = f"{shown(str(exc.filename))}: " if exc.filename else ""
            click.echo(f"error: {place}{exc.strerror or exc}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("interrupted; the same command goes on from the last finished step", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="s3local")
def main() -> None:
    """Train a small text classifier from a few dozen labelled rows, without a network.

    A local language model writes training data, guided by the mistakes of the classifier (Synthesis Step by Step).
    Single texts, pairs of texts, and questions on a text.

    \b
      s3local init my_task          a commented task to fill in
      s3local check my_task         is it well-formed, what is in it?
      s3local run my_task           write data, train, repeat; all that comes of it is in runs/my_task/default
      s3local predict runs/my_task/default messages.csv
      s3local compare my_task       is it worth it? the method against its rivals, on your rows
    """
    offline.engage()


main.add_command(models)


@main.command()
@click.argument("name", type=click.Path(path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(["classification", "pair", "extractive_qa"]),
    default="classification",
    show_default=True,
    help="The sort of task: one text and its label; a given text with a written one; a question on a context.",
)
def init(name: Path, kind: Any) -> None:
    """Write a commented starter task into the new folder NAME."""
    from s3local.task.starter import write_starter

    written = write_starter(name, kind)
    click.echo(f"wrote {written} and example rows beside it; fill them in, then: s3local check {name}")


@main.group()
def data() -> None:
    """Rows of your own: draw a sample of them."""


@data.command()
@click.argument("pool", type=click.Path(path_type=Path))
@click.option("--rows", type=click.IntRange(1), required=True, help="Rows to draw, over all labels.")
@click.option("--per-label", is_flag=True, help="As many of each label, as far as the labels have rows.")
@click.option("--label-column", default="label", show_default=True, help="The column that holds the label.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="All chance comes from it.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="A .jsonl file to write. [default: standard output]"
)
def draw(pool: Path, rows: int, per_label: bool, label_column: str, seed: int, output: Path | None) -> None:
    """Draw ROWS rows of POOL (.jsonl, .csv or .tsv), to label or to use as dev; they come out as JSON Lines.

    The same seed draws the same rows, and fewer rows with the same seed are some of them (without --per-label).
    """
    from s3local.task.subsample import draw_rows, write_drawn

    drawn = draw_rows(pool, rows, seed, label_column=label_column if per_label else None)
    write_drawn(drawn, output)
    if output is not None:
        click.echo(f"wrote {len(drawn):,} rows to {output}", err=True)


_task_options = [
    click.argument("task", type=click.Path(path_type=Path)),
    click.option("--dev", type=click.Path(path_type=Path), help="Labelled rows to learn from, in place of the task's."),
    click.option("--test", type=click.Path(path_type=Path), help="Labelled rows for the final score, likewise."),
    click.option(
        "--contexts",
        type=click.Path(path_type=Path),
        help="Unlabelled given texts to write on, likewise (not for classification).",
    ),
]

_model_options = [
    click.option("--teacher", metavar="ID|FILE", help="Model id or .gguf file of the LLM. [default: the embedded one]"),
    click.option(
        "--student", metavar="ID|FOLDER", help="Pretrained body of the classifier. [default: the embedded one]"
    ),
    click.option(
        "--encoder", metavar="ID|FOLDER", help="Sentence encoder for deduplication. [default: the embedded one]"
    ),
    click.option(
        "--slots", type=click.IntRange(1), help="Texts the teacher writes side by side. [default: what fits, up to 64]"
    ),
    click.option("--threads", type=click.IntRange(1), help="Threads of the teacher. [default: physical cores]"),
    click.option(
        "--gpu-layers", type=click.IntRange(0), help="Layers of the teacher on the GPU. [default: all, if there is one]"
    ),
    click.option(
        "--cache-type",
        type=click.Choice(["f16", "q8_0"]),
        default="f16",
        show_default=True,
        help="Key-value cache; q8_0 takes half the memory.",
    ),
]


_budget_options = [
    click.option("--rows", type=click.IntRange(1), default=1000, show_default=True, help="Synthetic rows to train on."),
    click.option(
        "--rounds", type=click.IntRange(0), default=2, show_default=True, help="Rounds of error extrapolation, at most."
    ),
]

_output_options = [
    click.option("as_json", "--json", is_flag=True, help="Print the figures as JSON."),
    click.option("--quiet", is_flag=True, help="Show no progress."),
]


def _with(*groups: list[Any]) -> Callable[[Any], Any]:
    """A decorator that adds options."""

    def decorate(command: Any) -> Any:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return decorate


def _with_task(command: Any) -> Any:
    """Add the task's argument and options, and give the command the loaded task, its dev rows checked, instead.

    Bad rows are told at once, before the models' libraries are imported.
    """

    @functools.wraps(command)
    def loading(task: Path, dev: Path | None, test: Path | None, contexts: Path | None, **others: Any) -> Any:
        from s3local.task.model import load_task
        from s3local.task.rows import load_dev

        loaded = load_task(task, dev, test, contexts)
        load_dev(loaded)
        return command(task=loaded, **others)

    return _with(_task_options)(loading)


def _with_models(command: Any) -> Any:
    """Add the options of the models, and give the command those of the engine together."""

    @functools.wraps(command)
    def gathering(
        slots: int | None, threads: int | None, gpu_layers: int | None, cache_type: Any, **others: Any
    ) -> Any:
        from s3local.teacher.engine import EngineSettings

        engine = EngineSettings(slots=slots, threads=threads, gpu_layers=gpu_layers, cache_type=cache_type)
        return command(engine=engine, **others)

    return _with(_model_options)(gathering)


@main.command()
@_with_task
@click.option("as_json", "--json", is_flag=True, help="Print JSON instead of tables.")
def check(task: Task, as_json: bool) -> None:
    """Validate TASK (a folder or a task.yaml) and print counts, balance, lengths and what looks wrong."""
    from s3local.report.check import render
    from s3local.task.check import summarize
    from s3local.task.rows import load_contexts, load_dev, load_rows

    if task.contexts is not None:
        load_contexts(task.contexts, task)  # tells what is wrong with them
    summary = summarize(task, load_dev(task), load_rows(task.test, task) if task.test else None)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(summary), indent=2, ensure_ascii=False, default=str))
    else:
        Console().print(render(task, summary))


@main.command()
@_with_task
@click.option("--name", default="default", show_default=True, help="Name of the run, its folder in runs/TASK/.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run, in place of runs/TASK/NAME.")
@_with(_budget_options)
@click.option(
    "--error-cap",
    type=_FiniteRange(0, min_open=True),
    default=1.5,
    show_default=True,
    help="Errors of one label that a round uses, at most: times the label's fair share.",
)
@click.option("--max-errors", type=click.IntRange(1), help="Errors that a round uses, at most. [default: all]")
@click.option(
    "--round-trip",
    type=_FiniteRange(0, 1),
    default=0.0,
    show_default=True,
    help="Question answering: drop questions that the teacher answers with a lower F1; 0 does not ask it.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="All chance comes from it.")
@_with_models
@click.option(
    "--with-gold/--without-gold", default=True, show_default=True, help="Train the final classifier on dev as well."
)
@click.option(
    "--rationales",
    type=click.IntRange(0),
    default=12,
    show_default=True,
    help="Reasons that the teacher names for each label that has none, for the seed to be written from.",
)
@click.option(
    "--contrast",
    type=_FiniteRange(0),
    help="Weight of the contrast between labels when texts are written. "
    "[default: 0.5 for teachers that continue lists, else 0]",
)
@click.option(
    "--label-check/--no-label-check",
    default=True,
    show_default=True,
    help="Let judges trained on dev say how probable each label of a synthetic row is. The label that the teacher was "
    "asked for counts beside them, for as much as it seems to be right. Left out where dev has too few rows of a label "
    "for judges.",
)
@click.option(
    "--teacher-reads/--no-teacher-reads",
    default=True,
    show_default=True,
    help="Make the teacher a judge as well, where that explains dev better. The label asked for counts for half then.",
)
@click.option(
    "--model-selection/--no-model-selection",
    default=True,
    show_default=True,
    help="Find by cross-validation on dev how far the synthetic rows help, and select the best average of the weights "
    "of the final and the gold-only classifier; or the gold-only one, if they do not help.",
)
@_with(_output_options)
def run(
    task: Task,
    name: str,
    out: Path | None,
    engine: EngineSettings,
    round_trip: float,
    as_json: bool,
    quiet: bool,
    **choices: Any,
) -> None:
    """Run S3 on TASK (a folder or a task.yaml): write data, train, find errors, repeat.

    The same command after Ctrl-C, or a crash, goes on where it stopped. Other settings need another --name.
    """
    from s3local.report.text import render
    from s3local.results import to_json
    from s3local.runner.loop import run as run_task
    from s3local.runner.settings import AnswerSettings, RunSettings

    settings = RunSettings(engine=engine, answers=AnswerSettings(round_trip=round_trip), **choices)
    result = run_task(task, settings, folder=out, name=name, progress=_progress(quiet or as_json))
    if as_json:
        click.echo(to_json(result.summary))
    else:
        Console().print(render(result.summary, result.folder))


@main.command()
@_with_task
@click.option("--name", default="default", show_default=True, help="Name, its folder in runs/TASK/compare/.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder, in place of runs/TASK/compare/NAME.")
@click.option(
    "--methods",
    default=",".join(DEFAULT_METHODS),
    show_default=True,
    metavar="NAME,...",
    help="Those to compare, of the list above.",
)
@click.option(
    "--reference", default=DEFAULT_REFERENCE, show_default=True, help="Method that the others are tested against."
)
@click.option(
    "--seeds",
    default=",".join(map(str, DEFAULT_SEEDS)),
    show_default=True,
    metavar="N,...",
    help="Each method runs once with each.",
)
@click.option("--gold", metavar="N,...", help="Numbers of labelled rows to draw from dev.  [default: all of it]")
@_with(_budget_options)
@_with_models
@_with(_output_options)
def compare(
    task: Task,
    name: str,
    out: Path | None,
    methods: str,
    reference: str,
    seeds: str,
    gold: str | None,
    engine: EngineSettings,
    as_json: bool,
    quiet: bool,
    **choices: Any,
) -> None:
    """Compare S3 with its rivals on TASK: same labelled rows, teacher, classifier and number of synthetic rows.

    \b
      gold                   the classifier on the labelled rows alone
      probe                  a linear layer on their embeddings
      setfit                 the SetFit package on them, if it is installed
      teacher                the language model itself, without and with examples
      zerogen                zero-shot rows: no rationales, no rounds
      zerogen-no-contrast    the same, sampled plainly as it was when published
      goldgen                more rows like all of the labelled ones
      s3                     Synthesis Step by Step: rationales, then rounds of error extrapolation
      s3-no-ees              without error extrapolation
      s3-no-rationale        without rationales
      s3+gold, goldgen+gold  the final classifier sees the labelled rows too

    The same command after Ctrl-C goes on where it stopped; more methods, seeds or gold sizes reuse what is there.
    """
    from s3local.comparison.compare import CompareSettings
    from s3local.comparison.compare import compare as compare_methods
    from s3local.report.compare import render, save
    from s3local.results import to_json
    from s3local.runner.settings import RunSettings

    settings = CompareSettings(
        methods=tuple(_names(methods)),
        seeds=tuple(_numbers("--seeds", seeds)),
        gold=tuple(_numbers("--gold", gold)) if gold is not None else (),
        reference=reference,
        run=RunSettings(engine=engine, **choices),
    )
    result = compare_methods(task, settings, folder=out, name=name, progress=_progress(quiet or as_json))
    save(result.summary, result.folder)
    if as_json:
        click.echo(to_json(result.summary))
    else:
        Console().print(render(result.summary, result.folder))


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("source", type=click.Path(path_type=Path, allow_dash=True), default="-")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write. [default: standard output]")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv", "tsv", "txt"]),
    help="Format of SOURCE, if its ending does not tell.",
)
@click.option(
    "--output-format",
    type=click.Choice(["jsonl", "csv", "tsv", "txt"]),
    help="Format of the output. [default: as OUTPUT ends, or as SOURCE]",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="A column of SOURCE that holds a field, if its name differs.",
)
@click.option("--probabilities", is_flag=True, help="Add the probability of every label.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def predict(
    model: Path,
    source: Path,
    output: Path | None,
    form: Any,
    output_format: Any,
    columns: tuple[str, ...],
    probabilities: bool,
    quiet: bool,
) -> None:
    """Label the rows of SOURCE (a file, or - for standard input) with MODEL: a run folder or an exported model.

    Rows keep their columns and gain "predicted" and "probability"; where MODEL answers questions, "predicted" is the
    answer, and "predicted_start" the character of the context where it begins. Files of any size take the same memory.
    """
    from s3local.prediction import predict_file
    from s3local.runner.state import selected_student
    from s3local.student.inference import META_FILE
    from s3local.student.reader import load_student

    folder = model if (model / META_FILE).is_file() else selected_student(model)
    mapping = dict(_pair(column) for column in columns)
    student = load_student(folder)
    with _progress(quiet).step("predicting", None, "rows") as advance:
        count = predict_file(
            student,
            None if str(source) == "-" else source,
            output,
            source_format=form,
            target_format=output_format,
            columns=mapping,
            all_probabilities=probabilities,
            advance=advance,
        )
    if output is not None and not quiet:
        click.echo(f"wrote {count:,} rows to {output}", err=True)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("as_json", "--json", is_flag=True, help="Print the figures as JSON.")
def report(folder: Path, as_json: bool) -> None:
    """Print the figures of the finished run in FOLDER."""
    from s3local.report.text import read_summary, render
    from s3local.results import to_json

    summary = read_summary(folder)
    if as_json:
        click.echo(to_json(summary))
    else:
        Console().print(render(summary, folder))


def _progress(quiet: bool) -> Progress:
    return Silent() if quiet else Terminal()


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(option: str, text: str) -> list[int]:
    """The whole numbers of a list such as "0,1,2". Raises ``S3LocalError``."""
    for name in (names := _names(text)):
        if not name.isdecimal():
            raise S3LocalError(f"{option}: found {name!r}, whole numbers with commas between them belong here")
    return [int(name) for name in names]


def _pair(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not equals:
        raise click.BadParameter(f"{text!r} is not FIELD=COLUMN", param_hint="--column")
    return field, column


if __name__ == "__main__":
    sys.exit(main())
