"""Fine-tune a reader for extractive question answering: at which token of a window the answer begins and ends.

In a window without the answer, the target is the first token. It is fast because rows are tokenised once and batched by
length, the word embeddings are frozen, the optimiser is fused, and products are computed in 16 bits where that is
faster.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s3local.hardware import torch_device
from s3local.progress import Advance, ignore
from s3local.records import Example
from s3local.student.body import build_reader
from s3local.student.optimisation import (
    MAX_GRADIENT_NORM,
    forward,
    learning_rate_factor,
    parameter_groups,
    seeded,
    uses_bf16,
)
from s3local.student.reader import Question, as_question
from s3local.student.training import FEW_ROWS, PREDICTION_BATCH, StudentSettings, Trained, fitted
from s3local.student.windows import USUAL_WINDOW, Floats, Window, best_spans, make_windows, score_windows

BATCHES_PER_BUCKET = 8
"""Rows of this many batches are sorted by length together: it saves padding, and batches stay mixed."""
BRIEF_PASSES = 1000
"""Rows that a reader is fine-tuned on, at most, if it is only scored; about half of what a final one gets."""


@dataclass(frozen=True, kw_only=True)
class ReaderSettings(StudentSettings):
    """How a reader is trained. None: chosen from the number of rows, see ``resolved``.

    ``learning_rate``  the peak; it decays linearly to zero.
    ``epochs``         passes over the rows.
    ``batch_size``     rows in a step.
    ``warmup``         share of the steps during which the learning rate rises.
    ``weight_decay``   of the weight matrices; biases and layer norms have none.
    """

    learning_rate: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    warmup: float = 0.1
    weight_decay: float = 0.01

    def passes_for(self, n_rows: int) -> int:
        """See ``StudentSettings.passes_for``."""
        return n_rows * (self.resolved(n_rows).epochs or 1)

    def resolved(self, n_rows: int) -> ReaderSettings:
        """The same settings with the rate, epochs and batch size that are None chosen by ``n_rows``.

        The rate is 1e-4, or 2e-4 below 200 rows, the epochs make about 2,000 rows in total (2 to 20 epochs), and a
        batch has 16 rows, or 8 below 200 rows.
        """
        few = n_rows < FEW_ROWS
        epochs = self.epochs or min(20, max(2, round(2000 / n_rows)))
        return dataclasses.replace(
            self,
            learning_rate=self.learning_rate or (2e-4 if few else 1e-4),
            epochs=min(epochs, max(1, round(BRIEF_PASSES / n_rows))) if self.brief else epochs,
            batch_size=self.batch_size or (8 if few else 16),
            brief=False,
        )


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
    body_folder: Path, rows: Sequence[Example], settings: ReaderSettings, seed: int, advance: Advance = ignore
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
    settings = settings.resolved(len(rows))
    model, tokenizer = build_reader(body_folder, seed)
    settings = fitted(settings, body_folder, usual=USUAL_WINDOW)
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

    loss, seconds = fit(model, [window.ids for window in windows], loss_of, settings, seed, tell)
    return TrainedReader(model, tokenizer, tuple(rows[0].fields), settings, len(rows), loss, seconds)


def fit(
    model: Any,
    token_ids: Sequence[Sequence[int]],
    loss_of: Callable[[Any, NDArray[np.int64]], Any],
    settings: ReaderSettings,
    seed: int,
    advance: Callable[[NDArray[np.int64]], None],
) -> tuple[float, float]:
    """Train ``model`` in place and move it to the CPU; returns the last epoch's mean loss and the seconds.

    ``loss_of`` computes the loss from the model's output for a batch and the indices of its rows in ``token_ids``.
    ``settings`` are resolved. ``advance`` is called with the indices of each batch after its step. ``seed`` determines
    dropout and the order of rows; the caller's random state is not changed.
    """
    started = time.perf_counter()
    with seeded(seed):
        assert settings.epochs and settings.batch_size and settings.learning_rate  # resolved
        device = torch.device(torch_device())
        model.to(device).train()
        optimizer = torch.optim.AdamW(parameter_groups(model, settings.weight_decay), fused=True)
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        half = uses_bf16(settings.precision, device)
        generator = np.random.default_rng(seed)
        lengths = [len(row) for row in token_ids]
        total = settings.epochs * math.ceil(len(token_ids) / settings.batch_size)
        step, loss_sum = 0, 0.0
        for _ in range(settings.epochs):
            loss_sum = 0.0
            for batch in _shuffled_batches(lengths, settings.batch_size, generator):
                for group in optimizer.param_groups:
                    group["lr"] = settings.learning_rate * learning_rate_factor(step, total, settings.warmup)
                loss = loss_of(forward(model, [token_ids[number] for number in batch], half)[0], batch)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(trained, MAX_GRADIENT_NORM)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                loss_sum += loss.item() * len(batch)
                step += 1
                advance(batch)
        model.cpu().eval()
        return loss_sum / len(token_ids), time.perf_counter() - started


def _shuffled_batches(
    lengths: Sequence[int], batch_size: int, generator: np.random.Generator
) -> list[NDArray[np.int64]]:
    """The indices of all rows in batches of similar length, in random order.

    Rows are shuffled, cut into buckets of ``BATCHES_PER_BUCKET`` batches, and sorted by length inside each bucket.
    """
    order = generator.permutation(len(lengths))
    sizes = np.asarray(lengths)
    bucket_size = batch_size * BATCHES_PER_BUCKET
    batches = []
    for start in range(0, len(order), bucket_size):
        bucket = order[start : start + bucket_size]
        bucket = bucket[np.argsort(sizes[bucket], kind="stable")]
        batches += [bucket[at : at + batch_size] for at in range(0, len(bucket), batch_size)]
    return [batches[number] for number in generator.permutation(len(batches))]
