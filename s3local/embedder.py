"""Texts to unit vectors, with sentence-transformers on a local folder.

One method is the whole seam, so that another embedder is one small class. Knows nothing of labels or filters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from s3local.progress import Advance, ignore

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """What the filters and measures need: texts in, rows of length 1 out."""

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        """Unit rows of shape (n_texts, dim), float32."""
        ...
