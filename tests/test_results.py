"""Results come back from their file as they were written; an older or a damaged file is refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.evaluation.gap import Diversity, Gap
from s3local.evaluation.metrics import ClassificationMetrics, classification_metrics
from s3local.evaluation.squad import AnswerMetrics
from s3local.exceptions import RunError
from s3local.results import (
    CompareSummary,
    FoldResult,
    GapResult,
    LabelCheckResult,
    MethodComparison,
    ModelSelectionResult,
    RoundResult,
    RunSummary,
    StudentResult,
    SynthesisResult,
    TrainingFigures,
    read_result,
    score_of,
    to_json,
    to_plain,
    write_result,
)
from s3local.student.agreement import Agreement, ExportReport

LABELS = classification_metrics(["a", "b", "b"], ["a", "b", "a"], ["a", "b"])
ANSWERS = AnswerMetrics(n_rows=3, exact_match=1 / 3, f1=0.5, f1_low=0.1, f1_high=0.9)


def student(stage: str, metrics: ClassificationMetrics | AnswerMetrics = LABELS) -> StudentResult:
    same = Agreement(n_rows=3, labels=1.0, largest_difference=1e-7, accuracy_before=0.5, accuracy=0.5)
    return StudentResult(
        stage=stage,
        training=TrainingFigures(
            rows=3,
            rows_per_label={"a": 1, "[b]": 2},
            seed=2**32 - 1,
            learning_rate=1e-4,
            epochs=2,
            batch_size=8,
            max_length=64,
            contrast_passes=0,
            loss=0.1,
            seconds=1.5,
        ),
        dev=metrics,
        errors=1,
        temperature=0.1 + 0.2,
        export=ExportReport("model.onnx", same, same, False, "left out", 1.0, {"model.onnx": 7}),
        test=metrics,
        seconds=2.5,
    )


def summary(metrics: ClassificationMetrics | AnswerMetrics = LABELS) -> RunSummary:
    gap, diversity = Gap(0.5, None, 1.0), Diversity(0.1, 0.2, None, 0.3)
    counts = SynthesisResult(
        kept=3,
        kept_per_label={"a": 1, "[b]": 2},
        shortfall=0,
        dropped=1,
        dropped_by_reason={"too_short": 1},
        requests=4,
        shards=1,
        tokens=40,
        teacher_seconds=0.5,
    )
    gaps = GapResult(gap=gap, diversity=diversity, gap_of_new=gap, diversity_of_new=diversity)
    return RunSummary(
        task="toy",
        kind="classification",
        dataset_sha256="0" * 64,
        rows=3,
        with_gold=True,
        rounds=(RoundResult(synthesis=counts, gap=gaps, student=student("round-0", metrics)),),
        label_check=LabelCheckResult(outcome="off"),
        model_selection=ModelSelectionResult(outcome="undivided"),
        final=student("final", metrics),
        final_without_gold=None,
        gold_only=student("gold", metrics),
        averaged=None,
        selected="gold",
    )


@pytest.mark.parametrize("metrics", [LABELS, ANSWERS])
def test_a_run_comes_back_as_it_was(tmp_path: Path, metrics: ClassificationMetrics | AnswerMetrics) -> None:
    written = summary(metrics)
    write_result(tmp_path / "result.json", written)
    assert read_result(tmp_path / "result.json", RunSummary) == written
    assert json.loads(to_json(written)) == to_plain(written)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=4))
def test_numbers_come_back_to_the_last_bit(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    written = FoldResult(synthetic_rows=1, ids=("a",), scores=(tuple(values),), logits=((tuple(values),),))
    path = tmp_path_factory.getbasetemp() / "fold.json"
    write_result(path, written)
    assert read_result(path, FoldResult) == written


def test_the_students_of_a_run_in_order() -> None:
    assert [entry.stage for entry in summary().students] == ["round-0", "final", "gold"]
    assert summary().selected_student.stage == "gold"
    assert (score_of(LABELS), score_of(ANSWERS)) == (2 / 3, 0.5)


def test_the_figures_of_a_pair_stand_beside_what_was_compared() -> None:
    row = MethodComparison(
        0.1, -0.1, 0.3, 0.2, (0.2,), "cannot tell", gold_rows=6, reference="s3", method="gold", test_rows=9, in_words=""
    )
    assert to_plain(row)["difference"] == 0.1 and to_plain(row)["method"] == "gold"


@pytest.mark.parametrize(
    ("version", "words"), [(None, "an older s3local"), (0, "an older s3local"), (99, "a newer s3local")]
)
@pytest.mark.parametrize("kind", [RunSummary, CompareSummary])
def test_another_version_is_refused(tmp_path: Path, version: int | None, words: str, kind: type) -> None:
    content = {key: value for key, value in to_plain(summary()).items() if key != "schema_version"}
    (tmp_path / "r.json").write_text(json.dumps(content if version is None else {**content, "schema_version": version}))
    with pytest.raises(RunError, match=words) as caught:
        read_result(tmp_path / "r.json", kind)
    assert str(tmp_path / "r.json") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema_version": 1}', "\udcff"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / "r.json").write_bytes(damage.encode(errors="surrogateescape"))
    with pytest.raises(RunError) as caught:
        read_result(tmp_path / "r.json", RunSummary)
    assert str(tmp_path / "r.json") in str(caught.value) and "\n" not in str(caught.value)


def test_a_field_of_another_type_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({**to_plain(summary()), "rows": "many"}))
    with pytest.raises(RunError, match="rows"):
        read_result(tmp_path / "r.json", RunSummary)


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    write_result(tmp_path / "result.json", summary())
    code = (
        "import sys; from click.testing import CliRunner; from s3local.cli.main import main\n"
        f"done = CliRunner().invoke(main, ['report', {str(tmp_path)!r}]); assert done.exit_code == 0, done.output\n"
        "print([m for m in ('torch', 'llama_cpp', 'transformers', 'onnxruntime') if m in sys.modules])"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
