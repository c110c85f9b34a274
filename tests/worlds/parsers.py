"""Every parser of the program, a sound file for each, and ways to damage it."""

from __future__ import annotations

import contextlib
import copy
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from review_world import dropped, synthetic, write_run
from tiny_body import write_tiny_bert
from weights_world import make_gguf, make_safetensors

from s3local.bundle.carried import Bundle, BundleError, read_contents
from s3local.exceptions import S3LocalError
from s3local.finished_run import FinishedRun
from s3local.records import read_jsonl
from s3local.report.run_record import read_run
from s3local.results import RunSummary, read_result
from s3local.review.decisions import Decision, read_decisions
from s3local.review.rows import sheet_of_run
from s3local.sources import open_rows
from s3local.student.body import load_body
from s3local.student.pooling import load_pooling
from s3local.task.model import load_task
from s3local.task.yaml_file import read_yaml
from s3local.weights.folders import check_model_folder
from s3local.weights.headers import check_safetensors, read_gguf_header

PIECES = [
    "{",
    "}",
    "[",
    "]",
    '"',
    ":",
    ",",
    "\n",
    "\0",
    "\ufeff",
    "&a",
    "*a",
    "- ",
    "text",
    "label",
    "1e999",
    "\\ud800",
]
TEXTS = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PIECES)).map(lambda its: "".join(its).encode()))
VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["../x", "/etc/passwd", 10**400, -1, 1e308]),
    ),
    lambda inside: st.one_of(st.lists(inside, max_size=3), st.dictionaries(st.text(max_size=4), inside, max_size=3)),
    max_leaves=4,
)
"""Values of JSON, likely and not."""


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """``whole`` with some bytes changed, and cut somewhere."""
    changes = st.lists(st.tuples(st.integers(0, len(whole) - 1), st.integers(0, 255)), max_size=8)

    def change(parts: tuple[list[tuple[int, int]], int]) -> bytes:
        made = bytearray(whole)
        for place, value in parts[0]:
            made[place] = value
        return bytes(made[: parts[1]])

    return st.tuples(changes, st.one_of(st.just(len(whole)), st.integers(0, len(whole)))).map(change)


def changed(whole: bytes) -> st.SearchStrategy[bytes]:
    """JSON, or lines of JSON, with one or two of its values replaced or left out."""
    lines = [json.loads(line) for line in whole.splitlines()] if b"\n{" in whole else [json.loads(whole)]

    def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return [path, *(place for key, part in inside for place in places(part, (*path, key)))]

    known = places(lines)[1:]

    def change(edits: list[tuple[tuple[Any, ...], Any, bool]]) -> bytes:
        made = copy.deepcopy(lines)
        for place, value, leave_out in edits:
            with contextlib.suppress(KeyError, IndexError, TypeError):  # an earlier change took the place away
                holder: Any = made
                for key in place[:-1]:
                    holder = holder[key]
                if leave_out:
                    del holder[place[-1]]
                else:
                    holder[place[-1]] = value
        return "\n".join(map(json.dumps, made)).encode()

    return st.lists(st.tuples(st.sampled_from(known), VALUES, st.booleans()), min_size=1, max_size=2).map(change)


DEEP = b"[" * 100_000
"""More brackets than a parser can follow."""

HEADERS = st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=100)).map(
    lambda its: struct.pack("<Q", its[0]) + its[1]
)


def read_all(path: Path) -> int:
    """The number of rows of a table."""
    with open_rows(path) as source:
        return sum(1 for _ in source.rows)


@dataclass(frozen=True)
class Parser:
    """What reads ``file`` of a folder. ``make`` writes sound files to the folder first."""

    file: str
    parse: Callable[[Path], object]
    make: Callable[[Path], object] = lambda folder: None
    contents: st.SearchStrategy[bytes] | None = None

    def strategy(self, folder: Path) -> st.SearchStrategy[bytes]:
        """What to write to the file in place of what ``make`` wrote."""
        if self.contents is not None:
            return self.contents
        sound = (folder / self.file).read_bytes()
        as_json = [changed(sound)] if self.file.endswith((".json", ".jsonl")) else []
        return st.one_of(TEXTS, damaged(sound), *as_json)

    def lawful(self, folder: Path, content: bytes) -> None:
        """Read ``content``: a value comes out, or an error of one line. Anything else is raised."""
        path = folder / self.file
        path.write_bytes(content)
        try:
            self.parse(path)
        except (S3LocalError, BundleError) as exc:
            assert len(str(exc).splitlines()) == 1, str(exc)


def _folder(depth: int = 1) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    """Lets a reader of folders read the folder ``depth`` above a file."""
    return lambda parse: lambda path: parse(path.parents[depth - 1])


