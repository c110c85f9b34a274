"""Fine-tune a reader for extractive question answering: at which token of a window the answer begins and ends.

In a window without the answer, the target is the first token. Optimiser and schedule are those of ``training.py``;
there is no contrastive warm-up, because answers have no labels.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s3local.progress import Advance, ignore
from s3local.records import Example
from s3local.student.body import build_reader
from s3local.student.reader import Question, as_question
from s3local.student.training import PREDICTION_BATCH, Trained, TrainingSettings, fit
from s3local.student.windows import USUAL_WINDOW, Floats, Window, best_spans, make_windows, score_windows


class TrainedReader(Trained):
    """A fine-tuned reader."""

    def windows(self, questions: Sequence[Question]) -> list[Window]:
        """The windows of the questions and their contexts."""
        assert self.settings.max_length  # resolved
        return make_windows(self.tokenizer, [as_question(question) for question in questions], self.settings.max_length)

    def answers(self, rows: Sequence[Question], logits: Floats) -> list[str]:
        """The most probable span of each row by ``logits``, the output of ``predict_logits``."""
        windows = self.windows(rows)
        ends = np.cumsum([len(window.ids) for window in windows])[:-1]
        spans = best_spans(windows, np.split(logits, ends), [as_question(row)[0] for row in rows])
        return [answer.text for answer, _ in spans]

    def predict(self, rows: Sequence[Question]) -> list[str]:
        """The text of the most probable span of each row."""
        return self.answers(rows, self.predict_logits(rows))

    def predict_logits(self, rows: Sequence[Question], advance: Advance = ignore) -> Floats:
        """Logits (n_tokens of all windows, 2); see ``Trained.predict_logits``."""

        def run(ids: Any, mask: Any) -> tuple[Any, Any]:
            output = self.model(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask))
            return output.start_logits.numpy(), output.end_logits.numpy()

        with torch.inference_mode():
            padding = self.model.config.pad_token_id
            return np.concatenate(score_windows(self.windows(rows), PREDICTION_BATCH, padding, run, advance))


def train_reader(
    body_folder: Path, rows: Sequence[Example], settings: TrainingSettings, seed: int, advance: Advance = ignore
) -> TrainedReader:
    """Train a reader on the first answer of each of ``rows``, from the body's weights and a fresh head.

    ``advance`` is called with the rows of each step. As with ``train``, the same arguments give bit-identical weights.
    Raises ``ModelError`` as ``build_reader`` does, and if ``settings.max_length`` is more than the body can read;
    ``ValueError`` for no rows, a row without an answer, or an answer that is not in its context.
    """
    if not rows:
        raise ValueError("there are no rows to train on")
    for row in rows:
        if not row.answers or not row.answers[0].stands_in(as_question(row)[0]):
            raise ValueError(f"row {row.id!r} has no answer that stands in its context")
    settings = dataclasses.replace(settings, contrast_passes=0).resolved(len(rows))
    model, tokenizer = build_reader(body_folder, seed)
    settings = settings.fitted(body_folder, usual=USUAL_WINDOW)
    assert settings.max_length  # fitted
    windows = make_windows(tokenizer, [as_question(row) for row in rows], settings.max_length)
    begins_row = np.diff([window.row for window in windows], prepend=-1) > 0
    places = np.array([window.places_of(rows[window.row].answers[0]) for window in windows])  # (n_windows, 2)

    def loss_of(output: Any, batch: NDArray[np.int64]) -> Any:
        logits = torch.stack([output.start_logits, output.end_logits], dim=1).float()  # (n, 2, n_tokens)
        allowed = torch.full(logits.shape, -torch.inf)
        for line, number in enumerate(batch):
            window = windows[number]
            allowed[line, :, 0] = 0
            allowed[line, :, window.first : window.first + len(window.spans)] = 0
        logits = (logits + allowed.to(logits.device)).flatten(0, 1)
        return torch.nn.functional.cross_entropy(logits, torch.from_numpy(places[batch]).flatten().to(logits.device))

    def tell(batch: NDArray[np.int64]) -> None:
        advance(int(begins_row[batch].sum()))

    fitted = fit(model, [window.ids for window in windows], loss_of, settings, seed, tell)
    return TrainedReader(model, tokenizer, tuple(rows[0].fields), settings, len(rows), *fitted)
