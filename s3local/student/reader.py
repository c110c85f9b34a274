"""Answer questions with an exported student. Needs onnxruntime and ``tokenizers``, not torch or transformers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from s3local.exceptions import ModelError
from s3local.progress import Advance, ignore
from s3local.records import Answer, Example
from s3local.student.inference import (
    BATCH_ROWS,
    META_FILE,
    PADDING,
    WINDOW_ROWS,
    Classifier,
    fastest_file,
    inputs_of,
    open_session,
    read_meta,
    student_folder,
)
from s3local.student.windows import Floats, Window, best_spans, make_windows, probabilities_of, score_windows

Question: TypeAlias = "tuple[str, str] | Example"
"""The input of a reader: a context and a question on it, or an example with these two fields."""

KIND = "extractive_qa"


@dataclass(frozen=True, slots=True)
class FoundAnswer:
    """A span of the context: its text, its first character, and its probability."""

    text: str
    start: int
    probability: float


class Reader:
    """An exported student for extractive question answering. Use ``Reader.load(folder)``.

    ``fields`` are the names of an example's fields, context and question; ``file`` is the ONNX file in use.
    """

    def __init__(
        self, session: Any, tokenizer: Any, *, fields: Sequence[str], max_length: int, padding: int, file: str
    ) -> None:
        self.session = session
        self.tokenizer = tokenizer
        self.fields = tuple(fields)
        self.max_length = max_length
        self.padding = padding
        self.file = file

    @classmethod
    def load(cls, folder: Path, *, file: str | None = None, threads: int | None = None) -> Reader:
        """Open a folder that ``s3local.student.reader_export`` wrote; ``file`` and ``threads`` as for ``Classifier``.

        Raises ``ModelError`` if a file of the folder is missing or damaged, or if it holds a ``Classifier``.
        """
        from tokenizers import Tokenizer

        meta = read_meta(folder)
        if meta.get("kind") != KIND:
            raise ModelError(f"{folder} holds a student that classifies, a Classifier, not a Reader")
        try:
            file = file or fastest_file(meta)
            session = open_session(folder / file, threads)
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            return cls(
                session,
                tokenizer,
                fields=meta["fields"],
                max_length=meta["max_length"],
                padding=meta.get(PADDING, 0),
                file=file,
            )
        except ModelError:
            raise
        except KeyError as exc:
            raise ModelError(f"{folder / META_FILE}: the entry {exc} is missing") from exc
        except Exception as exc:  # tokenizers raises bare Exception
            raise ModelError(f"{folder} is not an exported student, or damaged: {exc}") from exc

    def windows(self, questions: Sequence[Question]) -> list[Window]:
        """The windows of the questions and their contexts."""
        return make_windows(self.tokenizer, [as_question(question) for question in questions], self.max_length)

    def logits(self, windows: Sequence[Window], advance: Advance = ignore) -> list[Floats]:
        """The logits of each window, (n_tokens, 2), for the answer's begin and end; see ``score_windows``."""

        def run(ids: Any, mask: Any) -> tuple[Any, Any]:
            starts, ends = self.session.run(["start_logits", "end_logits"], inputs_of(self.session, ids, mask))
            return starts, ends

        return score_windows(windows, BATCH_ROWS, self.padding, run, advance)

    def answer(self, questions: Sequence[Question], advance: Advance = ignore) -> list[FoundAnswer]:
        """The most probable span for each (context, question); an empty one if the context has no token."""
        return [found for found, _ in self.judge(questions, advance)]

    def judge(self, questions: Sequence[Question], advance: Advance = ignore) -> list[tuple[FoundAnswer, float]]:
        """The most probable span for each question, and the probability of the example's own answer (0 without one)."""
        if not questions:
            return []
        windows = self.windows(questions)
        logits = self.logits(windows, advance)
        contexts = [as_question(question)[0] for question in questions]
        own = probabilities_of(windows, logits, [_answers(question) for question in questions])
        found = best_spans(windows, logits, contexts)
        return [
            (FoundAnswer(answer.text, answer.start, probability), own_probability)
            for (answer, probability), own_probability in zip(found, own, strict=True)
        ]

    def predict(self, questions: Sequence[Question], advance: Advance = ignore) -> list[str]:
        """The text of the most probable span for each question."""
        return [found.text for found in self.answer(questions, advance)]

    def predict_stream(self, questions: Iterable[Question], advance: Advance = ignore) -> Iterator[FoundAnswer]:
        """An answer to each question, in order; at most ``WINDOW_ROWS`` are in memory."""
        stream = iter(questions)
        while held := list(itertools.islice(stream, WINDOW_ROWS)):
            yield from self.answer(held, advance)


def load_student(folder: Path) -> Classifier | Reader:
    """The exported student of a folder or of a finished run, of either kind; raises ``ModelError`` as ``load``."""
    folder = student_folder(folder)
    return Reader.load(folder) if read_meta(folder).get("kind") == KIND else Classifier.load(folder)


def as_question(question: Question) -> tuple[str, str]:
    """Context and question. Raises ``ValueError`` for anything but two texts."""
    texts: Any = tuple(question.fields.values()) if isinstance(question, Example) else question
    if isinstance(texts, str) or len(texts) != 2:
        raise ValueError(f"a reader reads a context and a question on it, got {question!r}")
    return texts[0], texts[1]


def _answers(question: Question) -> tuple[Answer, ...]:
    return question.answers if isinstance(question, Example) else ()
