"""Parts of messages about what a user wrote: a value cut to a readable length, a list of names, a near miss."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence

MAX_SHOWN_CHARACTERS = 60
MAX_SHOWN_NAMES = 20
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""Control characters except tab and line feed, line separators, and marks that turn the direction of text."""


def shown(value: object) -> str:
    """A value as JSON writes it, cut to a readable length."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "keys with values"
    text = json.dumps(value, ensure_ascii=isinstance(value, str) and not value.isprintable(), default=str)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"


def escaped(text: str) -> str:
    """``text`` with escape sequences for characters that control a terminal or turn the direction of text.

    They are written as JSON writes them, so that escaped JSON is the same JSON.
    """
    return _CONTROLS.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def listed(names: Sequence[str], most: int = MAX_SHOWN_NAMES) -> str:
    """The first ``most`` of ``names``, in quotes, and how many more there are."""
    more = [] if len(names) <= most else [f"and {len(names) - most:,} more"]
    return ", ".join([*(shown(name) for name in names[:most]), *more])


def counted(count: int, noun: str) -> str:
    """A number and what it counts, such as "1 row" or "1,200 rows"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def about(seconds: float) -> str:
    """A duration that is only estimated: "about 1 minute", "about 11 minutes", "about 3 hours"."""
    minutes = max(1, round(seconds / 60))
    return f"about {counted(minutes, 'minute')}" if minutes < 100 else f"about {counted(round(minutes / 60), 'hour')}"


def unknown(what: str, found: str, known: Sequence[str]) -> str:
    """A message: ``found`` is not among ``known``, which of them comes nearest, and what they are."""
    nearest = nearest_name(found, known)
    meant = f", did you mean {shown(nearest)}?" if nearest is not None else ";"
    return f"unknown {what} {shown(found)}{meant} known are {listed(known)}"


def nearest_name(found: str, known: Sequence[str]) -> str | None:
    """The name that is the same number as ``found`` ("1" for "1.0"), else the one most like it, if any is."""
    number = _number(found)
    if number is not None:
        for name in known:
            if _number(name) == number:
                return name
    folded = {name.casefold(): name for name in known}
    likest = difflib.get_close_matches(found.casefold(), folded, n=1)
    return folded[likest[0]] if likest else None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
