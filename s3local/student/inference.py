"""Classify texts with an exported student. Needs onnxruntime and ``tokenizers``, not torch or transformers."""

from __future__ import annotations

import html
import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3local.exceptions import ModelError
from s3local.hardware import int8_is_exact, physical_cores
from s3local.offline import ENVIRONMENT
from s3local.progress import Advance, ignore
from s3local.storage import inner_name, parsed_json
from s3local.student.encoding import Ids, Text, as_input, batches_by_length, encode, pad

Floats = NDArray[np.float32]

BATCH_ROWS = 16
WINDOW_ROWS = 4096
"""Rows of a stream that are held in memory at a time; they are sorted by length, which saves padding."""
META_FILE = "s3local.json"
PADDING = "padding"
"""The entry of ``META_FILE`` with the id that short rows are filled up with; folders without it use 0."""
MAX_LENGTH = 1_000_000
"""The most tokens of a text that an exported student may claim to read."""
FP32_FILE = "model.onnx"
RUN_FILE = "result.json"
"""The last file of a finished run; its entry "selected" names the stage of the selected student."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The most probable label, its probability, and the probabilities of all labels in the classifier's order."""

    label: str
    probability: float
    probabilities: tuple[float, ...]


class Classifier:
    """An exported classifier. Use ``Classifier.load(folder)`` with the folder of a run, or of an exported student.

    Texts are a list, a pandas Series or a NumPy array; pairs of texts are tuples, or the rows of a DataFrame that has
    the fields as columns.

    ``labels`` are in the order of the columns of ``predict_proba``, ``fields`` are the names of an example's fields
    (one, or two for pairs of texts), ``file`` is the name of the ONNX file in use.
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
        padding: int,
        file: str,
    ) -> None:
        self.session = session
        self.tokenizer = tokenizer
        self.labels = tuple(labels)
        self.fields = tuple(fields)
        self.max_length = max_length
        self.temperature = temperature
        self.padding = padding
        self.file = file

    @classmethod
    def load(cls, folder: str | Path, *, file: str | None = None, threads: int | None = None) -> Classifier:
        """Open the selected student of a finished run, or a folder that ``s3local.student.export`` wrote.

        ``file`` is one of its ONNX files; None: the one that ``fastest_file`` chooses. ``threads`` is the number of
        threads; None: one per physical core.
        Raises ``ModelError`` if a file of the folder is missing or damaged, or if it holds a ``Reader``.
        """
        from tokenizers import Tokenizer

        folder = student_folder(Path(folder))
        try:
            meta = read_meta(folder)
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
                padding=meta.get(PADDING, 0),
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

    def __repr__(self) -> str:
        return f"Classifier(labels={list(self.labels)}, fields={list(self.fields)}, file={self.file!r})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the labels, what is read, and which file is in use."""
        entries = {
            "labels": ", ".join(self.labels),
            "reads": f"{' and '.join(self.fields)}, up to {self.max_length} tokens",
            "file": self.file,
            "temperature": f"{self.temperature:.2f}",
        }
        rows = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in entries.items())
        return f"<table><caption>s3local classifier</caption>{rows}</table>"

    def logits(self, texts: Sequence[Text], advance: Advance = ignore) -> Floats:
        """The logits (n_texts, n_labels), before softmax and temperature.

        ``advance`` is called with the number of texts of each batch. Raises ``TypeError`` for one text in place of
        several and for what is no text, ``ValueError`` for single texts if the student reads pairs, and for pairs if it
        reads single texts.
        """
        texts = self._as_texts(texts)
        logits = np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        rows = encode(self.tokenizer, texts, self.max_length)
        for batch in batches_by_length(rows, BATCH_ROWS):
            ids, mask = pad([rows[number] for number in batch], self.padding)
            (logits[batch],) = self.session.run(["logits"], inputs_of(self.session, ids, mask))
            advance(len(batch))
        return logits

    def predict_proba(self, texts: Sequence[Text], advance: Advance = ignore) -> Floats:
        """Calibrated label probabilities (n_texts, n_labels); each row sums to 1. Raises as ``logits``."""
        return softmax(self.logits(texts, advance) / self.temperature)

    def predict(self, texts: Sequence[Text], advance: Advance = ignore) -> list[str]:
        """The most probable label of each text. Raises as ``logits``."""
        return [self.labels[number] for number in self.logits(texts, advance).argmax(axis=1)]

    def _as_texts(self, texts: Any) -> list[Text]:
        """``texts`` as a list, each of which the student can read."""
        if isinstance(texts, str):
            raise TypeError("a list of texts belongs here, got one text; put it in brackets")
        if hasattr(texts, "columns") and hasattr(texts, "itertuples"):  # a DataFrame
            if missing := [name for name in self.fields if name not in texts.columns]:
                raise ValueError(f"the table has no column {missing[0]!r}; it has {list(texts.columns)}")
            texts = list(texts[list(self.fields)].itertuples(index=False, name=None))
            texts = [row[0] for row in texts] if len(self.fields) == 1 else texts
        found = list(texts)
        for place, text in enumerate(found):
            given = as_input(text)
            parts = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, tuple | list) else (None,)
            if not all(isinstance(part, str) for part in parts):
                raise TypeError(f"a text belongs in place {place}, got {text!r}")
            if len(parts) != len(self.fields):
                wanted = "a pair of texts" if len(self.fields) == 2 else "one text"
                raise ValueError(f"this student reads {wanted} ({', '.join(self.fields)}), got {text!r}")
        return found

    def predict_stream(self, texts: Iterable[Text], advance: Advance = ignore) -> Iterator[Prediction]:
        """A prediction for each text, in order; at most ``WINDOW_ROWS`` are in memory. Raises as ``logits``."""
        stream = iter(texts)
        while window := list(itertools.islice(stream, WINDOW_ROWS)):
            for probabilities in self.predict_proba(window, advance).tolist():
                best = max(probabilities)
                yield Prediction(self.labels[probabilities.index(best)], best, tuple(probabilities))


