"""``init``: each starter is a valid task that explains every key, and replaces nothing."""

from __future__ import annotations

import re

import pytest
from shop_task import error_of

from s3local.task import starter
from s3local.task.check import summarize
from s3local.task.model import Task, load_task
from s3local.task.rows import load_dev, load_rows


@pytest.mark.parametrize("kind", starter.STARTERS)
def test_each_starter_is_a_valid_task(tmp_path, kind):
    path = starter.write_starter(tmp_path / "my task, 'a' & b", kind)
    task = load_task(path)
    assert (task.name, task.kind) == ("my task, 'a' & b", kind)
    summary = summarize(task, load_dev(task), load_rows(task.test, task))
    assert summary.shared == ()
    assert summary.dev.repeated == ()
    assert load_task(path) == load_task(path.parent)


def test_the_starters_explain_every_key():
    texts = [starter.starter_task("mine", kind) for kind in starter.STARTERS]
    for key in Task.model_fields:
        assert any(re.search(rf"^#.*\n(# |dev:.*\n)?{key}:", text, re.MULTILINE) for text in texts), key


@pytest.mark.parametrize("kind", starter.STARTERS)
def test_what_a_starter_has_in_comments_is_valid(tmp_path, kind):
    path = starter.write_starter(tmp_path / "mine", kind)
    text = re.sub(r"^# (length:|prompts:|contexts:)", r"\1", path.read_text(), flags=re.MULTILINE)
    path.write_text(re.sub(r"^#(   seed:)", r"\1", text, flags=re.MULTILINE))
    (tmp_path / "mine" / "contexts.jsonl").write_text('{"notice": "The pool opens at 7 am."}\n')
    task = load_task(path)
    assert task.length is not None
    assert task.prompts.seed
    assert (task.contexts is None) == (kind == "classification")


def test_the_starter_leaves_what_is_there(tmp_path):
    for existing in (tmp_path / "folder", tmp_path / "file", tmp_path / "link"):
        if existing.name == "folder":
            existing.mkdir()
        elif existing.name == "file":
            existing.write_text("mine")
        else:
            existing.symlink_to(tmp_path / "nowhere")
        assert "exists already" in str(error_of(starter.write_starter, existing))
    assert (tmp_path / "file").read_text() == "mine"
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_folder_whose_name_no_task_can_have_is_refused(tmp_path):
    assert 'the task is called after its folder, and "a:b" cannot' in str(
        error_of(starter.write_starter, tmp_path / "a:b")
    )
    assert list(tmp_path.iterdir()) == []
