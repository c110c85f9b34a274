"""Results come back from their file as they were written; an older or a damaged file is refused in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from some_results import ANSWERS, LABELS, run_summary

from s3local.evaluation.metrics import ClassificationMetrics
from s3local.evaluation.squad import AnswerMetrics
from s3local.exceptions import RunError
from s3local.results import (
    CompareSummary,
    FoldResult,
    MethodComparison,
    RunSummary,
    read_result,
    score_of,
    to_json,
    to_plain,
    write_result,
)


@pytest.mark.parametrize("metrics", [LABELS, ANSWERS])
def test_a_run_comes_back_as_it_was(tmp_path: Path, metrics: ClassificationMetrics | AnswerMetrics) -> None:
    written = run_summary(metrics)
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
    assert [entry.stage for entry in run_summary().students] == ["round-0", "final", "gold"]
    assert run_summary().selected_student.stage == "gold"
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
    content = {key: value for key, value in to_plain(run_summary()).items() if key != "schema_version"}
    (tmp_path / "r.json").write_text(json.dumps(content if version is None else {**content, "schema_version": version}))
    with pytest.raises(RunError, match=words) as caught:
        read_result(tmp_path / "r.json", kind)
    assert str(tmp_path / "r.json") in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema_version": 2}', "\udcff"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    (tmp_path / "r.json").write_bytes(damage.encode(errors="surrogateescape"))
    with pytest.raises(RunError) as caught:
        read_result(tmp_path / "r.json", RunSummary)
    assert str(tmp_path / "r.json") in str(caught.value) and "\n" not in str(caught.value)


def test_a_field_of_another_type_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps({**to_plain(run_summary()), "rows": "many"}))
    with pytest.raises(RunError, match="rows"):
        read_result(tmp_path / "r.json", RunSummary)


def test_a_report_needs_no_torch() -> None:
    code = (
        "import sys, s3local.cli.main, s3local.report.html, s3local.report.text\n"
        "print([m for m in ('torch', 'llama_cpp', 'transformers', 'onnxruntime') if m in sys.modules])"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"