def student_folder(folder: Path) -> Path:
    """The folder of the selected student, if ``folder`` is that of a finished run; else ``folder`` itself.

    Raises ``ModelError`` if the run's last file is damaged.
    """
    if (folder / META_FILE).is_file() or not (folder / RUN_FILE).is_file():
        return folder
    try:
        selected = parsed_json((folder / RUN_FILE).read_text(encoding="utf-8"))["selected"]
        return folder / str(selected) / "student"
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise ModelError(f"{folder / RUN_FILE} is damaged ({exc}); delete it, and run the same command again") from exc


def read_meta(folder: Path) -> dict[str, Any]:
    """The entries of an exported student's own file, of a ``Reader`` as well.

    Raises ``ModelError`` if it is missing, or an entry is something else than what ``export`` wrote.
    """
    path = folder / META_FILE
    try:
        meta: dict[str, Any] = parsed_json(path.read_text(encoding="utf-8"))
        if not isinstance(meta, dict):
            raise ValueError("keys with values belong there")
        for key in ("labels", "fields"):
            if key in meta and not (isinstance(meta[key], list) and all(isinstance(name, str) for name in meta[key])):
                raise ValueError(f"{key}: a list of names belongs there")
        if not isinstance(meta.get("max_length", 1), int) or not 1 <= meta.get("max_length", 1) <= MAX_LENGTH:
            raise ValueError(f"max_length: a whole number from 1 to {MAX_LENGTH:,} belongs there")
        if not isinstance(meta.get("temperature", 1), int | float) or not 0 < meta.get("temperature", 1) < math.inf:
            raise ValueError("temperature: a number above 0 belongs there")
        inner_name(meta.get("file", FP32_FILE))
    except FileNotFoundError as exc:
        raise ModelError(f"{folder} is not an exported student: {exc.filename} is missing") from exc
    except (OSError, ValueError) as exc:
        raise ModelError(f"{path} is damaged ({exc}); copy the folder again, or make it again") from exc
    return meta


def fastest_file(meta: Mapping[str, Any]) -> str:
    """The ONNX file that the export selected; the 32-bit file if this processor would overflow in the 8-bit one."""
    return FP32_FILE if meta["int8_full_range"] and not int8_is_exact() else str(meta["file"])


def open_session(path: Path, threads: int | None = None) -> Any:
    """An onnxruntime session on the CPU; ``threads`` None: one per physical core.

    Raises ``ModelError`` if the file is missing or damaged.
    """
    os.environ.update(ENVIRONMENT)  # before the import: onnxruntime reads its telemetry switch then
    import onnxruntime

    if not path.is_file():
        raise ModelError(f"{path} is missing; an exported student belongs there")
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or physical_cores()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime has an exception class for each of its statuses
        raise ModelError(f"{path} is damaged or not an ONNX model: {exc}") from exc


def inputs_of(session: Any, ids: Ids, mask: Ids) -> dict[str, Ids]:
    """The inputs that the session's graph declares; token types, where it has them, are 0 as in training."""
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    return {declared.name: inputs[declared.name] for declared in session.get_inputs()}


def softmax(logits: Floats) -> Floats:
    """The softmax of each row of ``logits``, (n_rows, n_labels)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
