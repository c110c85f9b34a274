"""The report of a run as a page: all figures are there, texts are shown as they are, and nothing more is claimed than
was measured."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_world import COMMAND, HOSTILE, LABELS, World, write_run
from some_results import compare_summary

from s3local.exceptions import RunError, S3LocalError, StorageError
from s3local.report.evidence import find_evidence
from s3local.report.html import read_results, write_report
from s3local.report.page import visible
from s3local.report.row_list import PLAIN_ROWS, list_rows
from s3local.report.run_record import read_run
from s3local.results import COMPARE_FILE, RESULT_FILE, write_result

KINDS = ("classification", "pair", "extractive_qa")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of hostile texts. Tests share it: they may not change it."""
    folder = tmp_path_factory.mktemp("hostile")
    write_run(folder, texts=HOSTILE, labels=("<b>bold", "fault", "a\x1bb"), name="desk <i>")
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def rows_in(page: str) -> dict[str, Any]:
    """The rows of the page's compressed block."""
    found = re.search(r'<script type="application/octet-stream" id="row-data">([^<]*)</script>', page)
    assert found is not None
    content: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(found.group(1))))
    return content


def text_of(page: str) -> str:
    """What a reader sees: the page without its elements, style and script."""
    bare = re.sub(r"<(style|script)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", bare)).split())


def test_only_elements_of_the_templates_are_in_a_page_of_hostile_texts(page: str) -> None:
    scripts = re.findall(r"<script[^>]*>", page)
    assert scripts == ['<script type="application/octet-stream" id="row-data">', "<script>"]
    assert not re.search(r"<(img|iframe|object|embed|a href=\"(?!#))", page)
    assert not re.search(r"<[^>]* on[a-z]+=", page)
    assert page.count("</body>") == page.count("</main>") == 1
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)


def test_hostile_texts_can_be_read(page: str) -> None:
    shown = text_of(page)
    for text in (
        *HOSTILE[:6],
        "desk <i>",
        "<b>bold",
        "a[U+001B]b",
        "nul [U+0000] escape [U+001B][31m",
        "[U+202E]gnp.exe",
    ):
        assert " ".join(text.split()) in shown, text
    assert "مرحبا بالعالم" in shown and "49" not in HOSTILE[4]


def test_the_policy_allows_the_page_its_own_script_and_style_alone(page: str) -> None:
    policy = html.unescape(re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[0])
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["form-action"] == "'none'" and rules["base-uri"] == "'none'"
    for name, element in (("script-src", "script"), ("style-src", "style")):
        content = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
        assert len(content) == 1
        checksum = base64.b64encode(hashlib.sha256(content[0].encode()).digest()).decode()
        assert rules[name] == f"'sha256-{checksum}'"
    assert not re.search(r' style="', page)


def test_nothing_refers_to_a_place_outside(page: str) -> None:
    outside = re.findall(r'(?:src|href|action|data)="([^"#][^"]*)"', page)
    assert outside == ["data:,"]
    assert set(re.findall(r"https?://[^\s\"<]*", re.sub(r"<script type.*?</script>", "", page))) <= {
        "http://www.w3.org/2000/svg"
    }


def test_all_rows_are_in_the_block(folder: Path, page: str) -> None:
    record, block = read_run(folder), rows_in(page)
    columns, names = block["columns"], block["names"]
    expected = [
        *((row.id, "your row") for row in record.dev),
        *((row.example.id, "kept") for entry in record.rounds for row in entry.kept),
        *((drop.candidate.example.id, "dropped") for entry in record.rounds for drop in entry.dropped),
    ]
    assert [
        (name, names["source"][code]) for name, code in zip(columns["id"], columns["source"], strict=True)
    ] == expected
    assert (
        columns["texts"][0][: len(HOSTILE) - 1]
        == [visible(text) for text in HOSTILE[: len(record.dev)]][: len(HOSTILE) - 1]
    )
    kept = [row for entry in record.rounds for row in entry.kept]
    place = len(record.dev)
    asked = [names["asked"][code] for code in columns["asked"][place : place + len(kept)]]
    assert asked == [visible(row.origin["asked"]) if row.origin["asked"] != row.example.label else "" for row in kept]


def test_without_javascript_the_first_rows_are_there(folder: Path, page: str) -> None:
    record = read_run(folder)
    assert page.count('<li class="row">') == min(PLAIN_ROWS, len(list_rows(record, {}).rows))
    assert "Without JavaScript" in page


