"""``init`` and ``check``: starters that pass, and bad tasks and rows in one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from program import CHECKOUT, call, complains


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


@pytest.mark.parametrize("kind", ["classification", "pair", "extractive_qa"])
def test_init_writes_each_kind_and_check_reads_it(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "mine"
    assert call("init", str(folder), "--kind", kind).exit_code == 0
    result = call("check", str(folder))
    assert result.exit_code == 0
    assert "dev rows" in result.output
    assert ("distinct: notice" in result.output) == (kind != "classification")


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


def test_check_names_rows_of_a_labelling_tool_that_it_skips(task: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (task / "dev.jsonl").read_text(encoding="utf-8").splitlines()]
    exported = [{**row, "answer": "accept", "_input_hash": 1, "_task_hash": 1} for row in rows]
    exported[1:1] = [{"text": "hm", "label": rows[0]["label"], "answer": "reject", "_input_hash": 2}]
    path = tmp_path / "prodigy.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in exported), encoding="utf-8")
    result = call("check", str(task), "--dev", str(path), "--json")
    assert json.loads(result.stdout)["dev"]["rows"] == len(rows)
    assert result.stderr == f"{path}: skipped 1 row without a single accepted answer: line 2 (rejected)\n"


def test_check_says_which_encoding_a_table_is_likely_to_have(task: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (task / "dev.jsonl").read_text(encoding="utf-8").splitlines()]
    path = tmp_path / "dev.csv"
    path.write_bytes(
        ("text;label;;\n" + "".join(f"schöne Grüße {n};{row['label']};;\n" for n, row in enumerate(rows))).encode(
            "cp1252"
        )
    )
    complains(call("check", str(task), "--dev", str(path)), "line 2", "--encoding cp1252")
    assert call("check", str(task), "--dev", str(path), "--encoding", "cp1252").exit_code == 0
