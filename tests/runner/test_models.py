"""A teacher behind a server in a run: what it cannot do is off, it may go away, and only a named host is reached."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_server import ApiServer, Body, serving
from small_world import BagOfWords, candidates_of, make_task, settings, well_read_judges, write

from s3local.exceptions import ModelError
from s3local.progress import Advance, ignore
from s3local.runner.loop import run
from s3local.runner.models import Models, find_models
from s3local.runner.settings import RunSettings
from s3local.teacher import server as module
from s3local.teacher.engine import EngineSettings
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import TeacherLostError
from s3local.teacher.server import ServerTeacher, find_server, parse_address


class Heard:
    """A ``Progress`` that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextlib.contextmanager
    def step(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        yield ignore

    def say(self, message: str) -> None:
        self.lines.append(message)


def models_on(chosen: RunSettings, progress: Heard | None = None) -> Models:
    found = find_models(chosen, embedder=BagOfWords(), progress=progress)
    return dataclasses.replace(found, train_judges=well_read_judges)


def chosen_on(api: ApiServer, body: Path, **changes: object) -> RunSettings:
    return settings(body, teacher=f"{api.url}#toy", rounds=1, engine=EngineSettings(slots=2), **changes)


def test_what_a_server_cannot_do_is_off_and_said(tiny_bert: Path) -> None:
    with serving(FakeTeacher(write)) as api:
        heard = Heard()
        models = models_on(chosen_on(api, tiny_bert), heard)
        assert (models.style, models.can_score) == ("list", False)
        assert models.contrast(chosen_on(api, tiny_bert)) == 0
        assert [line for line in heard.lines if "contrast is off" in line]
        assert models.identity["teacher"]["model"] == "toy"
        with pytest.raises(ModelError, match="--contrast"):
            models_on(chosen_on(api, tiny_bert, contrast=0.5))
        with pytest.raises(ModelError, match="--threads"):
            find_models(settings(tiny_bert, teacher=f"{api.url}#toy", engine=EngineSettings(threads=2)))


def test_a_host_that_is_not_this_machine_must_be_named(tiny_bert: Path) -> None:
    for changes, part in (
        ({"teacher": "http://192.0.2.7:8000/v1#m"}, "say --allow-host 192.0.2.7"),
        ({"teacher": "http://192.0.2.7:8000/v1#m", "allow_host": "192.0.2.8"}, "say --allow-host 192.0.2.7"),
        ({"allow_host": "192.0.2.7"}, "--teacher names none"),
    ):
        with pytest.raises(ModelError, match=part):
            find_models(settings(tiny_bert, **changes))


def test_a_run_whose_server_goes_away_resumes_with_what_was_written(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    with serving(FakeTeacher(write)) as api:
        chosen, task = chosen_on(api, tiny_bert), make_task(tmp_path / "toy")
        whole = run(task, chosen, folder=tmp_path / "whole", models=models_on(chosen))
        expected = [row.to_row() for row in candidates_of(whole.folder)]

        server = find_server(parse_address(chosen.teacher or ""))
        hasty = dataclasses.replace(models_on(chosen), teacher=lambda: ServerTeacher(server, 2, patience=0))
        answered: set[tuple[str, int]] = set()

        def leave_in_the_third_shard(path: str, body: Body) -> tuple[int, bytes] | None:
            if len(answered) == 24 + 8 + 5:
                return 0, b""
            answered.add((body["prompt"], body["seed"]))
            return None

        api.fault = leave_in_the_third_shard
        folder = tmp_path / "broken"
        with pytest.raises(TeacherLostError):
            run(task, chosen, folder=folder, models=hasty)
        assert len(list(folder.glob("round-*/shards/*.part.jsonl"))) == 1

        again: list[tuple[str, int]] = []
        api.fault = lambda path, body: again.append((body["prompt"], body["seed"])) if "seed" in body else None
        resumed = run(task, chosen, folder=folder, models=models_on(chosen))
        assert [row.to_row() for row in candidates_of(resumed.folder)] == expected
        assert not list(folder.glob("round-*/shards/*.part.jsonl"))
        assert len(answered & set(again)) <= 1, "but for what another worker just received, nothing is asked again"
