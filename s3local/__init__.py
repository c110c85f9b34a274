"""s3local: Synthesis Step by Step (S3), fully local and offline.

from s3local import Task, run

task = Task.load("data/support_desk")
result = run(task)
print(result.classifier().predict(["my router keeps restarting"]))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from s3local.runner.loop import RunResult, run
    from s3local.runner.settings import RunSettings
    from s3local.student.inference import Classifier
    from s3local.student.reader import Reader
    from s3local.task.model import Task

__all__ = ["Classifier", "Reader", "RunResult", "RunSettings", "Task", "run"]

_HOMES = {
    "Classifier": "s3local.student.inference",
    "Reader": "s3local.student.reader",
    "RunResult": "s3local.runner.loop",
    "RunSettings": "s3local.runner.settings",
    "Task": "s3local.task.model",
    "run": "s3local.runner.loop",
}


def __getattr__(name: str) -> object:
    """Import the public names when they are first used: torch and llama.cpp take seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 's3local' has no attribute {name!r}")
    import importlib

    from s3local import offline

    offline.engage()
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
