"""A YAML file read as text, with the line of every key.

Every scalar is a string as written: ``yes``, ``no`` and ``0`` stay exactly that. Invalid YAML raises an ``InputError``
with its line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import yaml

from s3local.exceptions import InputError
from s3local.storage import read_utf8
from s3local.wording import shown

MAX_YAML_BYTES = 1_000_000
MAX_YAML_NODES = 100_000
"""The most values, when every alias is replaced by what it stands for."""
MAX_YAML_DEPTH = 50


def read_yaml(file: Path) -> tuple[yaml.MappingNode, dict[str, object]]:
    """The nodes of the file (for their lines) and its content, in which every scalar is a string as written.

    Raises ``InputError`` for a file that is too large, not UTF-8, not valid YAML, not a mapping, or has a key twice.
    """
    size = file.stat().st_size
    if size > MAX_YAML_BYTES:
        problem = f"{size:,} bytes, at most {MAX_YAML_BYTES:,} are allowed; rows belong in files of their own"
        raise InputError(file, problem)
    text = read_utf8(file)
    try:
        _refuse_depth(file, text)
        node = yaml.compose(text, Loader=yaml.BaseLoader)
        if not isinstance(node, yaml.MappingNode):
            raise InputError(file, "keys such as name, texts and labels belong here", line=1)
        _refuse_expansion(file, node)
        _refuse_repeated_keys(file, node)
        return node, yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else None
        context = f" ({exc.context}, which begins on line {exc.context_mark.line + 1})" if exc.context_mark else ""
        raise InputError(file, f"not valid YAML: {exc.problem}{context}", line=line) from exc
    except yaml.reader.ReaderError as exc:
        line = text.count("\n", 0, exc.position) + 1
        raise InputError(file, f"not valid YAML: the character {exc.character!r} is not allowed", line=line) from exc
    except RecursionError as exc:
        raise InputError(file, "not a task: nested too deeply") from exc


def _refuse_depth(file: Path, text: str) -> None:
    """Raise ``InputError`` for values nested too deeply, before parsing takes long for it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_YAML_DEPTH:
            problem = f"nested too deeply, more than {MAX_YAML_DEPTH} levels"
            raise InputError(file, problem, line=event.start_mark.line + 1 if event.start_mark else None)


def _refuse_expansion(file: Path, root: yaml.Node) -> None:
    """Raise ``InputError`` for aliases that stand for too much, for themselves, or for values nested too deeply."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size_of(node: yaml.Node, depth: int) -> int:
        line = node.start_mark.line + 1
        if depth > MAX_YAML_DEPTH:
            raise InputError(file, f"nested too deeply, more than {MAX_YAML_DEPTH} levels", line=line)
        if id(node) in open_nodes:
            raise InputError(file, "an alias stands for a value that it is part of", line=line)
        if id(node) not in sizes:
            children: list[yaml.Node] = []
            if isinstance(node, yaml.SequenceNode):
                children = node.value
            elif isinstance(node, yaml.MappingNode):
                children = [child for pair in node.value for child in pair]
            open_nodes.add(id(node))
            sizes[id(node)] = 1 + sum(size_of(child, depth + 1) for child in children)
            open_nodes.discard(id(node))
        if sizes[id(node)] > MAX_YAML_NODES:
            problem = f"its aliases stand for more than {MAX_YAML_NODES:,} values"
            raise InputError(file, problem, line=line)
        return sizes[id(node)]

    size_of(root, 0)


def _refuse_repeated_keys(file: Path, root: yaml.Node) -> None:
    """Raise ``InputError`` for two equal keys: YAML would keep the last one and silently drop the first."""
    waiting, seen = [root], set()
    while waiting:
        node = waiting.pop()
        if id(node) in seen:  # an alias leads to a node that was visited before
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode) and lines.setdefault(key.value, line) != line:
                    problem = f"{shown(key.value)} is there twice, first on line {lines[key.value]}"
                    raise InputError(file, problem, line=line)
                waiting.append(value)


def _steps(node: yaml.Node, place: Iterable[str | int]) -> Iterator[tuple[yaml.Node | None, yaml.Node]]:
    """Follow ``place`` down the nodes as far as possible, yielding (key node or None, value node).

    A number also selects from a mapping: pydantic numbers labels that are written as a mapping.
    """
    for step in place:
        if isinstance(node, yaml.MappingNode):
            pairs = [pair for index, pair in enumerate(node.value) if step in (index, pair[0].value)]
            if not pairs:
                return
            key, node = pairs[0]
            yield key, node
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            node = node.value[step]
            yield None, node
        else:
            return


def line_of(node: yaml.Node, place: Iterable[str | int]) -> int:
    """The line, from 1, of the deepest node that ``place`` leads to."""
    mark = node.start_mark
    for key, value in _steps(node, place):
        mark = (key or value).start_mark
    return int(mark.line) + 1


def dotted(node: yaml.Node, place: Sequence[str | int], file_name: str) -> str:
    """``place`` as the user wrote it: labels.fault.description; positions in a list count from 1."""
    words = [step + 1 if isinstance(step, int) else step for step in place]
    for index, (key, _) in enumerate(_steps(node, place)):
        if isinstance(key, yaml.ScalarNode):
            words[index] = key.value
    return ".".join(str(word) for word in words) or file_name
