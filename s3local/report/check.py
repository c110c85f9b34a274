"""The findings of ``check`` as tables of plain text."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from s3local.report.text import heading
from s3local.task.check import TaskSummary
from s3local.task.model import Task


def render(task: Task, summary: TaskSummary) -> RenderableType:
    """Counts of each label, lengths, and the warnings."""
    splits = [("dev", summary.dev)] + ([("test", summary.test)] if summary.test else [])
    labels = Table("label", box=SIMPLE_HEAD, title=heading(f"{task.name}: {task.texts}"), title_justify="left")
    for name, _ in splits:
        labels.add_column(f"{name} rows", justify="right")
    for label in task.label_names:
        labels.add_row(Text(label), *(f"{split.per_label[label]:,}" for _, split in splits))
    labels.add_row("all", *(f"{split.rows:,}" for _, split in splits))
    for given in task.source_fields:
        labels.add_row(Text(f"distinct: {given}"), *(f"{split.contexts:,}" for _, split in splits))

    measured = Column(Text(f"length of {task.target_field}"))
    lengths = Table(measured, "shortest", "5 %", "median", "95 %", "longest", box=SIMPLE_HEAD)
    for column in lengths.columns[1:]:
        column.justify = "right"
    for name, split in splits:
        for unit, spread in (("characters", split.characters), ("words", split.words)):
            values = (spread.min, spread.low, spread.median, spread.high, spread.max)
            lengths.add_row(f"{name}, {unit}", *(f"{value:,}" for value in values))
    allowed = Text(f"New texts may have {summary.length.min:,} to {summary.length.max:,} {summary.length.unit}.")
    warnings = [Text(f"warning: {warning}") for warning in summary.warnings]
    return Group(labels, lengths, allowed, *(warnings or [Text("Nothing looks wrong.")]))
