"""A draw against a plain reference that sorts the whole vocabulary."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from s3local.teacher.protocol import Sampling
from s3local.teacher.sampling import draw, log_probability

N = 4000


def make_logits(seed: int, spread: float, levels: int = 0) -> NDArray[np.float32]:
    """Random logits; with ``levels`` many are equal."""
    logits = np.random.default_rng(seed).normal(0, spread, N)
    return np.asarray(np.round(logits * levels) / levels if levels else logits, np.float32)


def reference(logits: NDArray[np.float32], sampling: Sampling) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Ids in order of falling weight, and probabilities, of the nucleus, by a full sort."""
    scaled = (logits - logits.max()) * np.float32(1 / sampling.temperature)
    weights = np.exp(scaled)
    ids = np.argsort(-weights, kind="stable")
    kept = weights[ids].astype(np.float64)
    if sampling.top_p < 1:
        before = np.concatenate([[0.0], np.cumsum(kept)[:-1]])
        inside = before < sampling.top_p * float(weights[ids].sum())
        ids, kept = ids[inside], kept[inside]
    return ids, kept / kept.sum()


def drawn(logits: NDArray[np.float32], sampling: Sampling, uniform: float, **others: object) -> tuple[int, float]:
    return draw(logits, sampling, uniform, np.empty((2, len(logits)), np.float32), **others)  # type: ignore[arg-type]


settings = st.builds(
    Sampling,
    temperature=st.sampled_from([0.3, 0.9, 1.0, 1.7]),
    top_p=st.sampled_from([0.01, 0.5, 0.9, 0.999, 1.0, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.0, 1.3]),
)


@given(settings, st.integers(0, 10**6), st.sampled_from([0.5, 2.0, 6.0]), st.sampled_from([0, 3]))
def test_draws_what_a_full_sort_draws(sampling: Sampling, seed: int, spread: float, levels: int) -> None:
    logits = make_logits(seed, spread, levels)
    ids, probabilities = reference(logits, sampling)
    if sampling.top_p == 1:  # then the ids stay in their own order
        order = np.argsort(ids)
        ids, probabilities = ids[order], probabilities[order]
    ends = np.cumsum(probabilities)
    for uniform in np.random.default_rng(seed).random(20):
        place = int(np.searchsorted(ends, uniform, side="right"))
        if np.abs(ends - uniform).min() < 1e-6:  # too close to the border between two tokens to tell
            continue
        assert drawn(logits, sampling, float(uniform))[0] == ids[min(place, len(ids) - 1)]


@given(st.integers(0, 10**6), st.sampled_from([0.5, 4.0]))
def test_nucleus_is_exact(seed: int, spread: float) -> None:
    """Both ends of the unit interval meet the first and the last token of the sorted nucleus."""
    logits, sampling = make_logits(seed, spread), Sampling(temperature=1.0, top_p=0.8)
    ids, _ = reference(logits, sampling)
    assert drawn(logits, sampling, 0.0)[0] == ids[0]
    assert drawn(logits, sampling, float(np.nextafter(1, 0)))[0] == ids[-1]


def test_frequencies_follow_the_distribution() -> None:
    logits, sampling = make_logits(3, 3.0)[:8], Sampling(temperature=1.7, top_p=1.0)
    ids, probabilities = reference(logits, sampling)
    n = 20_000
    counts = dict.fromkeys(ids.tolist(), 0)
    for uniform in np.random.default_rng(1).random(n):
        counts[drawn(logits, sampling, float(uniform))[0]] += 1
    expected = probabilities * n
    chi_square = float((((np.array(list(counts.values())) - expected) ** 2) / expected).sum())
    assert chi_square < 24.3  # 7 degrees of freedom: exceeded once in a thousand such tests


@given(st.integers(0, 10**6), settings)
def test_log_probability_is_that_of_the_model(seed: int, sampling: Sampling) -> None:
    logits = make_logits(seed, 3.0)
    untouched = logits.copy()
    token, logprob = drawn(logits, sampling, 0.5, recent=[int(logits.argmax())])
    assert (logits == untouched).all()
    exact = logits.astype(np.float64)
    assert logprob == pytest.approx(exact[token] - np.logaddexp.reduce(exact), abs=1e-5)
    assert log_probability(logits, token, np.empty_like(logits)) == pytest.approx(logprob, abs=1e-5)


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = make_logits(5, 2.0)
    for uniform in (0.0, 0.5, 0.999):
        assert drawn(logits, Sampling(temperature=0), uniform)[0] == int(logits.argmax())


def test_repetition_penalty_lowers_what_was_seen() -> None:
    logits = np.zeros(N, np.float32)
    logits[[10, 11, 12]] = [3.0, 2.9, -1.0]
    sampling = Sampling(temperature=0, repetition_penalty=2.0)
    assert drawn(logits, sampling, 0.5, recent=[10, 10, 12])[0] == 11
    assert drawn(logits, sampling, 0.5, recent=[10, 11])[0] == 10
    assert drawn(logits, sampling, 0.5)[0] == 10
    # a negative logit is multiplied, so that it falls too
    down = np.full(N, -5.0, np.float32)
    down[3], down[4] = -1.0, -1.5
    assert drawn(down, sampling, 0.5, recent=[3])[0] == 4


def test_contrast_prefers_what_the_other_prompt_does_not() -> None:
    logits, other = np.zeros(N, np.float32), np.zeros(N, np.float32)
    logits[[10, 11]] = 20.0
    other[10] = 20.0
    sampling = Sampling(temperature=1.0, top_p=0.9)
    uniforms = np.linspace(0.001, 0.999, 50)
    assert {drawn(logits, sampling, float(u), contrast=(other, 1.0))[0] for u in uniforms} == {11}
    # the weights are p * (p / q) ** gamma: e**0.5 to 1 for a difference of 1 and gamma 0.5
    other[:] = 0
    other[10] = 1.0
    share = np.mean(
        [drawn(logits, sampling, float(u), contrast=(other, 0.5))[0] == 11 for u in np.linspace(0, 0.9999, 2000)]
    )
    assert share == pytest.approx(np.exp(0.5) / (1 + np.exp(0.5)), abs=2e-3)


@given(st.integers(0, 10**6), settings, st.floats(0, 1, exclude_max=True))
def test_contrast_of_gamma_zero_is_plain(seed: int, sampling: Sampling, uniform: float) -> None:
    logits, other = make_logits(seed, 3.0), make_logits(seed + 1, 3.0)
    assert drawn(logits, sampling, uniform) == drawn(logits, sampling, uniform, contrast=(other, 0.0))


@given(st.integers(0, 10**6), settings, st.floats(0, 1, exclude_max=True))
def test_only_allowed_tokens(seed: int, sampling: Sampling, uniform: float) -> None:
    logits = make_logits(seed, 3.0)
    allowed = np.zeros(N, bool)
    allowed[np.random.default_rng(seed).integers(0, N, 3)] = True
    token, _ = drawn(logits, sampling, uniform, allowed=allowed)
    assert allowed[token]
    assert allowed[drawn(logits, Sampling(temperature=0), uniform, allowed=allowed)[0]]


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"repetition_penalty": 0}],
)
def test_impossible_settings_are_refused(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        Sampling(**wrong)  # type: ignore[arg-type]
