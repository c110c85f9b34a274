"""Laws of exported rows: the library that a format is for reads the same rows, labels and provenance back."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard
from pyarrow import parquet

from s3local.exceptions import InputError, RunError
from s3local.export.dataset import PROVENANCE, export_dataset, exported_rows, gold_rows, new_folder, safe_cell
from s3local.finished_run import FinishedRun
from s3local.records import Answer, Candidate, Example, read_jsonl
from s3local.sources import open_rows


@pytest.fixture(scope="module")
def gold(toy_run: FinishedRun) -> dict[str, list[Example]]:
    return gold_rows(toy_run, toy_run.folder.parent / "task")


@pytest.fixture(scope="module")
def rows(toy_run: FinishedRun, gold: dict[str, list[Example]]) -> list[dict[str, Any]]:
    return exported_rows(toy_run, gold)


def test_every_row_says_where_it_comes_from(toy_run: FinishedRun, rows: list[dict[str, Any]]) -> None:
    synthetic = [row for row in rows if row["split"] == "train"]
    assert [row["id"] for row in synthetic] == [candidate.example.id for candidate in toy_run.candidates]
    for row, candidate in zip(synthetic, toy_run.candidates, strict=True):
        assert row["id"] == f"round-{row['round']}-{row['shard']:04d}-{row['request']:03d}"
        assert row["method"] == ("seed" if row["round"] == 0 else "extrapolation")
        assert bool(row["error"]) == (row["method"] == "extrapolation")
        assert row["requested_label"] in toy_run.labels and row["seed"] == 0
        assert set(row["probabilities"]) == set(toy_run.labels)
        against = candidate.origin.get("against")
        assert against in (None, row["contrast_label"], row["contrast_shots"])
        assert row["rationales"] == list(candidate.origin.get("rationales", ()))
    assert {row["method"] for row in synthetic} == {"seed", "extrapolation"}
    assert {(row["split"], row["method"], row["round"]) for row in rows[len(synthetic) :]} == {
        ("validation", "gold", None),
        ("test", "gold", None),
    }
    assert {tuple(row) for row in rows} == {tuple(rows[0])}  # the same keys everywhere
    assert set(rows[0]) - PROVENANCE == {"id", "text", "label"}


def test_json_lines_hold_all_rows(toy_run: FinishedRun, gold: Any, rows: Any, tmp_path: Path) -> None:
    assert export_dataset(toy_run, "jsonl", tmp_path / "a.jsonl", gold) == len(rows)
    assert [row for _, row in read_jsonl(tmp_path / "a.jsonl")] == rows


def test_parquet_holds_all_rows(toy_run: FinishedRun, gold: Any, rows: Any, tmp_path: Path) -> None:
    export_dataset(toy_run, "parquet", tmp_path / "a.parquet", gold)
    assert parquet.read_table(tmp_path / "a.parquet").to_pylist() == rows
    pandas = pytest.importorskip("pandas")
    assert pandas.read_parquet(tmp_path / "a.parquet")["text"].tolist() == [row["text"] for row in rows]


def test_a_table_holds_all_rows_and_no_formula(toy_run: FinishedRun, tmp_path: Path) -> None:
    texts = ["=HYPERLINK(1)", "+1", "-1", "@x", "\tx", "\rx", 'a, "b"\n=c', "'quoted"]
    candidates = [Candidate(Example(f"r{n}", {"text": text}, "positive")) for n, text in enumerate(texts)]
    run = FinishedRun(toy_run.folder, toy_run.summary, toy_run.config)
    run.__dict__["candidates"] = candidates
    export_dataset(run, "csv", tmp_path / "a.csv", {})
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as stream:
        read = list(csv.DictReader(stream))
    assert [row["text"] for row in read] == [*(f"'{text}" for text in texts[:6]), *texts[6:]]
    assert all(not cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in read for cell in row.values())


def test_numbers_are_no_formulas() -> None:
    assert (safe_cell(-9.8), safe_cell(None), safe_cell(["=1"])) == (-9.8, None, '["=1"]')


def test_datasets_loads_the_folder_in_both_ways(
    toy_run: FinishedRun, gold: Any, rows: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    folder = tmp_path / "hf"
    export_dataset(toy_run, "hf", folder, gold)
    loaded = datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    for found in (datasets.load_from_disk(str(folder)), loaded):
        assert list(found) == ["train", "validation", "test"]
        for split, part in found.items():
            wanted = [row for row in rows if row["split"] == split]
            assert part.features["label"].names == list(toy_run.labels)
            assert part["text"][:] == [row["text"] for row in wanted]
            assert [part.features["label"].int2str(label) for label in part["label"]] == [r["label"] for r in wanted]
            assert part["rationales"][:] == [row["rationales"] for row in wanted]
            assert part["round"][:] == [row["round"] for row in wanted]
            for one, other in zip(part["probabilities"], wanted, strict=True):
                assert one == pytest.approx(other["probabilities"], abs=1e-6)
    with open_rows(folder / "train") as source:  # our own reader knows it as well
        assert [row.values["label"] for row in source.rows] == [r["label"] for r in rows if r["split"] == "train"]


def test_the_dataset_card_is_valid_and_complete(toy_run: FinishedRun, gold: Any, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    export_dataset(toy_run, "hf", tmp_path / "hf", gold)
    card = DatasetCard.load(tmp_path / "hf" / "README.md")
    data = card.data.to_dict()
    assert data["task_categories"] == ["text-classification"] and data["size_categories"] == ["n<1K"]
    assert [part["split"] for part in data["configs"][0]["data_files"]] == ["train", "validation", "test"]
    for part in ("Origin", "licence", "Synthesis Step by Step", "95 % interval", "Limits and leakage", "SHA-256"):
        assert part in card.text
    assert toy_run.summary.dataset_sha256 in card.text


def test_label_studio_and_argilla_get_records_with_suggestions(
    toy_run: FinishedRun, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    export_dataset(toy_run, "label-studio", tmp_path / "ls", {})
    export_dataset(toy_run, "argilla", tmp_path / "argilla", {})
    tasks = json.loads((tmp_path / "ls" / "tasks.json").read_text(encoding="utf-8"))
    records = json.loads((tmp_path / "argilla" / "records.json").read_text(encoding="utf-8"))
    wanted = [row for row in rows if row["split"] == "train"]
    assert [task["data"]["text"] for task in tasks] == [row["text"] for row in wanted]
    labels = [task["predictions"][0]["result"][0]["value"]["choices"] for task in tasks]
    assert labels == [[row["label"]] for row in wanted]
    suggested = [record["suggestions"]["label"]["value"] for record in records]
    assert suggested == [row["label"] for row in wanted]
    for task, record in zip(tasks, records, strict=True):
        assert task["meta"] == record["metadata"] and task["meta"]["method"] in ("seed", "extrapolation")
    for folder in ("ls", "argilla"):
        assert DatasetCard.load(tmp_path / folder / "README.md").data.task_categories == ["text-classification"]


def test_label_studio_accepts_its_tasks(toy_run: FinishedRun, tmp_path: Path) -> None:
    interfaces = pytest.importorskip("label_studio_sdk.label_interface")
    export_dataset(toy_run, "label-studio", tmp_path / "ls", {})
    interface = interfaces.LabelInterface((tmp_path / "ls" / "labeling_config.xml").read_text(encoding="utf-8"))
    for task in json.loads((tmp_path / "ls" / "tasks.json").read_text(encoding="utf-8")):
        (prediction,) = task.pop("predictions")
        assert interface.validate_task(task) and interface.validate_prediction(prediction)


def test_argilla_reads_its_records_and_settings(toy_run: FinishedRun, tmp_path: Path) -> None:
    argilla = pytest.importorskip("argilla")
    export_dataset(toy_run, "argilla", tmp_path / "argilla", {})
    models = pytest.importorskip("argilla._models")  # a Settings object asks a server
    settings = json.loads((tmp_path / "argilla" / "settings.json").read_text(encoding="utf-8"))
    (question,) = [models.QuestionModel(**question) for question in settings["questions"]]
    assert [option["value"] for option in question.settings.options] == list(toy_run.labels)
    assert [models.FieldModel(**field).name for field in settings["fields"]] == ["text"]
    records = json.loads((tmp_path / "argilla" / "records.json").read_text(encoding="utf-8"))
    made = [argilla.Record.from_dict(record) for record in records]
    assert [record.fields["text"] for record in made] == [record["fields"]["text"] for record in records]


def test_a_field_that_is_called_like_a_column_is_refused(toy_run: FinishedRun) -> None:
    run = FinishedRun(
        toy_run.folder, toy_run.summary, {**toy_run.config, "task": {**toy_run.task, "fields": ["error"]}}
    )
    with pytest.raises(RunError, match='the field "error" of the task'):
        exported_rows(run, {})


def test_gold_rows_are_those_of_the_run(toy_run: FinishedRun, tmp_path: Path) -> None:
    from small_world import make_task

    make_task(tmp_path / "task", flip_test=True)
    with pytest.raises(InputError, match="not the rows of this run, or changed since"):
        gold_rows(toy_run, tmp_path / "task")


def test_an_export_replaces_an_export_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(InputError, match="something else than an export"), new_folder(tmp_path / "mine"):
        pass
    for content in ("one", "two"):
        with new_folder(tmp_path / "out") as folder:
            (folder / "README.md").write_text(content)
    assert (tmp_path / "out" / "README.md").read_text() == "two"
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "out"):
        raise ZeroDivisionError
    assert (tmp_path / "out" / "README.md").read_text() == "two"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]


def test_questions_and_answers_are_rows_as_well(toy_run: FinishedRun, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    task = {**toy_run.task, "labels": [], "fields": ["context", "question"], "kind": "extractive_qa"}
    summary = dataclasses.replace(toy_run.summary, kind="extractive_qa")
    run = FinishedRun(toy_run.folder, summary, {**toy_run.config, "task": task})
    example = Example("round-0-0000-000", {"context": "a b", "question": "b?"}, "answer", (Answer("b", 2),))
    run.__dict__["candidates"] = [Candidate(example, {"context": "c1"})]
    export_dataset(run, "hf", tmp_path / "hf", {})
    (row,) = datasets.load_from_disk(str(tmp_path / "hf"))["train"]
    assert (row["answer"], row["answer_start"], row["context_id"]) == (["b"], [2], "c1")
    with pytest.raises(RunError, match="written for labels"):
        export_dataset(run, "argilla", tmp_path / "argilla", {})
