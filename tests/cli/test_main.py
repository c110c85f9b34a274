"""The commands as a user types them: results on standard output, one clear line and exit code 2 for bad input."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import llama_cpp
import pytest
from click.testing import CliRunner, Result

from s3local.cli.main import main
from s3local.comparison.compare import GROUPS, METHODS, CompareSettings
from s3local.runner.settings import RunSettings

CHECKOUT = Path(__file__).parents[2]


def call(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), input=stdin, prog_name="s3local")


def complains(result: Result, *parts: str) -> None:
    """One line that starts with "error:", exit code 2, no traceback, and each of ``parts`` in it."""
    assert result.exit_code == 2, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    for part in parts:
        assert part in lines[0]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    assert call("init", str(folder)).exit_code == 0
    return folder


def test_a_starter_passes_its_check(task: Path) -> None:
    result = call("check", str(task))
    assert result.exit_code == 0
    assert "dev rows" in result.output


def test_check_as_json_is_json(task: Path) -> None:
    counts = json.loads(call("check", str(task), "--json").stdout)
    assert counts["dev"]["rows"] == sum(counts["dev"]["per_label"].values())


def test_the_demonstration_task_has_nothing_wrong() -> None:
    result = call("check", str(CHECKOUT / "data" / "support_desk"))
    assert result.exit_code == 0
    assert "Nothing looks wrong." in result.output


def test_init_leaves_what_is_there(task: Path) -> None:
    before = (task / "task.yaml").read_bytes()
    complains(call("init", str(task)), str(task))
    assert (task / "task.yaml").read_bytes() == before


BAD_ROWS = {
    "empty file": (b"", "dev.jsonl"),
    "label not in the task": (b'{"text": "hello there", "label": "nonsense"}\n', "line 1", "nonsense"),
    "invalid JSON on line 7": (
        b'{"text": "hello %d", "label": "x"}\n' * 0 + b"\n" * 6 + b"{nonsense\n",
        "line 7",
        "JSON",
    ),
    "not UTF-8": (b'{"text": "caf\xe9", "label": "x"}\n', "line 1", "UTF-8"),
    "a text of 1 MB": (b'{"text": "' + b"a" * 1_000_000 + b'", "label": "x"}\n', "line 1"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
@pytest.mark.parametrize("command", ["check", "run"])
def test_bad_rows_are_told_with_file_and_line(task: Path, name: str, command: str, tmp_path: Path) -> None:
    content, *parts = BAD_ROWS[name]
    (task / "dev.jsonl").write_bytes(content)
    out = ["--out", str(tmp_path / "out")] if command == "run" else []
    complains(call(command, str(task), *out), "dev.jsonl", *parts)
    assert not (tmp_path / "out").exists()


def test_a_missing_task_and_missing_rows(tmp_path: Path, task: Path) -> None:
    complains(call("run", str(tmp_path / "nowhere")), "no such file")
    complains(call("run", str(task), "--dev", str(tmp_path / "nowhere.jsonl")), "nowhere.jsonl")


def test_one_label_without_rows_and_duplicate_ids(task: Path) -> None:
    rows = [json.loads(line) for line in (task / "dev.jsonl").read_text().splitlines()]
    label = rows[0]["label"]
    (task / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows if row["label"] != label))
    complains(call("check", str(task)), label)
    (task / "dev.jsonl").write_text("".join(json.dumps({**row, "id": "same"}) + "\n" for row in rows))
    complains(call("check", str(task)), "same", "line 2")


def test_an_unknown_key_is_named(task: Path) -> None:
    with (task / "task.yaml").open("a") as stream:
        stream.write("\nlabls: {}\n")
    complains(call("check", str(task)), "labls", "labels")


@pytest.mark.models
def test_a_missing_and_a_corrupt_model(task: Path, tmp_path: Path, minilm: Path) -> None:
    out = ("--out", str(tmp_path / "out"))
    complains(call("run", str(task), *out, "--teacher", "no-such-model"), "no-such-model")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"not a model at all, just some bytes")
    complains(call("run", str(task), *out, "--teacher", str(broken)), "broken.gguf")
    if not llama_cpp.llama_supports_gpu_offload():
        complains(call("run", str(task), *out, "--gpu-layers", "5"), "5 layers", "--gpu-layers")
    assert not (tmp_path / "out").exists()


@pytest.mark.models
def test_a_folder_that_cannot_be_written(task: Path, tmp_path: Path, minilm: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    complains(call("run", str(task), "--out", str(tmp_path / "file" / "run")), str(tmp_path / "file"))


BAD_COMPARISONS = {
    "an unknown method": (["--methods", "gold,s4"], "s4", "s3-no-ees"),
    "an unknown reference": (["--reference", "best"], "best"),
    "a seed that is no number": (["--seeds", "0,one"], "--seeds", "one"),
    "more gold rows than there are": (["--gold", "20,600"], "dev.jsonl", "600"),
}


@pytest.mark.parametrize("name", BAD_COMPARISONS)
def test_a_comparison_that_cannot_be_is_told_in_one_line(task: Path, name: str, tmp_path: Path) -> None:
    options, *parts = BAD_COMPARISONS[name]
    complains(call("compare", str(task), "--out", str(tmp_path / "out"), *options), *parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--contrast", "--error-cap", "--round-trip"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_number_is_finite(task: Path, option: str, value: str) -> None:
    result = call("run", str(task), option, value)
    assert result.exit_code == 2
    assert option in result.output and value in result.output


@pytest.mark.parametrize("command", ["run", "compare"])
@pytest.mark.parametrize("name", ["../../outside", "/outside", ".."])
def test_a_name_that_leaves_the_folder_of_runs_is_refused(task: Path, command: str, name: str) -> None:
    result = call(command, str(task), "--name", name)
    assert result.exit_code == 2
    assert "--name" in result.stderr and "cannot be the name of a folder" in result.stderr


def test_a_name_that_no_file_can_have_is_told_in_one_line() -> None:
    complains(call("models", "import", "a" * 300 + ".gguf"), "aaa", "name too long")


def test_report_and_predict_on_a_folder_without_a_run(tmp_path: Path) -> None:
    complains(call("report", str(tmp_path)), "no finished run")
    complains(call("predict", str(tmp_path), "-", stdin="{}\n"), "not an exported student")


@pytest.mark.parametrize("name", ["run", "compare"])
def test_options_have_the_defaults_of_the_settings(name: str) -> None:
    said = main.commands[name].make_context(name, ["my_task"]).params
    meant = {field: getattr(RunSettings(), field) for field in said.keys() & set(RunSettings.__dataclass_fields__)}
    assert {"rows", "rounds", "teacher"} <= set(meant)
    assert {field: said[field] for field in meant} == meant
    if name == "compare":
        defaults = CompareSettings()
        assert said["methods"] == ",".join(defaults.methods)
        assert said["seeds"] == ",".join(map(str, defaults.seeds))
        assert said["reference"] == defaults.reference


def test_compare_help_tells_of_every_method() -> None:
    text = call("compare", "--help").output.partition("Options:")[0]
    told = {name.strip(",") for name in text.split()}
    missing = set(METHODS) - set(GROUPS["teacher"]) - told
    assert not missing and set(GROUPS) <= told


def all_commands(
    group: click.Group = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, (*path, name))
        else:
            yield (*path, name), command


@pytest.mark.parametrize("path", [path for path, _ in all_commands()], ids=" ".join)
def test_help_says_what_a_command_does_and_shows_how(path: tuple[str, ...]) -> None:
    result = call(*path, "--help")
    assert result.exit_code == 0
    if path[0] != "models":
        assert f"s3local {' '.join(path)} " in result.output.partition("Options:")[0].partition("\n\n")[2]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from s3local.cli.main import main\n"
        "for path in sys.argv[1:]: assert CliRunner().invoke(main, [*path.split(), '--help']).exit_code == 0\n"
        "heavy = ('numpy', 'torch', 'llama_cpp', 'transformers', 'onnxruntime', 'pydantic', 'yaml', 'rich')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    paths = ["", *(" ".join(path) for path, _ in all_commands())]
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True, cwd=CHECKOUT
    )
    assert done.stdout.strip() == "[]"


def test_cli_py_is_the_same_program() -> None:
    for arguments in (["--version"], ["check", "data/support_desk", "--json"]):
        command = [sys.executable, "cli.py", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=CHECKOUT)
        here = [str(CHECKOUT / part) if part.startswith("data/") else part for part in arguments]
        assert done.stdout == call(*here).stdout


@pytest.mark.parametrize("kind", ["classification", "pair", "extractive_qa"])
def test_init_writes_each_kind_and_check_reads_it(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "mine"
    assert call("init", str(folder), "--kind", kind).exit_code == 0
    result = call("check", str(folder))
    assert result.exit_code == 0
    assert "dev rows" in result.output
    assert ("distinct: notice" in result.output) == (kind != "classification")


def test_contexts_are_checked_and_refused_where_they_are_of_no_use(tmp_path: Path, task: Path) -> None:
    (tmp_path / "more.jsonl").write_text('{"note": "x"}\n')
    complains(call("check", str(task), "--contexts", str(tmp_path / "more.jsonl")), "has no source text")
    folder = tmp_path / "pair"
    call("init", str(folder), "--kind", "pair")
    complains(call("check", str(folder), "--contexts", str(tmp_path / "more.jsonl")), "line 1", "notice")
    complains(call("check", str(folder), "--contexts", str(tmp_path / "none.jsonl")), "none.jsonl")


def test_an_unknown_variable_of_a_prompt_is_named_with_its_line(task: Path) -> None:
    with (task / "task.yaml").open("a") as stream:
        stream.write("\nprompts:\n  seed: Write $phrase with $reasns\n")
    complains(call("check", str(task)), "task.yaml, line ", "$reasns", "$reasons")


def test_rows_are_drawn_to_a_file_or_to_standard_output(task: Path, tmp_path: Path) -> None:
    arguments = ("data", "draw", str(task / "dev.jsonl"), "--rows", "3", "--per-label", "--seed", "1")
    drawn = call(*arguments).stdout
    assert len({json.loads(line)["label"] for line in drawn.splitlines()}) == 3
    assert call(*arguments, "-o", str(tmp_path / "few.jsonl")).stderr == f"wrote 3 rows to {tmp_path / 'few.jsonl'}\n"
    assert (tmp_path / "few.jsonl").read_text() == drawn
    complains(call("data", "draw", str(task / "dev.jsonl"), "--rows", "99"), "99 rows were asked for, found 6")


def test_a_sample_never_replaces_the_rows_that_it_is_drawn_from(task: Path) -> None:
    before = (task / "dev.jsonl").read_bytes()
    complains(
        call("data", "draw", str(task / "dev.jsonl"), "--rows", "1", "-o", str(task / "dev.jsonl")), "would replace"
    )
    assert (task / "dev.jsonl").read_bytes() == before


def test_a_separator_is_named_or_chosen(tmp_path: Path) -> None:
    (tmp_path / "pool.csv").write_text("text;label\na;b\n")
    arguments = ("data", "draw", str(tmp_path / "pool.csv"), "--rows", "1")
    complains(call(*arguments), "line 1", "a semicolon", "--delimiter")
    assert json.loads(call(*arguments, "--delimiter", ";").stdout) == {"text": "a", "label": "b"}
    assert call(*arguments, "--delimiter", "tab").stdout == '{"text;label": "a;b"}\n'
    result = call(*arguments, "--delimiter", "::")
    assert result.exit_code == 2 and "one character" in result.stderr


def run_program(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "cli.py", *arguments]
    return subprocess.run(command, capture_output=True, check=False, cwd=CHECKOUT, **options)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_output_is_utf8_whatever_the_system_writes(tmp_path: Path, encoding: str) -> None:
    row = {"text": "客服 café", "label": "é"}
    (tmp_path / "pool.jsonl").write_text(json.dumps(row))
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = run_program("data", "draw", str(tmp_path / "pool.jsonl"), "--rows", "1", env=environment)
    assert json.loads(done.stdout.decode("utf-8")) == row
    done = run_program("check", str(tmp_path / "客服"), env=environment)
    assert done.returncode == 2 and "客服" in done.stderr.decode("utf-8")


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_a_closed_output_ends_the_program_quietly(tmp_path: Path) -> None:
    (tmp_path / "pool.jsonl").write_text('{"text": "a", "label": "b"}\n' * 20_000)
    program = f"{shlex.quote(sys.executable)} cli.py data draw {shlex.quote(str(tmp_path / 'pool.jsonl'))} --rows 20000"
    options: Any = {"shell": True, "capture_output": True, "text": True, "cwd": CHECKOUT}
    piped = subprocess.run(f"{program} | head -n 1", **options, check=True)
    assert json.loads(piped.stdout) == {"text": "a", "label": "b"}
    assert piped.stderr == ""
    closed = subprocess.run(f"{program} >&-", **options, check=False)
    assert closed.returncode == 2
    assert closed.stderr.startswith("error: cannot write the rows: standard output is closed")
    assert len(closed.stderr.splitlines()) == 1


def test_a_comparison_of_question_answering_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "qa"
    call("init", str(folder), "--kind", "extractive_qa")
    complains(call("compare", str(folder), "--out", str(tmp_path / "out")), "a comparison needs", "labels")
