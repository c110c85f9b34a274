"""From a file of texts to rows to label: none of dev or test, each once, and the labels end in dev."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path

import pytest
from program import call, complains
from review_world import serving
from small_world import BagOfWords, make_task, rows_of

from s3local.exceptions import InputError
from s3local.progress import Silent
from s3local.review import labelling
from s3local.review.labelling import in_order, open_for_labelling, read_pool, write_suggestions
from s3local.task.model import PRESETS
from s3local.task.rows import load_rows


def texts(folder: Path, count: int = 30) -> Path:
    words = ("good", "bad", "odd", "long", "loud", "poor")
    rows = [{"text": f"number {n} {words[n % 6]} {words[n // 6 % 6]} {n * n}"} for n in range(count)]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "texts.jsonl"


def test_texts_of_dev_and_test_and_copies_are_left_out(tmp_path: Path) -> None:
    task, dev = open_for_labelling(make_task(tmp_path).dev.parent, None)
    source = tmp_path / "in.csv"
    known = load_rows(task.test, task) if task.test else []
    lines = [dev[0].fields["text"], known[0].fields["text"].upper(), "new one", "New  one!", "another"]
    source.write_text("note,text\n" + "".join(f"n,{line}\n" for line in lines))
    pool = read_pool(source, task, dev)
    assert [row.fields["text"] for row in pool.rows] == ["new one", "another"] and list(pool.lines) == [4, 6]
    assert pool.left_out["in dev"] == pool.left_out["in test"] == pool.left_out["twice"] == 1
    source.write_text("text\n" + dev[0].fields["text"] + "\n")
    with pytest.raises(InputError, match="already"):
        read_pool(source, task, dev)


def test_a_large_file_is_sampled_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, dev = open_for_labelling(make_task(tmp_path).dev.parent, None)
    monkeypatch.setattr(labelling, "MOST_TEXTS", 10)
    first, again = (read_pool(texts(tmp_path), task, dev, seed=3) for _ in range(2))
    assert len(first.rows) == 10 and first.left_out["not in the random sample"] == 20
    assert first.rows == again.rows
    assert list(first.lines) == sorted(first.lines) and max(first.lines) > 10


def test_a_task_without_any_label_can_begin(tmp_path: Path) -> None:
    make_task(tmp_path).dev.unlink()
    task, dev = open_for_labelling(tmp_path, None)
    assert dev == [] and not task.dev.exists()
    pool = read_pool(texts(tmp_path), task, dev)
    picks = in_order(pool, dev, BagOfWords(), Silent(), count=5)
    assert len({place for place, _ in picks}) == 5


def test_the_first_label_creates_the_dev_file_and_nothing_else_does(tmp_path: Path, minilm: Path) -> None:
    folder = make_task(tmp_path / "task").dev.parent
    (folder / "dev.jsonl").unlink()
    source = texts(tmp_path)
    before = sorted(path.name for path in folder.iterdir())
    complains(call("label", str(folder), "--from", str(tmp_path / "none.jsonl")), "no such file")
    assert call("suggest", str(folder), "--from", str(source), "-o", str(tmp_path / "out.csv")).exit_code == 0
    with serving("label", str(folder), "--from", str(source), "--quiet") as server:
        assert server.call("api/session")[0] == 200
        server.process.send_signal(signal.SIGINT)
        server.process.wait(60)
    assert sorted(path.name for path in folder.iterdir()) == before
    with serving("label", str(folder), "--from", str(source), "--quiet") as server:
        labels = [entry["name"] for entry in server.call("api/session")[1]["labels"]]
        wanted = {"place": 0, "seen": 0, "action": "label", "label": labels[0]}
        assert server.call("api/decide", wanted)[0] == 200
        server.process.send_signal(signal.SIGINT)
        server.process.wait(60)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*before, "dev.jsonl", "decisions.jsonl"])
    assert len(rows_of(folder / "dev.jsonl")) == 1


def test_a_preset_is_no_task_to_label(tmp_path: Path) -> None:
    folder = PRESETS / "support_desk"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    complains(call("label", "support_desk", "--from", str(texts(tmp_path))), "preset", "--dev")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_suggestions_are_a_table_that_no_spreadsheet_executes(tmp_path: Path) -> None:
    task, dev = open_for_labelling(make_task(tmp_path).dev.parent, None)
    source = tmp_path / "in.jsonl"
    lines = ['=HYPERLINK("http://evil")', 'with "quotes", and\nlines', "-2+3"]
    source.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    pool = read_pool(source, task, dev)
    write_suggestions(tmp_path / "out.csv", task, pool, [(0, "typical"), (1, "typical"), (2, "typical")])
    with (tmp_path / "out.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["text"] for row in rows] == ["'" + lines[0], lines[1], "'" + lines[2]]
    assert [row["label"] for row in rows] == ["", "", ""] and [row["line"] for row in rows] == ["1", "2", "3"]


def test_what_cannot_be_labelled_is_told_in_one_line(tmp_path: Path, minilm: Path) -> None:
    task = make_task(tmp_path / "task")
    arguments = ("label", str(task.dev.parent), "--from", str(tmp_path / "none.jsonl"))
    complains(call(*arguments), "none.jsonl", "no such file")
    complains(call("label", str(task.dev.parent), "--from", str(task.dev)), "would replace")
    (tmp_path / "in.jsonl").write_text('{"body": "x"}\n')
    complains(call(*arguments[:3], str(tmp_path / "in.jsonl")), "line 1", "body")
    complains(call(*arguments[:3], str(texts(tmp_path)), "--run", str(tmp_path)), "no run")
    complains(call("suggest", *arguments[1:], "-o", str(tmp_path / "out.txt")), ".csv")
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.models
def test_labels_go_into_dev_with_where_they_come_from(tmp_path: Path, minilm: Path) -> None:
    task = make_task(tmp_path / "task")
    before = task.dev.read_bytes()
    source = texts(tmp_path)
    with serving("label", str(task.dev.parent), "--from", str(source), "--quiet") as server:
        place = server.call("api/order")[1]["order"][0]
        row = server.call("api/decide", {"place": place, "seen": 0, "action": "label", "label": "negative"})[1]["rows"][
            0
        ]
        assert server.call("api/suggest", {"place": place})[0] == 400, "no run was named"
        assert server.call("api/decide", {"place": place, "seen": 1, "action": "keep"})[0] == 400
        server.kill()
    assert task.dev.read_bytes().startswith(before)
    added = rows_of(task.dev)[-1]
    assert (added["text"], added["label"]) == (row["fields"]["text"], "negative")
    assert added["origin"]["source"].startswith("texts.jsonl, line ")
    with serving("label", str(task.dev.parent), "--from", str(source), "--quiet") as server:
        session = server.call("api/session")[1]
        assert session["counts"]["states"]["label"] == 1 and session["counts"]["labels"] == [1, 0]
        assert session["told"] == {"negative": 6, "positive": 6}, "a row labelled here is not counted twice"
