"""The findings of ``check`` as text: what a user wrote is shown as it is."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from some_results import AWKWARD

from s3local.records import Example
from s3local.report.check import render
from s3local.task.check import summarize
from s3local.task.model import Task


@pytest.mark.parametrize("label", AWKWARD)
def test_labels_names_and_fields_are_shown_as_they_are(label: str) -> None:
    task = Task(
        name="toy [b]",
        texts=f"texts {label}",
        kind="pair",
        fields=("note [i]", "claim [u]"),
        labels={label: "one", "other": "another"},
    )
    dev = [Example(f"d{n}", {"note [i]": "x", "claim [u]": f"y {n}"}, name) for n, name in enumerate([label, "other"])]
    console = Console(width=200, file=io.StringIO(), record=True)
    console.print(render(task, summarize(task, dev, None)))
    text = console.export_text()
    for part in ("toy [b]", f"texts {label}", "distinct: note [i]", "length of claim [u]"):
        assert part in text
    assert any(line.strip().startswith(label) for line in text.splitlines())
