"""``s3local run``: the whole method on one task."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from s3local.cli.options import (
    FiniteRange,
    budget_options,
    command_line,
    folder_name,
    json_option,
    path_type,
    quiet_option,
    seed_option,
    with_models,
    with_task,
    workers_option,
)
from s3local.cli.report import open_in_browser, show_page
from s3local.cli.terminal import progress, show, show_json

if TYPE_CHECKING:
    from s3local.runner.settings import RunSettings
    from s3local.task.model import Task
    from s3local.teacher.engine import EngineSettings


@click.command()
@with_task
@click.option(
    "--name",
    callback=folder_name,
    default="default",
    show_default=True,
    help="Name of the run, and its folder in runs/TASK/.",
)
@click.option("--out", type=path_type, help="Folder of the run, instead of runs/TASK/NAME.")
@budget_options
@click.option(
    "--error-cap",
    type=FiniteRange(0, min_open=True),
    default=1.5,
    show_default=True,
    help="Maximum errors of one label in a round, as a multiple of the label's fair share.",
)
@click.option("--max-errors", type=click.IntRange(1), help="Maximum errors in a round, over all labels. [default: all]")
@click.option(
    "--round-trip",
    type=FiniteRange(0, 1),
    default=0.0,
    show_default=True,
    help="Question answering: the teacher answers each new question, and a question whose answer has a lower F1 than "
    "this is dropped. 0 switches the check off.",
)
@seed_option
@with_models
@click.option(
    "--with-gold/--without-gold",
    default=True,
    show_default=True,
    help="Train the final classifier on the dev rows as well.",
)
@click.option(
    "--rationales",
    type=click.IntRange(0),
    default=12,
    show_default=True,
    help="Rationales that the teacher writes for each label without any; the seed prompts show them.",
)
@click.option(
    "--contrast",
    type=FiniteRange(0),
    help="Strength of the contrast with the other labels while the teacher samples; 0 is plain sampling. "
    "[default: 0.5 for teachers that continue lists, 0 for chat models]",
)
@click.option(
    "--label-check/--no-label-check",
    default=True,
    show_default=True,
    help="Replace the requested label of each synthetic row by label probabilities, which combine the requested label "
    "with judges trained on dev. Skipped where the judges predict dev no better than chance.",
)
@click.option(
    "--model-selection/--no-model-selection",
    default=True,
    show_default=True,
    help="Select the model by cross-validation on dev: the gold-only baseline, or the best weighted mean of that "
    "baseline's weights and the final classifier's.",
)
@click.option(
    "--redact",
    is_flag=True,
    help="Replace names, addresses, e-mail, telephone and account numbers, dates of birth and web addresses in your "
    "rows by invented ones before the teacher reads them. The classifier is still trained on your own rows.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="Train on the dev rows alone, without a teacher, in about a minute: a first answer, exported like every other "
    "classifier. It is the gold-only baseline of the full run.",
)
@workers_option(
    "Processes of this machine that train classifiers side by side; 1 trains one after the other. Or a Ray cluster, "
    "whose machines also generate: ray is the one that this machine is part of, or a new one of this machine alone; "
    "HOST:PORT is a cluster's head. [default: one process for each physical core, as memory allows; 1 with a GPU]"
)
@click.option("--open", "open_page", is_flag=True, help="Open the report in the browser at the end.")
@json_option
@quiet_option
def run(
    task: Task,
    name: str,
    out: Path | None,
    engine: EngineSettings,
    workers: int | str | None,
    round_trip: float,
    redact: bool,
    quick: bool,
    open_page: bool,
    as_json: bool,
    quiet: bool,
    **choices: Any,
) -> None:
    """Run S3: generate rows, train, find errors, generate more.

    TASK is a folder, a task.yaml or a preset. At first, some seconds of work are measured, and the run says how long it
    will take. Ctrl-C stops after the present step, a second Ctrl-C at once; the same command resumes the run. Other
    settings need another --name.

    \b
    Examples:
      s3local run my_task
      s3local run my_task --quick
      s3local run my_task --rows 2000 --seed 1 --name larger
      s3local run my_task --teacher http://127.0.0.1:11434/v1#qwen3:8b --name ollama
      s3local run my_task --redact --name redacted
      s3local run my_task --rows 20000 --workers ray://192.168.1.10:6379 --name cluster
    """
    from s3local.curation.privacy import PrivacySettings
    from s3local.interruption import stoppable
    from s3local.ray_executor import executor_named
    from s3local.report.html import write_report
    from s3local.report.text import render
    from s3local.results import to_plain
    from s3local.runner.forecast import forecast
    from s3local.runner.loop import run as run_task
    from s3local.runner.loop import run_folder
    from s3local.runner.models import find_models
    from s3local.runner.settings import AnswerSettings, RunSettings

    privacy = PrivacySettings(redact=redact)
    settings = RunSettings(engine=engine, answers=AnswerSettings(round_trip=round_trip), privacy=privacy, **choices)
    if quick:
        _refuse_what_quick_ignores()
        name = name if _is_given("name") else "quick"
        _first_answer(task, settings, out or run_folder(task, name), workers, as_json, quiet)
        return
    models = find_models(settings, progress=progress(quiet or as_json))
    folder = out or run_folder(task, name)
    here = workers if isinstance(workers, int) else None  # the machines of a cluster are not measured
    shown = progress(quiet or as_json, lambda: forecast(task, settings, models, here, folder))
    with (
        stoppable(lambda message: click.echo(message, err=True)),
        contextlib.closing(executor_named(workers)) as executor,
    ):
        result = run_task(
            task, settings, folder=folder, progress=shown, models=models, executor=executor, command=command_line()
        )
    if as_json:
        show_json(to_plain(result.summary))
    else:
        show(render(result.summary, result.folder))
    page = write_report(result.folder)
    if not as_json:
        show_page(page)
    if open_page:
        open_in_browser(page)


_OF_QUICK = {
    *("task", "dev", "test", "contexts", "encoding", "separator", "sheet", "name", "out"),
    *("seed", "student", "judge", "encoder", "workers", "quick", "as_json", "quiet"),
}
"""Options that matter for ``--quick``."""


def _is_given(option: str) -> bool:
    """Whether the command line has the option of this name."""
    return click.get_current_context().get_parameter_source(option) == click.core.ParameterSource.COMMANDLINE


def _refuse_what_quick_ignores() -> None:
    """Raises ``UsageError`` for an option that would do nothing."""
    for option in click.get_current_context().command.params:
        if option.name and option.name not in _OF_QUICK and _is_given(option.name):
            raise click.UsageError(f"{option.opts[-1]} has no effect with --quick, which trains on the dev rows alone")


def _first_answer(
    task: Task, settings: RunSettings, folder: Path, workers: int | str | None, as_json: bool, quiet: bool
) -> None:
    """Train quickly, and show what came out."""
    from s3local.ray_executor import executor_named
    from s3local.report.text import render_quick
    from s3local.results import to_plain
    from s3local.runner.models import find_bodies
    from s3local.runner.quick import train_quickly

    body, large = find_bodies(settings)
    chosen = large if settings.size == "large" else body
    with contextlib.closing(executor_named(workers)) as executor:
        result = train_quickly(task, settings, chosen, folder, executor, progress(quiet or as_json))
    if as_json:
        show_json(to_plain(result))
    else:
        show(render_quick(result, folder))
