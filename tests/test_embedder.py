"""The embedder: rows of length 1 that depend on their own text alone, and nothing computed twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from s3local.embedder import CachedEmbedder, SentenceTransformerEmbedder, Vectors
from s3local.exceptions import ModelError
from s3local.progress import Advance, ignore

MODEL = Path(__file__).parent.parent / "models" / "all-minilm-l6-v2"
TEXTS = [
    "The harbour was closed for two days.",
    "a",
    "",
    "Der Hafen war zwei Tage lang geschlossen.",
    "A storm came in from the west, and " + "nobody left the house, and " * 30 + "then it was over.",
    "Who built the lighthouse?",
]


@pytest.fixture(scope="module")
def minilm() -> SentenceTransformerEmbedder:
    if not (MODEL / "model.safetensors").exists():
        pytest.skip("needs the embedded models: models/all-minilm-l6-v2 is absent")
    return SentenceTransformerEmbedder(MODEL)


class CountingEmbedder:
    """Rows made from the text's length; notes every text that it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        self.asked += texts
        advance(len(texts))
        angles = np.array([len(text) for text in texts], dtype=np.float32)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.models
def test_rows_are_unit_float32_and_no_texts_give_no_rows(minilm: SentenceTransformerEmbedder) -> None:
    vectors = minilm.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), minilm.dim) == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    nothing = minilm.embed([])
    assert nothing.shape == (0, 384)
    assert nothing.dtype == np.float32


@pytest.mark.models
def test_a_row_depends_on_its_text_alone(minilm: SentenceTransformerEmbedder) -> None:
    together = minilm.embed(TEXTS)
    one_by_one = np.concatenate([minilm.embed([text]) for text in TEXTS])
    backwards = minilm.embed(TEXTS[::-1])[::-1]
    np.testing.assert_allclose(together, one_by_one, atol=2e-6)
    np.testing.assert_allclose(together, backwards, atol=2e-6)


@pytest.mark.models
def test_near_texts_have_near_rows(minilm: SentenceTransformerEmbedder) -> None:
    a, b, c = minilm.embed(["The harbour was closed.", "The harbour was shut.", "My aunt plays the cello."])
    assert a @ b > 0.8 > 0.4 > a @ c


@pytest.mark.models
def test_progress_adds_up_to_the_texts(minilm: SentenceTransformerEmbedder) -> None:
    told: list[int] = []
    minilm.embed(["one word"] * 600, told.append)
    assert sum(told) == 600
    assert len(told) > 1


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"modules\.json") as raised:
        SentenceTransformerEmbedder(tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(raised.value)


def test_a_damaged_model_is_a_model_error(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[")
    with pytest.raises(ModelError, match=r"cannot be loaded|is not valid JSON"):
        SentenceTransformerEmbedder(tmp_path)


def test_the_cache_asks_for_each_text_once() -> None:
    inner = CountingEmbedder()
    cached = CachedEmbedder(inner)
    first = cached.embed(["a", "bb", "a"])
    second = cached.embed(["bb", "ccc", "a"])
    assert inner.asked == ["a", "bb", "ccc"]
    np.testing.assert_array_equal(first, CountingEmbedder().embed(["a", "bb", "a"]))
    np.testing.assert_array_equal(second, CountingEmbedder().embed(["bb", "ccc", "a"]))


def test_the_cache_reports_every_text_and_gives_no_rows_for_none() -> None:
    cached = CachedEmbedder(CountingEmbedder())
    told: list[int] = []
    cached.embed(["a", "bb", "a"], told.append)
    cached.embed(["a", "ccc"], told.append)
    assert sum(told) == 5
    assert cached.embed([]).shape == (0, 2)


@pytest.mark.models
def test_a_card_without_room_is_one_clear_line(
    minilm: SentenceTransformerEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("2 GiB wanted")

    monkeypatch.setattr(minilm._model, "encode", no_room)
    with pytest.raises(ModelError, match=r"no room left to embed texts.*--gpu-layers"):
        minilm.embed(TEXTS)
