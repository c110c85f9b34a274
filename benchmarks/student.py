"""A student's training and classification compared with the usual ways, in one run.

    python benchmarks/student.py --json benchmarks/results/student.json     everything
    python benchmarks/student.py --quick                                    one turn on few rows
    python benchmarks/student.py --quick --body models/all-mpnet-base-v2    another body

Training: the same rows and body with ``s3local``, whose body learns by contrast, with the ``Trainer`` of transformers,
its defaults and a classification head (which needs the package accelerate), and with every row padded to 512 tokens.
The last one is timed on a few steps of the Trainer's loop and extrapolated to all rows. Accuracy is measured on held-
out rows of the same pool.
Classification: the SST-2 test rows, for throughput and agreement only. The methods take turns, and the medians of all
turns are printed. On a machine with other load, ``--busy`` gives every method one thread and counts processor seconds
instead of wall-clock seconds.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s3local.evaluation.calibration import fit_temperature
from s3local.hardware import physical_cores
from s3local.records import Example, read_jsonl
from s3local.student.body import load_body
from s3local.student.export import export
from s3local.student.inference import Classifier
from s3local.student.training import TrainedStudent, TrainingSettings, train

ROOT = Path(__file__).resolve().parent.parent
BODY = ROOT / "models" / "all-minilm-l6-v2"
SEED = 20231
OURS, OURS_FP32, TRAINER, PADDED = "s3local", "s3local, 32 bits", "Trainer, defaults", "Trainer, padded to 512"
ARRIVAL, SORTED, ONNX, INT8 = "PyTorch, arrival order", "PyTorch, sorted", "ONNX 32 bits, sorted", "ONNX 8 bits, sorted"
TRAINING_ROWS = 500
EPOCHS = 3
PADDED_STEPS = 3
HELD_OUT = 500
BATCH = 32

Clock = Callable[[], float]


def examples_of(path: Path) -> list[Example]:
    return [Example(f"{number}", {"text": row["text"]}, row["label"]) for number, row in read_jsonl(path)]


def train_by_trainer(
    body: Path, rows: Sequence[Example], labels: list[str], clock: Clock, *, padded_steps: int = 0
) -> Any:
    """The Trainer's model and its seconds; ``padded_steps`` stops it after that many steps of 512 tokens a row."""
    from transformers import (
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    pretrained, tokenizer = load_body(body)
    pretrained.config.num_labels = len(labels)
    torch.manual_seed(SEED)
    model = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(pretrained.config)](pretrained.config)
    setattr(model, model.base_model_prefix, pretrained)
    model.requires_grad_(True)
    padding: dict[str, Any] = {"padding": "max_length", "max_length": 512} if padded_steps else {"padding": True}
    data = [{**tokenizer(row.text, truncation=True, max_length=512), "labels": labels.index(row.label)} for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            num_train_epochs=EPOCHS,
            max_steps=padded_steps or -1,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        collate = DataCollatorWithPadding(tokenizer, **padding)
        trainer = Trainer(model, settings, train_dataset=data, data_collator=collate, processing_class=tokenizer)
        started = clock()
        trainer.train()
        return model.eval(), tokenizer, clock() - started


def accuracy(student: TrainedStudent, rows: Sequence[Example]) -> float:
    return float(np.mean([label == row.label for label, row in zip(student.predict(rows), rows, strict=True)]))


def compare_training(
    body: Path, rows: list[Example], held_out: list[Example], labels: list[str], clock: Clock, turns: int
) -> Any:
    """A table row for each way to train, and a student trained by s3local."""
    settings = TrainingSettings()
    seconds: dict[str, list[float]] = {OURS: [], OURS_FP32: [], TRAINER: [], PADDED: []}
    accuracies: dict[str, float] = {}
    for _ in range(turns):
        started = clock()
        ours = train(body, rows, labels, settings, SEED)
        seconds[OURS].append(clock() - started)
        started = clock()
        ours_fp32 = train(body, rows, labels, dataclasses.replace(settings, precision="fp32"), SEED)
        seconds[OURS_FP32].append(clock() - started)
        model, tokenizer, took = train_by_trainer(body, rows, labels, clock)
        seconds[TRAINER].append(took)
        _, _, took = train_by_trainer(body, rows, labels, clock, padded_steps=PADDED_STEPS)
        seconds[PADDED].append(took / (PADDED_STEPS * 8) * len(rows) * EPOCHS)  # the Trainer's batch is 8
    theirs = dataclasses.replace(ours, model=model.cpu(), tokenizer=tokenizer)
    for name, student in ((OURS, ours), (OURS_FP32, ours_fp32), (TRAINER, theirs)):
        accuracies[name] = accuracy(student, held_out)
    table = [
        {
            "way": name,
            "rows": len(rows),
            "epochs": EPOCHS,
            "seconds": round(statistics.median(times), 2),
            "times_ours": round(statistics.median(t / o for t, o in zip(times, seconds[OURS], strict=True)), 2),
            "accuracy": accuracies.get(name),
            "extrapolated": name == PADDED,
        }
        for name, times in seconds.items()
    ]
    return table, ours


def in_arrival_order(student: TrainedStudent, rows: Sequence[Example]) -> NDArray[np.float32]:
    """Logits as a plain loop gets them: batches as the rows come, padded to their longest."""
    parts = []
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            texts = [row.text for row in rows[start : start + BATCH]]
            inputs = student.tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
            parts.append(student.model(**inputs).logits.numpy())
    return np.concatenate(parts)


def compare_classification(
    student: TrainedStudent, held_out: list[Example], rows: list[Example], clock: Clock, turns: int
) -> Any:
    """A table row for each way to classify, and the export's report."""
    threads = torch.get_num_threads()
    gold = [student.labels.index(row.label) for row in held_out]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "student"
        report = export(student, target, held_out, fit_temperature(student.predict_logits(held_out), gold))
        fp32 = Classifier.load(target, file="model.onnx", threads=threads)
        ways: dict[str, Callable[[], NDArray[np.float32]]] = {
            ARRIVAL: lambda: in_arrival_order(student, rows),
            SORTED: lambda: student.predict_logits(rows),
            ONNX: lambda: fp32.logits(rows),
        }
        if report.int8_passed:
            int8 = Classifier.load(target, file="model_int8.onnx", threads=threads)
            ways[INT8] = lambda: int8.logits(rows)
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        labels: dict[str, NDArray[np.int64]] = {}
        for _ in range(turns):
            for name, classify in ways.items():
                started = clock()
                labels[name] = classify().argmax(axis=1)
                seconds[name].append(clock() - started)
    table = [
        {
            "way": name,
            "rows": len(rows),
            "seconds": round(statistics.median(times), 2),
            "rows_a_second": round(len(rows) / statistics.median(times)),
            "sorted_over_this": round(statistics.median(s / t for t, s in zip(times, seconds[SORTED], strict=True)), 2),
            "arrival_over_this": round(
                statistics.median(a / t for t, a in zip(times, seconds[ARRIVAL], strict=True)), 2
            ),
            "same_label_as_pytorch": round(float((labels[name] == labels[SORTED]).mean()), 4),
        }
        for name, times in seconds.items()
    ]
    return table, report


def show(title: str, table: list[dict[str, Any]]) -> None:
    print(f"\n{title}")
    for row in [dict(zip(table[0], table[0], strict=True)), *table]:
        print("  ".join(f"{row[key]!s:>22}" if key == "way" else f"{row[key]!s:>{len(key)}}" for key in table[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=Path, default=ROOT.parent / "shared" / "datasets", help="their folder")
    parser.add_argument("--body", type=Path, default=BODY, help="the folder of the student's body (MiniLM)")
    parser.add_argument("--quick", action="store_true", help="one turn on few rows")
    parser.add_argument("--turns", type=int, default=3, help="how often each way is timed (default 3)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--busy", action="store_true", help="one thread each, seconds of the processor")
    arguments = parser.parse_args()
    clock, threads = (time.process_time, 1) if arguments.busy else (time.perf_counter, physical_cores())
    torch.set_num_threads(threads)

    pool = examples_of(arguments.datasets / "sst2" / "pool.jsonl")
    test = examples_of(arguments.datasets / "sst2" / "test.jsonl")
    random.Random(SEED).shuffle(pool)
    held_out, rows = pool[:HELD_OUT], pool[HELD_OUT : HELD_OUT + TRAINING_ROWS]
    turns = arguments.turns
    if arguments.quick:
        held_out, rows, test, turns = held_out[:200], rows[:100], test[:200], 1
    labels = sorted({row.label for row in pool})

    training, student = compare_training(arguments.body, rows, held_out, labels, clock, turns)
    show("training", training)
    classification, report = compare_classification(student, held_out, test, clock, turns)
    show("classification", classification)
    print(f"\nexport: {report.int8_note}; on {report.int8.n_rows} rows {report.int8.labels:.1%} keep their label")
    print(", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in report.bytes.items()))
    if arguments.json:
        result = {
            "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "torch": torch.__version__},
            "seconds": f"of the {'processor' if arguments.busy else 'clock'}, {threads} thread(s)",
            "turns": turns,
            "training": training,
            "classification": classification,
            "export": dataclasses.asdict(report),
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
