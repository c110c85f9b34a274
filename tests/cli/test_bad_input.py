"""Bad input to every command and kind of file: one clear line, exit code 2, no traceback, no half-written file."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bundle_world import THIS_PYTHON
from program import CHECKOUT, call
from toys import Exported

from s3local.bundle.carried import this_platform
from s3local.cli.main import main
from s3local.finished_run import FinishedRun

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


JSON_FILES: dict[str, Content] = {
    "missing": lambda path: None,
    "empty": "",
    "cut": '{"task": {"name": "toy", "lab',
    "not UTF-8": b'{"caf\xe9": 1}',
    "a list": "[1, 2]",
    "a number": "7",
    "null": "null",
    "brackets": "[" * 100_000,
    "a folder": lambda path: path.mkdir(),
}
"""Damage to a file of a run that holds one JSON object."""


def changed(**changes: object) -> Callable[[Path], object]:
    """The JSON object of the file, with other values; ``...`` removes one."""

    def change(path: Path) -> None:
        content = json.loads(path.with_name(f"{path.name}.saved").read_text())
        content = {key: value for key, value in {**content, **changes}.items() if value is not ...}
        path.write_text(json.dumps(content))

    return change


def listing(*files: object, **changes: object) -> Callable[[Path], object]:
    """The list of a bundle, with other files or values."""
    return changed(**({"files": list(files)} if files else {}), **changes)


def _file(path: object, size: object = 1, sha256: object = "0" * 64) -> dict[str, object]:
    return {"path": path, "size": size, "sha256": sha256}


RUNS: dict[str, tuple[str, Content, list[str]]] = {
    **{
        f"{file} of a run: {name}, for {command[0]}": (f"run/{file}", content, command)
        for file in ("config.json", "result.json")
        for name, content in JSON_FILES.items()
        for command in (["review", "run"], ["export", "run", "--to", "csv", "-o", "out.csv"])
    },
    **{
        f"{name}, for {command[0]}": ("run/config.json", changed(task=task), command)
        for name, task in (
            ("a task that is a list", [1]),
            ("a task without labels", {"name": "toy", "kind": "classification", "fields": ["text"]}),
            ("labels that are a number", {**TASK, "fields": ["text"], "kind": "classification", "labels": 7}),
            ("labels without names", {**TASK, "fields": ["text"], "kind": "classification", "labels": [{}, {}]}),
            ("fields that are a number", {**TASK, "fields": 7, "kind": "classification", "labels": []}),
        )
        for command in (
            ["review", "run"],
            ["retrain", "run"],
            ["report", "run"],
            ["export", "run", "--to", "jsonl", "-o", "out.jsonl"],
        )
    },
    **{
        f"dataset.jsonl of a run: {name}, for {command[0]}": ("run/final/dataset.jsonl", content, command)
        for name, content in (
            ("missing", JSON_FILES["missing"]),
            ("half a row", '{"id": "a", "text": "b'),
            ("a list", "[1]\n"),
            ("no text", '{"id": "round-0-0000-000", "label": "good", "origin": {}}\n'),
            ("an origin that is a number", '{"id": "a", "text": "b", "label": "good", "origin": 7}\n'),
        )
        for command in (["review", "run"], ["report", "run"], ["export", "run", "--to", "hf", "-o", "out"])
    },
    **{
        f"decisions.jsonl: {name}, for {command[0]}": ("run/decisions.jsonl", content, command)
        for name, content in (
            ("not JSON", "{nonsense\n"),
            ("a list", "[1]\n"),
            ("of another dataset", '{"row": "a", "decision": "keep", "dataset": "x"}\n'),
            ("not UTF-8", b'{"row": "caf\xe9"}\n'),
            ("a label that is a list", '{"row": "a", "decision": "relabel", "label": [1]}\n'),
            ("brackets", "[" * 100_000 + "\n"),
            ("a folder", lambda path: path.mkdir()),
        )
        for command in (["review", "run"], ["retrain", "run"])
    },
    **{
        f"s3local.json of a classifier: {name}, for {command[0]}": ("run/selected/s3local.json", content, command)
        for name, content in (
            *JSON_FILES.items(),
            ("labels that are a number", changed(labels=7)),
            ("a temperature that is a text", changed(temperature="warm")),
            ("a temperature of 0", changed(temperature=0)),
            ("a length that is a text", changed(max_length="long")),
            ("a file out of the folder", changed(file="../../../task/dev.jsonl", int8_full_range=False)),
        )
        for command in (
            ["export", "run", "--to", "onnx", "-o", "out"],
            ["serve", "run", "--port", "0", "--quiet"],
            ["predict", "run", "task/dev.jsonl", "--quiet"],
        )
    },
}

BUNDLES: dict[str, tuple[str, Content, list[str]]] = {
    **{f"bundle.json: {name}": ("bundle/bundle.json", content, ["bundle", "verify", "bundle"])
       for name, content in (
           *JSON_FILES.items(),
           ("another format", changed(format=99)),
           ("no files", changed(files=...)),
           ("files that are a number", changed(files=7)),
           ("a file that is a number", listing(7)),
           ("a file that is missing", listing(_file("wheels/nowhere.whl"))),
           ("a path out of the bundle", listing(_file("../task/dev.jsonl"))),
           ("an absolute path", listing(_file("/etc/hostname"))),
           ("a path with backslashes", listing(_file("..\\task\\dev.jsonl"))),
           ("a path that is a list", listing(_file(["a"]))),
           ("a size that is infinite", listing(_file("a", float("inf")))),
           ("a size that is a text", listing(_file("a", "large"))),
           ("a size of many digits", listing(_file("wheels/a-1.0-py3-none-any.whl", 10**100))),
           ("a file twice", listing(_file("a"), _file("a"))),
           ("a glibc that is no version", changed(glibc="new")),
           ("a platform that is a list", changed(platform=["linux"])),
           ("models that are a number", changed(models=7)),
       )},
    "a bundle with a changed file": ("bundle/wheels/a-1.0-py3-none-any.whl", "y", ["bundle", "verify", "bundle"]),
    "a bundle with a longer file": ("bundle/wheels/a-1.0-py3-none-any.whl", "xx", ["bundle", "verify", "bundle"]),
    "a bundle with a file that is not listed": ("bundle/more.txt", "x", ["bundle", "verify", "bundle"]),
    "a bundle with a link": ("bundle/more", lambda path: path.symlink_to("/"), ["bundle", "verify", "bundle"]),
    "a bundle for another machine": (
        "bundle/bundle.json", changed(platform="plan9-vax"), ["bundle", "install", "bundle", "new"]
    ),
    "a bundle for another Python": (
        "bundle/bundle.json", changed(python="2.7"), ["bundle", "install", "bundle", "new"]
    ),
}  # fmt: skip

MORE: dict[str, list[str]] = {
    **{
        f"{command} of {name}": [command, place, *more]
        for command, more in (
            ("review", []), ("retrain", []), ("serve", ["--quiet"]), ("export", ["--to", "csv", "-o", "out.csv"])
        )
        for name, place in (
            ("nothing", "nowhere"), ("rows", "task/dev.jsonl"), ("a task", "task"), ("a damaged result", "damaged"),
            ("a path with a line break", "a\nb"), ("a long path", "x" * 5000),
        )
    },
    **{
        f"{command} with the port {port}": [command, *more, "--port", port]
        for command, more in (
            ("review", ["run"]), ("serve", ["run", "--quiet"]), ("label", ["task", "--from", "texts.jsonl", "--quiet"])
        )
        for port in ("-1", "65536", "http", "9" * 30)
    },
    "review with a port in use": ["review", "run", "--port", "PORT"],
    "serve with a port in use": ["serve", "run", "--port", "PORT", "--quiet"],
    "serve with a bad threshold": ["serve", "run", "--threshold", "2"],
    "serve with a threshold that is no number": ["serve", "run", "--threshold", "nan"],
    "serve with two thresholds": ["serve", "run", "--threshold", "0.5", "--target-accuracy", "0.9"],
    "serve with an accuracy that nothing reaches": ["serve", "run", "--target-accuracy", "0.9999", "--quiet"],
    "serve with damaged settings": ["serve", "model-settings", "--quiet"],
    "serve with a damaged network": ["serve", "model-network", "--quiet"],
    "serve with a damaged tokenizer": ["serve", "model-tokenizer", "--quiet"],
    **{
        f"{command} {name}": [command, *arguments, *(["-o", "out.csv"] if command == "suggest" else [])]
        for command in ("label", "suggest")
        for name, arguments in (
            ("without texts", ["task"]),
            ("of nothing", ["nowhere", "--from", "texts.jsonl"]),
            ("from nothing", ["task", "--from", "nowhere.jsonl"]),
            ("from a folder", ["task", "--from", "run"]),
            ("from damaged texts", ["task", "--from", "bad.jsonl"]),
            ("from another column", ["task", "--from", "other.jsonl"]),
            ("from dev", ["task", "--from", "task/dev.jsonl"]),
            ("from an empty file", ["task", "--from", "empty.jsonl"]),
            ("from an unknown format", ["task", "--from", "task/task.yaml"]),
            ("with a run that is none", ["task", "--from", "texts.jsonl", "--run", "task"]),
            ("with a run of another task", ["other-task", "--from", "texts.jsonl", "--run", "run"]),
            ("with a bad seed", ["task", "--from", "texts.jsonl", "--seed", "-1"]),
            ("with dev rows that are missing", ["task", "--from", "texts.jsonl", "--dev", "nowhere.jsonl"]),
            ("with an encoder that is missing", ["task", "--from", "texts.jsonl", "--encoder", "nobody"]),
        )
    },
    "label of a preset": ["label", "support_desk", "--from", "texts.jsonl"],
    "suggest of no rows": ["suggest", "task", "--from", "texts.jsonl", "--rows", "0", "-o", "out.csv"],
    "suggest without an output": ["suggest", "task", "--from", "texts.jsonl"],
    "suggest as JSON": ["suggest", "task", "--from", "texts.jsonl", "-o", "out.jsonl"],
    "suggest onto its texts": ["suggest", "task", "--from", "texts.csv", "-o", "texts.csv"],
    "retrain with nothing new": ["retrain", "run"],
    "retrain with a task that is missing": ["retrain", "run", "--task", "nowhere"],
    "retrain with another task": ["retrain", "run", "--task", "other-task"],
    "export without a format": ["export", "run", "-o", "out"],
    "export without an output": ["export", "run", "--to", "csv"],
    "export in an unknown format": ["export", "run", "--to", "xml", "-o", "out"],
    "export of a classifier with gold rows": ["export", "run", "--to", "onnx", "--task", "task", "-o", "out"],
    **{
        f"export as {form} {name}": ["export", "run", "--to", form, *arguments]
        for form in ("jsonl", "csv", "parquet", "hf", "argilla", "label-studio", "onnx")
        for name, arguments in (
            ("onto a folder of others" if form in ("hf", "argilla", "label-studio", "onnx") else "onto a folder",
             ["-o", "task"]),
            ("below a file", ["-o", "task/dev.jsonl/out"]),
        )
    },
    "export as a folder onto a file": ["export", "run", "--to", "hf", "-o", "task/dev.jsonl"],
    "export with a task that is missing": ["export", "run", "--to", "csv", "-o", "out.csv", "--task", "nowhere"],
    "export with another task": ["export", "run", "--to", "csv", "-o", "out.csv", "--task", "other-task"],
    "report onto a folder": ["report", "run", "-o", "task"],
    "report below a file": ["report", "run", "-o", "task/dev.jsonl/page.html"],
    "report of a long path": ["report", "x" * 5000],
    "predict with a bad top": ["predict", "model", "task/dev.jsonl", "--top", "0"],
    "predict with an encoding that is none": ["predict", "model", "texts.csv", "--encoding", "klingon"],
    "predict onto a folder": ["predict", "model", "texts.jsonl", "-o", "task", "--quiet"],
    "predict below a file": ["predict", "model", "texts.jsonl", "-o", "task/dev.jsonl/out.jsonl", "--quiet"],
    "bundle without a command": ["bundle", "nonsense"],
    "bundle create without a target": ["bundle", "create"],
    "bundle create onto a folder": ["bundle", "create", "task"],
    "bundle create onto a file": ["bundle", "create", "task/dev.jsonl"],
    "bundle create for an unknown machine": ["bundle", "create", "new.zip", "--platform", "plan9-vax"],
    "bundle create for a bad Python": ["bundle", "create", "new.zip", "--python", "3"],
    "bundle create with an unknown model": ["bundle", "create", "new.zip", "--model", "nobody"],
    "bundle create with models and without the judge": ["bundle", "create", "n.zip", "--model", "a", "--no-judge"],
    "bundle create with a wheel that is missing": [
        "bundle", "create", "new.zip", "--llama-wheel", "nowhere.whl"
    ],
    "bundle verify of nothing": ["bundle", "verify", "nowhere.zip"],
    "bundle verify of a task": ["bundle", "verify", "task"],
    "bundle verify of rows": ["bundle", "verify", "task/dev.jsonl"],
    "bundle verify of a cut archive": ["bundle", "verify", "cut.zip"],
    "bundle install of nothing": ["bundle", "install", "nowhere", "new"],
    "bundle install onto a folder": ["bundle", "install", "bundle", "task"],
    "bundle install onto a file": ["bundle", "install", "bundle", "task/dev.jsonl"],
    "bundle install below a file": ["bundle", "install", "bundle", "task/dev.jsonl/new"],
    "bundle install without pip": ["bundle", "install", "bundle", "new"],
    "setup with an argument": ["setup", "now"],
    "setup with an unknown option": ["setup", "--all"],
    "completion of no shell": ["completion"],
    "completion of an unknown shell": ["completion", "tcsh"],
    "doctor with an unknown option": ["doctor", "--fast"],
    "models recommend within no time": ["models", "recommend", "--within", "0"],
    "models recommend within nothing": ["models", "recommend", "--within", "nan"],
    "models recommend within a text": ["models", "recommend", "--within", "long"],
    "models optimize of two": ["models", "optimize", "a", "b"],
    "models optimize of a path": ["models", "optimize", "../x"],
    "models import with an unknown role": ["models", "import", "model", "--role", "king"],
    "models import of a run": ["models", "import", "run"],
    "models import of an empty file": ["models", "import", "empty.gguf"],
    "models import of a cut archive": ["models", "import", "cut.zip"],
    "models verify of a path": ["models", "verify", "../x"],
    "models fetch with an ID and without the judge": ["models", "fetch", "a", "--no-judge"],
}  # fmt: skip


def make_world(folder: Path, exported: Exported, run: Path) -> None:
    """A task, a finished run and a bundle, and models and runs that are damaged, for the cases to be about."""
    shutil.copytree(run, folder / "run")
    selected = json.loads((run / "result.json").read_text())["selected"]
    (folder / "run" / "selected").symlink_to(f"{selected}/student")
    (folder / "other-task").mkdir()
    (folder / "other-task" / "task.yaml").write_text(yaml_of(name="other", labels={"a": "A.", "b": "B."}))
    (folder / "other-task" / "dev.jsonl").write_text(lines({"text": "x", "label": "a"}, {"text": "y", "label": "b"}))
    (folder / "texts.jsonl").write_text(lines({"text": "how was it"}, {"text": "it was long"}))
    (folder / "texts.csv").write_text("text\nhow was it\n")
    (folder / "empty.jsonl").touch()
    (folder / "empty.gguf").touch()
    (folder / "bundle" / "wheels").mkdir(parents=True)
    (folder / "bundle" / "wheels" / "a-1.0-py3-none-any.whl").write_text("x")
    content = {"format": 1, "s3local": "1", "python": THIS_PYTHON, "platform": this_platform(), "glibc": ""}
    wheel = _file("wheels/a-1.0-py3-none-any.whl", 1, hashlib.sha256(b"x").hexdigest())
    (folder / "bundle" / "bundle.json").write_text(json.dumps({**content, "models": [], "files": [wheel]}))
    with zipfile.ZipFile(folder / "cut.zip", "w") as archive:
        archive.write(folder / "bundle" / "bundle.json", "bundle.json")
    (folder / "cut.zip").write_bytes((folder / "cut.zip").read_bytes()[:-30])
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
    **RUNS,
    **BUNDLES,
    **MORE,
}


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".s3local" not in path.parts
    }


PROGRESS = re.compile(r" \.\.\.$|^verifying \d+ files, |^making the environment |^installing the packages$")
"""Lines that say which step a command has come to."""


@pytest.fixture(scope="module")
def taken_port() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_line(
    name: str,
    exported: Exported,
    toy_run: FinishedRun,
    taken_port: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def served(*_: object, **__: object) -> None:
        raise AssertionError("bad input was served")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("uvicorn.Server.run", served)
    make_world(tmp_path, exported, toy_run.folder)
    case = CASES[name]
    if isinstance(case, tuple):
        place, content, arguments = case
        path = tmp_path / place
        saved = path.with_name(f"{path.name}.saved")
        if path.exists():
            path.rename(saved)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        saved.unlink(missing_ok=True)
    else:
        arguments = case
    before = files_of(tmp_path)
    result = call(*(str(taken_port) if argument == "PORT" else argument for argument in arguments))
    assert result.exit_code == 2, result.output
    said = [line for line in result.stderr.strip().splitlines() if not PROGRESS.search(line)]
    if said[0].startswith("Usage:"):
        said = said[-1:]
    assert len(said) == 1 and said[0].lower().startswith("error: "), result.stderr
    assert len(said[0]) > len("error: ") + 10
    assert "Traceback" not in result.output
    assert files_of(tmp_path) == before


def test_security_md_counts_the_cases_of_every_command() -> None:
    arguments = [case[2] if isinstance(case, tuple) else case for case in CASES.values()]
    counts = Counter(entry[0] for entry in arguments if entry[0] in main.commands)
    assert set(counts) == set(main.commands)
    rows = "".join(f"| `{name}` | {counts[name]} |\n" for name in main.commands)
    assert (
        f"| command | cases |\n|---|--:|\n{rows}| all | {len(CASES)} |\n" in (CHECKOUT / "SECURITY.md").read_text()
    ), rows
