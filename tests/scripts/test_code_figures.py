from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

SOURCE = """
from typing import Any


class Small:
    def method(self, a: Any, *, b: int = 0) -> Any:
        return a


def reads(result, row):
    first = result["a"]["b"] + self.summary["c"]
    row["written"] = first[0] + other["d"] + result[0]
"""


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("code_figures")


def test_what_is_counted(script: ModuleType) -> None:
    found = script.figures({"s3local/report/text.py": SOURCE, "s3local/report/__init__.py": ""})
    assert found["modules"] == "1"
    assert found["longest class"] == "3 (report.text.Small)"
    assert found["longest function"] == "3 (report.text.reads)"
    assert found["longest parameter list"] == "2 (report.text.Small.method)"
    assert found["occurrences of Any"] == "2"
    assert found["string-keyed reads of results"] == "3"


@pytest.mark.parametrize(
    ("path", "counted"), [("cli/main.py", True), ("cli_models.py", True), ("student/training.py", False)]
)
def test_reads_are_counted_where_results_are_used(script: ModuleType, path: str, counted: bool) -> None:
    found = script.figures({f"s3local/{path}": SOURCE})
    assert (found["string-keyed reads of results"] != "0") == counted
