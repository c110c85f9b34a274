"""Laws of a task file: what is right loads, and what is wrong is named with its line; lengths of texts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shop_task import DEV, TASK, YAML, error_of, texts, write_task

from s3local.exceptions import S3LocalError
from s3local.records import Example
from s3local.task.model import MAX_LINE_CHARACTERS, Length, load_task, quantile
from s3local.task.rows import load_dev


def test_a_task_is_read_from_its_folder_or_its_file(tmp_path):
    write_task(tmp_path, test=DEV)
    task = load_task(tmp_path)
    assert task == load_task(str(tmp_path / "task.yaml"))
    assert (task.name, task.kind, task.language, task.fields) == ("shop", "classification", "English", ("text",))
    assert task.label_names == ("fault", "praise")
    assert task.label("fault").phrase == "that report a fault"
    assert task.label("praise").description == "the sender is pleased"
    assert (task.dev, task.test) == (tmp_path / "dev.jsonl", tmp_path / "test.jsonl")


def test_labels_as_a_list_and_as_a_mapping_are_the_same(tmp_path):
    as_list = YAML.replace("  fault:\n", "  - name: fault\n").replace(
        "  praise: the", "  - name: praise\n    description: the"
    )
    assert as_list != YAML
    (tmp_path / "list").mkdir()
    assert load_task(write_task(tmp_path / "list", as_list)).labels == load_task(write_task(tmp_path)).labels


@pytest.mark.parametrize("name", ["yes", "no", "on", "true", "False", "null", "~", "0", "1.0", "007", "2020-01-01"])
def test_a_label_stays_what_was_written(tmp_path, name):
    rows = json.dumps({"text": "a b", "label": name}) + "\n" + DEV.splitlines()[1]
    task = load_task(write_task(tmp_path, YAML.replace("  fault:", f"  {name}:"), dev=rows))
    assert task.label_names[0] == name
    assert load_dev(task)[0].label == name


def test_descriptions_become_one_line(tmp_path):
    text = YAML.replace("something is broken", ">\n      something\n      is   broken\n")
    assert load_task(write_task(tmp_path, text)).label("fault").description == "something is broken"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("labels:", "lables:", 3, ['unknown key "lables"', 'did you mean "labels"?']),
        ("phrase:", "phrases:", 6, ['unknown key "phrases"', 'did you mean "phrase"?']),
        ("min:", "mim:", 8, ['unknown key "mim"', 'did you mean "min"?']),
        ("  praise:", "  fault:", 7, ['"fault" is there twice', "first on line 4"]),
        ("name: shop", "name: shop\nname: again", 2, ['"name" is there twice', "first on line 1"]),
        ("name: shop", "name: shop\nkind: pear", 2, ['found "pear"', "'classification', 'pair' or 'extractive_qa'"]),
        ("name: shop", "name: shop\nkind: pair", 2, ["a pair names its two texts", "[premise, hypothesis]"]),
        ("name: shop", "name: shop\nkind: pair\nfields: [a]", 3, ["found 1 names", "exactly two fields"]),
        ("name: shop", "name: shop\nkind: pair\nfields: [a, a]", 3, ['"a" is there twice']),
        ("name: shop", "name: shop\nkind: pair\nfields: [a, b]\ngenerated: c", 4, ['unknown field "c"', '"a", "b"']),
        ("name: shop", "name: shop\ngenerated: text", 2, ["a classification has no source text"]),
        ("name: shop", "name: shop\ncontexts: more.jsonl", 2, ["a classification has no source text"]),
        ("name: shop", "name: shop\nkind: extractive_qa", 4, ["found labels", "hold an answer"]),
        ("name: shop", "name: shop\nprompts:\n  sed: x", 3, ['unknown key "sed"', 'did you mean "seed"?']),
        ("name: shop", "name: shop\nprompts:\n  seed: $phrase $reason", 3, ['"$reason"', 'did you mean "$reasons"?']),
        ("name: shop", "name: shop\nprompts:\n  seed: write!", 3, ["$label or $description or $phrase is missing"]),
        ("name: shop", "name: shop\nprompts:\n  extrapolation: $label", 3, ["the variable $shots is missing"]),
        ("name: shop", "name: shop\nprompts:\n  seed: $label for $5", 3, ["at character 12", "$$ for a dollar sign"]),
        ("name: shop", "name: shop\nprompts:\n  seed: ' '", 3, ["prompts.seed: empty"]),
        (
            "name: shop",
            "name: ../../outside",
            1,
            ['name: "../../outside" cannot be the name of a folder because of "/"'],
        ),
        ("name: shop", "name: /outside", 1, ['because of "/"; allowed are letters, digits, spaces']),
        ("name: shop", "name: ..", 1, ["begins or ends with a dot"]),
        ("name: shop", "name: [shop]", 1, ["name: found a list", "a line of text belongs here"]),
        ("name: shop", "name: &a {b: *a}", 1, []),
        ("texts: messages to a shop\n", "", 1, ["texts is missing"]),
        ("texts: messages to a shop", "texts:", 2, ["texts: empty"]),
        ("something is broken", "", 5, ["labels.fault.description: empty"]),
        ("something is broken", "x" * (MAX_LINE_CHARACTERS + 1), 5, ["1,001 characters", "at most 1,000"]),
        ("    description: something is broken\n", "", 4, ["labels.fault.description is missing"]),
        ("    phrase: that report", "    rationales: [a, '']\n    phrase: that report", 6, ["rationales.2: empty"]),
        ("  praise: the sender is pleased\n", "", 3, ["found 1", "at least two labels"]),
        ("min: 2", "min: two", 8, ['length.min: found "two"', "a whole number belongs here"]),
        ("min: 2", "min: 20", 8, ["min is 20 and max is 9"]),
        ("min: 2", "min: 0", 8, ["length.min"]),
        ("unit: words", "unit: tokens", 8, ['found "tokens"', "'characters' or 'words'"]),
        ("name: shop", "name: shop\ncolumns:\n  text: body\n  lable: topic", 4, ['did you mean "label"?']),
        ("name: shop", "name: shop\ncolumns: {text: label}", 2, ['"label" would hold both text and label']),
        ("name: shop", "name: shop\ncolumns: {text: }", 2, ["columns.text: empty"]),
        ("name: shop", "name: shop\nfields: [a, b]", 2, ["exactly one field"]),
        ("name: shop", "name: shop\nfields: [origin]", 2, ['"origin" has another meaning']),
        ("name: shop", "name: shop\ndev: other.jsonl", 2, ["dev: there is no file"]),
        ("name: shop", "name: shop\ntest: other.jsonl", 2, ["test: there is no file"]),
        ("name: shop", "name: shop\n\tkind: x", 2, ["not valid YAML"]),
        ("name: shop", "name: 'shop", 9, ["while scanning a quoted scalar, which begins on line 1"]),
        ("name: shop", "name: sh\0op", 1, ["the character 0 is not allowed"]),
        ("name: shop", "? [a]\n: b", 1, ["not valid YAML"]),
        (YAML, "- name", 1, ["keys such as name, texts and labels belong here"]),
        (YAML, "", 1, ["keys such as name, texts and labels belong here"]),
        (YAML, "[" * 50_000, 1, ["nested too deeply"]),
        (YAML, "# " + "x" * 1_000_000, None, ["1,000,002 bytes, at most 1,000,000"]),
    ],
)
def test_what_does_not_belong_in_a_task_is_named_with_its_line(tmp_path, old, new, line, words):
    assert old in YAML
    error = error_of(load_task, write_task(tmp_path, YAML.replace(old, new, 1)))
    assert (error.path, error.line) == (tmp_path / "task.yaml", line)
    for word in words:
        assert word in str(error)


def test_a_label_twice_in_a_list_is_named_where_it_is_repeated(tmp_path):
    labels = "  - {name: a, description: x}\n  - {name: b, description: y}\n  - {name: a, description: z}\n"
    error = error_of(load_task, write_task(tmp_path, f"name: shop\ntexts: messages\nlabels:\n{labels}"))
    assert error.line == 6
    assert 'the label "a" is there twice' in str(error)


def test_bytes_that_are_not_utf8_are_named_with_their_line(tmp_path):
    write_task(tmp_path)
    (tmp_path / "task.yaml").write_bytes(YAML.encode().replace(b"broken", b"br\xf6ken"))
    error = error_of(load_task, tmp_path)
    assert error.line == 5
    assert "byte 0xf6 at position 33 is not UTF-8" in str(error)


def test_a_task_that_is_not_there(tmp_path):
    assert "no such file; a task.yaml" in str(error_of(load_task, tmp_path))
    assert "no such file; a task.yaml" in str(error_of(load_task, tmp_path / "none"))
    with pytest.raises(S3LocalError):
        load_task("x" * 5000)


def test_dev_and_test_are_found_named_or_given(tmp_path):
    write_task(tmp_path)
    assert load_task(tmp_path).test is None
    (tmp_path / "test.tsv").write_text("text\tlabel\n")
    assert load_task(tmp_path).test == tmp_path / "test.tsv"
    (tmp_path / "test.csv").write_text("text,label\n")
    assert load_task(tmp_path).test == tmp_path / "test.csv"
    assert load_task(tmp_path, test=tmp_path / "test.tsv").test == tmp_path / "test.tsv"
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "mine.jsonl").write_text(DEV)
    write_task(tmp_path, YAML + "dev: rows/mine.jsonl\n")
    assert load_task(tmp_path).dev == tmp_path / "rows" / "mine.jsonl"
    assert "the dev rows belong here" in str(error_of(load_task, tmp_path, tmp_path / "none.csv"))


def test_without_dev_rows_or_with_dev_as_test_there_is_no_task(tmp_path):
    write_task(tmp_path)
    assert "are the same file" in str(error_of(load_task, tmp_path, None, tmp_path / "dev.jsonl"))
    (tmp_path / "dev.jsonl").unlink()
    assert "a file dev.jsonl, dev.csv or dev.xlsx belongs in this folder" in str(error_of(load_task, tmp_path))


@given(st.lists(st.integers(0, 1000), min_size=1), st.floats(0, 1))
def test_a_quantile_is_a_value_that_enough_of_them_do_not_exceed(values, share):
    found = quantile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9


@given(st.lists(texts, min_size=1, max_size=30))
def test_the_length_taken_from_dev_allows_nine_in_ten_of_its_rows(some):
    rows = [Example(str(number), {"text": text}, "fault") for number, text in enumerate(some)]
    length = TASK.length_of_texts(rows)
    assert sum(length.allows(row.text) for row in rows) >= 0.9 * len(rows)


def test_a_length_in_the_task_is_taken_in_its_unit():
    length = Length(unit="words", min=2, max=3)
    assert TASK.model_copy(update={"length": length}).length_of_texts([]) is length
    assert [length.allows(text) for text in ("one", "one two", "one  two\nthree", "1 2 3 4")] == [
        False,
        True,
        True,
        False,
    ]
    assert Length(unit="characters", min=1, max=3).allows("abc")
