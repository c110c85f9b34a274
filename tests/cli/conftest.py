"""A starter task, for the tests of commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from program import call


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    assert call("init", str(folder)).exit_code == 0
    return folder
