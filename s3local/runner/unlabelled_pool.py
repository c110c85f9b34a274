"""The pool: the rows of the task's unlabelled file that a run may take, on disk, with their embeddings.

The file is streamed twice. First, rows that repeat another one, copy dev or test or break a rule, such as those of
length and script, are dropped with their reason, and of the others a random sample is drawn; then the sample is
written. Embeddings are written block by block, so that a killed run goes on with the block that it was at.

Memory: 0.5 kB for each row of the sample, one block of texts, and one block of vectors (4 * dim bytes a row; 1.6 MB of
384 dimensions), whatever the length of the file. Texts are read from the disk when they are needed.
"""

from __future__ import annotations

import hashlib
import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from s3local.embedder import CachedEmbedder, Vectors
from s3local.exceptions import InputError, RunError
from s3local.interruption import stop_if_asked
from s3local.records import UNLABELLED, Candidate, Dropped, Example, Row
from s3local.results import PoolResult
from s3local.runner.context import UNLABELLED_ROWS, RunContext
from s3local.runner.generation import Curation
from s3local.storage import atomic_write, parsed_json
from s3local.task.rows import load_unlabelled
from s3local.text import normal_form

MOST_ROWS = 20_000
"""Rows of the sample, at most, unless the budget is large. Later rounds look for the rows nearest to errors, so that
all of it is embedded: at some 300 rows a second, 100,000 would take minutes before the first one is taken. The usual
budget takes 1,000 rows, one in 20 of the sample."""
ROWS_PER_WANTED = 4
"""The sample has at least this many rows for each row of the budget, if the file has them."""
BLOCK = 256
"""Rows that are checked at a time."""
VECTOR_BLOCK = 1024
"""Rows that are embedded at a time; what a killed run loses at most."""

ROWS_FILE, DROPPED_FILE, MARKER = "unlabelled/rows.jsonl", "unlabelled/dropped.jsonl", "unlabelled/rows.json"


