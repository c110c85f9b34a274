"""The selected classifier of a finished run as a folder that needs onnxruntime, ``tokenizers`` and numpy alone."""

from __future__ import annotations

import dataclasses
import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

from s3local.evaluation.thresholds import thresholds
from s3local.exceptions import ModelError, RunError
from s3local.export.cards import model_card
from s3local.export.dataset import CARD_FILE, new_folder
from s3local.finished_run import FinishedRun
from s3local.storage import translated_errors, write_text
from s3local.student.inference import FP32_FILE, META_FILE, PADDING, read_meta

CLASSIFIER_FILE = "classifier.json"
TOKENIZER_FILE = "tokenizer.json"
MODEL_FILE = "model.onnx"
PREDICT_FILE = "predict.py"


def export_model(run: FinishedRun, place: Path) -> str:
    """Write the folder; the name of the ONNX file of the run that was taken.

    It is the 8-bit file if the run kept one that is exact on every processor, else the 32-bit file. The folder holds it
    as model.onnx, and besides tokenizer.json, classifier.json (labels, fields, temperature, thresholds), predict.py
    and the model card. It appears whole or not at all.
    Raises ``RunError`` for a run that answers questions, ``ModelError`` if the run's student is damaged, ``InputError``
    if ``place`` holds something else, ``StorageError`` if it cannot be written.
    """
    if not run.labels:
        raise RunError(f"{run.folder} answers questions; onnx is written for classifiers, take {run.model} as it is")
    meta = _meta(run.model)
    file = FP32_FILE if meta["int8_full_range"] else meta["file"]
    held_out = run.held_out
    found = {} if held_out is None else thresholds(held_out.confidences, held_out.right)
    classifier = {
        "labels": meta["labels"],
        "fields": meta["fields"],
        "max_length": meta["max_length"],
        "padding": meta.get(PADDING, 0),
        "temperature": meta["temperature"],
        "thresholds": {str(target): dataclasses.asdict(threshold) for target, threshold in found.items()},
    }
    for name in (file, TOKENIZER_FILE):
        if not (run.model / name).is_file():
            raise ModelError(f"{run.model / name} is missing; the run is damaged, run it again under another --name")
    with new_folder(place) as folder, translated_errors(place):
        shutil.copyfile(run.model / file, folder / MODEL_FILE)
        shutil.copyfile(run.model / TOKENIZER_FILE, folder / TOKENIZER_FILE)
        write_text(folder / CLASSIFIER_FILE, json.dumps(classifier, ensure_ascii=False, indent=2) + "\n")
        template = resources.files("s3local.export").joinpath("templates/predict.py.txt")
        write_text(folder / PREDICT_FILE, template.read_text(encoding="utf-8"))
        write_text(folder / CARD_FILE, model_card(run, found))
    return str(file)


def _meta(folder: Path) -> dict[str, Any]:
    """The entries of the student's own file. Raises ``ModelError`` if one is missing."""
    meta = read_meta(folder)
    for key in ("labels", "fields", "max_length", "temperature", "file", "int8_full_range"):
        if key not in meta:
            raise ModelError(f"{folder / META_FILE} is damaged ({key} is missing); run again under another --name")
    return meta
