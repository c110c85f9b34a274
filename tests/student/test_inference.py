"""Inference: without torch, in order, in bounded memory, and calibrated by the temperature."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from toys import LABELS, SETTINGS, Exported, reviews

from s3local.exceptions import ModelError
from s3local.records import Example
from s3local.student import inference
from s3local.student.export import export
from s3local.student.inference import Classifier, Prediction
from s3local.student.training import TrainedStudent, train

TEXTS = [row.text + " and" * (number % 7) for number, row in enumerate(reviews())]


@pytest.fixture(scope="module")
def folder(exported: Exported) -> Path:
    """Of a student with temperature 2."""
    return exported.folder


@pytest.fixture(scope="module")
def classifier(folder: Path) -> Classifier:
    """The 32-bit file: there, a row's logits do not depend on the other rows of its batch."""
    return Classifier.load(folder, file="model.onnx")


def test_neither_torch_nor_transformers_is_imported(folder: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from s3local.student.inference import Classifier\n"
        "print(Classifier.load(Path(sys.argv[1])).predict(['the film was bad']))\n"
        "print(sorted({'torch', 'transformers', 'optimum', 'sklearn'} & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", program, str(folder)], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["['negative']", "[]"]


def test_it_says_what_pytorch_says(classifier: Classifier, tiny_student: TrainedStudent) -> None:
    assert np.allclose(classifier.logits(TEXTS), tiny_student.predict_logits(TEXTS), atol=1e-4)
    assert classifier.predict(TEXTS) == tiny_student.predict(TEXTS)


def test_the_temperature_divides_the_logits(classifier: Classifier, tiny_student: TrainedStudent) -> None:
    probabilities = classifier.predict_proba(TEXTS)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (len(TEXTS), 2)
    assert np.allclose(probabilities, softmax(tiny_student.predict_logits(TEXTS) / 2.0, axis=1), atol=1e-4)


def test_results_are_in_the_order_of_the_texts(classifier: Classifier) -> None:
    order = np.random.default_rng(0).permutation(len(TEXTS))
    shuffled = classifier.predict_proba([TEXTS[number] for number in order])
    assert np.allclose(shuffled, classifier.predict_proba(TEXTS)[order], atol=1e-5)


def test_a_stream_is_read_a_window_at_a_time(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "WINDOW_ROWS", 10)
    taken = 0
    advanced: list[int] = []

    def stream() -> Iterator[str]:
        nonlocal taken
        for text in TEXTS:
            taken += 1
            yield text

    predictions: list[Prediction] = []
    for prediction in classifier.predict_stream(stream(), advanced.append):
        assert taken - len(predictions) <= 10
        predictions.append(prediction)
    assert [prediction.label for prediction in predictions] == classifier.predict(TEXTS)
    expected = classifier.predict_proba(TEXTS)
    assert np.allclose([prediction.probabilities for prediction in predictions], expected, atol=1e-5)
    assert all(prediction.probability == max(prediction.probabilities) for prediction in predictions)
    assert sum(advanced) == len(TEXTS)


def test_no_texts_give_no_rows(classifier: Classifier) -> None:
    assert classifier.predict_proba([]).shape == (0, 2)
    assert list(classifier.predict_stream([])) == []


def test_pairs_and_single_texts_are_told_apart(classifier: Classifier, tiny_bert: Path, tmp_path: Path) -> None:
    rows = [Example(row.id, {"question": "was it fine", "answer": row.text}, row.label) for row in reviews()]
    export(train(tiny_bert, rows, LABELS, SETTINGS, seed=1), tmp_path / "pairs", rows)
    pairs = Classifier.load(tmp_path / "pairs")
    assert pairs.predict([("was it fine", "the book was quite bad"), rows[0]]) == ["negative", "positive"]
    with pytest.raises(ValueError, match=r"reads a pair of texts \(question, answer\), got 'bad'"):
        pairs.predict(["bad"])
    with pytest.raises(ValueError, match=r"reads one text \(text\)"):
        classifier.predict([("a", "b")])


