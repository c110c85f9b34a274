"""The program ``s3local``: the group of all commands, and what the user sees of an error."""

from __future__ import annotations

import errno
import sys

import click

from s3local import __version__, offline
from s3local.cli.bundle import bundle
from s3local.cli.compare import compare
from s3local.cli.completion import completion
from s3local.cli.data import data
from s3local.cli.doctor import doctor
from s3local.cli.export import export
from s3local.cli.models import models
from s3local.cli.predict import predict
from s3local.cli.report import report
from s3local.cli.review import label, retrain, review, suggest
from s3local.cli.run import run
from s3local.cli.serve import serve
from s3local.cli.setup import setup
from s3local.cli.task import check, init
from s3local.cli.terminal import write_utf8
from s3local.exceptions import S3LocalError
from s3local.wording import escaped, shown

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""


class Program(click.Group):
    """Prints an error that the user can fix as one line. After Ctrl-C, says that nothing is lost."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except click.MissingParameter as exc:  # click lists the choices on a line each
            raise click.UsageError(" ".join(exc.format_message().split()), exc.ctx) from exc
        except S3LocalError as exc:
            click.echo(f"error: {escaped(str(exc).strip()).replace(chr(10), ' ')}", err=True)
            ctx.exit(exc.exit_code)
        except OSError as exc:  # a path that the system refuses, such as a name of thousands of characters
            if exc.errno == errno.EPIPE:
                raise
            place = f"{shown(str(exc.filename))}: " if exc.filename else ""
            click.echo(f"error: {place}{exc.strerror or exc}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("interrupted; the same command resumes after the last finished step", err=True)
            ctx.exit(INTERRUPTED)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which a user needs them."""
        return list(self.commands)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="s3local")
def main() -> None:
    """Train a small text classifier from a few dozen labelled rows, without a network.

    A local language model generates training data, guided by the errors of the classifier (Synthesis Step by Step).
    It works for single texts, pairs of texts, and questions about a text.

    \b
    Examples:
      s3local setup                 fetch the embedded models, once
      s3local init my_task          write a commented task to edit
      s3local check my_task         validate the task and its rows
      s3local run my_task           generate rows and train; all results are in runs/my_task/default
      s3local predict runs/my_task/default messages.csv
      s3local review runs/my_task/default   read and correct the generated rows in the browser
      s3local export runs/my_task/default --to onnx -o my_classifier
      s3local compare my_task       compare the method with baselines, on your rows
      s3local doctor                show what is installed, and prove that it works offline
    """
    write_utf8()
    offline.engage()


for command in (setup, init, check, data, run, predict, serve, report, review, label, suggest, retrain, export):
    main.add_command(command)
for command in (compare, models, bundle, doctor, completion):
    main.add_command(command)


if __name__ == "__main__":
    sys.exit(main())
