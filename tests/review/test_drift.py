"""Drift: none where texts come from where dev comes from, and named where they do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from s3local.embedder import Vectors
from s3local.progress import Advance, ignore
from s3local.records import Example
from s3local.review.drift import Drift, measure_drift

DIM = 24


class Directions:
    """Embeds "KIND NUMBER" near the direction of its kind."""

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        rows = []
        for text in texts:
            kind, number = map(int, text.split())
            row = np.random.default_rng([kind, number]).normal(size=DIM) * 0.15
            row[kind] += 1
            rows.append(row / np.linalg.norm(row))
        return np.array(rows, dtype=np.float32).reshape(-1, DIM)


def rows(first: int, **counts: int) -> list[Example]:
    """As many rows of each kind, with the kind as their label; ``first`` is the number of the first one."""
    kinds = {"sun": 0, "rain": 1, "strike": 2}
    return [
        Example(f"{label}-{n}", {"text": f"{kinds[label]} {first + n}"}, label)
        for label, count in counts.items()
        for n in range(count)
    ]


def drift(texts: list[Example], dev: list[Example]) -> Drift:
    return measure_drift(texts, len(texts), dev, ["sun", "rain"], Directions())


def test_texts_like_dev_have_no_drift() -> None:
    found = drift(rows(1000, sun=100, rain=100), rows(0, sun=30, rain=30))
    assert found.auc is not None and found.auc < 0.65
    assert found.far < 0.2 and not found.warnings
    assert found.shares["sun"] == (0.5, pytest.approx(0.5, abs=0.05))


def test_a_rare_label_is_estimated() -> None:
    found = drift(rows(1000, sun=190, rain=10), rows(0, sun=30, rain=30))
    assert found.shares["rain"][1] == pytest.approx(0.05, abs=0.04)
    assert sum("rain" in warning for warning in found.warnings) == 1


def test_a_topic_that_dev_lacks_is_found_and_shown() -> None:
    found = drift(rows(1000, sun=60, rain=60, strike=80), rows(0, sun=30, rain=30))
    assert found.auc is not None and found.auc > 0.6
    assert found.far == pytest.approx(0.4, abs=0.1)
    largest = found.topics[0]
    assert all(text.startswith("2 ") for text in largest.texts)
    assert sum(topic.share for topic in found.topics) == pytest.approx(found.far)
    assert found.warnings


def test_both_sides_are_needed() -> None:
    with pytest.raises(ValueError, match="got 0 and 1"):
        drift([], rows(0, sun=1))
