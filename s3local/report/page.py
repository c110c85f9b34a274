"""A page as one file: templates, style and script inside it, nothing from outside, and nothing of a text that acts.

Every value in a template is escaped, and its control characters are made visible. The content security policy allows
the page's own style and script, by their checksums, and nothing else: no request, no other script, no form.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s3local import __version__
from s3local.storage import write_text

if TYPE_CHECKING:
    from jinja2 import Environment

REPORT_FILE = "report.html"

_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Controls that turn the direction of the text after them: with these, a text can look like another one."""


class _Visible(dict[int, str]):
    """For ``str.translate``: a sign for each control character. Entries are computed when a character first occurs."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character in "\n\t" or not (unicodedata.category(character) == "Cc" or character in _TURNING):
            self[code] = character
        elif code < 0x20 or code == 0x7F:
            self[code] = chr(0x2421 if code == 0x7F else 0x2400 + code)  # the signs that Unicode has for them
        else:
            self[code] = f"[U+{code:04X}]"
        return self[code]


_VISIBLE = _Visible()


def visible(text: str) -> str:
    """``text`` with a sign in place of each control character other than line break and tab."""
    return text.translate(_VISIBLE)


def percent(share: float | None, digits: int = 0) -> str:
    """A share as "84 %", whose parts stay on one line; a dash for None."""
    return "–" if share is None else f"{100 * share:.{digits}f}\u00a0%"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def seconds_in_words(seconds: float) -> str:
    """A duration, such as "48 s", "12 min" or "3 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f}\u00a0s"
    minutes = round(seconds / 60)
    return f"{minutes}\u00a0min" if minutes < 120 else f"{minutes // 60}\u00a0h {minutes % 60}\u00a0min"


def render(template: str, values: Mapping[str, Any]) -> str:
    """The page of a template in templates/ with these values."""
    from markupsafe import Markup

    style, script = (Markup(_source(name)) for name in ("style.css", "script.js"))
    policy = (
        f"default-src 'none'; script-src '{_checksum(script)}'; style-src '{_checksum(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    shared = {"style": style, "script": script, "policy": policy, "version": __version__}
    return _environment().get_template(template).render({**shared, **values})


def write_page(path: Path, template: str, values: Mapping[str, Any]) -> None:
    """Write the page of a template to ``path``, whole or not at all. Raises ``StorageError``."""
    write_text(path, render(template, values))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        loader=FunctionLoader(_source),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "points": points, "in_words": seconds_in_words, "visible": visible}
    return environment


def _source(name: str) -> str:
    return files("s3local.report").joinpath("templates", name).read_text(encoding="utf-8")


def _checksum(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
