"""A small task, its files, and the one line that an error in them must be: for the tests of tasks and of rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import strategies as st

from s3local.exceptions import InputError
from s3local.task.model import Task

YAML = """\
name: shop
texts: messages to a shop
labels:
  fault:
    description: something is broken
    phrase: that report a fault
  praise: the sender is pleased
length: {unit: words, min: 2, max: 9}
"""
TASK = Task(
    name="shop", texts="messages to a shop", labels={"fault": "something is broken", "praise": "the sender is pleased"}
)
DEV = '{"text": "it broke", "label": "fault"}\n{"text": "how nice", "label": "praise"}\n'


def write_task(folder: Path, text: str = YAML, **rows: str) -> Path:
    (folder / "task.yaml").write_text(text, encoding="utf-8")
    for name, content in {"dev": DEV, **rows}.items():
        (folder / f"{name}.jsonl").write_text(content, encoding="utf-8")
    return folder


def error_of(load, *arguments) -> InputError:
    with pytest.raises(InputError) as caught:
        load(*arguments)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    return caught.value


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30).filter(
    lambda text: any(character.isascii() and character.isprintable() and character != " " for character in text)
)
