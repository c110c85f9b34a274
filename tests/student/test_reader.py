"""The student that answers questions: windows lose nothing, training finds the answer, onnxruntime says the same."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import LABELS, SETTINGS, UNSEEN, reviews, tiny_tokenizer

from s3local.exceptions import ModelError
from s3local.records import SPAN, Answer, Example
from s3local.student.export import export
from s3local.student.inference import Classifier
from s3local.student.reader import FoundAnswer, Reader, load_student
from s3local.student.reader_export import export_reader
from s3local.student.reader_training import TrainedReader, train_reader
from s3local.student.training import TrainingSettings, train
from s3local.student.windows import make_windows

WORDS = ("good", "great", "fine", "bad", "awful", "poor")
THINGS = ("film", "book", "song")
TOKENIZER = tiny_tokenizer()
READER_SETTINGS = TrainingSettings(learning_rate=3e-3, epochs=12, batch_size=16, max_length=32)


def questions(count: int, seed: int, long: bool = False) -> list[Example]:
    """A context says of three things what they were; the question names one of them."""
    chance = random.Random(seed)
    rows = []
    for number in range(count):
        things = chance.sample(THINGS, 3)
        moods = {thing: chance.choice(WORDS) for thing in things}
        filler = " very very very very very very very very" if long else ""
        context = ". ".join(f"the {thing} was{filler} {mood}" for thing, mood in moods.items())
        thing = chance.choice(things)
        start = context.index(moods[thing], context.index(f"the {thing}"))
        rows.append(
            Example(
                f"q{number}", {"context": context, "question": f"the {thing}?"}, SPAN, (Answer(moods[thing], start),)
            )
        )
    return rows


texts = st.text(st.sampled_from("abc XY.,é长城是\n0"), min_size=1, max_size=120)


@settings(deadline=None, max_examples=60)
@given(texts, texts, st.integers(16, 40), st.data())
def test_windows_see_every_token_and_find_every_span_again(context, question, max_length, data) -> None:
    tokenizer = TOKENIZER
    windows = make_windows(tokenizer, [(context, question)], max_length)
    assert all(len(window.ids) <= max_length for window in windows)
    tokenizer.no_truncation()
    whole = [tuple(span) for span in tokenizer.encode(context, add_special_tokens=False).offsets]
    seen = {span for window in windows for span in window.spans}
    assert seen == set(whole)
    if whole:
        begin, end = sorted(data.draw(st.tuples(st.sampled_from(whole), st.sampled_from(whole))))
        answer = Answer(context[begin[0] : end[1]], begin[0])
        for window in windows:
            first, last = window.places_of(answer)
            if first:
                assert window.spans[first - window.first][0] <= answer.start
                assert window.spans[last - window.first][1] >= end[1]
        if whole.index(end) - whole.index(begin) < max_length // 3:
            assert any(window.places_of(answer) != (0, 0) for window in windows)


def test_the_question_stands_before_each_window_and_is_cut_where_it_is_too_long() -> None:
    tokenizer = tiny_tokenizer()
    first, *others = make_windows(tokenizer, [("the film was very good " * 6, "the film was bad")], 24)
    assert others
    for window in (first, *others):
        text = tokenizer.decode(window.ids, skip_special_tokens=False)
        assert text.startswith("[CLS] the film was bad [SEP]")
        assert text.endswith("[SEP]")
    (window, *_) = make_windows(tokenizer, [("the film was good", "very " * 50)], 24)
    assert tokenizer.decode(window.ids).split().count("very") == 8


def test_the_best_span_does_not_leave_the_context_or_run_backwards() -> None:
    (window,) = make_windows(tiny_tokenizer(), [("the film was good", "was bad?")], 32)
    logits = np.zeros((len(window.ids), 2), dtype=np.float32)
    logits[1] = 50  # in the question
    logits[window.first + 2, 0] = 9
    logits[window.first, 1] = 9  # before the likeliest beginning
    logits[window.first + 3, 1] = 5
    begin, end, log_probability = window.best(logits)
    assert "the film was good"[begin:end] == "was good"
    assert log_probability < 0
    total = np.exp(window.log_probabilities(logits)).sum(axis=0)
    assert total == pytest.approx([1, 1], abs=1e-5)


@pytest.fixture(scope="module")
def reader(tiny_bert: Path) -> TrainedReader:
    return train_reader(tiny_bert, questions(160, seed=1), READER_SETTINGS, seed=1)


@pytest.fixture(scope="module")
def exported(reader: TrainedReader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "student"
    report = export_reader(reader, folder, questions(30, seed=2))
    assert report.fp32.labels == 1
    assert report.fp32.largest_difference < 1e-3
    return folder


def test_it_learns_to_answer(exported: Path) -> None:
    unseen = questions(40, seed=3)
    found = Reader.load(exported).answer(unseen)
    for row, answer in zip(unseen, found, strict=True):
        assert answer.text in row.fields["context"]
        assert row.fields["context"].startswith(answer.text, answer.start)
        assert 0 < answer.probability <= 1
    in_words = sum(answer.text in WORDS for answer in found)
    assert in_words >= 30


def test_long_contexts_are_read_to_their_end(reader: TrainedReader, exported: Path) -> None:
    rows = questions(10, seed=4, long=True)
    assert len(reader.windows(rows)) > len(rows)
    counted: list[int] = []
    pairs = Reader.load(exported).judge(rows, counted.append)
    assert sum(counted) == len(rows)
    assert all(0 <= own <= 1 for _, own in pairs)
    assert {answer.text for answer, _ in pairs}


def test_the_same_seed_gives_the_same_reader_and_every_row_is_told(tiny_bert: Path) -> None:
    short = dataclasses.replace(READER_SETTINGS, epochs=2)
    counted: list[int] = []
    first, again = (
        train_reader(tiny_bert, questions(20, seed=1, long=True), short, seed=1, advance=counted.append) for _ in "12"
    )
    rows = questions(5, seed=5)
    assert np.array_equal(again.predict_logits(rows), first.predict_logits(rows))
    assert again.loss == first.loss
    assert sum(counted) == 2 * 2 * 20


def test_streams_pairs_and_examples_are_answered_alike(exported: Path) -> None:
    rows = questions(6, seed=6)
    reader = Reader.load(exported)
    pairs = [(row.fields["context"], row.fields["question"]) for row in rows]
    expected = reader.answer(rows)
    assert [answer.text for answer in expected] == reader.predict(pairs)
    assert [answer.text for answer in reader.predict_stream(iter(pairs))] == reader.predict(pairs)
    assert reader.answer([]) == []
    assert reader.answer([("  ", "the film?")]) == [FoundAnswer("", 0, 0.0)]


def test_a_folder_is_opened_as_what_it_is(exported: Path, tiny_bert: Path, tmp_path: Path) -> None:
    assert isinstance(load_student(exported), Reader)
    with pytest.raises(ModelError, match="answers questions"):
        Classifier.load(exported)
    fast = TrainingSettings(learning_rate=2e-3, epochs=1, batch_size=8, max_length=32)
    export(train(tiny_bert, reviews(), LABELS, fast, seed=1), tmp_path / "student", UNSEEN)
    assert isinstance(load_student(tmp_path / "student"), Classifier)
    with pytest.raises(ModelError, match="a Classifier, not a Reader"):
        Reader.load(tmp_path / "student")
    with pytest.raises(ModelError, match="is not an exported student"):
        load_student(tmp_path)


def test_misuse_is_named(tiny_bert: Path) -> None:
    with pytest.raises(ValueError, match="no rows"):
        train_reader(tiny_bert, [], READER_SETTINGS, seed=1)
    bad = Example("b", {"context": "the film", "question": "the?"}, SPAN, (Answer("film", 0),))
    with pytest.raises(ValueError, match="'b' has no answer that stands in its context"):
        train_reader(tiny_bert, [bad], READER_SETTINGS, seed=1)
    with pytest.raises(ModelError, match="reads 64 tokens"):
        train_reader(tiny_bert, questions(2, 1), TrainingSettings(max_length=65), seed=1)
    assert SETTINGS.max_length == 32
