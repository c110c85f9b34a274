"""Texts to token ids, and rows of ids to padded batches; the same for training, PyTorch and onnxruntime.

Windows of a long context are in ``windows.py``. Needs ``tokenizers`` and numpy only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from s3local.exceptions import ModelError
from s3local.records import Example
from s3local.storage import parsed_json

Text: TypeAlias = "str | tuple[str, str] | Example"
"""What a student reads: one text, a pair of texts, or an example with one or two fields."""

Ids = NDArray[np.int64]

POSITIONS_AFTER_PADDING = ("mpnet", "roberta", "xlm-roberta")
"""Model types that count positions from the padding id on, and skip padding."""


def as_input(text: Text) -> str | tuple[str, str]:
    """The text or the pair of texts to tokenize. Raises ``ValueError`` for an example without one or two fields."""
    if not isinstance(text, Example):
        return text
    values = tuple(text.fields.values())
    if len(values) == 1:
        return values[0]
    if len(values) == 2:
        return values[0], values[1]
    raise ValueError(f"a student reads one field or two, example {text.id!r} has {len(values)}: {list(text.fields)}")


def encode(tokenizer: Any, texts: Sequence[Text], max_length: int) -> list[list[int]]:
    """The token ids of each text with special tokens, cut to ``max_length`` tokens, not padded.

    Of a pair, the longer side is cut. ``tokenizer`` is a ``tokenizers.Tokenizer`` or a fast tokenizer of transformers;
    its truncation and padding settings are overwritten.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    backend.enable_truncation(max_length, strategy="longest_first")
    backend.no_padding()
    return [encoding.ids for encoding in backend.encode_batch_fast([as_input(text) for text in texts])]


def pad(rows: Sequence[Sequence[int]], padding: int) -> tuple[Ids, Ids]:
    """Token ids and attention mask, both (n_rows, longest row).

    Short rows are filled up with the id ``padding``, where the mask is 0.
    """
    lengths = np.array([len(row) for row in rows])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = np.full_like(mask, padding)
    ids[mask == 1] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return ids, mask


def batches_by_length(rows: Sequence[Sequence[int]], batch_size: int) -> list[Ids]:
    """Row indices in batches of similar length, longest first, so that a lack of memory shows at once."""
    order = np.argsort([-len(row) for row in rows], kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def fitted_length(body_folder: Path, wanted: int | None, usual: int, texts: Sequence[Text] = ()) -> int:
    """The number of tokens to keep of a text: ``wanted``, or else the length of the longest of ``texts``.

    Without ``wanted``, it is at least ``usual`` and at most what the body in the folder can read.
    Raises ``ModelError`` if the body cannot read as many tokens as ``wanted``, or if the folder holds no tokenizer or
    no readable ``config.json``.
    """
    tokenizer, limit = _reading(body_folder)
    if wanted is None:
        return min(limit, max(usual, *map(len, encode(tokenizer, texts, limit)), 0))
    if wanted > limit:
        raise ModelError(f"max_length is {wanted}, but the student in {body_folder} reads {limit} tokens")
    return wanted


def unknown_share(body_folder: Path, texts: Sequence[str]) -> float:
    """The share of the word pieces of ``texts`` that the body's vocabulary lacks, from 0 to 1.

    It is near 0 in a language that the body was trained on. In a script that the vocabulary lacks, all texts become
    rows of the same unknown piece, and from a few per cent on nothing can be learned from them.
    Raises ``ModelError`` as ``fitted_length`` does.
    """
    tokenizer, limit = _reading(body_folder)
    vocabulary = json.loads(tokenizer.to_str())["model"]
    unknown = tokenizer.token_to_id(vocabulary.get("unk_token") or "")
    if unknown is None:
        unknown = vocabulary.get("unk_id")  # Unigram models name it so
    tokenizer.enable_truncation(limit)
    tokenizer.no_padding()
    pieces = [piece for row in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False) for piece in row.ids]
    return pieces.count(unknown) / len(pieces) if pieces else 0.0


def longest_input(settings: Mapping[str, Any]) -> int:
    """The most tokens, special tokens included, that a body with these entries of ``config.json`` can read."""
    positions = int(settings["max_position_embeddings"])
    if settings.get("model_type") in POSITIONS_AFTER_PADDING:
        positions -= int(settings.get("pad_token_id", 1)) + 1
    return positions


def _reading(body_folder: Path) -> tuple[Any, int]:
    """The body's tokenizer, and how many tokens the body can read."""
    from tokenizers import Tokenizer

    try:
        limit = longest_input(parsed_json((body_folder / "config.json").read_text(encoding="utf-8")))
        return Tokenizer.from_file(str(body_folder / "tokenizer.json")), limit
    except Exception as exc:  # tokenizers raises bare Exception
        raise ModelError(f"{body_folder}: config.json or tokenizer.json is missing or damaged: {exc}") from exc
