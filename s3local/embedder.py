"""Texts to unit vectors, with sentence-transformers on a local folder.

One method is the whole seam, so that another embedder is one small class. Knows nothing of labels or filters,
and never looks for a model anywhere but in the folder it is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from s3local.exceptions import ModelError
from s3local.hardware import room_on_card, torch_device
from s3local.progress import Advance, ignore

Vectors = NDArray[np.float32]

BATCH_SIZE = 32
"""Texts a forward pass. On 2 CPU cores the speed is flat from 16 to 128; more only pads more."""

PROGRESS_ROWS = 512
"""Texts between two reports of progress."""


class Embedder(Protocol):
    """What the filters and measures need: texts in, rows of length 1 out."""

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        """Unit rows of shape (n_texts, dim), float32; (0, dim) for no texts."""
        ...


class SentenceTransformerEmbedder:
    """A sentence-transformers model in a local folder.

    A text's row depends on the text alone: what else is in the call moves it by float rounding only (1e-6).
    Texts longer than ``max_tokens`` word pieces are cut there, as the model was trained. Computes on the graphics card
    if this torch has one.
    """

    def __init__(self, folder: Path) -> None:
        """Load the model of ``folder``. Raises ``ModelError`` if that is no sentence-transformers model."""
        from sentence_transformers import SentenceTransformer

        if not (folder / "modules.json").is_file():
            raise ModelError(f"{folder}: no sentence-transformers model here, it has no modules.json")
        try:
            self._model = SentenceTransformer(str(folder), device=torch_device(), local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError) as exc:
            raise ModelError(f"{folder}: the embedding model cannot be loaded: {exc}") from exc
        self.dim: int = self._model.encode([""], show_progress_bar=False).shape[1]
        self.max_tokens: int = self._model.max_seq_length

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        """Unit rows of shape (n_texts, dim), float32; ``advance`` is told how many more are done.

        Raises ``ModelError`` if a graphics card has no room for them.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # like lengths together: less padding
        for start in range(0, len(order), PROGRESS_ROWS):
            rows = order[start : start + PROGRESS_ROWS]
            with room_on_card("to embed texts"):
                vectors[rows] = self._model.encode(
                    [texts[row] for row in rows],
                    batch_size=BATCH_SIZE,
                    normalize_embeddings=True,
                    show_progress_bar=False,
                )
            advance(len(rows))
        return vectors


class LateEmbedder:
    """A sentence-transformers model that is loaded with the first text: who asks for none needs no memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._embedder: Embedder | None = None

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        """See ``Embedder.embed``. Raises ``ModelError`` if the folder holds no such model."""
        if self._embedder is None:
            self._embedder = SentenceTransformerEmbedder(self._folder)
        return self._embedder.embed(texts, advance)


class CachedEmbedder:
    """An embedder that computes the row of a text once, however often it is asked for.

    Keeps every row until it is itself let go: 4 * dim bytes a text, 150 MB for 100,000 texts of 384 dimensions.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._rows: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        """Unit rows of shape (n_texts, dim), float32; only texts never seen before are computed."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        advance(len(texts) - len(new))
        computed = self._embedder.embed(new, advance)
        self._rows.update(zip(new, computed, strict=True))
        if not texts:
            return computed
        return np.stack([self._rows[text] for text in texts])
