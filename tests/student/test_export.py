"""Export: every program that opens the folder gets the student's labels; a form that does not agree is left out."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toys import CONFIGS, LABELS, SETTINGS, UNSEEN, Exported, reviews, write_body
from transformers import AutoTokenizer

from s3local.exceptions import ModelError, StorageError
from s3local.storage import replace_durably
from s3local.student import export as exporting
from s3local.student.encoding import POSITIONS_AFTER_PADDING
from s3local.student.export import export, nodes_with
from s3local.student.inference import Classifier, softmax
from s3local.student.training import TrainedStudent, TrainingSettings, train

TEXTS = [row.text for row in [*reviews(), *UNSEEN]]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_report_says_what_is_in_the_folder(exported: Exported) -> None:
    folder, report = exported.folder, exported.report
    assert report.fp32.labels == 1.0
    assert report.fp32.largest_difference <= exporting.LOGIT_TOLERANCE
    assert report.int8_passed and report.int8.labels >= 0.99
    assert report.file == "model_int8.onnx"
    assert report.bytes == {name: (folder / name).stat().st_size for name in ("model.onnx", "model_int8.onnx")}
    plain = dataclasses.asdict(report)
    assert json.loads(json.dumps(plain)) == plain
    assert names(folder.parent) == {"student"}


def test_optimum_and_transformers_open_it(exported: Exported, tiny_student: TrainedStudent) -> None:
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import pipeline

    folder = exported.folder
    model = ORTModelForSequenceClassification.from_pretrained(
        folder, file_name="model.onnx", local_files_only=True, provider="CPUExecutionProvider"
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    classify = pipeline("text-classification", model=model, tokenizer=tokenizer)
    expected = softmax(tiny_student.predict_logits(TEXTS)).max(axis=1)
    results = classify(TEXTS, batch_size=4)
    assert [result["label"] for result in results] == tiny_student.predict(TEXTS)
    assert np.allclose([result["score"] for result in results], expected, atol=1e-3)


@pytest.mark.parametrize("file", ["model.onnx", "model_int8.onnx"])
def test_onnxruntime_and_tokenizers_are_enough(exported: Exported, tiny_student: TrainedStudent, file: str) -> None:
    import onnxruntime
    from tokenizers import Tokenizer

    folder = exported.folder
    session = onnxruntime.InferenceSession(str(folder / file), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    names_in_order = json.loads((folder / "s3local.json").read_text(encoding="utf-8"))["labels"]
    labels = []
    for text in TEXTS:
        encoding = tokenizer.encode(text)
        inputs = {"input_ids": [encoding.ids], "attention_mask": [encoding.attention_mask]}
        (logits,) = session.run(None, {name: np.array(value, dtype=np.int64) for name, value in inputs.items()})
        labels.append(names_in_order[logits[0].argmax()])
    assert labels == tiny_student.predict(TEXTS)


def test_it_cuts_long_texts_as_training_did(exported: Exported, tiny_student: TrainedStudent) -> None:
    long = ["the film was bad " + "and a song was very good " * 30]
    classifier = Classifier.load(exported.folder, file="model.onnx")
    assert np.allclose(classifier.logits(long), tiny_student.predict_logits(long), atol=1e-4)


def test_nothing_of_this_machine_is_in_it(exported: Exported, tiny_bert: Path) -> None:
    folder = exported.folder
    for path in folder.iterdir():
        content = path.read_bytes()
        for place in (str(tiny_bert), str(folder.parent), str(Path(__file__).parents[2])):
            assert place.encode() not in content, path.name


@pytest.fixture
def quick(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """``tiny_student`` has an ONNX form already, so that tests of what follows need not write it again."""

    def copied(_: Any, folder: Path, task: str) -> None:
        assert task == "text-classification"
        for name in ("model.onnx", "config.json"):
            shutil.copy(exported.folder / name, folder)

    monkeypatch.setattr(exporting, "write_onnx", copied)


@pytest.mark.usefixtures("quick")
def test_an_8_bit_form_that_disagrees_is_left_out(
    tiny_student: TrainedStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "LABEL_AGREEMENT", 1.01)
    report = export(tiny_student, tmp_path / "student", reviews())
    assert not report.int8_passed
    assert "left out: 100.0% of 48 rows keep their prediction" in report.int8_note
    assert report.file == "model.onnx"
    assert "model_int8.onnx" not in names(tmp_path / "student")
    assert Classifier.load(tmp_path / "student").file == "model.onnx"


@pytest.mark.usefixtures("quick")
def test_a_copy_that_a_full_disk_cut_short_is_a_full_disk(
    tiny_student: TrainedStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(model: str, copy: str) -> None:
        content = Path(model).read_bytes()
        Path(copy).write_bytes(content[: len(content) // 2])

    monkeypatch.setattr("onnx.shape_inference.infer_shapes_path", cut_short)
    with pytest.raises(StorageError, match="no space left on the device"):
        export(tiny_student, tmp_path / "student", reviews())
    assert names(tmp_path) == set()


@pytest.mark.usefixtures("quick")
def test_a_folder_is_replaced_durably_by_a_complete_one_or_stays(
    exported: Exported, tiny_student: TrainedStudent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A marker that is written after an export can rely on the student's bytes being on the disk."""
    folder = tmp_path / "student"
    shutil.copytree(exported.folder, folder)
    with monkeypatch.context() as patch, pytest.raises(ModelError, match="differs from PyTorch's"):
        patch.setattr(exporting, "LOGIT_TOLERANCE", -1.0)
        export(tiny_student, folder, reviews(), temperature=4.0)
    assert names(tmp_path) == {"student"}
    assert Classifier.load(folder).temperature == 2.0

    renamed: list[tuple[set[str], Path]] = []

    def noted(part: Path, target: Path) -> None:
        renamed.append((names(part), target))
        replace_durably(part, target)

    monkeypatch.setattr(exporting, "replace_durably", noted)
    export(tiny_student, folder, reviews(), temperature=5.0)
    assert renamed == [(names(folder), folder)]
    assert names(tmp_path) == {"student"}
    assert Classifier.load(folder).temperature == 5.0


