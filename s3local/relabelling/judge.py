"""Judges: an encoder fine-tuned on gold rows by supervised contrast, with a logistic regression on its embeddings.

The lower layers of the encoder stay as they are. Their output for a text is computed once and serves all judges, which
differ in the gold rows that they were trained on: judge number f has not seen fold f. A few dozen rows are enough.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from s3local.executor import Executor, InThisProcess
from s3local.hardware import room_on_card, torch_device
from s3local.progress import Advance, ignore
from s3local.records import Example
from s3local.student.body import layers, load_body, part
from s3local.student.contrastive import ContrastiveSettings, fine_tune_by_contrast
from s3local.student.encoding import Text, encode
from s3local.student.optimisation import cached_states, embed, seeded, uses_bf16
from s3local.student.pooling import load_pooling

Floats = NDArray[np.float32]

READING_ROWS = 512
"""Texts whose cached states are in memory at a time: 0.4 GB for 512 texts of 256 tokens and 768 dimensions."""


@dataclass(frozen=True, slots=True)
class JudgeSettings(ContrastiveSettings):
    """How judges are trained; the body as ``ContrastiveSettings`` says.

    On trec, 60 gold rows of two draws, 400 passes gave 80.0 and 82.5 % of 400 other pool rows, 200 gave 76.2 and 78.0,
    800 gave 83.2 and 83.8 for twice the time of 400.

    ``trained_layers``  the upper layers of the encoder that are trained; the others are frozen.
    ``C``               the inverse regularisation strength of the logistic regression.
    ``max_length``      tokens that are kept of a text.
    """

    passes: int = 400
    trained_layers: int = 6
    C: float = 10.0
    max_length: int = 256

    def __post_init__(self) -> None:
        if self.trained_layers < 1:
            raise ValueError(f"trained_layers must be at least 1, got {self.trained_layers}")


class Judges(Protocol):
    """Judges of one task, one for each fold of its gold rows."""

    def predict_proba(self, texts: Sequence[Text], advance: Advance = ignore) -> Floats:
        """Label probabilities (n_judges, n_texts, n_labels); ``advance`` is called with the texts that are done."""
        ...


class EncoderJudges:
    """``Judges`` on one encoder. Made by ``train_judges``."""

    def __init__(self, encoder: _Encoder, judges: Sequence[tuple[Any, Any]], n_labels: int) -> None:
        self._encoder = encoder
        self._judges = judges
        self._n_labels = n_labels

    def predict_proba(self, texts: Sequence[Text], advance: Advance = ignore) -> Floats:
        """See ``Judges.predict_proba``. Raises ``ModelError`` if a graphics card runs out of memory."""
        found = np.zeros((len(self._judges), len(texts), self._n_labels), dtype=np.float32)
        with self._encoder.on_device():
            for start in range(0, len(texts), READING_ROWS):
                states = self._encoder.states(texts[start : start + READING_ROWS])
                for number, (body, head) in enumerate(self._judges):
                    with _on_device(body):
                        vectors = self._encoder.embed(body, states)
                    found[number, start : start + len(states)] = head.predict_proba(vectors)
                advance(len(states))
        return found


class _Encoder:
    """The part of an encoder that all judges share: tokenizer, frozen layers and pooling."""

    def __init__(self, folder: Path, settings: JudgeSettings) -> None:
        self._body, self._tokenizer = load_body(folder)
        self.pool = load_pooling(folder)
        self._max_length = settings.max_length
        self._n_frozen = max(0, len(layers(self._body)) - settings.trained_layers)

    @contextlib.contextmanager
    def on_device(self) -> Iterator[None]:
        """The frozen part is on the graphics card inside, if there is one: a teacher needs that memory afterwards."""
        with _on_device(self._body), _on_device(self.pool):
            yield

    def trainable(self) -> Any:
        """A copy of the layers that a judge trains."""
        return copy.deepcopy(part(self._body, self._n_frozen))

    def states(self, texts: Sequence[Text]) -> list[Any]:
        """What the trained layers read of each text: hidden states (length, dim); token ids if no layer is frozen."""
        rows: list[Any] = encode(self._tokenizer, texts, self._max_length)
        if not self._n_frozen:
            return rows
        half = uses_bf16("auto", next(self._body.parameters()).device)
        with room_on_card("for a judge"):
            return cached_states(part(self._body, 0, self._n_frozen), rows, half)

    def embed(self, body: Any, states: Sequence[Any]) -> Floats:
        """Unit vectors (n_texts, dim) of texts from their ``states``, by the trained layers ``body``."""
        with room_on_card("for a judge"):
            return embed(body, self.pool, states, uses_bf16("auto", next(body.parameters()).device))


@dataclass(frozen=True, slots=True)
class _JudgeJob:
    """What one judge is trained on: the rows that are not in its fold, and further texts with their labels."""

    folder: Path
    rows: Sequence[Example]
    further: Sequence[tuple[str, str]]
    labels: Sequence[str]
    settings: JudgeSettings
    seed: int


def train_judges(
    folder: Path,
    rows: Sequence[Example],
    labels: Sequence[str],
    fold_of: NDArray[np.int64],
    settings: JudgeSettings,
    seeds: Sequence[int],
    further: Sequence[tuple[str, str]] = (),
    advance: Advance = ignore,
    executor: Executor | None = None,
) -> EncoderJudges:
    """One judge for each of ``seeds``: judge number f is trained on the ``rows`` whose ``fold_of`` (n_rows,) is not f.

    ``folder`` holds the encoder. ``further`` are pairs of a text and its label, such as the labels' descriptions, that
    the contrast sees beside the rows and the logistic regression does not. ``advance`` is called with the texts of
    each step, ``settings.passes`` for each judge; ``executor`` trains them side by side. The same arguments give the
    same judges in the same environment.
    Raises ``ModelError`` as ``load_body`` and ``load_pooling`` do, ``ValueError`` if a judge has no row of a label.
    """
    encoder = _Encoder(folder, settings)
    jobs = []
    for fold, seed in enumerate(seeds):
        mine = [row for row, its in zip(rows, fold_of, strict=True) if its != fold]
        if missing := [label for label in labels if label not in {row.label for row in mine}]:
            raise ValueError(f"a judge needs a row of each label; {missing[0]!r} has none")
        jobs.append(_JudgeJob(folder, mine, further, labels, settings, seed))
    judges = dict((executor or InThisProcess()).completed([partial(_train_judge, job) for job in jobs], advance))
    return EncoderJudges(encoder, [judges[fold] for fold in range(len(seeds))], len(labels))


def _train_judge(job: _JudgeJob, advance: Advance) -> tuple[Any, Any]:
    """The trained layers of one judge, and the logistic regression on its embeddings."""
    from sklearn.linear_model import LogisticRegression

    encoder, labels = _Encoder(job.folder, job.settings), job.labels
    numbers = np.array([labels.index(row.label) for row in job.rows])
    more = np.array([labels.index(label) for _, label in job.further], dtype=np.int64)
    body = encoder.trainable()
    with encoder.on_device(), _on_device(body), seeded(job.seed):
        mine = encoder.states(job.rows)
        further = encoder.states([text for text, _ in job.further]) if job.further else []
        seen = np.concatenate([numbers, more])
        fine_tune_by_contrast(body, [*mine, *further], seen, job.settings, job.seed, encoder.pool, advance=advance)
        head = LogisticRegression(C=job.settings.C, max_iter=2000).fit(encoder.embed(body, mine), numbers)
    return body, head


JudgeTrainer = Callable[
    [
        Path,
        Sequence[Example],
        Sequence[str],
        NDArray[np.int64],
        JudgeSettings,
        Sequence[int],
        Sequence[tuple[str, str]],
        Advance,
        Executor,
    ],
    Judges,
]
"""What trains judges as ``train_judges`` does, with its arguments in their order."""


@contextlib.contextmanager
def _on_device(module: Any) -> Iterator[None]:
    """``module`` is on the graphics card inside, if there is one, and on the processor afterwards."""
    module.to(torch_device())
    try:
        yield
    finally:
        module.cpu()
