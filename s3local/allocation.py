"""Whole numbers of rows divided over labels: by weight, or evenly as far as rows are available."""

from __future__ import annotations

from collections.abc import Mapping

TOLERANCE = 1e-9
"""What sums of floats may miss a whole number by."""


def divide_rows(rows: int, weights: Mapping[str, float], least_share: float = 0.0) -> dict[str, int]:
    """``rows`` divided by ``weights`` into whole numbers that add up to it (largest remainders first).

    Each name gets at least ``least_share`` of its fair share, which is the same for all names, to a row. The others
    give it up in proportion to their weights. Raises ``ValueError`` for a share above 1 or below 0.
    """
    if not 0 <= least_share <= 1:
        raise ValueError(f"least_share must be from 0 to 1, got {least_share}")
    least = least_share * rows / len(weights)
    raised: set[str] = set()
    while True:
        total = sum(weight for name, weight in weights.items() if name not in raised)
        left = rows - least * len(raised)
        shares = {name: least if name in raised else left * weight / total for name, weight in weights.items()}
        below = {name for name, share in shares.items() if share < least - TOLERANCE} - raised
        if not below:
            break
        raised |= below
    divided = {name: int(share + TOLERANCE) for name, share in shares.items()}
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
