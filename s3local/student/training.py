"""Fine-tune a classifier on labelled rows, fast on a few CPU cores.

First the body is warmed up by supervised contrastive fine-tuning (contrastive.py), which helps most where rows are few;
then body and head are fine-tuned. It is fast because rows are tokenised once and batched by length, the word embeddings
are frozen, the optimiser is fused, and products are computed in 16 bits where that is faster.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from s3local.hardware import torch_device
from s3local.progress import Advance, ignore
from s3local.records import Example
from s3local.student.body import build_classifier
from s3local.student.contrastive import ContrastiveSettings, fine_tune_by_contrast
from s3local.student.encoding import Text, batches_by_length, encode, fitted_length, pad
from s3local.student.optimisation import (
    MAX_GRADIENT_NORM,
    forward,
    learning_rate_factor,
    parameter_groups,
    seeded,
    uses_bf16,
)
from s3local.student.pooling import mean_and_first

Floats = NDArray[np.float32]

BATCHES_PER_BUCKET = 8
"""Rows of this many batches are sorted by length together: it saves padding, and batches stay mixed."""
CERTAIN = 0.95
"""Rows whose most probable label has a lower target take no part in the contrastive warm-up."""
USUAL_MAX_LENGTH = 256
BRIEF_PASSES = 1000
"""Rows that a student is fine-tuned on, at most, if it is only scored: in a round, or for a fold of cross-validation.
It is half of what a final student gets, and about what a student of a few dozen gold rows gets."""
PREDICTION_BATCH = 32


@dataclass(frozen=True)
class TrainingSettings:
    """How a student is trained. None: chosen from the number of rows, see ``resolved`` and ``fitted``.

    ``learning_rate``    the peak; it decays linearly to zero.
    ``epochs``           passes over the rows.
    ``batch_size``       rows in a step.
    ``max_length``       tokens kept of a text or a pair, or of a window of a long context. None: 256, or more if dev
                         rows are longer, at most what the body can read; 384 for a window.
    ``contrast_passes``  texts that go through the body in the contrastive warm-up; 0: no warm-up.
    ``warmup``           share of the steps during which the learning rate rises.
    ``weight_decay``     of the weight matrices; biases and layer norms have none.
    ``balance``          weight rows so that all labels have about the same total weight.
    ``precision``        "bf16": 16-bit products; "fp32": 32-bit products; "auto": 16 bits where that is faster.
    """

    learning_rate: float | None = None
    epochs: int | None = None
    batch_size: int | None = None
    max_length: int | None = None
    contrast_passes: int = 800
    warmup: float = 0.1
    weight_decay: float = 0.01
    balance: bool = True
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    def passes(self, n_rows: int) -> int:
        """The number of texts that go through the student while it trains on ``n_rows`` rows."""
        return self.contrast_passes + n_rows * (self.resolved(n_rows).epochs or 1)

    def brief(self, n_rows: int) -> TrainingSettings:
        """The same settings for about half the time, see ``BRIEF_PASSES``."""
        settings = self.resolved(n_rows)
        assert settings.epochs  # resolved
        epochs = min(settings.epochs, max(1, round(BRIEF_PASSES / n_rows)))
        return dataclasses.replace(settings, epochs=epochs, contrast_passes=settings.contrast_passes // 2)

    def fitted(self, body_folder: Path, texts: Sequence[Text] = (), usual: int = USUAL_MAX_LENGTH) -> TrainingSettings:
        """The same settings with ``max_length`` filled in, long enough for ``texts``, as ``fitted_length`` does."""
        return dataclasses.replace(self, max_length=fitted_length(body_folder, self.max_length, usual, texts))

    def resolved(self, n_rows: int) -> TrainingSettings:
        """The same settings with the rate, epochs and batch size that are None chosen by ``n_rows``.

        The rate is 1e-4, the epochs make about 2,000 rows in total (2 to 10 epochs), and a batch has 16 rows, or 8
        below 200 rows. Without warm-up, the rate below 200 rows is 2e-4, and there are up to 20 epochs. The numbers
        were chosen with bodies of MiniLM's size, on rows that are neither dev nor test. With 60 gold rows, the warm-up
        changed the accuracy from 70.8 to 81.8 % (trec), 61.3 to 65.2 % (sst2) and 85.8 to 85.2 % (ag_news).
        """
        few, warm = n_rows < 200, self.contrast_passes > 0
        return dataclasses.replace(
            self,
            learning_rate=self.learning_rate or (2e-4 if few and not warm else 1e-4),
            epochs=self.epochs or min(10 if warm else 20, max(2, round(2000 / n_rows))),
            batch_size=self.batch_size or (8 if few else 16),
        )


@dataclass(frozen=True)
class Trained(ABC):
    """A fine-tuned model and how it was trained.

    ``model`` is on the CPU in evaluation mode. ``fields`` are the names of an example's fields in order, ``settings``
    are the ones used, without None. ``loss`` is the mean training loss of the last epoch, ``seconds`` the duration.
    """

    model: Any
    tokenizer: Any
    fields: tuple[str, ...]
    settings: TrainingSettings
    n_rows: int
    steps: int
    loss: float
    seconds: float

    @abstractmethod
    def predict_logits(self, rows: Sequence[Any], advance: Advance = ignore) -> Floats:
        """Logits in PyTorch and 32 bits; ``advance`` is called with the number of rows just done."""


AnyTrained = TypeVar("AnyTrained", bound=Trained)


@dataclass(frozen=True)
class TrainedStudent(Trained):
    """A fine-tuned classifier; ``labels`` are in the order of its logits."""

    labels: tuple[str, ...]

    def predict_logits(self, rows: Sequence[Text], advance: Advance = ignore) -> Floats:
        """Logits (n_rows, n_labels); see ``Trained.predict_logits``."""
        assert self.settings.max_length  # resolved
        logits = np.zeros((len(rows), len(self.labels)), dtype=np.float32)
        tokens = encode(self.tokenizer, rows, self.settings.max_length)
        with torch.inference_mode():
            for batch in batches_by_length(tokens, PREDICTION_BATCH):
                padded = pad([tokens[number] for number in batch], self.model.config.pad_token_id)
                ids, mask = (torch.from_numpy(array) for array in padded)
                logits[batch] = self.model(input_ids=ids, attention_mask=mask).logits.numpy()
                advance(len(batch))
        return logits

    def predict(self, texts: Sequence[Text], advance: Advance = ignore) -> list[str]:
        """The most probable label of each text."""
        return [self.labels[number] for number in self.predict_logits(texts, advance).argmax(axis=1)]


def train(
    body_folder: Path,
    rows: Sequence[Example],
    labels: Sequence[str],
    settings: TrainingSettings,
    seed: int,
    soft_targets: NDArray[Any] | None = None,
    advance: Advance = ignore,
) -> TrainedStudent:
    """Train a classifier on ``rows``, from the body's weights and a fresh head.

    ``soft_targets`` (n_rows, n_labels) are label probabilities that replace the rows' labels. ``advance`` is called
    with the texts of each step, ``settings.passes(n_rows)`` in total, or fewer if only one label has rows.
    The same arguments give bit-identical weights in the same environment (library versions, processor, number of
    threads). The caller's random state is not changed.
    Raises ``ModelError`` as ``build_classifier`` does, and if ``settings.max_length`` is more than the body can read;
    ``ValueError`` for no rows, a label not in ``labels``, rows with different fields, or arrays that do not fit.
    """
    targets = _targets(rows, labels, soft_targets)
    settings = settings.resolved(len(rows))
    row_weights = _row_weights(targets, settings.balance)
    fields = tuple(rows[0].fields)
    for row in rows:
        if tuple(row.fields) != fields:
            raise ValueError(f"row {row.id!r} has the fields {list(row.fields)}, row {rows[0].id!r} has {list(fields)}")
    model, tokenizer = build_classifier(body_folder, labels, seed)
    settings = settings.fitted(body_folder)
    assert settings.max_length  # fitted
    token_ids = encode(tokenizer, rows, settings.max_length)

    def loss_of(output: Any, batch: NDArray[np.int64]) -> Any:
        logits = output.logits
        log_probabilities = torch.log_softmax(logits.float(), dim=1)
        row_losses = -(torch.from_numpy(targets[batch]).to(logits.device) * log_probabilities).sum(dim=1)
        return (torch.from_numpy(row_weights[batch]).to(logits.device) * row_losses).mean()

    def warm_up() -> None:
        places = np.flatnonzero(targets.max(axis=1) >= CERTAIN)
        numbers = targets[places].argmax(axis=1)
        if settings.contrast_passes and len(np.unique(numbers)) > 1:
            tokens = [token_ids[place] for place in places]
            contrast = ContrastiveSettings(passes=settings.contrast_passes)
            fine_tune_by_contrast(
                model.base_model, tokens, numbers, contrast, seed, mean_and_first, settings.precision, advance
            )

    fitted = fit(model, token_ids, loss_of, settings, seed, lambda batch: advance(len(batch)), warm_up)
    return TrainedStudent(model, tokenizer, fields, settings, len(rows), *fitted, tuple(labels))


def averaged(first: AnyTrained, second: AnyTrained, share: float) -> AnyTrained:
    """A student with the weighted mean of two students' weights: ``share`` of ``first``, the rest of ``second``.

    Both must have been trained from the same initial weights, head included (Wortsman et al., "Model soups", 2022).
    """
    model = copy.deepcopy(first.model)
    others = second.model.state_dict()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.lerp_(others[name], 1 - share)
    return dataclasses.replace(first, model=model, seconds=first.seconds + second.seconds)


def _targets(rows: Sequence[Example], labels: Sequence[str], soft_targets: NDArray[Any] | None) -> Floats:
    """Label probabilities (n_rows, n_labels): the soft targets, or one-hot rows of the labels."""
    if not rows:
        raise ValueError("there are no rows to train on")
    if soft_targets is not None:
        targets = np.asarray(soft_targets, dtype=np.float32)
        if targets.shape != (len(rows), len(labels)):
            raise ValueError(f"soft_targets has shape {targets.shape}, expected {(len(rows), len(labels))}")
        if (targets < 0).any() or not np.allclose(targets.sum(axis=1), 1.0, atol=1e-3):
            raise ValueError("soft_targets must be probabilities: none below 0, each row adding up to 1")
        return targets
    number_of = {label: number for number, label in enumerate(labels)}
    for row in rows:
        if row.label not in number_of:
            raise ValueError(f"row {row.id!r} has the label {row.label!r}, which is not among {list(labels)}")
    return np.eye(len(labels), dtype=np.float32)[[number_of[row.label] for row in rows]]


def _row_weights(targets: Floats, balance: bool) -> Floats:
    """The weight of each row's loss (n_rows,), 1 on average; see ``TrainingSettings.balance``."""
    if not balance:
        return np.ones(len(targets), dtype=np.float32)
    mass = np.ones(len(targets)) @ targets  # (n_labels,)
    per_label = np.divide(mass.sum(), mass, out=np.zeros_like(mass), where=mass > 0)
    counts = targets @ per_label
    return np.asarray(counts / counts.mean(), dtype=np.float32)


def fit(
    model: Any,
    token_ids: Sequence[Sequence[int]],
    loss_of: Callable[[Any, NDArray[np.int64]], Any],
    settings: TrainingSettings,
    seed: int,
    advance: Callable[[NDArray[np.int64]], None],
    warm_up: Callable[[], None] | None = None,
) -> tuple[int, float, float]:
    """Train ``model`` in place and move it to the CPU; returns the steps, the last epoch's mean loss, the seconds.

    ``loss_of`` computes the loss from the model's output for a batch and the indices of its rows in ``token_ids``.
    ``settings`` are resolved. ``advance`` is called with the indices of each batch after its step, ``warm_up`` before
    the first one. ``seed`` determines dropout and the order of rows; the caller's random state is not changed.
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
        if warm_up is not None:
            warm_up()
            model.train()
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
        return step, loss_sum / len(token_ids), time.perf_counter() - started


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
