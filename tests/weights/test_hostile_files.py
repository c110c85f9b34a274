"""Files from strangers: each is one clear line, and nothing in them is executed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hostile_files import HOSTILE
from weights_world import write_folder

from s3local.exceptions import S3LocalError, TeacherError
from s3local.teacher import chat_template
from s3local.teacher.chat_template import ChatTemplate
from s3local.weights.folders import check_model_folder


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line_and_executes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("S3LOCAL_MODELS", str(tmp_path / "models"))
    with pytest.raises(S3LocalError) as caught:
        HOSTILE[name](tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "executed").exists()


def test_there_are_at_least_forty() -> None:
    assert len(HOSTILE) >= 40


def test_an_honest_folder_and_links_inside_of_it_pass(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "models--a" / "snapshots" / "1", encoder=True)
    blobs = tmp_path / "models--a" / "blobs"
    blobs.mkdir()
    (folder / "config.json").rename(blobs / "abc")
    (folder / "config.json").symlink_to("../../blobs/abc")
    check_model_folder(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not limit processor time")
def test_a_template_without_end_is_stopped_by_its_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "MAX_SECONDS", 60.0)
    text = "{% for a in range(messages[0].content | int) %}{% for b in range(9999) %}{% endfor %}{% endfor %}done"
    template = ChatTemplate(text, "a", "2025-01-01")
    before = os.times()
    with pytest.raises(TeacherError, match="limits"):
        template.render([{"role": "user", "content": "99999"}])
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 10
    for _ in range(200):  # each prompt has its own time
        assert template.render([{"role": "user", "content": "20"}]) == "done"
    template.close()


def test_a_template_is_rendered_again_after_one_prompt_was_too_much() -> None:
    template = ChatTemplate("{{ 'x' * (messages[0].content | int) }}{{ strftime_now('%Y') }}", "a", "2025-01-01")
    with pytest.raises(S3LocalError):
        template.render([{"role": "user", "content": "9999999999"}])
    assert template.render([{"role": "user", "content": "3"}]) == "xxx2025"
    template.close()
    assert template.render([{"role": "user", "content": "0"}]) == "2025"
    template.close()
