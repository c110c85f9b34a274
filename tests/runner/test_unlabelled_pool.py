"""Laws of the pool: what cannot be used is dropped before it is embedded, a long file is sampled, whatever its order, a
killed run goes on with the block that it was at."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from small_world import BagOfWords, context_for, make_task, rows_of, settings, toy_models

from s3local.embedder import Vectors
from s3local.exceptions import InputError
from s3local.progress import Advance, ignore
from s3local.runner import unlabelled_pool
from s3local.runner.generation import Curation
from s3local.runner.loop import run
from s3local.runner.unlabelled_pool import UnlabelledPool
from s3local.task.model import load_task
from s3local.task.rows import load_dev, load_rows

COUNT = 60


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlabelled_pool, "VECTOR_BLOCK", 8)
    monkeypatch.setattr(unlabelled_pool, "BLOCK", 7)


class Counting(BagOfWords):
    """An embedder that notes what it reads, and stops before a call that would make it more than ``most`` texts."""

    def __init__(self, most: int = 10**9) -> None:
        self.read: list[str] = []
        self._most = most

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        if len(self.read) + len(texts) > self._most:
            raise KeyboardInterrupt
        self.read += texts
        return super().embed(texts, advance)


def distinct(count: int = COUNT) -> list[str]:
    words = ("good", "great", "fine", "bad", "awful", "poor")
    return [f"i found item {1000 + n} {words[n % len(words)]} in the {n} end" for n in range(count)]


def pool_of(folder: Path, texts: Sequence[str], body: Path, embedder: BagOfWords | None = None) -> UnlabelledPool:
    """The pool of a fresh run on these texts; another call with the same folder goes on with it."""
    if not (folder / "task").exists():
        make_task(folder / "task")
    (folder / "task" / "unlabelled.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    task, chosen = load_task(folder / "task"), settings(body, rows=2)
    models = dataclasses.replace(toy_models(chosen), embedder=embedder or BagOfWords())
    context = context_for(task, chosen, folder / "run", models)
    assert task.test is not None
    return UnlabelledPool(context, Curation(context, [row.text for row in load_rows(task.test, task)]))


def texts_of(pool: UnlabelledPool) -> list[str]:
    return [row.text for row in pool.rows(range(len(pool)))]


def test_what_cannot_be_used_is_dropped_with_its_reason_and_never_embedded(tiny_bert: Path, tmp_path: Path) -> None:
    task = make_task(tmp_path / "gold")
    assert task.test is not None
    dev, test = (load_dev(task)[0].text, load_rows(task.test, task)[0].text)
    good = distinct(20)
    bad = {
        "exact_duplicate": [good[0].upper(), good[0], f"{good[3]}!"],
        "copies_dev": [],
        "copies_gold": [dev],
        "copies_test": [test],
        "too_long": ["a good word " * 20],
        "too_short": ["good"],
        "wrong_script": ["это был очень хороший фильм"],
        "empty": ["??????"],
    }
    embedder = Counting()
    pool = pool_of(tmp_path, [*good, *(text for texts in bad.values() for text in texts)], tiny_bert, embedder)
    result = pool.open()
    assert result.dropped_by_reason == {reason: len(texts) for reason, texts in bad.items() if texts}
    assert texts_of(pool) == good and (result.rows, result.sampled) == (29, 20)
    left_out = {text for texts in bad.values() for text in texts} - {
        dev,
        test,
        good[0],
    }  # dev and test are embedded as gold rows
    assert not left_out & set(embedder.read)
    rows = rows_of(tmp_path / "run" / "unlabelled" / "dropped.jsonl")
    assert Counter(row["reason"] for row in rows) == Counter(result.dropped_by_reason)


def test_the_sample_of_a_long_file_depends_on_its_different_texts_alone(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unlabelled_pool, "MOST_ROWS", 25)
    texts = distinct()
    shuffled = [texts[place] for place in np.random.default_rng(1).permutation(COUNT)]
    repeated = [text for text in texts for _ in range(1 + (texts.index(text) % 3))]
    found = {}
    for name, variant in (("plain", texts), ("shuffled", shuffled), ("repeated", repeated)):
        pool = pool_of(tmp_path / name, variant, tiny_bert)
        assert pool.open().sampled == 25 == len(pool)
        found[name] = set(texts_of(pool))
        order = [variant.index(text) for text in texts_of(pool)]
        assert order == sorted(order), "rows keep the order of the file"
    assert found["plain"] == found["shuffled"] == found["repeated"] < set(texts)
    halves = Counter(texts.index(text) // (COUNT // 2) for text in found["plain"])
    assert min(halves.values()) >= 5, "not only the beginning or the end of the file"


def test_a_large_budget_has_a_larger_sample(tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unlabelled_pool, "MOST_ROWS", 3)
    pool = pool_of(tmp_path, distinct(), tiny_bert)  # of a run with 2 rows
    pool.open()
    assert len(pool) == 2 * unlabelled_pool.ROWS_PER_WANTED


def test_a_stopped_run_goes_on_with_the_block_that_it_was_at(tiny_bert: Path, tmp_path: Path) -> None:
    texts = distinct()
    whole = pool_of(tmp_path / "whole", texts, tiny_bert)
    whole.open()
    n_gold = 18  # dev and test
    stopped = pool_of(tmp_path / "stopped", texts, tiny_bert, Counting(n_gold + 3 * 8))
    with pytest.raises(KeyboardInterrupt):
        stopped.open()
    left = Counting()
    again = pool_of(tmp_path / "stopped", texts, tiny_bert, left)
    again.open()
    assert left.read == texts[3 * 8 :], "three blocks of 8 were there"
    assert texts_of(again) == texts_of(whole) == texts
    everything = range(COUNT)
    np.testing.assert_array_equal(again.vectors(everything), whole.vectors(everything))
    np.testing.assert_array_equal(whole.vectors(everything), BagOfWords().embed(texts))


class Killed(Counting):
    """An embedder whose process is killed where ``Counting`` stops."""

    def embed(self, texts: Sequence[str], advance: Advance = ignore) -> Vectors:
        try:
            return super().embed(texts, advance)
        except KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGKILL)
            raise


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("when", ["reading", "writing"])
def test_kill_9_loses_nothing_but_the_block_at_hand(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    texts = distinct()
    child = os.fork()
    if child == 0:
        try:
            if when == "writing":
                monkeypatch.setattr(np, "save", lambda stream, _: (stream.write(b"half"), os.kill(os.getpid(), 9)))
            pool_of(tmp_path, texts, tiny_bert, Killed(18 + 3 * 8)).open()
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    left = Counting()
    pool = pool_of(tmp_path, texts, tiny_bert, left)
    assert pool.open().sampled == COUNT
    assert left.read == texts[(0 if when == "writing" else 3 * 8) :]
    np.testing.assert_array_equal(pool.vectors(range(COUNT)), BagOfWords().embed(texts))


def test_the_nearest_rows_are_those_of_a_full_comparison(tiny_bert: Path, tmp_path: Path) -> None:
    texts = distinct()
    pool = pool_of(tmp_path, texts, tiny_bert)
    pool.open()
    queries = BagOfWords().embed(["i found item good in the end", "something else was poor", texts[17]])
    cosines = queries @ BagOfWords().embed(texts).T
    for depth in (1, 5, COUNT, 2 * COUNT):
        found = pool.nearest(queries, depth)
        assert found.shape == (3, min(depth, COUNT))
        best = -np.sort(-cosines, axis=1)[:, :depth]
        np.testing.assert_allclose(np.take_along_axis(cosines, found, axis=1), best, atol=1e-6)
        assert all(len(set(row)) == len(row) for row in found.tolist())
    assert pool.nearest(queries, 1)[2, 0] == 17


@pytest.mark.slow
def test_judges_read_no_block_twice_when_a_killed_run_goes_on(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3local.runner import unlabelled

    monkeypatch.setattr(unlabelled, "BLOCK", 8)
    words = [f"i found number {1000 + n} {word} in the end" for n, word in enumerate(("good", "bad") * 30)]
    pool_of(tmp_path, words, tiny_bert)  # writes the task
    task = load_task(tmp_path / "task")
    chosen = settings(tiny_bert, rows=30, rounds=1, generate=False)
    whole = run(task, chosen, folder=tmp_path / "whole", models=toy_models(chosen))

    def stopped(self: object, file: str, *others: object) -> None:
        if file.endswith("looked-at/0002.jsonl"):
            raise KeyboardInterrupt
        write(self, file, *others)  # type: ignore[arg-type]

    write = unlabelled.Relabeller._write
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(unlabelled.Relabeller, "_write", stopped)
        run(task, chosen, folder=tmp_path / "killed", models=toy_models(chosen))
    written = tmp_path / "killed" / "round-0" / "looked-at"
    before = {path.name: path.stat().st_mtime_ns for path in written.iterdir()}
    again = run(task, chosen, folder=tmp_path / "killed", models=toy_models(chosen))
    assert {"0000.jsonl", "0001.jsonl"} == set(before)
    assert all((written / name).stat().st_mtime_ns == time for name, time in before.items())
    assert again.summary.dataset_sha256 == whole.summary.dataset_sha256


def test_a_file_without_rows_is_one_line(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unlabelled\.jsonl: no rows"):
        pool_of(tmp_path, [], tiny_bert).open()