def test_what_is_not_an_exported_student_is_not_overwritten(tiny_student: TrainedStudent, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(StorageError, match="holds something else"):
        export(tiny_student, tmp_path, reviews())
    with pytest.raises(StorageError, match="holds something else"):
        export(tiny_student, tmp_path / "thesis.txt", reviews())
    assert names(tmp_path) == {"thesis.txt"}
    with pytest.raises(ValueError, match="there are none"):
        export(tiny_student, tmp_path / "new", [])


@pytest.mark.parametrize("model_type", sorted({*CONFIGS} - {"distilbert"}))
def test_every_type_of_body_is_exported_and_quantised(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[int, int]] = []

    def noted(graph: Any, matrices: Sequence[Any]) -> list[str]:
        found = nodes_with(graph, matrices)
        kept.append((len(matrices), len(set(found))))
        return found

    monkeypatch.setattr(exporting, "nodes_with", noted)
    write_body(tmp_path / "body", model_type)
    student = train(tmp_path / "body", reviews(), LABELS, dataclasses.replace(SETTINGS, passes=64), seed=1)
    shapes = [matrix.shape for matrix in exporting.second_matrices(student.model.base_model)]
    assert shapes == [(32, 64)] * 3  # from 64 inner units back to 32
    report = export(student, tmp_path / "student", reviews())
    assert report.fp32.largest_difference < 1e-4
    assert kept and all(asked == found for asked, found in kept)

    classifier = Classifier.load(tmp_path / "student", file="model.onnx")
    assert classifier.padding == (1 if model_type in POSITIONS_AFTER_PADDING else 0)
    together = classifier.logits(TEXTS)
    alone = np.concatenate([classifier.logits([text]) for text in TEXTS[::9]])
    assert np.abs(alone - together[::9]).max() < 1e-4
    long = ["the film was " + "very " * 20 + "bad"]  # longer than what the graph was traced with
    assert np.abs(classifier.logits(long) - student.predict_logits(long)).max() < 1e-4
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "student", local_files_only=True)
    assert tokenizer.pad_token_id == classifier.padding
    assert tokenizer("the film")["input_ids"] == classifier.tokenizer.encode("the film").ids


@pytest.mark.models
@pytest.mark.parametrize("body", ["minilm", pytest.param("mpnet", marks=pytest.mark.slow)])
def test_the_embedded_bodies_pass_their_checks(body: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    settings = TrainingSettings(passes=64)
    student = train(request.getfixturevalue(body), reviews()[::2], LABELS, settings, seed=0)
    report = export(student, tmp_path / "student", reviews())
    assert report.fp32.largest_difference < 1e-4
    assert report.int8_passed
    assert report.bytes["model_int8.onnx"] < 0.75 * report.bytes["model.onnx"]
