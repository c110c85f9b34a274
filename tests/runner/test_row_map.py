"""The map of a finished run: each row has its place, and neighbours are of the other side."""

from __future__ import annotations

from small_world import BagOfWords, candidates_of, rows_of

from s3local.records import Example
from s3local.results import DEV_FILE, MAP_FILE, MAP_OF_DEV, MAP_OF_SYNTHETIC, MapResult, read_result
from s3local.runner.loop import RunResult
from s3local.task.model import Task
from s3local.task.rows import load_dev


def test_every_row_is_on_the_map(finished: RunResult, task: Task) -> None:
    dev, candidates = load_dev(task), candidates_of(finished.folder)
    assert [Example.from_row(row) for row in rows_of(finished.folder / DEV_FILE)] == dev
    assert [row["id"] for row in rows_of(finished.folder / MAP_OF_DEV)] == [row.id for row in dev]
    assert [row["id"] for row in rows_of(finished.folder / MAP_OF_SYNTHETIC)] == [row.example.id for row in candidates]
    first, second = read_result(finished.folder / MAP_FILE, MapResult).explained
    assert 1 >= first >= second > 0


def test_neighbours_are_the_nearest_rows_of_the_other_side(finished: RunResult, task: Task) -> None:
    texts = {row.id: row.text for row in load_dev(task)}
    synthetic = {row.example.id: row.text for row in candidates_of(finished.folder)}
    embed = BagOfWords().embed
    for row in rows_of(finished.folder / MAP_OF_SYNTHETIC):
        cosines = embed([synthetic[row["id"]]]) @ embed(list(texts.values())).T
        assert abs(cosines.max() - row["cosine"]) < 1e-3
        assert abs((embed([synthetic[row["id"]]]) @ embed([texts[row["nearest"]]]).T).item() - row["cosine"]) < 1e-3
