"""Texts to unit vectors, with a sentence-transformers model in a local folder.

``Embedder`` has one method, so that another embedder is one small class. Models are loaded from the given folder only.
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
from s3local.weights.folders import check_model_folder

Vectors = NDArray[np.float32]

BATCH_SIZE = 32
"""Texts in a forward pass. On 2 CPU cores the speed is the same from 16 to 128."""

PROGRESS_ROWS = 512
"""Texts between two reports of progress."""


class Embedder(Protocol):
    """Texts in, unit vectors out."""

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        """Unit rows of shape (n_texts, dim), float32; (0, dim) for no texts."""
        ...


class SentenceTransformerEmbedder:
    """A sentence-transformers model in a local folder.

    The row of a text depends on that text alone; other texts in the same call change it by rounding only (1e-6). A text
    of more than ``max_tokens`` word pieces is cut there, as the model was trained. Computes on the graphics card if
    torch can use one.
    """

    def __init__(self, folder: Path) -> None:
        """Load the model in ``folder``.

        Raises ``ModelError`` if that is not a sentence-transformers model, or asks for code.
        """
        if not (folder / "modules.json").is_file():
            raise ModelError(f"{folder}: not a sentence-transformers model, modules.json is missing")
        check_model_folder(folder)
        from sentence_transformers import SentenceTransformer

        try:
            self._model = SentenceTransformer(
                str(folder),
                device=torch_device(),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},  # pickled weights can execute code
            )
        except (OSError, ValueError, KeyError, RuntimeError) as exc:
            raise ModelError(f"{folder}: the embedding model cannot be loaded: {exc}") from exc
        self.dim: int = self._model.encode([""], show_progress_bar=False).shape[1]
        self.max_tokens: int = self._model.max_seq_length

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        """Unit rows of shape (n_texts, dim), float32; ``advance`` gets the number of texts that are finished.

        Raises ``ModelError`` if the graphics card runs out of memory.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))  # similar lengths together: less padding
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


class LazyEmbedder:
    """A sentence-transformers model that is loaded with the first text, so that it needs no memory before."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._embedder: Embedder | None = None

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        """See ``Embedder.embed``. Raises ``ModelError`` if the folder does not hold such a model."""
        if self._embedder is None:
            self._embedder = SentenceTransformerEmbedder(self._folder)
        return self._embedder.embed(texts, advance)


class CachedEmbedder:
    """An embedder that computes the row of each text once.

    Keeps every row in memory: 4 * dim bytes a text, 150 MB for 100,000 texts of 384 dimensions.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.uncached = embedder
        """The embedder without the memory, for texts that are many."""
        self._rows: dict[str, NDArray[np.float32]] = {}

    def remember(self, texts: Sequence[str], vectors: Vectors) -> None:
        """Take ``vectors`` (n_texts, dim) as the rows of these texts."""
        self._rows.update(zip(texts, vectors, strict=True))

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        """Unit rows of shape (n_texts, dim), float32; only texts that were not embedded before are computed."""
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        advance(len(texts) - len(new))
        computed = self.uncached.embed(new, advance)
        self.remember(new, computed)
        if not texts:
            return computed
        return np.stack([self._rows[text] for text in texts])
