"""Laws of an exported classifier: it gives the run's probabilities, and needs onnxruntime, tokenizers and numpy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from s3local.exceptions import ModelError, RunError
from s3local.export.model import export_model
from s3local.finished_run import FinishedRun
from s3local.student.inference import Classifier

TEXTS = ["the film was good", "a very bad song with a much longer story about it", "Ünïcode?!", ""]

BLOCKING = """
import importlib.abc, runpy, sys
ALLOWED = {"numpy", "onnxruntime", "tokenizers"}

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in ALLOWED and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def folder(toy_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("exported") / "classifier"
    export_model(toy_run, place)
    return place


def predicted(folder: Path, *arguments: str) -> list[dict[str, object]]:
    """What predict.py prints in a process that can import nothing else."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", BLOCKING, str(folder / "predict.py"), *arguments],
        input="".join(text + "\n" for text in TEXTS),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_predicts_alone_what_the_run_predicts(toy_run: FinishedRun, folder: Path) -> None:
    file = export_model(toy_run, folder.with_name("again"))
    probabilities = Classifier.load(toy_run.model, file=file).predict_proba(TEXTS)
    found = predicted(folder)
    assert [row["label"] for row in found] == [toy_run.labels[best] for best in probabilities.argmax(axis=1)]
    assert [row["probability"] for row in found] == pytest.approx(probabilities.max(axis=1).tolist(), abs=2e-3)


def test_a_threshold_leaves_labels_out(folder: Path) -> None:
    assert [row["label"] for row in predicted(folder, "1.1")] == [None] * len(TEXTS)


def test_other_imports_are_blocked_indeed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "predict.py").write_text("import pydantic")
    with pytest.raises(AssertionError, match="pydantic is blocked"):
        predicted(tmp_path)


def test_the_folder_holds_all_that_is_needed(toy_run: FinishedRun, folder: Path) -> None:
    names = {"README.md", "classifier.json", "model.onnx", "predict.py", "tokenizer.json"}
    assert {path.name for path in folder.iterdir()} == names
    classifier = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
    assert classifier["labels"] == list(toy_run.labels)
    assert classifier["temperature"] == Classifier.load(toy_run.model).temperature
    held_out = toy_run.held_out
    assert held_out is not None
    for target, threshold in classifier["thresholds"].items():
        right = held_out.right[held_out.confidences >= threshold["threshold"]]
        assert right.mean() == threshold["accuracy"] >= float(target)


def test_the_model_card_is_valid_and_complete(toy_run: FinishedRun, folder: Path) -> None:
    card = ModelCard.load(folder / "README.md")
    assert card.data.pipeline_tag == "text-classification"
    assert {result.metric_type for result in card.data.eval_results} == {"accuracy"}
    names = {result.dataset_split: result.dataset_name for result in card.data.eval_results}
    assert names == {"validation": "toy, dev rows, cross-validated", "test": "toy, test rows"}
    assert card.data.eval_results[0].metric_value == pytest.approx(
        toy_run.summary.model_selection.verdict.selected,
        abs=1e-4,  # type: ignore[union-attr]
    )
    for part in ("licence", "95 % interval", "Limits and leakage", "How to repeat it", "predict.py"):
        assert part in card.text


def test_what_a_user_wrote_is_no_markup(toy_run: FinishedRun, folder: Path) -> None:
    task = {**toy_run.task, "texts": "<script>alert(1)</script> | [x](y)\n# z"}
    export_model(FinishedRun(toy_run.folder, toy_run.summary, {**toy_run.config, "task": task}), folder.with_name("b"))
    text = (folder.with_name("b") / "README.md").read_text(encoding="utf-8")
    assert "<script>" not in text and r"\<script\>alert(1)\</script\> \| \[x\](y) \# z" in text


def test_a_damaged_run_is_told(toy_run: FinishedRun, tmp_path: Path) -> None:
    shutil.copytree(toy_run.folder, tmp_path / "run")
    run = FinishedRun.read(tmp_path / "run")
    (run.model / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        export_model(run, tmp_path / "out")
    (run.model / "s3local.json").write_text("{}")
    with pytest.raises(ModelError, match="damaged"):
        export_model(run, tmp_path / "out")
    (tmp_path / "run" / "config.json").write_text("[]")
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        FinishedRun.read(tmp_path / "run")
    (tmp_path / "run" / "result.json").unlink()
    with pytest.raises(RunError, match="holds no finished run"):
        FinishedRun.read(tmp_path / "run")
    with pytest.raises(RunError, match="is no folder"):
        FinishedRun.read(tmp_path / "none")
    assert not (tmp_path / "out").exists()