def test_rows_beyond_the_most_are_counted(folder: Path) -> None:
    record = read_run(folder)
    every, some = list_rows(record, {}), list_rows(record, {}, most=50)
    assert len(some.rows) == 50 and some.left_out == len(every.rows) - 50
    assert [row.id for row in some.rows] == [row.id for row in every.rows[:50]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("test", [True, False])
def test_every_kind_has_its_report(kind: str, test: bool, tmp_path: Path) -> None:
    summary = write_run(tmp_path, kind=kind, test=test)
    evidence = find_evidence(read_run(tmp_path))
    shown = text_of(write_report(tmp_path).read_text(encoding="utf-8"))
    assert evidence.source == ("test" if test else "cross-validation")
    assert ("F1 of" if kind == "extractive_qa" else "is right on") in shown
    assert ("12 test rows" in shown) == test and ("In cross-validation" in shown) == (not test)
    assert ("no test file" in shown) == (not test)
    assert COMMAND in shown and summary.dataset_sha256 in shown
    if kind != "extractive_qa":
        assert all(label in shown for label in LABELS) and "Confusion matrix" in shown
    if kind != "extractive_qa" or test:
        assert "Expected calibration error" in shown and "At 0.8 it answers" in shown


def test_cross_validated_figures_are_those_of_the_verdict(tmp_path: Path) -> None:
    """The rows that the page judges give the accuracy that model selection has found."""
    summary = write_run(tmp_path, test=False)
    evidence, verdict = find_evidence(read_run(tmp_path)), summary.model_selection.verdict
    assert verdict is not None and evidence.judged is not None and evidence.selected is not None
    assert evidence.judged.right.mean() == pytest.approx(verdict.selected) == evidence.selected.value
    assert evidence.metrics is not None and evidence.metrics.accuracy == pytest.approx(verdict.selected)
    assert set(evidence.judged.ids) == {row.id for row in read_run(tmp_path).dev}
    assert ((evidence.judged.confidence > 1 / len(LABELS)) & (evidence.judged.confidence < 1)).all()


def test_what_was_not_measured_is_not_claimed(tmp_path: Path) -> None:
    write_run(tmp_path, test=False, selection=False, label_check=False, with_map=False)
    evidence = find_evidence(read_run(tmp_path))
    assert evidence.selected is None and evidence.source == "last round" and evidence.gold_only is None
    shown = text_of(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "How good the selected classifier is was not measured" in shown
    assert "All rows keep the label" in shown and "This run has no map" in shown
    assert "Put 200 labelled rows aside" in shown


def test_advice_names_the_label_with_the_lowest_recall(tmp_path: Path) -> None:
    write_run(tmp_path, labels=("good", "bad"), dev=12)
    record = read_run(tmp_path)
    metrics = find_evidence(record).metrics
    assert metrics is not None
    lowest = min(metrics.per_label, key=lambda name: metrics.per_label[name].recall)
    assert f"Label 20 more “{lowest}” rows." in text_of(write_report(tmp_path).read_text(encoding="utf-8"))


# Bad input


def without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def holding(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content, encoding="utf-8") and None


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "unfinished": (without(RESULT_FILE), "no finished run"),
    "another version": (holding(RESULT_FILE, '{"schema_version": 99}'), "newer s3local"),
    "a damaged result": (holding(RESULT_FILE, "{"), "result.json is damaged"),
    "no configuration": (without("config.json"), "config.json"),
    "a damaged configuration": (holding("config.json", '{"task": []}'), "config.json is damaged"),
    "no dataset": (without("final/dataset.jsonl"), "dataset.jsonl"),
    "fewer rows": (holding("final/dataset.jsonl", ""), "dataset.jsonl is damaged (0 rows"),
    "a row without label": (holding("round-0/dropped.jsonl", '{"id": "a"}\n'), "dropped.jsonl is damaged"),
    "a broken line": (holding("round-1/predictions.jsonl", '{"id": '), "predictions.jsonl, line 1"),
    "a prediction without a label": (
        holding("round-1/predictions.jsonl", '{"id": "a"}'),
        "predictions.jsonl is damaged",
    ),
    "a damaged fold": (holding("model-selection/fold-0.json", "{}"), "fold-0.json is damaged"),
    "a damaged map": (holding("map/dev.jsonl", '{"id": "a"}'), "map/dev.jsonl is damaged"),
    "a damaged error": (holding("round-1/extrapolated.jsonl", "[1]"), "extrapolated.jsonl"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_run_is_told_in_one_line_and_nothing_is_written(folder: Path, tmp_path: Path, name: str) -> None:
    damage, part = DAMAGE[name]
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink(missing_ok=True)
    damage(tmp_path / "run")
    with pytest.raises(S3LocalError, match=r"^[^\n]+$") as caught:
        write_report(tmp_path / "run")
    assert part in str(caught.value)
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_place_that_cannot_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file"):
        write_report(folder, tmp_path / "file" / "report.html")


# A comparison


def test_a_comparison_has_its_report(tmp_path: Path) -> None:
    summary = compare_summary("gold", "teacher-few-shot", "zerogen", "s3", "s3+gold")
    write_result(tmp_path / COMPARE_FILE, summary)
    assert read_results(tmp_path) == summary
    page = write_report(tmp_path).read_text(encoding="utf-8")
    shown = text_of(page)
    for row in summary.comparisons:
        assert f"{100 * row.difference:+.1f}".replace("-", "−") in shown
    for part in ("Learning curves", "s3 less each method", "setfit is left out", "With 6 labelled rows", "* on 30"):
        assert part in shown
    assert not re.search(r'(?:src|href|action)="([^"#d][^"]*)"', page)


def test_a_comparison_of_another_version(tmp_path: Path) -> None:
    (tmp_path / COMPARE_FILE).write_text('{"schema_version": 0}')
    with pytest.raises(RunError, match=r"compare\.json"):
        write_report(tmp_path)


def test_the_world_of_these_tests_has_the_defaults_of_its_texts() -> None:
    assert len(HOSTILE) > World().dev  # every hostile text is somewhere in the run
