from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from program import call, complains

from s3local import offline
from s3local.exceptions import NetworkError


@pytest.mark.parametrize(("option", "judge"), [([], True), (["--no-judge"], False)])
def test_it_fetches_the_embedded_models_and_says_where_they_are(
    option: list[str], judge: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def fetch(ids: Sequence[str], progress: object, *, judge: bool) -> None:
        fetched.append((list(ids), judge, offline._allowed))

    monkeypatch.setattr("s3local.weights.fetch.fetch", fetch)
    monkeypatch.setenv("S3LOCAL_MODELS", str(tmp_path))
    result = call("setup", *option)
    assert fetched == [([], judge, True)]
    assert str(tmp_path) in result.stdout and not offline._allowed


def test_a_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> None:
        raise NetworkError("no connection")

    monkeypatch.setattr("s3local.weights.fetch.fetch", fetch)
    complains(call("setup"), "no connection")
