"""Made-up results of a run and of a comparison: for tests of results and of reports."""

from __future__ import annotations

import numpy as np

from s3local.comparison.cells import Cell
from s3local.comparison.methods import METHODS
from s3local.comparison.summary import compare_all, summarise
from s3local.evaluation.gap import Diversity, Gap
from s3local.evaluation.metrics import ClassificationMetrics, classification_metrics
from s3local.evaluation.squad import AnswerMetrics
from s3local.results import (
    CellResult,
    CellRound,
    CompareSummary,
    GapResult,
    JudgesResult,
    LabelCheckResult,
    ModelSelectionResult,
    RoundResult,
    RunSummary,
    StudentResult,
    SynthesisResult,
    TrainingFigures,
)
from s3local.student.agreement import Agreement, ExportReport

LABELS = classification_metrics(["a", "b", "b"], ["a", "b", "a"], ["a", "b"])
ANSWERS = AnswerMetrics(n_rows=3, exact_match=1 / 3, f1=0.5, f1_low=0.1, f1_high=0.9)


def student(stage: str, metrics: ClassificationMetrics | AnswerMetrics = LABELS) -> StudentResult:
    """A student with the same scores on dev and test."""
    same = Agreement(n_rows=3, labels=1.0, largest_difference=1e-7, accuracy_before=0.5, accuracy=0.5)
    return StudentResult(
        stage=stage,
        training=TrainingFigures(
            rows=3,
            rows_per_label={"a": 1, "[b]": 2},
            seed=2**32 - 1,
            learning_rate=1e-4,
            passes=800,
            batch_size=8,
            max_length=64,
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


def run_summary(metrics: ClassificationMetrics | AnswerMetrics = LABELS) -> RunSummary:
    """A run of one round."""
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
        label_check=LabelCheckResult(judges=JudgesResult(outcome="off")),
        model_selection=ModelSelectionResult(outcome="undivided"),
        final=student("final", metrics),
        final_without_gold=None,
        gold_only=student("gold", metrics),
        averaged=None,
        selected="gold",
    )


AWKWARD = ("[urgent]", "[/b]", "[bold red]x", ":bug:", "a\\[b]")
"""Labels that rich would read as markup."""

GOLD_SIZES, SEEDS, TEST_ROWS = (6, 12), (0, 1, 2), 40


def cell_result(cell: Cell, accuracy: float) -> CellResult:
    """A cell that predicts about this share of ``TEST_ROWS`` rows correctly; runs have two rounds."""
    method = METHODS[cell.method]
    n_rows = min(TEST_ROWS, 30 if method.test_rows else TEST_ROWS)
    right = np.random.default_rng([cell.seed or 0, cell.gold_rows, len(cell.method)]).random(n_rows) < accuracy
    gap, diversity = Gap(0.7, 0.1, 0.5), Diversity(0.1, 0.2, 0.3, 0.4)
    rounds = tuple(
        CellRound(
            stage=f"round-{number}",
            rows=12 * (number + 1),
            dev_accuracy=accuracy,
            test_accuracy=accuracy,
            gap=gap,
            diversity=diversity,
            gap_of_new=gap,
            diversity_of_new=diversity,
        )
        for number in range(2 if method.run else 0)
    )
    return CellResult(
        dataset="toy",
        method=cell.method,
        seed=cell.seed,
        gold_rows=cell.gold_rows,
        synthetic_rows=24 if method.run else 0,
        shortfall=0,
        test_rows=n_rows,
        test_accuracy=float(right.mean()),
        test_macro_f1=float(right.mean()),
        test_low=0.0,
        test_high=1.0,
        seconds=1.0,
        rounds=rounds,
        right="".join(str(int(mark)) for mark in right) + "-" * (TEST_ROWS - n_rows),
    )


def compare_summary(*names: str) -> CompareSummary:
    """A comparison of these methods, each more accurate than the one before."""
    methods = [METHODS[name] for name in names]
    cells = {
        cell: cell_result(cell, 0.5 + 0.4 * number / len(methods))
        for seed in SEEDS
        for size in GOLD_SIZES
        for number, cell in enumerate(Cell.of(method, seed, size) for method in methods)
    }
    return CompareSummary(
        task="toy",
        reference="s3",
        synthetic_rows=24,
        test_rows=TEST_ROWS,
        skipped={"setfit": "setfit is left out: the package is not installed"},
        cells=tuple(cells.values()),
        summary=tuple(summarise(cells, methods, GOLD_SIZES, SEEDS)),
        comparisons=tuple(compare_all(cells, methods, GOLD_SIZES, SEEDS, "s3")),
    )
