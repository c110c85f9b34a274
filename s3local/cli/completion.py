"""Shell completion: the command that sets it up, and the names that arguments are completed with.

Where an argument can also be a path, the shell completes files if no name matches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click
from click.shell_completion import CompletionItem, get_completion_class

from s3local.exceptions import S3LocalError

if TYPE_CHECKING:
    from s3local.weights.manifest import Role

Completer: TypeAlias = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

FINISHED_RUNS = ("runs/*/*/result.json", "runs/*/*/retrained-*/result.json")
FINISHED_COMPARISONS = ("runs/*/compare/*/compare.json",)
"""Where the present folder has finished runs and comparisons, if nobody named another place for them."""


def _completer(known: Callable[[], Iterable[str]], *, paths: bool) -> Completer:
    """Complete with the ``known`` names that begin as the argument does, or with files if ``paths``."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        # bash completes files if no name follows this item; zsh and fish show both
        items = [CompletionItem(incomplete, type="file")] if paths else []
        with contextlib.suppress(S3LocalError):  # a damaged record of a model: the command itself will say so
            items += [CompletionItem(name) for name in known() if name.startswith(incomplete)]
        return items

    return complete


def _own_tasks() -> list[str]:
    from s3local.task.model import TASK_FILE

    return sorted(str(file.parent) for file in Path().glob(f"*/{TASK_FILE}"))


def _tasks() -> list[str]:
    from s3local.task.model import preset_names

    return [*_own_tasks(), *preset_names()]


def _folders(*patterns: str) -> Callable[[], list[str]]:
    """The folders of the files that ``patterns`` find below the present folder."""
    return lambda: sorted(str(file.parent) for pattern in patterns for file in Path().glob(pattern))


def _models(role: Role | None, *others: str) -> Callable[[], list[str]]:
    """The ids of the models with ``role`` (None: of all), and ``others``."""

    def known() -> list[str]:
        from s3local.weights.manifest import known_models

        return [*(model.id for model in known_models().values() if role is None or role in model.roles), *others]

    return known


def _methods() -> list[str]:
    from s3local.comparison.methods import GROUPS, METHODS

    return [*METHODS, *GROUPS]


def complete_methods(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the last name of a list with commas between its names."""
    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(before + comma + name) for name in _methods() if name.startswith(last)]


complete_task = _completer(_tasks, paths=True)
complete_own_task = _completer(_own_tasks, paths=True)
complete_run = _completer(_folders(*FINISHED_RUNS), paths=True)
complete_results = _completer(_folders(*FINISHED_RUNS, *FINISHED_COMPARISONS), paths=True)
complete_method = _completer(_methods, paths=False)
complete_model = _completer(_models(None), paths=False)
complete_teacher = _completer(_models("teacher"), paths=True)
complete_student = _completer(_models("student", "small", "large"), paths=True)
complete_judge = _completer(_models("judge", "none"), paths=True)
complete_encoder = _completer(_models("encoder"), paths=True)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes s3local's commands, options and names with the Tab key.

    It completes tasks and presets, folders of finished runs, ids of models, and methods. Add the line of your shell to
    the file that it reads at its start.

    \b
    Examples:
      eval "$(s3local completion bash)"        in ~/.bashrc
      eval "$(s3local completion zsh)"         in ~/.zshrc, after compinit
      s3local completion fish | source         in ~/.config/fish/config.fish
    """
    program = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    assert kind is not None  # click knows these three
    click.echo(kind(program, {}, "s3local", "_S3LOCAL_COMPLETE").source())
