"""How llama.cpp loads a model."""

from __future__ import annotations

import pytest

from s3local.weights.llama_runtime import model_parameters


@pytest.mark.parametrize(("flags", "rearranged"), [({"avx2", "amx_tile"}, False), ({"avx2"}, True), (set(), True)])
def test_weights_are_not_rearranged_for_amx(flags: set[str], rearranged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3local.weights.llama_runtime.cpu_flags", lambda: frozenset(flags))
    parameters = model_parameters(gpu_layers=3)
    assert (parameters.use_extra_bufts, parameters.n_gpu_layers) == (rearranged, 3)
