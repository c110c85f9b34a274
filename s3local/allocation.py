"""Whole numbers of rows divided over labels: by weight, or evenly as far as rows are available."""

from __future__ import annotations

from collections.abc import Mapping


def divide_rows(rows: int, weights: Mapping[str, float]) -> dict[str, int]:
    """``rows`` divided by ``weights`` into whole numbers that add up to it (largest remainders first)."""
    total = sum(weights.values())
    shares = {name: rows * weight / total for name, weight in weights.items()}
    divided = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: (divided[name] - shares[name], name))
    for name in by_remainder[: rows - sum(divided.values())]:
        divided[name] += 1
    return divided


def share_out(count: int, available: Mapping[str, int]) -> dict[str, int]:
    """``count`` divided evenly over labels, none of which gets more than its number in ``available``.

    What a label has too few rows for goes to the others.
    """
    shares: dict[str, int] = {}
    rest = count
    for number, label in enumerate(sorted(available, key=lambda name: (available[name], name))):
        shares[label] = min(available[label], rest // (len(available) - number))
        rest -= shares[label]
    return shares
