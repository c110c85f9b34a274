"""The synthetic rows of a finished run with their provenance, in the formats of other programs.

Formats of one file: JSON Lines, CSV, Parquet. Formats of a folder: Hugging Face (``datasets``), Argilla, Label Studio.
The task's gold rows come along only where they are asked for.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias
from xml.sax.saxutils import quoteattr

from s3local.exceptions import InputError, RunError, StorageError
from s3local.export.cards import dataset_card
from s3local.finished_run import FinishedRun
from s3local.records import UNLABELLED, Candidate, Example, is_unlabelled, write_jsonl
from s3local.results import FINAL
from s3local.sources import rows_hash
from s3local.storage import atomic_write, replace_durably, translated_errors, write_text
from s3local.tables import row_writer
from s3local.task.model import load_task
from s3local.task.rows import load_rows
from s3local.wording import shown

DatasetFormat = Literal["jsonl", "csv", "parquet", "hf", "argilla", "label-studio"]

SYNTHETIC, DEV, TEST = "train", "validation", "test"
"""The splits: synthetic rows, and the gold rows of dev and test."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins with one of these is a formula for spreadsheets.
Source: OWASP, "CSV Injection"."""

PROVENANCE = frozenset(
    [
        *(
            "split",
            "method",
            "round",
            "shard",
            "request",
            "seed",
            "requested_label",
            "contrast_label",
            "contrast_shots",
        ),
        *("probabilities", "rationales", "error", "context_id", "shots", "log_probability"),
        *("decision", "decided"),
    ]
)
"""Columns of exported rows that no field may be called."""

CARD_FILE = "README.md"

ExportedRow: TypeAlias = dict[str, Any]


def export_dataset(
    run: FinishedRun,
    form: DatasetFormat,
    place: Path,
    gold: Mapping[str, Sequence[Example]],
    *,
    real_texts: bool = False,
) -> int:
    """Write the rows of ``run`` to ``place``, a file or a folder as the format has it; the number of rows.

    ``gold`` holds gold rows to add, by split. ``real_texts``: also the rows that were taken from the task's unlabelled
    ones. ``place`` appears whole or not at all.
    Raises ``RunError`` if the format needs labels and the run has none, ``InputError`` for a folder that holds
    something else, ``StorageError`` if ``place`` cannot be written.
    """
    rows = exported_rows(run, gold, real_texts=real_texts)
    if not run.labels and form in ("argilla", "label-studio"):
        raise RunError(f"{run.folder} answers questions; {form} is written for labels, use jsonl, csv, parquet or hf")
    if form == "jsonl":
        write_jsonl(place, rows)
    elif form == "csv":
        _write_csv(place, rows)
    elif form == "parquet":
        _write_parquet(place, rows)
    else:
        writers: dict[str, Callable[[FinishedRun, Sequence[ExportedRow], Path], None]] = {
            "hf": _write_hugging_face,
            "argilla": _write_argilla,
            "label-studio": _write_label_studio,
        }
        with new_folder(place) as folder:
            writers[form](run, rows, folder)
            write_text(folder / CARD_FILE, dataset_card(run, _sizes(rows), loads=form == "hf"))
    return len(rows)


def exported_rows(
    run: FinishedRun, gold: Mapping[str, Sequence[Example]], *, real_texts: bool = False
) -> list[ExportedRow]:
    """All rows, each with the same keys: id, split, texts, label (or answers), and where it comes from.

    ``round``, ``shard`` and ``request`` say which request of the teacher it was, with the run's random seed ``seed``.
    ``method`` is "seed" for rows that were written from the task's description, "extrapolation" for rows like the gold
    rows ``shots``, of which ``error`` is the one that the student got wrong, "gold" for gold rows, and "unlabelled" for
    real rows that came without a label.
    ``requested_label`` is what the teacher was asked for; its probabilities were contrasted with those for the prompt
    of ``contrast_label``, or with the gold rows ``contrast_shots``. ``label`` is the likeliest by ``probabilities``,
    those of the judges and the label model. ``decision`` is what a person decided on the row, at the time ``decided``
    (UTC, seconds since 1970).
    Raises ``RunError`` if a field of the task has the name of one of these columns.
    """
    if taken := sorted(set(run.fields) & PROVENANCE):
        raise RunError(
            f"the field {shown(taken[0])} of the task has the name of a column that says where a row comes from; take "
            f"{run.folder / FINAL / 'dataset.jsonl'} as it is"
        )
    kept = [candidate for candidate in run.candidates if real_texts or not is_unlabelled(candidate)]
    rows = [_synthetic(run, candidate) for candidate in kept]
    for split, examples in gold.items():
        rows += [_row(run, example, split, "gold", {}) for example in examples]
    return rows


def _synthetic(run: FinishedRun, candidate: Candidate) -> ExportedRow:
    origin = candidate.origin
    if is_unlabelled(candidate):
        return {**_row(run, candidate.example, SYNTHETIC, UNLABELLED, origin), "requested_label": None}
    method = "extrapolation" if origin.get("error") or origin.get("shots") else "seed"
    return _row(run, candidate.example, SYNTHETIC, method, origin)


def _row(run: FinishedRun, example: Example, split: str, method: str, origin: Mapping[str, Any]) -> ExportedRow:
    target: ExportedRow = {"label": example.label}
    if not run.labels:
        target = {
            "answer": [answer.text for answer in example.answers],
            "answer_start": [answer.start for answer in example.answers],
        }
    row: ExportedRow = {"id": example.id, "split": split, **example.fields, **target}
    against = origin.get("against")
    number, shard, request = _place(example.id) if split == SYNTHETIC else (None, None, None)
    return {
        **row,
        "method": method,
        "round": number,
        "shard": shard,
        "request": request,
        "seed": run.config["settings"].get("seed") if split == SYNTHETIC else None,
        "requested_label": (origin.get("asked") or example.label) if split == SYNTHETIC and run.labels else None,
        "contrast_label": against if isinstance(against, str) else None,
        "contrast_shots": against if isinstance(against, list) else [],
        "probabilities": _probabilities(run, example, origin),
        "rationales": list(origin.get("rationales") or ()),
        "error": origin.get("error"),
        "context_id": origin.get("context"),
        "shots": list(origin.get("shots") or ()),
        "log_probability": origin.get("logprob"),
        "decision": origin.get("decision"),
        "decided": origin.get("decided"),
    }


def _place(row_id: str) -> tuple[int | None, int | None, int | None]:
    """Round, shard and request of "round-1-0002-034"."""
    parts = row_id.split("-")
    if len(parts) < 4 or parts[0] != "round" or not all(part.isdigit() for part in parts[1:4]):
        return None, None, None
    return int(parts[1]), int(parts[2]), int(parts[3])


def _probabilities(run: FinishedRun, example: Example, origin: Mapping[str, Any]) -> dict[str, float]:
    """The probability of each label; 1 for the label itself where there are no judges."""
    found = origin.get("probabilities") or {}
    return {label: float(found.get(label, label == example.label if not found else 0.0)) for label in run.labels}


def _sizes(rows: Sequence[ExportedRow]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for row in rows:
        sizes[row["split"]] = sizes.get(row["split"], 0) + 1
    return sizes


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """A folder to fill, which gets the name ``place`` when the block ends without an error.

    It replaces an earlier export, which has a card. Raises ``InputError`` if ``place`` holds something else.
    """
    if place.exists() and (not place.is_dir() or (any(place.iterdir()) and not (place / CARD_FILE).is_file())):
        raise InputError(place, "it holds something else than an export; choose a new folder")
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    with translated_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            yield part
            replace_durably(part, place)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def gold_rows(run: FinishedRun, task_path: Path) -> dict[str, list[Example]]:
    """The gold rows of the task that ``run`` was made of, by split.

    Raises ``InputError`` as ``load_task`` and ``load_rows`` do, and if the rows have changed since the run.
    """
    task = load_task(task_path)
    found = {}
    for split, path, checksum in ((DEV, task.dev, "dev_sha256"), (TEST, task.test, "test_sha256")):
        if path is not None:
            if rows_hash(path) != run.config.get(checksum):
                raise InputError(path, "not the rows of this run, or changed since; name the task of the run")
            found[split] = load_rows(path, task)
    return found


# One file


def safe_cell(value: object) -> object:
    """A value as a cell: no text begins a formula (an apostrophe stands before it), lists and keys are JSON."""
    if isinstance(value, list | dict):
        value = json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def _write_csv(place: Path, rows: Sequence[ExportedRow]) -> None:
    with atomic_write(place) as stream:
        write = row_writer(stream)
        if rows:
            write([safe_cell(name) for name in rows[0]])
        for row in rows:
            write([safe_cell(value) for value in row.values()])


def _write_parquet(place: Path, rows: Sequence[ExportedRow]) -> None:
    import pyarrow
    from pyarrow import parquet

    with atomic_write(place, "wb") as stream:
        parquet.write_table(pyarrow.Table.from_pylist(list(rows)), stream)


# Folders


def _write_hugging_face(run: FinishedRun, rows: Sequence[ExportedRow], folder: Path) -> None:
    """As ``datasets`` saves it; the card says where the splits are, for ``load_dataset``."""
    try:
        import datasets
    except ImportError as exc:
        raise StorageError('the format hf needs the package datasets: pip install "s3local[hf]"') from exc
    text, number = datasets.Value("string"), datasets.Value("int32")
    target: dict[str, Any] = {"label": datasets.ClassLabel(names=list(run.labels))}
    if not run.labels:
        target = {"answer": datasets.Sequence(text), "answer_start": datasets.Sequence(number)}
    features = datasets.Features(
        {
            "id": text,
            **dict.fromkeys(run.fields, text),
            **target,
            "method": text,
            **dict.fromkeys(("round", "shard", "request"), number),
            "seed": datasets.Value("int64"),
            "requested_label": text,
            "contrast_label": text,
            "contrast_shots": datasets.Sequence(text),
            **({"probabilities": dict.fromkeys(run.labels, datasets.Value("float32"))} if run.labels else {}),
            "rationales": datasets.Sequence(text),
            "error": text,
            "context_id": text,
            "shots": datasets.Sequence(text),
            "log_probability": datasets.Value("float32"),
            "decision": text,
            "decided": datasets.Value("float64"),
        }
    )
    splits = {}
    for split in _sizes(rows):
        chosen = [row for row in rows if row["split"] == split]
        splits[split] = datasets.Dataset.from_dict({name: [row[name] for row in chosen] for name in features}, features)
    datasets.disable_progress_bars()
    datasets.DatasetDict(splits).save_to_disk(str(folder))


def _write_argilla(run: FinishedRun, rows: Sequence[ExportedRow], folder: Path) -> None:
    """Records for ``rg.Dataset.records.log`` and the settings of their dataset; the labels are suggestions."""
    settings = {
        "guidelines": str(run.task["texts"]),
        "allow_extra_metadata": True,
        "fields": [
            {"name": name, "title": name, "required": True, "settings": {"type": "text", "use_markdown": False}}
            for name in run.fields
        ],
        "questions": [
            {
                "name": "label",
                "title": "Label",
                "description": None,
                "required": True,
                "settings": {
                    "type": "label_selection",
                    "options": [
                        {"value": label["name"], "text": label["name"], "description": label["description"]}
                        for label in run.task["labels"]
                    ],
                },
            }
        ],
    }
    records = [
        {
            "id": row["id"],
            "status": "pending",
            "fields": {name: row[name] for name in run.fields},
            "metadata": _metadata(run, row),
            "suggestions": {
                "label": {
                    "value": row["label"],
                    "score": row["probabilities"][row["label"]],
                    "agent": f"s3local, {row['method']}",
                }
            },
            "responses": {},
            "vectors": {},
        }
        for row in rows
    ]
    _write_json(folder / "settings.json", settings)
    _write_json(folder / "records.json", records)


def _write_label_studio(run: FinishedRun, rows: Sequence[ExportedRow], folder: Path) -> None:
    """Tasks with the labels as predictions, and the labelling interface that they fit."""
    tasks = [
        {
            "data": {name: row[name] for name in run.fields} | {"id": row["id"]},
            "meta": _metadata(run, row),
            "predictions": [
                {
                    "model_version": f"s3local, {row['method']}",
                    "score": row["probabilities"][row["label"]],
                    "result": [
                        {
                            "from_name": "label",
                            "to_name": run.fields[-1],
                            "type": "choices",
                            "value": {"choices": [row["label"]]},
                        }
                    ],
                }
            ],
        }
        for row in rows
    ]
    texts = "".join(f"  <Text name={quoteattr(name)} value={quoteattr(f'${name}')}/>\n" for name in run.fields)
    choices = "".join(
        f"    <Choice value={quoteattr(label['name'])} hint={quoteattr(label['description'])}/>\n"
        for label in run.task["labels"]
    )
    _write_json(folder / "tasks.json", tasks)
    write_text(
        folder / "labeling_config.xml",
        f'<View>\n{texts}  <Choices name="label" toName={quoteattr(run.fields[-1])} choice="single" '
        f'required="true">\n{choices}  </Choices>\n</View>\n',
    )


def _metadata(run: FinishedRun, row: ExportedRow) -> dict[str, Any]:
    """The provenance of a row as flat values."""
    flat = {
        key: json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
        for key, value in row.items()
        if key not in ("id", "label", *run.fields)
    }
    return {key: value for key, value in flat.items() if value not in (None, "[]", "{}")}


def _write_json(path: Path, value: object) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")
