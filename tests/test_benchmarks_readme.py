"""The tables of benchmarks/README.md say what the files in benchmarks/results/ say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from benchmark_scripts import BENCHMARKS, load_script


@pytest.fixture(scope="module")
def summary() -> ModuleType:
    return load_script("summary")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BENCHMARKS / "results", tmp_path / "results"))


def change_cells(results: Path, name: str, change: Any) -> None:
    path = results / f"{name}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content["cells"])
    path.write_text(json.dumps(content), encoding="utf-8")


def test_the_readme_is_in_step_with_the_results(summary: ModuleType) -> None:
    assert summary.main(["--check"]) == 0


def test_a_changed_figure_is_found(summary: ModuleType, results: Path) -> None:
    def change(cells: list[dict[str, Any]]) -> None:
        cells[0]["test_accuracy"] += 0.05

    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    change_cells(results, "compare-trec", change)
    assert summary.renewed(text, results) != text


def test_a_table_whose_figures_stay_keeps_its_days(summary: ModuleType, results: Path) -> None:
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8").replace("Measured 20", "Measured 19")
    assert summary.renewed(text, results) == text


def test_a_new_method_and_seed_come_into_the_tables(summary: ModuleType, results: Path) -> None:
    def change(cells: list[dict[str, Any]]) -> None:
        cells.append({**cells[0], "method": "new-one", "seed": 7, "gold_rows": 60, "test_accuracy": 0.125})
        cells.append({**cells[0], "method": "new-one", "seed": 8, "gold_rows": 60, "test_accuracy": 0.5})

    change_cells(results, "compare-trec", change)
    assert "| `new-one` | 31.3 (12.5, 50.0) |  |" in summary.table("accuracy trec sst2", summary.Results(results))
    assert "`new-one` - `new-one`" in summary.table("pairs trec new-one-minus-new-one", summary.Results(results))


def test_the_curve_joins_the_files_of_a_dataset(summary: ModuleType, results: Path) -> None:
    head = summary.table("curve trec", summary.Results(results)).splitlines()[0]
    assert head == "|  | trec, 20 | trec, 60 | trec, 200 |"


def test_suggested_rows_are_compared_with_random_ones_of_the_same_seeds(summary: ModuleType, results: Path) -> None:
    for dataset, gain in (("trec", 0.04), ("sst2", 0.01)):
        measured = [
            {"dataset": dataset, "way": way, "seed": seed, "test_accuracy": 0.5 + 0.1 * seed + more}
            for way, more, seeds in (("random", 0.0, (0, 1, 2)), ("suggested", gain, (0, 1)))
            for seed in seeds
        ]
        (results / f"suggest-{dataset}.json").write_text(json.dumps({"options": {}, "measured": measured}))
    lines = summary.table("suggest", summary.Results(results)).splitlines()
    assert "| random | 60.0 (50.0, 60.0, 70.0) | 60.0 (50.0, 60.0, 70.0) |  |" in lines
    assert "| suggested | 56.0 (51.0, 61.0) | 59.0 (54.0, 64.0) | +2.5 |" in lines


@pytest.mark.parametrize(("share", "points"), [(0.8785, "87.9"), (0.12345, "12.3"), (-0.0004, "0.0")])
def test_halves_are_rounded_up(summary: ModuleType, share: float, points: str) -> None:
    assert summary.percent(share).lstrip("-") == points


@pytest.mark.parametrize(("share", "points"), [(0.012, "+1.2"), (-0.012, "-1.2"), (-0.0004, "+0.0"), (0.0, "+0.0")])
def test_a_difference_has_its_sign(summary: ModuleType, share: float, points: str) -> None:
    assert summary.signed(share) == points
