"""The direction of imports, from design: a part imports only parts above it in the list."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "s3local"

ORDER = (
    "exceptions",
    "storage",
    "progress",
    "records",
    "offline",
    "hardware",
    "wording",
    "task",
    "rows",
    "task_check",
    "drawing",
    "starter",
    "weights",
    "embedder",
    "teacher",
    "synthesis",
    "curation",
    "student",
    "evaluation",
    "runner",
    "report",
    "prediction",
    "cli_models",
    "cli",
)
ANYWHERE = {"__version__"}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """The parts of the package that a file imports, inside functions as well."""
    parts = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "s3local":
            parts |= {alias.name for alias in node.names} - ANYWHERE
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("s3local."):
            parts.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            parts |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("s3local.")}
    return parts


FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


def test_every_part_has_its_place_in_the_order() -> None:
    assert {part_of(path) for path in FILES} == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_parts_above_its_own(path: Path) -> None:
    own = ORDER.index(part_of(path))
    below = {part for part in imported_parts(path) if ORDER.index(part) > own}
    assert not below


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_says_what_it_is(path: Path) -> None:
    if path.read_text(encoding="utf-8").strip():
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_no_part_is_called_like_a_public_name() -> None:
    """A part that is imported becomes an attribute of the package, and would take the name's place."""
    import s3local

    assert not {part_of(path) for path in FILES} & set(s3local.__all__)
