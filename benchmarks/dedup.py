"""Near-duplicate search: time, memory and recall, against brute force and against SemHash.

    python benchmarks/dedup.py --datasets ../shared/datasets --json benchmarks/results/dedup.json
    python benchmarks/dedup.py --quick

Rows are distinct sentences of real datasets; every fifth one is replaced by a lightly changed copy of an earlier
row, so that its place is known. All methods get the same embeddings, computed once and kept in a temporary folder:
what is timed is the search, from texts and vectors to the list of dropped rows, each method in a process of its
own, in turns. SemHash takes part if ``--semhash-python`` names an interpreter that has it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SEED = 20231
PLANT_EVERY = 5
PART_ROWS = 1_000
THRESHOLD = 0.9
SIZES = (1_000, 10_000, 100_000)
QUICK_SIZES = (1_000, 5_000)
SINGLE_TURN_ROWS = 30_000
"""From this size on, each method has one turn; below, three."""

EDITED_ROWS = 300
SHOWN_THRESHOLDS = (0.8, 0.85, 0.9, 0.95, 0.97)
FIELDS = ("text", "question", "hypothesis", "premise", "context")


def sentences(datasets: Path) -> list[str]:
    """Sentences of 3 to 40 words from all rows, distinct in their words, in a shuffled order."""
    found: dict[str, str] = {}
    for path in sorted(datasets.glob("*/*.jsonl")):
        for line in path.read_text(encoding="utf-8").rstrip("\n").split("\n"):
            row = json.loads(line)
            for text in (row[field] for field in FIELDS if field in row):
                for sentence in re.split(r"(?<=[.!?])\s+", text):
                    if 3 <= len(sentence.split()) <= 40:
                        found.setdefault(" ".join(re.findall(r"\w+", sentence.lower())), sentence)
    texts = list(found.values())
    random.Random(SEED).shuffle(texts)
    return texts


Edit = Callable[[str, random.Random], str]


def swapped(text: str, rng: random.Random) -> str:
    words = text.split()
    place = rng.randrange(len(words) - 1)
    return " ".join([*words[:place], words[place + 1], words[place], *words[place + 2 :]])


def at_one_word(change: Callable[[str], Sequence[str]], longest: bool = False) -> Edit:
    """An edit of one word: of any, or of the longest."""

    def edit(text: str, rng: random.Random) -> str:
        words = text.split()
        place = max(range(len(words)), key=lambda place: len(words[place])) if longest else rng.randrange(len(words))
        return " ".join([*words[:place], *change(words[place]), *words[place + 1 :]])

    return edit


SAME_CONTENT: dict[str, Edit] = {
    "capitals and dots": lambda text, rng: text.upper() + " ...",
    "two words swapped": swapped,
    "a word doubled": at_one_word(lambda word: [word, word]),
    "an empty tail": lambda text, rng: (
        text.rstrip(" .?!") + rng.choice((", if you ask me.", ", as they said.", ", and so on."))
    ),
}
"""Edits that leave what a sentence says; the planted copies are made by them."""

OTHER_CONTENT: dict[str, Edit] = {
    "a word left out": at_one_word(lambda word: []),
    "a 'not' put in": lambda text, rng: re.sub(
        r"\b(is|was|are|were|has|will|can|does|did)\b", r"\1 not", text, count=1
    ),
    "the longest word misspelt": at_one_word(lambda word: [word[:1] + word[2:3] + word[1:2] + word[3:]], longest=True),
    "the longest word replaced": at_one_word(lambda word: ["harbour"], longest=True),
    "the second half left out": lambda text, rng: " ".join(text.split()[: len(text.split()) // 2]),
}
"""Edits that may or do change what it says."""


def changed(text: str, rng: random.Random) -> str:
    """``text`` after one of the edits that leave its content."""
    return rng.choice(list(SAME_CONTENT.values()))(text, rng)


def planted_rows(originals: Sequence[str], n_rows: int) -> tuple[list[str], dict[int, int]]:
    """``n_rows`` texts and, for each planted copy among them, the place of its original. A prefix needs no more."""
    rng = random.Random(SEED)
    remaining = iter(originals)
    texts: list[str] = []
    origin: dict[int, int] = {}
    for place in range(n_rows):
        if place % PLANT_EVERY == PLANT_EVERY - 1:
            source = rng.randrange(place)
            while source in origin:
                source = rng.randrange(place)
            origin[place] = source
            texts.append(changed(texts[source], rng))
        else:
            texts.append(next(remaining))
    return texts, origin


def cached_vectors(texts: Sequence[str], model: Path, cache: Path) -> np.ndarray[Any, Any]:
    """One unit row a text, (n_texts, dim); computed part by part, unless an earlier run left the part."""
    from s3local.embedder import SentenceTransformerEmbedder

    embedder = SentenceTransformerEmbedder(model)
    parts = []
    for start in range(0, len(texts), PART_ROWS):
        part = texts[start : start + PART_ROWS]
        path = cache / f"{hashlib.sha256(json.dumps(part).encode()).hexdigest()[:16]}.npy"
        if not path.exists():
            print(f"embedding rows {start} to {start + len(part)} of {len(texts)}", file=sys.stderr, flush=True)
            np.save(path, embedder.embed(part))
        parts.append(np.load(path))
    return np.concatenate(parts)


# Each method gets texts and unit vectors and gives the places of the rows that it drops.


def drop_every_pair(texts: Sequence[str], vectors: np.ndarray[Any, Any]) -> list[int]:
    """The definition itself: all pairs, then row by row, dropped if near a kept earlier one."""
    near: dict[int, list[int]] = {}
    for start in range(0, len(vectors), 1000):
        block = vectors[start : start + 1000] @ vectors[: start + 1000].T  # (block, rows so far)
        for row, earlier in np.argwhere(block >= THRESHOLD):
            if earlier < row + start:
                near.setdefault(int(row) + start, []).append(int(earlier))
    dropped: set[int] = set()
    for row in sorted(near):
        if any(earlier not in dropped for earlier in near[row]):
            dropped.add(row)
    return sorted(dropped)


def drop_s3local(texts: Sequence[str], vectors: np.ndarray[Any, Any]) -> list[int]:
    from s3local.curation.dedup import Deduplicator, DedupSettings
    from s3local.progress import Advance, ignore
    from s3local.records import Candidate, Example

    rows = {text: row for row, text in enumerate(texts)}

    class Lookup:
        def embed(self, texts: Sequence[str], advance: Advance = ignore) -> np.ndarray[Any, Any]:
            return vectors[[rows[text] for text in texts]]

    candidates = [Candidate(Example(str(row), {"text": text}, "")) for row, text in enumerate(texts)]
    found = Deduplicator(Lookup(), DedupSettings(threshold=THRESHOLD)).filter(candidates)
    return [int(drop.candidate.example.id) for drop in found.dropped]


def drop_semhash(texts: Sequence[str], vectors: np.ndarray[Any, Any]) -> list[int]:
    from semhash import SemHash

    class NoModel:
        def encode(self, inputs: Sequence[str], **_: Any) -> np.ndarray[Any, Any]:
            raise RuntimeError("the vectors are given")

    records = [{"id": str(row), "text": text} for row, text in enumerate(texts)]
    index = SemHash.from_embeddings(vectors, records, NoModel(), columns=["text"])
    kept = {int(record["id"]) for record in index.self_deduplicate(threshold=THRESHOLD).selected}
    return [row for row in range(len(texts)) if row not in kept]


METHODS = {
    "every pair": drop_every_pair,
    "s3local": drop_s3local,
    "semhash": drop_semhash,
}


def shares_found(originals: Sequence[str], vectors: np.ndarray[Any, Any], model: Path) -> dict[str, dict[str, float]]:
    """For each edit, and for distinct sentences: the share of pairs whose cosine is at least each threshold."""
    from s3local.curation.vector_index import VectorIndex
    from s3local.embedder import SentenceTransformerEmbedder

    rng = random.Random(SEED)
    embedder = SentenceTransformerEmbedder(model)
    cosines: dict[str, np.ndarray[Any, Any]] = {}
    for name, edit in {**SAME_CONTENT, **OTHER_CONTENT}.items():
        edited = [edit(text, rng) for text in originals[:EDITED_ROWS]]
        differing = [place for place, text in enumerate(edited) if text != originals[place]]
        cosines[name] = np.sum(embedder.embed([edited[place] for place in differing]) * vectors[differing], axis=1)
    half = len(vectors) // 2
    index = VectorIndex()
    index.add(vectors[:half])
    cosines[f"the nearest of {half} other sentences"] = index.nearest(vectors[half:])[0]
    return {
        name: {str(threshold): round(float(np.mean(values >= threshold)), 4) for threshold in SHOWN_THRESHOLDS}
        for name, values in cosines.items()
    }


def peak_mib() -> float:
    """The most memory this process has held, in MiB (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def work(method: str, folder: Path, n_rows: int) -> None:
    """In a process of its own: run one method, print seconds, memory above the inputs', and the drops."""
    texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))[:n_rows]
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")[:n_rows].copy()
    drop = METHODS[method]
    drop(texts[:50], vectors[:50])  # imports and thread pools
    before = peak_mib()
    started, started_cpu = time.perf_counter(), time.process_time()
    dropped = drop(texts, vectors)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - started_cpu
    print(json.dumps({"seconds": seconds, "cpu": cpu_seconds, "mib": peak_mib() - before, "dropped": dropped}))


