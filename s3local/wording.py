"""Words for messages about what a user wrote: a value cut to a readable length, a list of names, a near miss.

Knows nothing of files or tasks.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from typing import Any

MAX_SHOWN_CHARACTERS = 60
MAX_SHOWN_NAMES = 20


def shown(value: Any) -> str:
    """A value as JSON would write it, cut to a readable length."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "keys with values"
    text = json.dumps(value, ensure_ascii=isinstance(value, str) and not value.isprintable(), default=str)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"


def listed(names: Sequence[str]) -> str:
    """The first of ``names``, in quotes, and how many more there are."""
    more = [] if len(names) <= MAX_SHOWN_NAMES else [f"and {len(names) - MAX_SHOWN_NAMES:,} more"]
    return ", ".join([*(shown(name) for name in names[:MAX_SHOWN_NAMES]), *more])


def unknown(what: str, found: str, known: Sequence[str]) -> str:
    """Says that ``found`` is not among ``known``, which of them comes nearest, and what they are."""
    folded = {name.casefold(): name for name in known}
    nearest = difflib.get_close_matches(found.casefold(), folded, n=1)
    meant = f", did you mean {shown(folded[nearest[0]])}?" if nearest else ";"
    return f"unknown {what} {shown(found)}{meant} known are {listed(known)}"
