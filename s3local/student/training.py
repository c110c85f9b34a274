"""Fine-tune a student on labelled rows, fast on a few CPU cores.

The body is warmed up by contrast between the labels, see contrast.py, which few rows gain most from; then body and
head are fine-tuned. What makes it fast: rows are tokenised once and batched with rows of like length, the word
embeddings (half of all weights) stay as they are, one fused optimiser step, and 16-bit products where they are faster.
Knows nothing of where rows come from, and never sees dev or test.
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
from s3local.student.contrastive import ContrastiveSettings, mean_and_first, pull_together
from s3local.student.encoding import Text, batches_by_length, encode, fitted_length, pad
from s3local.student.optimisation import (
    MAX_GRADIENT_NORM,
    forward,
    learning_rate_factor,
    parameter_groups,
    seeded,
    uses_bf16,
)

Floats = NDArray[np.float32]

BATCHES_PER_BUCKET = 8
"""Rows of this many batches are sorted by length together: less padding, batches still mixed."""
CERTAIN = 0.95
"""Rows whose label is less probable take no part in the contrast."""
USUAL_MAX_LENGTH = 256
PREDICTION_BATCH = 32


@dataclass(frozen=True)
class TrainingSettings:
    """How a student is trained. None: chosen from the number of rows, as ``resolved`` states.

    ``learning_rate``    the peak; it falls in a line to zero at the end of training.
    ``epochs``           passes over the rows.
    ``batch_size``       rows a step.
    ``max_length``       tokens kept of a text or a pair; of a window, where a context is read in windows. None: 256, or
                         more where dev rows are longer, up to what the body reads; 384 for a window.
    ``contrast_passes``  texts that go through the body to warm it up by contrast; 0 leaves it as it is.
    ``warmup``           share of the steps during which the rate rises from zero.
    ``weight_decay``     of the weight matrices; biases and layer norms have none.
    ``balance``          give labels with fewer rows more weight, so that all labels weigh about the same.
    ``precision``        "bf16": 16-bit matrix products; "auto": that where they are faster; "fp32": never.
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
        """The texts that go through the student while it trains on ``n_rows``."""
        return self.contrast_passes + n_rows * (self.resolved(n_rows).epochs or 1)

    def fitted(self, body_folder: Path, texts: Sequence[Text] = (), usual: int = USUAL_MAX_LENGTH) -> TrainingSettings:
        """The same settings with ``max_length`` filled in, long enough for ``texts``, as ``fitted_length`` does."""
        return dataclasses.replace(self, max_length=fitted_length(body_folder, self.max_length, usual, texts))

    def resolved(self, n_rows: int) -> TrainingSettings:
        """The same settings with all that is None chosen by ``n_rows``, but the length.

        The rate is 1e-4, epochs make about 2,000 rows in all, but are 2 at least and 10 at most, and a batch has 16
        rows, or 8 below 200 rows. A body that is not warmed up by contrast gets 2e-4 below 200 rows, and up to 20
        epochs. The numbers were chosen for bodies of MiniLM's size, on rows that are neither dev nor test. With 60 gold
        rows, the warm-up raised 70.8 to 81.8 % (trec), 61.3 to 65.2 % (sst2) and left 85.8 at 85.2 % (ag_news); with
        200 synthetic rows of trec, 63.7 to 65.8 %, with 500 of sst2, 67.5 to 71.0 %. With 1,000 synthetic rows, more
        epochs or a higher rate gain nothing that could be told from chance, and learn the mistakes of a small teacher.
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
    """A fine-tuned model and what it was trained with.

    ``model`` is on the CPU in evaluation mode, ``fields`` are the names of an example's fields in order, ``settings``
    are those used, without None, ``loss`` is the mean training loss of the last epoch, ``seconds`` the time that
    training took.
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
        """Logits in PyTorch and 32 bits; ``advance`` is told the rows done."""


AnyTrained = TypeVar("AnyTrained", bound=Trained)


@dataclass(frozen=True)
class TrainedStudent(Trained):
    """A ``DistilBertForSequenceClassification`` for ``labels``, in the order of its logits."""

    labels: tuple[str, ...]

    def predict_logits(self, rows: Sequence[Text], advance: Advance = ignore) -> Floats:
        """Logits (n_rows, n_labels) in PyTorch and 32 bits; ``advance`` is told the rows of each batch."""
        assert self.settings.max_length  # resolved
        logits = np.zeros((len(rows), len(self.labels)), dtype=np.float32)
        tokens = encode(self.tokenizer, rows, self.settings.max_length)
        with torch.inference_mode():
            for batch in batches_by_length(tokens, PREDICTION_BATCH):
                ids, mask = (torch.from_numpy(array) for array in pad([tokens[number] for number in batch]))
                logits[batch] = self.model(input_ids=ids, attention_mask=mask).logits.numpy()
                advance(len(batch))
        return logits

    def predict(self, texts: Sequence[Text], advance: Advance = ignore) -> list[str]:
        """The likeliest label of each text."""
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
    """Train a fresh student on ``rows``.

    ``soft_targets`` (n_rows, n_labels) are label probabilities that replace the rows' labels. ``advance`` is told the
    texts of each step, ``settings.passes(n_rows)`` in all, less where fewer than two labels have rows.
    The same arguments give bit-identical weights in the same environment (library versions, processor, number
    of threads). The caller's random state is left as it was.
    Raises ``ModelError`` as ``build_classifier`` does, and if ``settings.max_length`` is more than the body reads;
    ``ValueError`` for no rows, a label not in ``labels``, rows whose fields differ, or arrays that do not fit.
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
            pull_together(
                model.distilbert, tokens, numbers, contrast, seed, mean_and_first, settings.precision, advance
            )

    fitted = fit(model, token_ids, loss_of, settings, seed, lambda batch: advance(len(batch)), warm_up)
    return TrainedStudent(model, tokenizer, fields, settings, len(rows), *fitted, tuple(labels))


def averaged(first: AnyTrained, second: AnyTrained, share: float) -> AnyTrained:
    """A student whose weights are ``share`` times those of ``first`` and the rest of ``second``'s.

    Good only for two that were trained from the same initial weights, the head's included (Wortsman et al., "Model
    soups", 2022).
    """
    model = copy.deepcopy(first.model)
    others = second.model.state_dict()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.lerp_(others[name], 1 - share)
    return dataclasses.replace(first, model=model, seconds=first.seconds + second.seconds)


def _targets(rows: Sequence[Example], labels: Sequence[str], soft_targets: NDArray[Any] | None) -> Floats:
    """Label probabilities (n_rows, n_labels): the soft targets, or all on each row's label."""
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
    """What each row's loss counts (n_rows,), 1 on average; see ``TrainingSettings.balance``."""
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
    """Train ``model`` in place and leave it on the CPU; the number of steps, the last epoch's mean loss, the seconds.

    ``loss_of`` is given the model's output for a batch, and the numbers of its rows in ``token_ids``; ``settings``
    are resolved; ``advance`` is told the numbers of each batch that was learned from. ``warm_up`` is called first.
    Random numbers, such as those of dropout, come from ``seed``; the caller's random state is left as it was.
    """
    started = time.perf_counter()
    with seeded(seed):
        assert settings.epochs and settings.batch_size and settings.learning_rate  # resolved
        device = torch.device(torch_device())
        model.to(device).train()
        model.distilbert.embeddings.word_embeddings.weight.requires_grad_(False)
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
    """Every row number once, in batches of like length, in random order.

    Rows are shuffled, cut into buckets of ``BATCHES_PER_BUCKET`` batches, sorted by length inside each.
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