class UnlabelledPool:
    """The pool of a run. ``curation`` says which texts break a rule or copy dev or test.

    Rows are known by their places, from 0, in the order of the file.
    """

    def __init__(self, context: RunContext, curation: Curation) -> None:
        self._context = context
        self._curation = curation
        self.ids: list[str] = []
        """The ids of the rows."""
        self._offsets: list[int] = []
        self._blocks: list[Vectors] = []

    def __len__(self) -> int:
        return len(self.ids)

    def open(self) -> PoolResult:
        """Draw and embed the pool, or find it where an earlier sitting left it. Writes unlabelled/.

        Raises ``InputError`` for a line of the file that cannot be read, and for a file without rows.
        """
        result = self._context.state.once(MARKER, PoolResult, self._draw)
        if not self.ids:
            offset = 0
            with (self._context.state.path / ROWS_FILE).open("rb") as stream:
                for number, line in enumerate(stream, start=1):
                    try:
                        self.ids.append(parsed_json(line)["id"])
                    except (ValueError, KeyError, TypeError) as exc:
                        raise _damaged(f"{self._context.state.path / ROWS_FILE}, line {number}", exc) from exc
                    self._offsets.append(offset)
                    offset += len(line)
            self._embed()
        return result

    def rows(self, places: Sequence[int]) -> list[Example]:
        """The rows at these places, with an empty label."""
        found = []
        with (self._context.state.path / ROWS_FILE).open("rb") as stream:
            for place in places:
                stream.seek(self._offsets[place])
                found.append(Example.from_row(parsed_json(stream.readline())))
        return found

    def vectors(self, places: Sequence[int]) -> Vectors:
        """The embeddings of the rows at these places, (n_places, dim)."""
        return np.stack([self._blocks[place // VECTOR_BLOCK][place % VECTOR_BLOCK] for place in places])

    def nearest(self, queries: Vectors, depth: int) -> NDArray[np.int64]:
        """The places of the ``depth`` rows that are nearest to each of ``queries`` (n, dim), the nearest first.

        (n, depth), or as many columns as there are rows. Of equally near rows the first in the file comes first.
        """
        scores = np.zeros((len(queries), 0), np.float32)
        places = np.zeros((len(queries), 0), np.int64)
        for number, block in enumerate(self._blocks):
            here = np.broadcast_to(np.arange(len(block)) + number * VECTOR_BLOCK, (len(queries), len(block)))
            scores, places = np.hstack([scores, queries @ block.T]), np.hstack([places, here])
            best = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
            scores, places = np.take_along_axis(scores, best, axis=1), np.take_along_axis(places, best, axis=1)
        return places

    def _draw(self) -> PoolResult:
        context, counts, chosen = self._context, Counter[str](), dict[int, int]()
        assert context.task.unlabelled is not None
        n_rows = 0

        def dropped() -> Iterator[Row]:
            nonlocal n_rows
            rows = self._read()
            with context.progress.step("reading the unlabelled rows", None, "rows") as advance:
                while block := list(islice(rows, BLOCK)):
                    n_rows += len(block)
                    for drop in self._sift(block, chosen):
                        counts[drop.reason] += 1
                        yield drop.to_row()
                    advance(len(block))

        context.state.write_rows(DROPPED_FILE, dropped())
        if not n_rows:
            raise InputError(context.task.unlabelled, "no rows; one text a line belongs here")
        numbers = set(chosen.values())
        context.state.write_rows(ROWS_FILE, (row.to_row() for number, row in self._read() if number in numbers))
        left_out = n_rows - len(chosen) - counts.total()
        drops = ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common())
        context.progress.say(
            f"{n_rows:,} unlabelled rows, {counts.total():,} dropped{f' ({drops})' if drops else ''}"
            + (f"; of the others a random sample of {len(chosen):,} may be taken" if left_out else "")
        )
        return PoolResult(rows=n_rows, sampled=len(chosen), dropped_by_reason=dict(counts.most_common()))

    def _read(self) -> Iterator[tuple[int, Example]]:
        """The rows of the file, each with its number."""
        task = self._context.task
        assert task.unlabelled is not None
        for number, fields in load_unlabelled(task.unlabelled, task):
            yield number, Example(f"{task.unlabelled.stem}-{number}", fields, "")

    def _sift(self, block: Iterable[tuple[int, Example]], chosen: dict[int, int]) -> list[Dropped]:
        """Take the rows of ``block`` into the sample ``chosen``, a dictionary of keys and row numbers; the drops.

        A row's key is a hash of its text and the seed, and the sample has the rows with the smallest keys (a bottom-k
        sketch; Cohen and Kaplan, 2007). So equal texts meet, every different text is equally likely to be in the
        sample, the order of the file does not matter, and most rows of a long file are neither checked nor kept.
        """
        context = self._context
        most = max(MOST_ROWS, ROWS_PER_WANTED * context.settings.rows)
        limit = max(chosen) if len(chosen) >= most else None
        salt = context.seed_for(UNLABELLED_ROWS).to_bytes(16, "little")
        dropped: list[Dropped] = []
        new: dict[int, tuple[int, Candidate]] = {}
        for number, row in block:
            candidate = Candidate(row, {"method": UNLABELLED})
            text = normal_form(row.text) or row.text
            key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, salt=salt).digest(), "little")
            if limit is not None and key > limit:
                continue
            if key in chosen or key in new:
                first = chosen[key] if key in chosen else new[key][0]
                dropped.append(Dropped(candidate, "exact_duplicate", 1.0, f"row {first} of the file"))
            else:
                new[key] = number, candidate
        result = self._curation.check_texts([candidate for _, candidate in new.values()])
        kept = {candidate.example.id for candidate in result.kept}
        chosen |= {key: number for key, (number, candidate) in new.items() if candidate.example.id in kept}
        if len(chosen) > most:
            for key in heapq.nlargest(len(chosen) - most, chosen):
                del chosen[key]
        return dropped + result.dropped

    def _embed(self) -> None:
        """Find or compute the blocks of embeddings."""
        cached = self._context.models.embedder
        embedder = cached.uncached if isinstance(cached, CachedEmbedder) else cached
        with self._context.progress.step("embedding the unlabelled rows", len(self), "texts") as advance:
            for start in range(0, len(self), VECTOR_BLOCK):
                path = self._context.state.path / f"unlabelled/vectors/{start // VECTOR_BLOCK:04d}.npy"
                places = range(start, min(start + VECTOR_BLOCK, len(self)))
                if path.is_file():
                    advance(len(places))
                else:
                    vectors = embedder.embed([row.text for row in self.rows(places)], advance)
                    with atomic_write(path, "wb") as stream:
                        np.save(stream, vectors)
                    stop_if_asked()
                try:
                    self._blocks.append(np.load(path, mmap_mode="r"))
                except (ValueError, EOFError) as exc:
                    raise _damaged(str(path), exc) from exc


def _damaged(where: str, problem: Exception) -> RunError:
    return RunError(f"{where}: damaged ({problem}); run again under another --name")
