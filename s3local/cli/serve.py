"""``s3local serve``: a classifier for other programs on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from s3local.cli.completion import complete_run
from s3local.cli.options import chosen_threshold, path_type, quiet_option, threshold_options
from s3local.exceptions import S3LocalError


@click.command()
@click.argument("model", type=path_type, shell_complete=complete_run)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 is a free one.")
@threshold_options
@quiet_option
def serve(model: Path, port: int, threshold: float | None, target_accuracy: float | None, quiet: bool) -> None:
    """Answer POST /predict on this machine, for other programs.

    MODEL is a run folder or an exported model. The server listens on 127.0.0.1 alone; the page at its address describes
    requests and answers. Ctrl-C ends it.

    \b
    Examples:
      s3local serve runs/my_task/default --threshold 0.8
      curl http://127.0.0.1:8000/predict -H 'Content-Type: application/json' -d '{"texts": ["my router is broken"]}'
    """
    from s3local import serving
    from s3local.student.reader import Reader, load_student

    chosen = chosen_threshold(model, threshold, target_accuracy, quiet)
    classifier = load_student(model)
    if isinstance(classifier, Reader):
        raise S3LocalError(f"{model} answers questions, serve needs a classifier; use 's3local predict'")
    with serving.bound_socket(port) as listening:
        if not quiet:
            host, taken = listening.getsockname()
            click.echo(f"serving {model} on http://{host}:{taken} (Ctrl-C ends it)", err=True)
        serving.serve(classifier, listening, chosen)
