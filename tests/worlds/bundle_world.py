"""Small stand-in wheels for the tests of bundles: a project, what it needs, and pip itself."""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PROGRAM = """
import sys
def main():
    import small_part
    print(" ".join([small_part.WORD, *sys.argv[1:]]))
"""


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    needs: Sequence[str] = (),
    files: dict[str, str] | None = None,
    tag: str = "py3-none-any",
    script: str | None = None,
    more: Sequence[str] = (),
) -> Path:
    """A wheel that pip installs. ``files`` are its modules, ``more`` further lines of its METADATA."""
    info = f"{name}-{version}.dist-info"
    lines = ["Metadata-Version: 2.1", f"Name: {name.replace('_', '-')}", f"Version: {version}", *more]
    lines += [f"Requires-Dist: {need}" for need in needs]
    content = {**(files or {f"{name}.py": "WORD = 'works'\n"}), f"{info}/METADATA": "\n".join(lines) + "\n"}
    content[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
    if script:
        content[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script}\n"
    record = ""
    for path, text in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    content[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in content.items():
            archive.writestr(inside, text)
    return path
