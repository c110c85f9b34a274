"""Questions on contexts to token ids: a long context is split into overlapping windows after the question.

Answer spans are converted to token positions in a window and back, the same way for training, PyTorch and onnxruntime.
Needs ``tokenizers`` and numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3local.progress import Advance
from s3local.records import Answer
from s3local.student.encoding import batches_by_length, pad

Floats = NDArray[np.float32]

USUAL_WINDOW = 384
"""Tokens of a window, question included, unless the body can read fewer."""
SHARE_OF_QUESTION = 3
"""A question takes at most a third of a window; longer ones are cut."""
SHARE_OF_OVERLAP = 3
"""Two neighbouring windows share a third of a window."""
MAX_ANSWER_TOKENS = 30
"""The longest span that can be predicted."""


@dataclass(frozen=True, slots=True)
class Window:
    """The token ids of a question and a part of its context.

    ``row`` is the index of the question, ``first`` the position of the context's first token in ``ids``. ``spans`` are
    the character offsets (begin, end) in the context of each of its tokens.
    """

    row: int
    ids: list[int]
    first: int
    spans: tuple[tuple[int, int], ...]

    def places_of(self, answer: Answer) -> tuple[int, int]:
        """The positions in ``ids`` of the answer's first and last token; (0, 0) if it is not in this window."""
        end = answer.start + len(answer.text)
        inside = [place for place, (low, high) in enumerate(self.spans) if low < end and high > answer.start]
        if not inside or self.spans[0][0] > answer.start or self.spans[-1][1] < end:
            return 0, 0
        return self.first + inside[0], self.first + inside[-1]

    def log_probabilities(self, logits: Floats) -> Floats:
        """Log-probabilities (n_tokens, 2) that the answer begins, and that it ends, at each token.

        Token 0 stands for no answer in this window. ``logits`` has the same shape. Tokens of the question get minus
        infinity.
        """
        allowed = np.full((len(self.ids), 1), -np.inf, dtype=np.float32)
        allowed[0] = allowed[self.first : self.first + len(self.spans)] = 0
        scores = logits + allowed
        scores = scores - scores.max(axis=0)
        return np.asarray(scores - np.log(np.exp(scores).sum(axis=0)), dtype=np.float32)

    def best(self, logits: Floats) -> tuple[int, int, float]:
        """The most probable span: the character offsets of its begin and end in the context, its log-probability.

        (0, 0, -inf) if the window has no token of the context.
        """
        if not self.spans:
            return 0, 0, -np.inf
        starts, ends = self.log_probabilities(logits)[self.first : self.first + len(self.spans)].T
        pairs = starts[:, None] + ends[None, :]
        lengths = np.arange(len(ends))[None, :] - np.arange(len(starts))[:, None]
        pairs[(lengths < 0) | (lengths >= MAX_ANSWER_TOKENS)] = -np.inf
        begin, end = np.unravel_index(int(pairs.argmax()), pairs.shape)
        return self.spans[begin][0], self.spans[end][1], float(pairs[begin, end])


def make_windows(tokenizer: Any, questions: Sequence[tuple[str, str]], max_length: int) -> list[Window]:
    """The windows of each (context, question), in order; together they cover the context.

    A question that is longer than its share of ``max_length`` tokens is cut. ``tokenizer`` is a
    ``tokenizers.Tokenizer`` or a fast tokenizer of transformers; its truncation and padding settings are overwritten.
    """
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    backend.no_padding()
    backend.enable_truncation(max_length // SHARE_OF_QUESTION)
    cut = [_seen_part(encoding, question) for encoding, (_, question) in _encoded(backend, questions)]
    backend.enable_truncation(max_length, stride=max_length // SHARE_OF_OVERLAP, strategy="only_second")
    encodings = backend.encode_batch(
        [(question, context) for question, (context, _) in zip(cut, questions, strict=True)]
    )
    return [_window(row, part) for row, encoding in enumerate(encodings) for part in (encoding, *encoding.overflowing)]


def score_windows(
    windows: Sequence[Window],
    batch_size: int,
    padding: int,
    run: Callable[[NDArray[np.int64], NDArray[np.int64]], tuple[Any, Any]],
    advance: Advance,
) -> list[Floats]:
    """The logits of each window, (n_tokens, 2).

    ``run`` computes begin and end logits from ids, filled up with ``padding``, and their mask. ``advance`` is called
    with the number of questions whose last window is done.
    """
    logits: list[Floats] = [np.empty((0, 2), dtype=np.float32)] * len(windows)
    left = np.bincount([window.row for window in windows])
    for batch in batches_by_length([window.ids for window in windows], batch_size):
        starts, ends = run(*pad([windows[number].ids for number in batch], padding))
        both = np.stack([np.asarray(starts, dtype=np.float32), np.asarray(ends, dtype=np.float32)], axis=2)
        for place, number in enumerate(batch):
            logits[number] = both[place, : len(windows[number].ids)]
            left[windows[number].row] -= 1
        advance(sum(1 for row in {windows[number].row for number in batch} if left[row] == 0))
    return logits


def best_spans(
    windows: Sequence[Window], logits: Sequence[Floats], contexts: Sequence[str]
) -> list[tuple[Answer, float]]:
    """For each context, the most probable answer of its windows, and its probability in that window."""
    found: list[tuple[float, Answer] | None] = [None] * len(contexts)
    for window, scores in zip(windows, logits, strict=True):
        begin, end, log_probability = window.best(scores)
        before = found[window.row]
        if before is None or log_probability > before[0]:
            found[window.row] = log_probability, Answer(contexts[window.row][begin:end], begin)
    return [(entry[1], float(np.exp(entry[0]))) for entry in found if entry is not None]


def probabilities_of(
    windows: Sequence[Window], logits: Sequence[Floats], answers: Sequence[Sequence[Answer]]
) -> list[float]:
    """For each question, the probability of the most probable of its ``answers`` in any window."""
    found = [0.0] * len(answers)
    for window, scores in zip(windows, logits, strict=True):
        log_probabilities = window.log_probabilities(scores)
        for answer in answers[window.row]:
            begin, end = window.places_of(answer)
            if begin > 0:
                probability = float(np.exp(log_probabilities[begin, 0] + log_probabilities[end, 1]))
                found[window.row] = max(found[window.row], probability)
    return found


def _encoded(backend: Any, questions: Sequence[tuple[str, str]]) -> list[tuple[Any, tuple[str, str]]]:
    encodings = backend.encode_batch([question for _, question in questions], add_special_tokens=False)
    return list(zip(encodings, questions, strict=True))


def _seen_part(encoding: Any, question: str) -> str:
    """The part of the question that its kept tokens cover."""
    return question[: encoding.offsets[-1][1]] if encoding.overflowing else question


def _window(row: int, encoding: Any) -> Window:
    places = [place for place, part in enumerate(encoding.sequence_ids) if part == 1]
    spans = tuple(encoding.offsets[place] for place in places)
    return Window(row, encoding.ids, places[0] if places else len(encoding.ids), spans)
