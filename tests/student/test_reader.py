"""Exported readers: spans of the context, in order, whatever the form of the question."""

from __future__ import annotations

from pathlib import Path

import pytest
from toys import MOODS, Exported, questions

from s3local.exceptions import ModelError
from s3local.student.inference import Classifier
from s3local.student.reader import FoundAnswer, Reader, load_student
from s3local.student.reader_training import TrainedReader


def test_it_learns_to_answer(exported_reader: Path) -> None:
    unseen = questions(40, seed=3)
    found = Reader.load(exported_reader).answer(unseen)
    for row, answer in zip(unseen, found, strict=True):
        assert answer.text in row.fields["context"]
        assert row.fields["context"].startswith(answer.text, answer.start)
        assert 0 < answer.probability <= 1
    in_words = sum(answer.text in MOODS for answer in found)
    assert in_words >= 30


def test_long_contexts_are_read_to_their_end(reader: TrainedReader, exported_reader: Path) -> None:
    rows = questions(10, seed=4, long=True)
    assert len(reader.windows(rows)) > len(rows)
    counted: list[int] = []
    pairs = Reader.load(exported_reader).judge(rows, counted.append)
    assert sum(counted) == len(rows)
    assert all(0 <= own <= 1 for _, own in pairs)
    assert {answer.text for answer, _ in pairs}


def test_streams_pairs_and_examples_are_answered_alike(exported_reader: Path) -> None:
    rows = questions(6, seed=6)
    reader = Reader.load(exported_reader)
    pairs = [(row.fields["context"], row.fields["question"]) for row in rows]
    expected = reader.answer(rows)
    assert [answer.text for answer in expected] == reader.predict(pairs)
    assert [answer.text for answer in reader.predict_stream(iter(pairs))] == reader.predict(pairs)
    assert reader.answer([]) == []
    assert reader.answer([("  ", "the film?")]) == [FoundAnswer("", 0, 0.0)]


def test_a_folder_is_opened_as_what_it_is(exported_reader: Path, exported: Exported, tmp_path: Path) -> None:
    assert isinstance(load_student(exported_reader), Reader)
    with pytest.raises(ModelError, match="answers questions"):
        Classifier.load(exported_reader)
    assert isinstance(load_student(exported.folder), Classifier)
    with pytest.raises(ModelError, match="a Classifier, not a Reader"):
        Reader.load(exported.folder)
    with pytest.raises(ModelError, match="is not an exported student"):
        load_student(tmp_path)