def measure(
    n_rows: int, origin: dict[int, int], interpreters: dict[str, str], folder: Path
) -> Iterator[dict[str, Any]]:
    """One row of results a method; the turns of the methods alternate."""
    turns: dict[str, list[dict[str, Any]]] = {method: [] for method in interpreters}
    for _ in range(1 if n_rows >= SINGLE_TURN_ROWS else 3):
        for method, interpreter in interpreters.items():
            command = [interpreter, __file__, "--worker", method, str(folder), str(n_rows)]
            turns[method].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    planted = {place for place in origin if place < n_rows}
    truth = set(turns["every pair"][0]["dropped"])
    ours = {clock: statistics.median(turn[clock] for turn in turns["s3local"]) for clock in ("seconds", "cpu")}
    for method, results in turns.items():
        dropped = set(results[0]["dropped"])
        medians = {clock: statistics.median(turn[clock] for turn in results) for clock in ours}
        yield {
            "rows": n_rows,
            "method": method,
            "turns": len(results),
            "seconds": round(medians["seconds"], 3),
            "processor seconds": round(medians["cpu"], 3),
            "times the seconds of s3local": round(medians["seconds"] / ours["seconds"], 2),
            "times the processor seconds of s3local": round(medians["cpu"] / ours["cpu"], 2),
            "peak MiB": round(max(turn["mib"] for turn in results), 1),
            "dropped": len(dropped),
            "recall against every pair": round(len(dropped & truth) / len(truth), 5),
            "precision against every pair": round(len(dropped & truth) / len(dropped), 5),
            "recall of planted": round(len(dropped & planted) / len(planted), 4),
            "precision of planted": round(len(dropped & planted) / len(dropped), 4),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datasets", type=Path, default=ROOT / "../shared/datasets", help="folder of the datasets")
    parser.add_argument("--model", type=Path, default=ROOT / "models/all-minilm-l6-v2", help="the embedder's folder")
    parser.add_argument("--semhash-python", help="an interpreter that has semhash")
    parser.add_argument("--quick", action="store_true", help=f"only {QUICK_SIZES} rows")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help=f"numbers of rows; {SIZES} if not given")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--worker", nargs=3, metavar=("METHOD", "FOLDER", "ROWS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        method, folder, n_rows = arguments.worker
        work(method, Path(folder), int(n_rows))
        return
    if not arguments.datasets.is_dir():
        sys.exit(f"{arguments.datasets}: no such folder; name the datasets with --datasets")

    sizes = QUICK_SIZES if arguments.quick else arguments.sizes
    folder = Path(tempfile.gettempdir()) / "s3local-benchmark-dedup"
    folder.mkdir(exist_ok=True)
    texts, origin = planted_rows(sentences(arguments.datasets), max(sizes))
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    vectors = cached_vectors(texts, arguments.model, folder)
    np.save(folder / "vectors.npy", vectors)

    interpreters = {method: sys.executable for method in METHODS if method != "semhash"}
    if arguments.semhash_python:
        interpreters["semhash"] = arguments.semhash_python
    places = [place for place in range(min(max(sizes), 10_000)) if place not in origin]
    thresholds = shares_found([texts[place] for place in places], vectors[places], arguments.model)
    for name, shares in thresholds.items():
        print(f"{name}: " + ", ".join(f"{share:.1%} at {threshold}" for threshold, share in shares.items()))
    results = []
    for n_rows in sizes:
        for row in measure(n_rows, origin, interpreters, folder):
            results.append(row)
            print(" | ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if arguments.json:
        record = {
            "what": "search only, embeddings given; medians of the turns, each method in its own process",
            "precision": "s3local also drops copies in normal form, whatever their cosine; every pair does not",
            "threshold": THRESHOLD,
            "planted": f"every {PLANT_EVERY}th row is a changed copy of an earlier one",
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            "share of pairs at or above each cosine": thresholds,
            "results": results,
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
