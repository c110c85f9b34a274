"""docs/reference.md is what the program says, and its tree names what a run writes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from s3local.finished_run import FinishedRun

NOT_NAMED = {".lock", ".owner.json"}
"""What guards a run folder."""


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("reference")


def test_the_page_is_in_step_with_the_program(script: ModuleType) -> None:
    """In a process of its own: click remembers the options of a command that was called before."""
    done = subprocess.run([sys.executable, script.__file__, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run: python scripts/reference.py\n{done.stdout}{done.stderr}"


def test_every_key_says_what_it_means(script: ModuleType) -> None:
    sections = list(script.task_sections())
    assert not [line for section in sections for line in section.splitlines() if line.endswith("|  |")]
    assert "| `kind` | `classification`, `pair`, `extractive_qa` | `classification` |" in "".join(sections)
    assert "| `dev` | path | `dev.jsonl` |" in "".join(sections)
    assert "| `min` | whole number from 1 | required |" in "".join(sections)


def test_the_tree_names_every_file_of_a_run(script: ModuleType, toy_run: FinishedRun) -> None:
    named = set(re.findall(r"[\w-]+(?:\.\w+)+|[\w-]+(?=/)", script.files_section()))
    numbered = re.compile(r"(?<=[-/])\d+|^\d+")
    known = {numbered.sub("0", name) for name in named} | NOT_NAMED | {"0.jsonl"}
    for path in toy_run.folder.rglob("*"):
        if "student" not in path.relative_to(toy_run.folder).parts[:-1]:
            assert numbered.sub("0", path.name) in known, path.relative_to(toy_run.folder)
