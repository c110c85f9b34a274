"""Laws of dividing rows over labels: everything is spent, and as evenly as possible."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3local.allocation import divide_rows, share_out


@given(st.integers(0, 1000), st.dictionaries(st.text(min_size=1), st.floats(0.01, 100), min_size=1))
def test_divided_rows_add_up_and_are_within_one_of_their_share(rows: int, weights: dict[str, float]) -> None:
    divided = divide_rows(rows, weights)
    assert sum(divided.values()) == rows
    total = sum(weights.values())
    for name, weight in weights.items():
        assert divided[name] == pytest.approx(rows * weight / total, abs=1 + 1e-6)


@given(
    st.integers(0, 1000),
    st.dictionaries(st.text(min_size=1), st.floats(0, 100), min_size=1).filter(
        lambda weights: sum(weights.values()) > 0
    ),
    st.floats(0, 1),
)
def test_no_name_gets_less_than_its_least_share(rows: int, weights: dict[str, float], least_share: float) -> None:
    divided = divide_rows(rows, weights, least_share)
    assert sum(divided.values()) == rows
    assert min(divided.values()) >= int(least_share * rows / len(weights) + 1e-9)
    by_weight = sorted(weights, key=lambda name: weights[name])
    assert all(divided[light] <= divided[heavy] + 1 for light, heavy in pairwise(by_weight))


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match="least_share"):
        divide_rows(10, {"a": 1.0}, 1.5)


@given(st.dictionaries(st.text(min_size=1), st.integers(1, 40), min_size=1), st.data())
def test_shares_add_up_and_differ_only_where_rows_run_out(available, data) -> None:
    count = data.draw(st.integers(1, sum(available.values())))
    shares = share_out(count, available)
    assert sum(shares.values()) == count
    assert all(shares[name] <= available[name] for name in available)
    unspent = [shares[name] for name in available if shares[name] < available[name]]
    assert not unspent or max(shares.values()) - min(unspent) <= 1
