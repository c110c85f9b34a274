"""``s3local compare``: S3 and its baselines on one task."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from s3local.cli.completion import complete_method, complete_methods
from s3local.cli.options import (
    budget_options,
    folder_name,
    json_option,
    path_type,
    quiet_option,
    with_models,
    with_task,
    workers_option,
)
from s3local.cli.report import open_in_browser, show_page
from s3local.cli.terminal import progress, show, show_json
from s3local.comparison.methods import DEFAULT_METHODS, DEFAULT_REFERENCE, DEFAULT_SEEDS
from s3local.exceptions import S3LocalError
from s3local.wording import shown

if TYPE_CHECKING:
    from s3local.task.model import Task
    from s3local.teacher.engine import EngineSettings


@click.command()
@with_task
@click.option(
    "--name",
    callback=folder_name,
    default="default",
    show_default=True,
    help="Name of the comparison, and its folder in runs/TASK/compare/.",
)
@click.option("--out", type=path_type, help="Folder of the comparison, instead of runs/TASK/compare/NAME.")
@click.option(
    "--methods",
    default=",".join(DEFAULT_METHODS),
    show_default=True,
    metavar="NAME,...",
    shell_complete=complete_methods,
    help="Methods to compare, from the list above.",
)
@click.option(
    "--reference",
    default=DEFAULT_REFERENCE,
    shell_complete=complete_method,
    show_default=True,
    help="Method that the others are tested against.",
)
@click.option(
    "--seeds",
    default=",".join(map(str, DEFAULT_SEEDS)),
    show_default=True,
    metavar="N,...",
    help="Random seeds; one run for each.",
)
@click.option("--gold", metavar="N,...", help="Numbers of labelled rows to draw from dev. [default: all rows]")
@budget_options
@with_models
@workers_option(
    "Cells that are computed side by side, each by a process with its own teacher; 1 computes one after the other. Or "
    "a Ray cluster: ray is the one that this machine is part of, or a new one of this machine alone; HOST:PORT is a "
    "cluster's head. [default: one cell after the other, whose trainings run side by side]"
)
@click.option("--open", "open_page", is_flag=True, help="Open the report in the browser at the end.")
@json_option
@quiet_option
def compare(
    task: Task,
    name: str,
    out: Path | None,
    methods: str,
    reference: str,
    seeds: str,
    gold: str | None,
    engine: EngineSettings,
    workers: int | str | None,
    open_page: bool,
    as_json: bool,
    quiet: bool,
    **choices: Any,
) -> None:
    """Compare S3 with baselines on your rows.

    TASK is a folder, a task.yaml or a preset. All methods get the same labelled rows, teacher, classifier and number of
    synthetic rows.

    \b
      gold                   the classifier trained on the labelled rows alone
      active                 the same on rows that suggest chooses from the labelled ones, not drawn at random
      probe, probe-large     a linear layer on their embeddings by the sentence encoder, by the judges' encoder
      setfit, setfit-large   the SetFit package on either encoder, if it is installed
      judge                  one judge, trained on them
      teacher                the language model itself, zero-shot and few-shot
      zerogen                zero-shot rows: no rationales, no rounds
      zerogen-no-contrast    the same with plain sampling, as published
      goldgen                extrapolates all labelled rows, not only the errors
      s3                     Synthesis Step by Step: rationales, then rounds of error extrapolation
      s3-no-ees              S3 without error extrapolation
      s3-no-rationale        S3 without rationales
      s3+gold, goldgen+gold  the final classifier is trained on the labelled rows too
      s3+gold-large          the same, from the judges' encoder
      s3+unlabelled          s3+gold that takes the task's unlabelled rows before the teacher writes
      self-training          the unlabelled rows alone, with the judges' labels, and the labelled ones

    The same command resumes after Ctrl-C. More methods, seeds or gold sizes reuse the results that are there. At
    the end the results are written to report.html in the comparison's folder.

    \b
    Examples:
      s3local compare my_task
      s3local compare my_task --methods gold,setfit,s3+gold --gold 20,60,200 --seeds 0,1,2
    """
    from s3local.comparison.compare import CompareSettings
    from s3local.comparison.compare import compare as compare_methods
    from s3local.ray_executor import executor_named
    from s3local.report.compare import render, save
    from s3local.report.html import write_report
    from s3local.results import to_plain
    from s3local.runner.settings import RunSettings

    settings = CompareSettings(
        methods=tuple(_names(methods)),
        seeds=tuple(_numbers("--seeds", seeds)),
        gold=tuple(_numbers("--gold", gold)) if gold is not None else (),
        reference=reference,
        run=RunSettings(engine=engine, **choices),
    )
    with contextlib.closing(executor_named(workers)) as executor:
        result = compare_methods(
            task,
            settings,
            folder=out,
            name=name,
            progress=progress(quiet or as_json),
            executor=executor,
            side_by_side=workers not in (None, 1),
        )
    save(result.summary, result.folder)
    if as_json:
        show_json(to_plain(result.summary))
    else:
        show(render(result.summary, result.folder))
    page = write_report(result.folder)
    if not as_json:
        show_page(page)
    if open_page:
        open_in_browser(page)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(option: str, text: str) -> list[int]:
    """The whole numbers of a list such as "0,1,2". Raises ``S3LocalError``."""
    names = _names(text)
    for name in names:
        if not (name.isascii() and name.isdigit()):
            raise S3LocalError(f"{option}: found {shown(name)}; whole numbers separated by commas belong here")
    return [int(name) for name in names]
