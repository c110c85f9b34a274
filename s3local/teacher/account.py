"""What the engine has computed so far. Knows nothing of how."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class EngineAccount:
    """Tokens and seconds, since the engine was made.

    ``seconds_prefill`` and ``seconds_decode`` share the time of each step by its tokens of prompts and of texts;
    ``seconds_python`` is all of ``generate`` that is neither these nor ``seconds_sampling``.
    """

    prompt_tokens_computed: int = 0
    prompt_tokens_shared: int = 0
    tokens_sampled: int = 0
    tokens_scored: int = 0
    seconds_prefill: float = 0.0
    seconds_decode: float = 0.0
    seconds_sampling: float = 0.0
    seconds_python: float = 0.0
    seconds_scoring: float = 0.0

    def to_row(self) -> dict[str, float]:
        """All of it by name, for a log."""
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}
