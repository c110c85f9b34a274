"""Classify texts with an exported student: onnxruntime and a tokenizer, nothing else.

Knows nothing of torch, of training or of files other than the exported folder. Never reaches the network.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3local.exceptions import ModelError
from s3local.hardware import int8_is_exact, physical_cores
from s3local.progress import Advance, ignore
from s3local.student.encoding import Text, as_input, batches_by_length, encode, pad

Floats = NDArray[np.float32]

BATCH_ROWS = 16
WINDOW_ROWS = 4096
"""Rows of a stream that are held at once: sorted by length inside, so that batches pad little."""
META_FILE = "s3local.json"
FP32_FILE = "model.onnx"


@dataclass(frozen=True, slots=True)
class Prediction:
    """A label, its probability, and the probability of every label in the classifier's order."""

    label: str
    probability: float
    probabilities: tuple[float, ...]


class Classifier:
    """An exported student. Use ``Classifier.load(folder)``.

    ``labels`` are in the order of the columns that ``predict_proba`` gives, ``fields`` the names of an example's
    fields (one, or two for pairs of texts), ``file`` the name of the ONNX file in use.
    """

    def __init__(
        self,
        session: Any,
        tokenizer: Any,
        *,
        labels: Sequence[str],
        fields: Sequence[str],
        max_length: int,
        temperature: float,
        file: str,
    ) -> None:
        self.session = session
        self.tokenizer = tokenizer
        self.labels = tuple(labels)
        self.fields = tuple(fields)
        self.max_length = max_length
        self.temperature = temperature
        self.file = file

    @classmethod
    def load(cls, folder: Path, *, file: str | None = None, threads: int | None = None) -> Classifier:
        """Open a folder that ``s3local.student.export`` wrote.

        ``file`` is one of its ONNX files. None: the one that the export's checks chose, but the 32-bit one where
        this processor would sum the 8-bit products wrongly that the exporting one summed right.
        ``threads`` is the number of threads; None: one a physical core.
        Raises ``ModelError`` if a part of the folder is missing or damaged.
        """
        from tokenizers import Tokenizer

        try:
            meta = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
            if meta.get("kind") == "extractive_qa":
                raise ModelError(f"{folder} holds a student that answers questions, a Reader, not a Classifier")
            file = file or fastest_file(meta)
            session = open_session(folder / file, threads)
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            return cls(
                session,
                tokenizer,
                labels=meta["labels"],
                fields=meta["fields"],
                max_length=meta["max_length"],
                temperature=meta["temperature"],
                file=file,
            )
        except ModelError:
            raise
        except FileNotFoundError as exc:
            raise ModelError(f"{folder} is not an exported student: {exc.filename} is missing") from exc
        except KeyError as exc:
            raise ModelError(f"{folder / META_FILE}: the entry {exc} is missing") from exc
        except Exception as exc:  # tokenizers raises bare Exception
            raise ModelError(f"{folder} is not an exported student, or damaged: {exc}") from exc

    def logits(self, texts: Sequence[Text], advance: Advance = ignore) -> Floats:
        """What the network says before any softmax, (n_texts, n_labels); ``advance`` is told the texts of each batch.

        Raises ``ValueError`` for single texts where the student reads pairs, or the other way round.
        """
        for text in texts:
            if isinstance(as_input(text), str) == (len(self.fields) == 2):
                wanted = "a pair of texts" if len(self.fields) == 2 else "one text"
                raise ValueError(f"this student reads {wanted} ({', '.join(self.fields)}), got {text!r}")
        logits = np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        rows = encode(self.tokenizer, texts, self.max_length)
        for batch in batches_by_length(rows, BATCH_ROWS):
            ids, mask = pad([rows[number] for number in batch])
            (logits[batch],) = self.session.run(["logits"], {"input_ids": ids, "attention_mask": mask})
            advance(len(batch))
        return logits

    def predict_proba(self, texts: Sequence[Text], advance: Advance = ignore) -> Floats:
        """Calibrated label probabilities, (n_texts, n_labels), each row adding up to 1. Raises as ``logits``."""
        return softmax(self.logits(texts, advance) / self.temperature)

    def predict(self, texts: Sequence[Text], advance: Advance = ignore) -> list[str]:
        """The likeliest label of each text. Raises as ``logits``."""
        return [self.labels[number] for number in self.logits(texts, advance).argmax(axis=1)]

    def predict_stream(self, texts: Iterable[Text], advance: Advance = ignore) -> Iterator[Prediction]:
        """A prediction for each text, in order, holding at most ``WINDOW_ROWS`` of them. Raises as ``logits``."""
        stream = iter(texts)
        while window := list(itertools.islice(stream, WINDOW_ROWS)):
            for probabilities in self.predict_proba(window, advance).tolist():
                best = max(probabilities)
                yield Prediction(self.labels[probabilities.index(best)], best, tuple(probabilities))


def fastest_file(meta: Mapping[str, Any]) -> str:
    """The ONNX file that the export's checks chose, but not one in 8 bits that this processor would sum wrongly."""
    return FP32_FILE if meta["int8_full_range"] and not int8_is_exact() else str(meta["file"])


def open_session(path: Path, threads: int | None = None) -> Any:
    """An onnxruntime session on the CPU; ``threads`` None: one a physical core.

    Raises ``ModelError`` if the file is missing or damaged.
    """
    import onnxruntime

    if not path.is_file():
        raise ModelError(f"{path} is missing; an exported student belongs there")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or physical_cores()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime has an exception class for each of its statuses
        raise ModelError(f"{path} is damaged or not an ONNX model: {exc}") from exc


def softmax(logits: Floats) -> Floats:
    """Probabilities of the rows of ``logits``, (n_rows, n_labels)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
