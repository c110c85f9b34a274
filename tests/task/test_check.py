"""``check``: counts, lengths and repeated rows are those of the rows, and warnings say what is doubtful."""

from __future__ import annotations

import json
import re
from pathlib import Path

from shop_task import TASK

from s3local.records import Example
from s3local.task.check import summarize
from s3local.task.model import Length, Task, load_task
from s3local.task.rows import load_dev, load_rows
from s3local.text import normal_form


def rows_of(*pairs: tuple[str, str], prefix: str) -> list[Example]:
    return [Example(f"{prefix}-{number}", {"text": text}, label) for number, (text, label) in enumerate(pairs, start=1)]


def test_repeated_conflicting_and_shared_rows_are_found():
    dev = rows_of(("It broke", "fault"), ("it  BROKE!\n", "fault"), ("hm", "fault"), ("Hm", "praise"), prefix="dev")
    test = rows_of(("other", "fault"), ("IT broke ", "fault"), prefix="test")
    summary = summarize(TASK, dev, test)
    assert [(group.ids, group.conflicting) for group in summary.dev.repeated] == [
        (("dev-1", "dev-2"), False),
        (("dev-3", "dev-4"), True),
    ]
    assert summary.shared == (("dev-1", "test-2"),)
    warnings = " | ".join(summary.warnings)
    assert 'dev has the same text 2 times: "dev-1", "dev-2"' in warnings
    assert 'dev has the same text with different labels, "fault" and "praise": "dev-3", "dev-4"' in warnings
    assert "1 test row is also in dev" in warnings
    assert 'test has no row of the label "praise"' in warnings
    assert 'dev has only 1 row of the label "praise"' in warnings
    assert "dev is unbalanced: one label has 3 rows, another 1" in warnings
    assert "±69 points" in warnings


def test_texts_that_differ_are_not_told_as_repeated():
    dev = rows_of(("?", "fault"), ("!", "praise"), ("C++", "fault"), ("C", "praise"), ("👍", "fault"), prefix="dev")
    assert summarize(TASK, dev).dev.repeated == ()
    pair = Task(name="p", kind="pair", texts="texts", fields=("a", "b"), labels={"x": "x", "y": "y"})
    halves = [("it rains today", "it is wet"), ("it rains", "today it is wet")]
    rows = [Example(f"r{number}", {"a": a, "b": b}, "xy"[number]) for number, (a, b) in enumerate(halves)]
    assert summarize(pair, rows).dev.repeated == ()


def test_a_summary_is_plain_json():
    summary = summarize(TASK, rows_of(("a", "fault"), ("bb bb", "praise"), prefix="dev"))
    row = json.loads(json.dumps(summary.to_row()))
    assert row["dev"]["per_label"] == {"fault": 1, "praise": 1}
    assert (row["length"]["unit"], row["test"]) == ("characters", None)


def test_counts_and_lengths_are_those_of_the_rows():
    dev = rows_of(("a", "fault"), ("bb bb", "fault"), ("ccc ccc ccc", "praise"), prefix="dev")
    summary = summarize(TASK, dev)
    assert summary.dev.rows == 3
    assert summary.dev.per_label == {"fault": 2, "praise": 1}
    assert (summary.dev.words.min, summary.dev.words.median, summary.dev.words.max) == (1, 2, 3)
    assert (summary.dev.characters.min, summary.dev.characters.max) == (1, 11)
    assert summary.test is None
    assert any("no test rows" in warning for warning in summary.warnings)


def test_a_length_that_most_dev_rows_do_not_keep_is_told():
    task = TASK.model_copy(update={"length": Length(unit="words", min=5, max=9)})
    dev = rows_of(("too short", "fault"), ("this one has five words", "praise"), prefix="dev")
    assert any(
        '1 of 2 dev rows are outside the allowed length, 5 to 9 words: "dev-1"' in w
        for w in summarize(task, dev).warnings
    )


DATA = Path(__file__).parents[2] / "data"


def test_the_demonstration_task_raises_no_warning():
    task = load_task(DATA / "support_desk")
    dev, test = load_dev(task), load_rows(task.test, task)
    summary = summarize(task, dev, test)
    assert summary.warnings == ()
    assert set(summary.dev.per_label.values()) == {14}
    assert set(summary.test.per_label.values()) == {32}
    assert all(label.phrase for label in task.labels)


def test_the_demonstration_rows_are_far_apart_and_hold_nothing_personal():
    task = load_task(DATA / "support_desk")
    rows = [*load_dev(task), *load_rows(task.test, task)]
    words = [set(re.findall(r"\w+", normal_form(row.text))) for row in rows]
    for index, one in enumerate(words):
        for other in words[:index]:
            assert len(one & other) < 0.5 * len(one | other)
    for row in rows:
        assert not re.search(r"@|www|http|\d[\d ]{5,}", row.text)
        assert row.text == row.text.strip()
        assert "\n" not in row.text
