"""The pools of benchmarks/compare.py: a rare label keeps a tenth of its rows, a third is of another dataset, and no row
keeps its label."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from benchmark_scripts import load_script


@pytest.fixture(scope="module")
def compare() -> ModuleType:
    return load_script("compare")


@pytest.fixture
def datasets(tmp_path: Path) -> Path:
    """Two datasets: 200 rows of two labels, and 100 others of three columns."""
    own = [{"text": f"own {n}", "label": "ab"[n % 2]} for n in range(200)]
    others = [{"premise": f"other {n}", "hypothesis": f"more {n}", "label": "x"} for n in range(100)]
    for name, rows in (("own", own), ("others", others)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def options(datasets: Path, count: int, thin: str | None, off_topic: str | None) -> argparse.Namespace:
    return argparse.Namespace(dataset="own", datasets=datasets, unlabelled=count, thin=thin, off_topic=off_topic)


def kinds(rows: list[dict[str, str]]) -> Counter[str]:
    assert all(row["label"] is None for row in rows), "labels are taken away"
    assert len({row["text"] for row in rows}) == len(rows), "no row is there twice"
    texts = [row["text"] for row in rows]
    return Counter("other" if text.startswith("other") else "ab"[int(text.split()[1]) % 2] for text in texts)


def test_a_thin_label_keeps_a_tenth_of_its_rows(compare: ModuleType, datasets: Path) -> None:
    assert kinds(compare.unlabelled_rows(options(datasets, 110, "b", None))) == {"a": 100, "b": 10}
    plain = kinds(compare.unlabelled_rows(options(datasets, 200, None, None)))
    assert plain == {"a": 100, "b": 100}
    with pytest.raises(SystemExit, match="no row"):
        compare.unlabelled_rows(options(datasets, 10, "c", None))


def test_a_third_is_off_topic(compare: ModuleType, datasets: Path) -> None:
    found = kinds(compare.unlabelled_rows(options(datasets, 90, None, "others")))
    assert found["other"] == 30 and found.total() == 90
    both = kinds(compare.unlabelled_rows(options(datasets, 150, "b", "others")))
    assert both["other"] == 50 and both["b"] <= 10
