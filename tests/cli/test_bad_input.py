"""Bad input to every command and kind of file: one clear line, exit code 2, no traceback, no half-written file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from program import call
from toys import Exported

TASK = {
    "name": "toy",
    "texts": "short reviews",
    "labels": {"bad": "The writer was let down.", "good": "The writer was pleased."},
}
ROWS = [{"text": f"number {n} was {label}", "label": label} for n in range(6) for label in ("bad", "good")]

Content = str | bytes | Callable[[Path], object]
"""What a file holds, or what is done at its path."""


def yaml_of(**changes: object) -> str:
    return json.dumps({key: value for key, value in {**TASK, **changes}.items() if value is not ...})


def lines(*rows: object) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)


def without(key: str) -> dict[str, object]:
    return {name: value for name, value in ROWS[0].items() if name != key}


TASKS: dict[str, Content] = {
    "empty": "",
    "blank lines": "\n\n",
    "a list": "- a\n",
    "a number": "7",
    "a text": "just words",
    "not UTF-8": b"name: caf\xe9",
    "a NUL character": b"name: a\0b",
    "a control character": b"name: a\x07b",
    "a tab as indentation": "labels:\n\ta: b\n",
    "a quotation mark left open": 'name: "a\n',
    "a key twice": "name: a\nname: b\n",
    "an alias for itself": "name: &a [*a]\n",
    "aliases without end": "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 30)),
    "an unknown alias": "name: *nobody\n",
    "brackets": "name: " + "[" * 3000,
    "a tag of Python": "name: !!python/object/apply:os.system ['true']\n",
    "too large": "name: " + "x" * 1_100_000,
    "a folder": lambda path: path.mkdir(),
    "an unknown key": yaml_of(labls={}),
    "no name": yaml_of(name=...),
    "an empty name": yaml_of(name=""),
    "a name out of the folder": yaml_of(name="../x"),
    "a name with a slash": yaml_of(name="a/b"),
    "the name of a device": yaml_of(name="con"),
    "a name that is a list": yaml_of(name=["a"]),
    "a long name": yaml_of(name="n" * 300),
    "no texts": yaml_of(texts=...),
    "no labels": yaml_of(labels=...),
    "labels that are a text": yaml_of(labels="good"),
    "one label": yaml_of(labels={"good": "Fine."}),
    "a label twice": yaml_of(labels=[{"name": "a", "description": "A."}, {"name": "a", "description": "B."}]),
    "a label without a description": yaml_of(labels=["a", "b"]),
    "a label with an unknown key": yaml_of(labels=[{"name": "a", "descripton": "A."}, {"name": "b"}]),
    "an unknown kind": yaml_of(kind="sorting"),
    "a field called label": yaml_of(fields=["label"]),
    "a field twice": yaml_of(fields=["a", "a"]),
    "two fields for one text": yaml_of(fields=["a", "b"]),
    "a length upside down": yaml_of(length={"unit": "words", "min": 9, "max": 3}),
    "a negative length": yaml_of(length={"unit": "words", "min": -1, "max": 3}),
    "an unknown unit": yaml_of(length={"unit": "pages", "min": 1, "max": 3}),
    "a column for an unknown field": yaml_of(columns={"body": "b"}),
    "an unknown variable in a prompt": yaml_of(prompts={"seed": "Write $nonsense."}),
    "rows that are missing": yaml_of(dev="nowhere.jsonl"),
    "test rows that are missing": yaml_of(test="nowhere.jsonl"),
    "contexts without a use": yaml_of(contexts="dev.jsonl"),
}

JSON_ROWS: dict[str, Content] = {
    "missing": lambda path: None,
    "empty": "",
    "blank lines": "\n \n",
    "a folder": lambda path: path.mkdir(),
    "not JSON": "{nonsense\n",
    "half a row": lines(ROWS[0]) + '{"text": "a',
    "two rows on a line": json.dumps(ROWS[0]) + json.dumps(ROWS[1]),
    "a list": "[1, 2]\n",
    "a number": "7\n",
    "a text": '"text"\n',
    "null": "null\n",
    "NaN for a text": '{"text": NaN, "label": "good"}\n',
    "brackets": "[" * 100_000,
    "a number of many digits": '{"text": ' + "9" * 5000 + ', "label": "good"}\n',
    "not UTF-8": b'{"text": "caf\xe9", "label": "good"}\n',
    "UTF-16": lines(*ROWS).encode("utf-16"),
    "compressed": b"\x1f\x8b\x08\x00abc",
    "half a character": '{"text": "\\ud800", "label": "good"}\n',
    "a NUL character": lines({"text": "a\0b", "label": "good"}),
    "no text": lines(without("text")),
    "no label": lines(without("label")),
    "a text that is a number": lines({"text": 7, "label": "good"}),
    "a text that is a list": lines({"text": ["a"], "label": "good"}),
    "a text that is null": lines({"text": None, "label": "good"}),
    "an empty text": lines({"text": "", "label": "good"}),
    "white space": lines({"text": " \t ", "label": "good"}),
    "a text that cannot be seen": lines({"text": "\u200b\u200d", "label": "good"}),
    "a text of a megabyte": lines({"text": "a" * 1_000_000, "label": "good"}),
    "an unknown label": lines({"text": "a", "label": "fine"}),
    "a label in other letters": lines({"text": "a", "label": "GOOD"}),
    "a label that is null": lines({"text": "a", "label": None}),
    "a label that is a list": lines({"text": "a", "label": ["good"]}),
    "one label only": lines(*[row for row in ROWS if row["label"] == "good"]),
    "an id twice": lines(*({**row, "id": "a"} for row in ROWS)),
}

TABLE_ROWS: dict[str, Content] = {
    "empty": "",
    "a header alone": "text,label\n",
    "no header": "number 1 was good,good\nnumber 2 was bad,bad\n",
    "a column twice": "text,text,label\na,b,good\n",
    "a missing column": "text,mood\na,good\n",
    "too few cells": "text,label\na\n",
    "too many cells": "text,label\na,good,more\n",
    "another separator": "text;label\na;good\n",
    "a quotation mark left open": 'text,label\n"a,good\n',
    "a quotation mark inside": 'text,label\n"a"b,good\n',
    "a NUL character": b"text,label\na\0,good\n",
    "not UTF-8": b"text,label\ncaf\xe9,good\n",
    "UTF-16": "text,label\na,good\n".encode("utf-16"),
    "an empty cell": "text,label\n,good\n",
    "an unknown label": "text,label\na,fine\n",
    "a spreadsheet": b"PK\x03\x04\x14\x00\x06\x00",
}

OPTIONS: dict[str, list[str]] = {
    f"run {' '.join(options)}": ["run", "task", *options]
    for options in (
        ["--rows", "0"], ["--rows", "-5"], ["--rows", "many"], ["--rows", "1e3"], ["--rounds", "-1"],
        ["--error-cap", "0"], ["--error-cap", "nan"], ["--error-cap", "inf"], ["--max-errors", "0"],
        ["--round-trip", "2"], ["--round-trip", "nan"], ["--seed", "-1"], ["--seed", "x"], ["--rationales", "-1"],
        ["--contrast", "-1"], ["--contrast", "nan"], ["--name", "../x"], ["--name", ""], ["--name", "con"],
        ["--name", "a/b"], ["--name", "a\nb"], ["--slots", "0"], ["--threads", "0"], ["--gpu-layers", "-1"],
        ["--cache-type", "q3"], ["--teacher", "nobody"], ["--teacher", "task/dev.jsonl"], ["--teacher", "./task"],
        ["--encoder", "nobody"], ["--encoder", "./task"], ["--student", "nobody"], ["--student", "./task"],
        ["--judge", "./task"], ["--dev", "nowhere.jsonl"], ["--test", "nowhere.csv"], ["--dev", "task"],
        ["--dev", "task/rows.parquett"], ["--contexts", "task/dev.jsonl"], ["--no-such-option"], ["more", "arguments"],
    )
}  # fmt: skip
OTHERS: dict[str, list[str]] = {
    "no command": ["nonsense"],
    "run without a task": ["run"],
    "run of a missing task": ["run", "nowhere"],
    "check without a task": ["check"],
    "check of a missing task": ["check", "nowhere"],
    "check of rows": ["check", "task/dev.jsonl"],
    "check of a folder without a task": ["check", "."],
    "init over a task": ["init", "task"],
    "init of a device": ["init", "con"],
    "init of an unknown kind": ["init", "new", "--kind", "poem"],
    "init below a file": ["init", "task/dev.jsonl/new"],
    "report of nothing": ["report", "nowhere"],
    "report of a file": ["report", "task/dev.jsonl"],
    "report of a task": ["report", "task"],
    "report of a damaged result": ["report", "damaged"],
    "report of a result of a newer version": ["report", "newer"],
    "compare of a missing task": ["compare", "nowhere"],
    "compare without test rows": ["compare", "task"],
    "compare with an unknown method": ["compare", "task", "--test", "task/dev.jsonl", "--methods", "magic"],
    "compare with a bad seed": ["compare", "task", "--test", "task/dev.jsonl", "--seeds", "a,b"],
    "compare with too much gold": ["compare", "task", "--test", "task/dev.jsonl", "--gold", "1000"],
    "compare with a bad name": ["compare", "task", "--name", "../x"],
    "draw from nothing": ["data", "draw", "nowhere.jsonl", "--rows", "1"],
    "draw without a number": ["data", "draw", "task/dev.jsonl"],
    "draw of no rows": ["data", "draw", "task/dev.jsonl", "--rows", "0"],
    "draw of too many rows": ["data", "draw", "task/dev.jsonl", "--rows", "1000"],
    "draw by an unknown label": ["data", "draw", "task/dev.jsonl", "--rows", "2", "--per-label", "--label-column", "x"],
    "draw onto itself": ["data", "draw", "task/dev.jsonl", "--rows", "2", "-o", "task/dev.jsonl"],
    "draw with a long separator": ["data", "draw", "task/dev.jsonl", "--rows", "2", "--delimiter", "ab"],
    "draw of an unknown format": ["data", "draw", "task/task.yaml", "--rows", "2"],
    "predict with nothing": ["predict", "nowhere", "task/dev.jsonl"],
    "predict with a task": ["predict", "task", "task/dev.jsonl"],
    "predict of nothing": ["predict", "model", "nowhere.jsonl"],
    "predict of a folder": ["predict", "model", "task"],
    "predict of an unknown format": ["predict", "model", "task/task.yaml"],
    "predict of damaged rows": ["predict", "model", "bad.jsonl", "--quiet"],
    "predict of a damaged table": ["predict", "model", "bad.csv", "--quiet"],
    "predict without the column": ["predict", "model", "other.jsonl", "--quiet"],
    "predict with a bad column": ["predict", "model", "task/dev.jsonl", "--column", "text"],
    "predict with an unknown column": ["predict", "model", "task/dev.jsonl", "--column", "body=text"],
    "predict onto its source": ["predict", "model", "task/dev.jsonl", "-o", "task/dev.jsonl"],
    "predict with damaged settings": ["predict", "model-settings", "task/dev.jsonl"],
    "predict with a damaged network": ["predict", "model-network", "task/dev.jsonl"],
    "predict with a damaged tokenizer": ["predict", "model-tokenizer", "task/dev.jsonl"],
    "models verify of nobody": ["models", "verify", "nobody"],
    "models fetch of nobody": ["models", "fetch", "nobody"],
    "models optimize of nobody": ["models", "optimize", "nobody"],
    "models import of nothing": ["models", "import", "nowhere.gguf"],
    "models import of rows": ["models", "import", "task/dev.jsonl"],
    "models import of a task": ["models", "import", "task"],
    "models import of two": ["models", "import", "task", "task/dev.jsonl"],
    "models import under a bad name": ["models", "import", "task/dev.jsonl", "--as", "../x"],
    "doctor with an argument": ["doctor", "now"],
    "doctor writing onto a folder": ["doctor", "--offline-proof", "--output", "task", "--no-such"],
}


def make_world(folder: Path, exported: Exported) -> None:
    """A task, and models and runs that are damaged, for the cases to be about."""
    (folder / "task").mkdir()
    (folder / "task" / "task.yaml").write_text(yaml_of())
    (folder / "task" / "dev.jsonl").write_text(lines(*ROWS))
    for name, content in (("damaged", '{"schema_version": 2}'), ("newer", '{"schema_version": 99}')):
        (folder / name).mkdir()
        (folder / name / "result.json").write_text(content)
    (folder / "bad.jsonl").write_text("{nonsense\n")
    (folder / "bad.csv").write_text('text\n"a\n')
    (folder / "other.jsonl").write_text(lines({"body": "a"}))
    (folder / "model").symlink_to(exported.folder)
    for name, pattern in (("settings", "student.json"), ("network", "*.onnx"), ("tokenizer", "tokenizer.json")):
        model = folder / f"model-{name}"
        shutil.copytree(exported.folder, model)
        found = [path for path in model.glob(pattern) if path.is_file()] or list(model.glob("*.json"))
        for path in found:
            path.write_bytes(path.read_bytes()[:50])


CASES: dict[str, tuple[str, Content, list[str]] | list[str]] = {
    **{f"task.yaml: {name}": ("task/task.yaml", content, ["check", "task"]) for name, content in TASKS.items()},
    **{f"dev.jsonl: {name}": ("task/dev.jsonl", content, ["check", "task"]) for name, content in JSON_ROWS.items()},
    **{
        f"rows.csv: {name}": ("rows.csv", content, ["check", "task", "--dev", "rows.csv"])
        for name, content in TABLE_ROWS.items()
    },
    **OPTIONS,
    **OTHERS,
}


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".s3local" not in path.parts
    }


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_line(
    name: str, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_world(tmp_path, exported)
    case = CASES[name]
    if isinstance(case, tuple):
        place, content, arguments = case
        path = tmp_path / place
        path.unlink(missing_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    else:
        arguments = case
    before = files_of(tmp_path)
    result = call(*arguments)
    assert result.exit_code == 2, result.output
    said = [line for line in result.stderr.strip().splitlines() if not line.endswith(" ...")]  # steps of progress
    if said[0].startswith("Usage:"):
        said = said[-1:]
    assert len(said) == 1 and said[0].lower().startswith("error: "), result.stderr
    assert len(said[0]) > len("error: ") + 10
    assert "Traceback" not in result.output
    assert files_of(tmp_path) == before


def test_there_are_at_least_120() -> None:
    print(f"{len(CASES)} cases")
    assert len(CASES) >= 120