def _write_workbook(folder: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for row in (("text", "label"), ("good", "a"), ("bad", "b")):
        book.active.append(row)
    book.save(folder / "rows.xlsx")


def _write_parquet(folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": ["good", "bad"], "label": ["a", "b"]}), folder / "rows.parquet")


def _write_dataset(folder: Path) -> None:
    """A folder as the library datasets saves it."""
    import pyarrow

    table = pyarrow.table({"text": ["good", "bad"], "label": [0, 1]})
    with pyarrow.OSFile(str(folder / "data.arrow"), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    feature = {"names": ["a", "b"], "_type": "ClassLabel"}
    (folder / "dataset_info.json").write_text(json.dumps({"features": {"label": feature}}))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))


def _write_tool_rows(folder: Path) -> None:
    """A row of each labelling tool."""
    result = {"type": "choices", "from_name": "label", "value": {"choices": ["a"]}}
    rows = [
        {"id": 1, "data": {"text": "x"}, "annotations": [{"result": [result], "was_cancelled": False}]},
        {"text": "x", "accept": ["a"], "options": [{"id": "a", "text": "A"}], "answer": "accept"},
        {"fields": {"text": "x"}, "responses": {"label": [{"value": "a", "status": "submitted"}]}, "metadata": {}},
        {"text": "x", "label": ["a"], "Comments": []},
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _write_decisions(folder: Path) -> None:
    rows = [Decision("r1", "keep", "a", {}), Decision("r2", "edit", "b", {"text": "new"}), Decision("r2", "undo")]
    (folder / "decisions.jsonl").write_text(
        "".join(json.dumps({**row.to_row(), "dataset": "x"}) + "\n" for row in rows)
    )


def _write_bundle(folder: Path) -> None:
    files = [{"path": "wheels/a.whl", "size": 3, "sha256": "0" * 64}]
    known = {
        "format": 1,
        "s3local": "0.1",
        "python": "3.11",
        "platform": "linux-x86_64",
        "glibc": "2.28",
        "models": ["a"],
    }
    (folder / "bundle.json").write_text(json.dumps({**known, "files": files}))


def _read_bundle(folder: Path) -> object:
    with contextlib.closing(Bundle(folder)) as bundle:
        return read_contents(bundle)


def _write_run(folder: Path) -> None:
    write_run(folder, synthetic(4), [dropped(0, "short", "too_short"), dropped(1, "other", "near_dev")])


def _write_body(folder: Path) -> None:
    write_tiny_bert(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate((("Transformer", ""), ("Pooling", "1_Pooling")))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]", "cls_token": {"content": "[CLS]"}}))


PARSERS: dict[str, Parser] = {
    "JSON Lines": Parser("a.jsonl", lambda path: list(read_jsonl(path)), contents=TEXTS),
    "rows of JSON Lines": Parser("a.jsonl", read_all, contents=TEXTS),
    "rows of JSON": Parser("a.json", read_all, contents=TEXTS),
    "rows of CSV": Parser("a.csv", read_all, contents=TEXTS),
    "rows of TSV": Parser("a.tsv", read_all, contents=TEXTS),
    "rows of a workbook": Parser("rows.xlsx", read_all, _write_workbook),
    "rows of Parquet": Parser("rows.parquet", read_all, _write_parquet),
    "state of a dataset": Parser("state.json", _folder()(read_all), _write_dataset),
    "info of a dataset": Parser("dataset_info.json", _folder()(read_all), _write_dataset),
    "Arrow of a dataset": Parser("data.arrow", _folder()(read_all), _write_dataset),
    "rows of labelling tools": Parser("rows.jsonl", read_all, _write_tool_rows),
    "YAML": Parser("task.yaml", read_yaml, contents=TEXTS),
    "a task": Parser("task.yaml", load_task, contents=TEXTS),
    "a result": Parser("result.json", lambda path: read_result(path, RunSummary), _write_run),
    "a finished run": Parser("result.json", _folder()(FinishedRun.read), _write_run),
    "a finished run's settings": Parser("config.json", _folder()(FinishedRun.read), _write_run),
    "a run under review": Parser("config.json", _folder()(sheet_of_run), _write_run),
    "a dataset under review": Parser("final/dataset.jsonl", _folder(2)(sheet_of_run), _write_run),
    "dropped rows under review": Parser("round-0/dropped.jsonl", _folder(2)(sheet_of_run), _write_run),
    "a reported run": Parser("config.json", _folder()(read_run), _write_run),
    "a reported dataset": Parser("final/dataset.jsonl", _folder(2)(read_run), _write_run),
    "decisions": Parser("decisions.jsonl", lambda path: read_decisions(path, "x"), _write_decisions),
    "a bundle": Parser("bundle.json", _folder()(_read_bundle), _write_bundle),
    "a GGUF header": Parser("a.gguf", read_gguf_header, contents=damaged(make_gguf(template=True))),
    "a safetensors header": Parser(
        "a.safetensors", check_safetensors, contents=st.one_of(damaged(make_safetensors()), HEADERS)
    ),
    "modules.json": Parser("modules.json", _folder()(check_model_folder), _write_body),
    "config.json": Parser("config.json", _folder()(check_model_folder), _write_body),
    "pooling": Parser("modules.json", _folder()(load_pooling), _write_body),
    "pooling's settings": Parser("1_Pooling/config.json", _folder(2)(load_pooling), _write_body),
    "a body's settings": Parser("config.json", _folder()(load_body), _write_body),
    "a body's tokenizer": Parser("tokenizer.json", _folder()(load_body), _write_body),
    "a body's tokens": Parser("tokenizer_config.json", _folder()(load_body), _write_body),
}
"""By what they read."""
