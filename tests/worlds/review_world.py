"""Finished runs to review, written without a model, and a server of their own process for them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from some_results import run_summary

from s3local.records import write_jsonl
from s3local.results import write_result
from s3local.storage import sha256_of, write_text

LABELS = {"praise": "The writer is pleased.", "complaint": "The writer is not."}
CHECKOUT = Path(__file__).parents[2]

AWKWARD = {
    "script": '<script>document.title="taken"</script><img src=x onerror="document.title=1">',
    "control": "a bell\x07 and an escape\x1b[31m here",
    "right to left": "שלום, the parcel \u202egnp.exe did not come",
    "long": "word " * 2000,
}
"""Texts that a page must show as text."""


def synthetic(count: int) -> list[dict[str, Any]]:
    """Rows of a dataset, each less probable than the one before; every fourth has another label than asked for."""
    rows = []
    for number in range(count):
        label = list(LABELS)[number % 2]
        other = list(LABELS)[1 - number % 2]
        chance = round(0.99 - 0.45 * number / max(1, count), 6)
        origin = {
            "error": "d1",
            "asked": other if number % 4 == 3 else label,
            "probabilities": {name: chance if name == label else round(1 - chance, 6) for name in LABELS},
        }
        text = f"message {number} about a parcel"
        rows.append({"id": f"round-{number % 2}-0000-{number:03d}", "text": text, "label": label, "origin": origin})
    return rows


def dropped(number: int, text: str, reason: str) -> dict[str, Any]:
    row = {"id": f"round-0-0001-{number:03d}", "text": text, "label": "praise", "origin": {"stage": "round-0"}}
    return {**row, "reason": reason, "score": 1.0, "detail": "why"}


def write_run(folder: Path, rows: Sequence[Mapping[str, Any]], drops: Sequence[Mapping[str, Any]] = ()) -> Path:
    """A folder as a finished run of one round and a seed leaves it, as far as a review reads it."""
    labels = [{"name": name, "description": text, "phrase": "", "rationales": []} for name, text in LABELS.items()]
    task = {"name": "parcels", "kind": "classification", "fields": ["text"], "labels": labels, "generated": None}
    write_text(folder / "config.json", json.dumps({"task": task}))
    write_jsonl(folder / "final" / "dataset.jsonl", rows)
    write_jsonl(folder / "round-0" / "dropped.jsonl", drops)
    error = {"id": "d1", "text": "where is <b>my</b> parcel", "label": "complaint", "predicted": "praise"}
    write_jsonl(folder / "round-1" / "extrapolated.jsonl", [error])
    summary = run_summary()
    first = summary.rounds[0]
    second = dataclasses.replace(first, student=dataclasses.replace(first.student, stage="round-1"))
    checksum = sha256_of(folder / "final" / "dataset.jsonl")
    write_result(
        folder / "result.json",
        dataclasses.replace(summary, task="parcels", rounds=(first, second), dataset_sha256=checksum, rows=len(rows)),
    )
    return folder


class Server:
    """The program ``s3local``, serving a page in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address

    def kill(self) -> None:
        """End the process at once, as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def call(self, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        """The status and the answer, read as JSON where it is some, to a request as the page makes it."""
        known = {"Origin": self.address.split("/", 3)[0] + "//" + self.address.split("/")[2]}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            known["Content-Type"] = "application/json"
        known |= {name.replace("_", "-"): value for name, value in headers.items()}
        request = Request(self.address + path, data, {name: value for name, value in known.items() if value})
        try:
            with urlopen(request) as answer:
                status, content, kind = answer.status, answer.read(), answer.headers["content-type"]
        except HTTPError as answer:
            status, content, kind = answer.code, answer.read(), answer.headers["content-type"]
        return status, json.loads(content) if kind == "application/json" else content.decode()


@contextlib.contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    """The server of ``s3local review ...`` or ``s3local label ...``, until the block ends."""
    program = [sys.executable, "-m", "s3local.cli.main", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=CHECKOUT
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        address = process.stdout.readline().strip()
        if not address.startswith("http"):
            raise AssertionError(address + process.stdout.read() + process.stderr.read())
        yield Server(process, address)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
