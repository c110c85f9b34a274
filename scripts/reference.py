"""Writes docs/reference.md from the program: the help of every command, the keys of task.yaml, the files of a run.

python scripts/reference.py            writes the page anew
python scripts/reference.py --check    ends with an error if the page is not what the program says
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from s3local.cli.main import main as program  # noqa: E402
from s3local.runner import state  # noqa: E402
from s3local.sources import ROW_SUFFIXES  # noqa: E402
from s3local.task import model  # noqa: E402

PAGE = ROOT / "docs" / "reference.md"
WIDTH = 100
"""Characters in a line of the help."""

HEAD = """\
# Reference

`scripts/reference.py` writes this page from the program; a test fails if they disagree.
[data/README.md](../data/README.md) says which files of rows are read, [models/README.md](../models/README.md) where
models come from.
"""


ENVIRONMENT = """\
## Environment variables

| variable | meaning |
|---|---|
| `S3LOCAL_MODELS` | the folder of the models |
| `S3LOCAL_TEACHER_KEY` | the key of the teacher's server, if it wants one |
"""


def page() -> str:
    """The whole page, as Markdown."""
    return "\n".join([HEAD, *command_sections(), *task_sections(), files_section(), ENVIRONMENT])


def command_sections() -> Iterator[str]:
    """The help of the program and of each command, as a terminal of ``WIDTH`` characters shows it."""
    yield "## Commands\n"
    yield from _helps(program, "s3local", None)


def _helps(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    context = command.make_context(
        name, [], parent, resilient_parsing=True, terminal_width=WIDTH, max_content_width=WIDTH
    )
    yield f"### {context.command_path}\n\n```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from _helps(command.commands[below], below, context)


def task_sections() -> Iterator[str]:
    """The keys of task.yaml with their values and defaults, and the variables of its prompts."""
    schema = model.Task.model_json_schema()
    yield "## task.yaml\n"
    limit = f"{model.MAX_LINE_CHARACTERS:,}"
    yield f"`s3local init` writes a commented one. A text has one line, of at most {limit} characters.\n"
    yield _keys(schema)
    for key, name in (("labels", "Label"), ("length", "Length"), ("prompts", "PromptTexts"), ("reading", "Reading")):
        yield f"### Keys of {key}\n"
        yield _keys(schema["$defs"][name])
    yield "### Variables of prompts\n"
    yield (
        f"A prompt is a `string.Template` text of at most {model.MAX_PROMPT_CHARACTERS:,} characters. `$given` is the "
        "source text, `$written` the\ntarget text.\n"
    )
    yield _table(("kind", "prompt", "variables", "must use"), _prompt_rows())
    yield "### Names and files\n"
    yield f"Names that a field cannot have: {_listed(model.RESERVED_FIELDS)}.\n"
    yield f"Endings of files of rows, in the order in which they are looked for: {_listed(ROW_SUFFIXES)}.\n"


def _prompt_rows() -> Iterator[Sequence[str]]:
    for kind, prompts in model.PROMPT_VARIABLES.items():
        for prompt, variables in prompts.items():
            groups = model.PROMPT_NEEDS[kind][prompt]
            needs = "; ".join(" or ".join(f"`{name}`" for name in group) for group in groups)
            yield f"`{kind}`", f"`{prompt}`", _listed(variables), needs


def _keys(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    return _table(
        ("key", "value", "default", "meaning"),
        (
            (f"`{key}`", _value(its), "required" if key in required else _default(its), _one_line(its["description"]))
            for key, its in schema["properties"].items()
        ),
    )


def _value(schema: Mapping[str, Any]) -> str:
    """What a key can hold, in words."""
    schema = next((its for its in schema.get("anyOf", ()) if its.get("type") != "null"), schema)
    if "enum" in schema:
        return _listed(schema["enum"])
    if "$ref" in schema:
        return "keys, see below"
    if schema["type"] == "array":
        return "list of keys, see below" if "$ref" in schema["items"] else "list of texts"
    if schema["type"] == "integer":
        return f"whole number from {schema['minimum']}"
    if schema["type"] == "string":
        return "path" if schema.get("format") == "path" else "text"
    return "mapping of texts"


def _default(schema: Mapping[str, Any]) -> str:
    value = schema.get("default")
    return f"`{value}`" if isinstance(value, str) and value else "none"


def files_section() -> str:
    """The tree of a run's folder, out of the docstring of the module that writes it."""
    indented = [line for line in (state.__doc__ or "").splitlines() if line.startswith("    ")]
    tree = textwrap.dedent("\n".join(indented)).replace("``", "'")
    return f"## Files of a run\n\n```\n{tree}\n```\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _one_line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say whether the page is stale")
    if not parser.parse_args().check:
        PAGE.write_text(page(), encoding="utf-8", newline="\n")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.exit(f"error: {PAGE} is stale; run: python scripts/reference.py")


if __name__ == "__main__":
    main()
