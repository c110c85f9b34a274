"""A GBNF grammar as a mask over the vocabulary, one for each text being written.

Knows nothing of sampling: it tells which tokens may come next and hears which one came.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from s3local.exceptions import TeacherError
from s3local.teacher.llama_cache import LlamaModel

_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


def grammar_of_schema(schema: Mapping[str, Any]) -> str:
    """The GBNF text that admits exactly the JSON documents of a JSON schema, for ``Request.grammar``."""
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    return str(json_schema_to_gbnf(json.dumps(schema)))


class Grammar:
    """The state of one grammar. Raises ``TeacherError`` if ``text`` is not GBNF with a rule named root."""

    def __init__(self, model: LlamaModel, text: str) -> None:
        self._text = text
        self._sampler: Any = llama_cpp.llama_sampler_init_grammar(model.vocabulary, text.encode(), b"root")
        if not self._sampler:
            raise TeacherError(f"not a GBNF grammar with a rule named root: {text[:80]!r}")
        self._candidates = np.zeros(model.vocabulary_size, _TOKEN_DATA)
        self._candidates["id"] = np.arange(model.vocabulary_size)
        self._array = llama_cpp.llama_token_data_array(
            data=self._candidates.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data)),
            size=len(self._candidates),
            selected=-1,
            sorted=False,
        )

    def allowed(self) -> NDArray[np.bool_]:
        """For each token of the vocabulary, whether it may come next. Shape (vocabulary,).

        llama.cpp tries each token against the grammar: about 6 ms for 49,152 of them.
        Raises ``TeacherError`` if there is none.
        """
        self._candidates["logit"] = 0
        llama_cpp.llama_sampler_apply(self._sampler, ctypes.byref(self._array))
        allowed: NDArray[np.bool_] = np.isfinite(self._candidates["logit"])
        if not allowed.any():
            raise TeacherError(f"the grammar leads to where no token of this model may follow: {self._text[:80]!r}")
        return allowed

    def accept(self, token: int) -> None:
        """Move on by a token that was allowed."""
        llama_cpp.llama_sampler_accept(self._sampler, token)

    def close(self) -> None:
        """Give its memory back. Calling it again does nothing."""
        if self._sampler:
            llama_cpp.llama_sampler_free(self._sampler)
            self._sampler = None
