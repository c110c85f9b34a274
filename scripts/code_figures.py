"""Counts what makes the package hard to read, in the working tree and in git revisions, side by side.

    python scripts/code_figures.py                  the working tree
    python scripts/code_figures.py 0358642 HEAD     these revisions, and the working tree

A class or function is as long as its lines from ``class`` or ``def`` to the end; ``self`` and ``cls`` do not count as
parameters. String-keyed reads are subscripts such as ``result["accuracy"]`` on the names in ``RESULT_NAMES``, in the
parts that work with results: ``report``, ``runner``, ``comparison`` and ``cli``.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "s3local"
RESULT_NAMES = frozenset(["result", "results", "summary", "cell", "entry", "metrics", "check", "guard", "row"])
RESULT_PARTS = ("report", "runner", "comparison", "cli")


def sources(revision: str | None) -> dict[str, str]:
    """The package's files by path: of a git revision, or of the working tree (None)."""
    if revision is None:
        paths = sorted((ROOT / PACKAGE).rglob("*.py"))
        return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", revision, PACKAGE]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        sys.exit(f"error: {done.stderr.decode().strip()}")
    found = {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive.getmembers():
            file = archive.extractfile(member) if member.name.endswith(".py") else None
            if file is not None:
                found[member.name] = file.read().decode("utf-8")
    return found


def figures(files: Mapping[str, str]) -> dict[str, str]:
    """What is counted, in words, and how much of it there is."""
    trees = {path: ast.parse(text) for path, text in files.items()}
    classes, functions, parameters = [], [], []
    for path, tree in trees.items():
        for name, node in definitions(tree):
            where = f"{Path(path).relative_to(PACKAGE).with_suffix('').as_posix().replace('/', '.')}.{name}"
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if isinstance(node, ast.ClassDef):
                classes.append((length, where))
            else:
                functions.append((length, where))
                parameters.append((count_parameters(node), where))
    return {
        "modules": str(sum(not path.endswith("__init__.py") for path in files)),
        "lines": f"{sum(len(text.splitlines()) for text in files.values()):,}",
        "longest class": shown(classes),
        "longest function": shown(functions),
        "longest parameter list": shown(parameters),
        "occurrences of Any": str(sum(count_any(tree) for tree in trees.values())),
        "string-keyed reads of results": str(
            sum(count_reads(tree) for path, tree in trees.items() if has_results(path))
        ),
    }


def definitions(
    node: ast.AST, inside: str = ""
) -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every class and function below ``node``, with its dotted name."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            name = f"{inside}{child.name}"
            yield name, child
            yield from definitions(child, f"{name}.")
        else:
            yield from definitions(child, inside)


def count_parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The parameters of a function without ``self`` and ``cls``."""
    found = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    return sum(argument is not None and argument.arg not in ("self", "cls") for argument in found)


def count_any(tree: ast.AST) -> int:
    """How often ``Any`` is used; importing it does not count."""
    return sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(tree))


def count_reads(tree: ast.AST) -> int:
    """Reads by a constant string key, of something that is called like a result."""
    return sum(
        isinstance(node, ast.Subscript)
        and isinstance(node.ctx, ast.Load)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
        and name_of(node.value) in RESULT_NAMES
        for node in ast.walk(tree)
    )


def name_of(node: ast.expr) -> str | None:
    """What an expression is called: ``result`` for ``result``, ``self.result`` and ``result["a"]``."""
    if isinstance(node, ast.Subscript):
        return name_of(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


def has_results(path: str) -> bool:
    """Whether a file belongs to the parts that work with results; ``cli.py`` and ``cli_models.py`` were files once."""
    first = Path(path).relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py").split("_")[0] in RESULT_PARTS


def shown(found: list[tuple[int, str]]) -> str:
    """The largest figure and where it is."""
    length, where = max(found, key=lambda item: item[0])
    return f"{length} ({where})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revisions", nargs="*", metavar="REVISION")
    revisions: list[str | None] = [*parser.parse_args().revisions, None]
    columns = {revision or "working tree": figures(sources(revision)) for revision in revisions}
    print("| | " + " | ".join(columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name in next(iter(columns.values())):
        print(f"| {name} | " + " | ".join(column[name] for column in columns.values()) + " |")


if __name__ == "__main__":
    main()