def test_a_processor_that_would_overflow_gets_the_32_bit_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    meta = json.loads((copy / "s3local.json").read_text(encoding="utf-8"))
    for full_range, exact, file in [
        (True, True, "model_int8.onnx"),
        (True, False, "model.onnx"),
        (False, True, "model_int8.onnx"),
        (False, False, "model_int8.onnx"),
    ]:
        (copy / "s3local.json").write_text(json.dumps({**meta, "int8_full_range": full_range}), encoding="utf-8")
        monkeypatch.setattr(inference, "int8_is_exact", lambda exact=exact: exact)
        assert Classifier.load(copy).file == file


def test_a_folder_without_an_entry_for_padding_pads_with_0(folder: Path, tmp_path: Path) -> None:
    """Earlier versions wrote no such entry, and had bodies of this kind alone."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    meta = json.loads((copy / "s3local.json").read_text(encoding="utf-8"))
    assert meta.pop("padding") == 0
    (copy / "s3local.json").write_text(json.dumps(meta), encoding="utf-8")
    assert Classifier.load(copy).padding == 0


def test_a_folder_that_is_no_student_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not an exported student: .*s3local.json is missing"):
        Classifier.load(tmp_path)
    for name, content, message in [
        ("model_int8.onnx", None, "model_int8.onnx is missing"),
        ("model_int8.onnx", b"\x00\x01", "is damaged or not an ONNX model"),
        ("tokenizer.json", b"{}", "is not an exported student, or damaged"),
        ("s3local.json", b"{}", "the entry 'int8_full_range' is missing"),
        ("s3local.json", b"{", "s3local.json is damaged"),
    ]:
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        (copy / name).unlink()
        if content is not None:
            (copy / name).write_bytes(content)
        with pytest.raises(ModelError, match=message):
            Classifier.load(copy)
        shutil.rmtree(copy)


def test_series_arrays_and_tables_of_pandas_are_lists_of_texts(classifier: Classifier) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"n": range(len(TEXTS)), "text": TEXTS}, index=range(100, 100 + len(TEXTS)))
    wanted = classifier.predict(TEXTS)
    for texts in (table["text"], table["text"].to_numpy(), tuple(TEXTS), iter(TEXTS), table):
        assert classifier.predict(texts) == wanted
    assert np.array_equal(classifier.predict_proba(table["text"]), classifier.predict_proba(TEXTS))
    with pytest.raises(ValueError, match="no column 'text'; it has"):
        classifier.predict(table[["n"]])
    with pytest.raises(TypeError, match="a text belongs in place 1, got nan"):
        classifier.predict(pandas.Series(["a", float("nan")]))


@pytest.mark.parametrize("texts", ["one text", [3], [None], [["a", 3]]])
def test_what_is_no_list_of_texts_is_refused(classifier: Classifier, texts: object) -> None:
    with pytest.raises(TypeError, match="belongs"):
        classifier.predict(texts)  # type: ignore[arg-type]


def test_a_finished_run_opens_its_selected_student(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"selected": "gold"}')
    shutil.copytree(folder, tmp_path / "gold" / "student")
    assert Classifier.load(str(tmp_path)).predict(["the film was bad"]) == ["negative"]
    (tmp_path / "result.json").write_text("[]")
    with pytest.raises(ModelError, match=r"result\.json is damaged"):
        Classifier.load(tmp_path)


def test_a_notebook_shows_labels_as_they_are(classifier: Classifier) -> None:
    assert repr(classifier) == "Classifier(labels=['negative', 'positive'], fields=['text'], file='model.onnx')"
    named = Classifier(
        None, None, labels=["<b>", "x"], fields=["t"], max_length=9, temperature=1, padding=0, file="model.onnx"
    )
    assert "&lt;b&gt;, x" in named._repr_html_() and "<b>" not in named._repr_html_()
