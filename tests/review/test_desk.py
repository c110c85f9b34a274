"""Rows and decisions together: which rows are shown in which order, and which decisions are taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from review_world import dropped, synthetic, write_run

from s3local.exceptions import RunError
from s3local.review.decisions import DecisionLog
from s3local.review.desk import Desk, Filters, OutdatedError, RefusedError
from s3local.review.rows import dataset_checksum, read_finished, sheet_of_run

ROWS = synthetic(12)
DROPS = [
    dropped(0, "too short", "too_short"),
    dropped(1, "a copy of a test row", "copies_test"),
    dropped(2, "near a dev row", "near_dev"),
    dropped(3, "nearly the same", "near_duplicate"),
    dropped(4, " ", "empty"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", ROWS, DROPS)


@pytest.fixture
def desk(folder: Path) -> Iterator[Desk]:
    with DecisionLog.open(folder / "decisions.jsonl", dataset_checksum(folder, read_finished(folder))) as log:
        yield Desk(sheet_of_run(folder), log)


def ids(desk: Desk, filters: Filters) -> list[str]:
    return [desk.sheet.ids[place] for place in desk.order(filters)]


def test_the_least_probable_labels_come_first_and_dropped_rows_are_hidden(desk: Desk) -> None:
    assert ids(desk, Filters()) == [row["id"] for row in reversed(ROWS)]
    assert ids(desk, Filters(by_place=True)) == [row["id"] for row in ROWS]


def test_rows_that_a_rule_dropped_can_be_asked_for_but_none_that_copies_a_real_row(desk: Desk) -> None:
    reasons = [number for number, name in enumerate(desk.sheet.reason_names) if name.startswith("dropped: ")]
    shown = [row["fields"]["text"] for row in desk.rows(desk.order(Filters(reasons=reasons)))]
    assert shown == ["too short", "nearly the same"]


def test_each_filter_keeps_the_rows_that_fit(desk: Desk) -> None:
    by_id = {row["id"]: row for row in ROWS}
    chances = {name: row["origin"]["probabilities"][row["label"]] for name, row in by_id.items()}
    assert set(ids(desk, Filters(label=1))) == {name for name, row in by_id.items() if row["label"] == "complaint"}
    assert set(ids(desk, Filters(groups=[1]))) == {name for name in by_id if name.startswith("round-1")}
    assert set(ids(desk, Filters(low=0.7, high=0.9))) == {
        name for name, value in chances.items() if 0.7 <= value <= 0.9
    }
    relabelled = desk.sheet.reason_names.index("relabelled by the judges")
    assert set(ids(desk, Filters(reasons=[relabelled]))) == {
        name for name, row in by_id.items() if row["origin"]["asked"] != row["label"]
    }
    assert [by_id[name]["text"] for name in ids(desk, Filters(words="MESSAGE 7 "))] == ["message 7 about a parcel"]


def test_a_decision_moves_a_row_from_one_state_to_another_and_undo_moves_it_back(desk: Desk) -> None:
    place = desk.order(Filters())[0]
    first = desk.rows([place])[0]
    other = "praise" if first["label"] == "complaint" else "complaint"
    row = desk.decide(place, "relabel", 0, other)
    assert (row["state"], row["label"], row["was"]) == ("relabel", other, first["label"])
    assert place not in desk.order(Filters()) and desk.order(Filters(state="decided")) == [place]
    row = desk.decide(place, "edit", 1, fields={"text": "another text"})
    assert (row["label"], row["fields"]["text"]) == (other, "another text"), "an edit keeps the label"
    row = desk.decide(place, "undo", 2)
    assert (row["state"], row["fields"]) == ("relabel", first["fields"])
    row = desk.decide(place, "undo", 3)
    assert {**row, "seen": 0} == first and desk.counts()["states"]["open"] == len(desk.sheet.ids)


def test_a_decision_on_what_another_window_changed_is_refused(desk: Desk) -> None:
    desk.decide(3, "keep", 0)
    with pytest.raises(OutdatedError):
        desk.decide(3, "drop", 0)
    assert desk.rows([3])[0]["state"] == "keep"
    assert [row["place"] for row in desk.changes(0)] == [3] and desk.changes(1) == []


@pytest.mark.parametrize(
    ("action", "label", "fields"),
    [
        ("label", "praise", None),
        ("think", None, None),
        ("relabel", "fault", None),
        ("edit", None, None),
        ("edit", None, {"text": " \u200b"}),
        ("edit", None, {"text": "a\0b"}),
        ("edit", None, {"text": "half \ud800"}),
        ("edit", None, {"text": "x" * 100_001}),
        ("edit", None, {"id": "another"}),
        ("undo", None, None),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_written(
    desk: Desk, action: str, label: str | None, fields: dict[str, str] | None
) -> None:
    with pytest.raises(RefusedError):
        desk.decide(0, action, 0, label, fields)
    assert not desk.path.exists()


def test_a_run_that_is_no_finished_run_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run"):
        sheet_of_run(tmp_path)
    content = (folder / "final" / "dataset.jsonl").read_text()
    (folder / "final" / "dataset.jsonl").write_text(content + content.splitlines()[0] + "\n")
    with pytest.raises(RunError, match="was changed"):
        sheet_of_run(folder)
    (folder / "result.json").write_text("{")
    with pytest.raises(RunError, match="damaged"):
        sheet_of_run(folder)
    (folder / "result.json").unlink()
    with pytest.raises(RunError, match="not finished"):
        sheet_of_run(folder)
