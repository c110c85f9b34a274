"""Dataset card and model card of a finished run, as Markdown with the front matter of the Hugging Face hub.

They say what a reader must know before use: origin, teacher and licence, method, sizes, scores with intervals, limits,
leakage, and how to repeat the run.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

from s3local.evaluation.squad import AnswerMetrics
from s3local.evaluation.thresholds import Threshold
from s3local.finished_run import FinishedRun, licence_of
from s3local.results import Metrics

HUB_TASKS = {
    "classification": "text-classification",
    "pair": "text-classification",
    "extractive_qa": "question-answering",
}
"""The hub's name of each kind of task."""

SIZE_CATEGORIES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))

LANGUAGES = {
    **{"english": "en", "german": "de", "french": "fr", "spanish": "es", "italian": "it", "portuguese": "pt"},
    **{"dutch": "nl", "polish": "pl", "russian": "ru", "chinese": "zh", "japanese": "ja", "korean": "ko"},
    **{"arabic": "ar", "turkish": "tr", "czech": "cs", "swedish": "sv", "danish": "da", "norwegian": "no"},
    **{"finnish": "fi", "greek": "el", "hungarian": "hu", "hindi": "hi", "ukrainian": "uk", "romanian": "ro"},
}
"""The codes of languages, as front matter has them."""

COPIES = ("copies_", "overlaps_", "near_")
"""Beginnings of the reasons for which texts were dropped that are too near to a gold row."""


def dataset_card(run: FinishedRun, sizes: Mapping[str, int], *, loads: bool) -> str:
    """The card of the exported rows. ``sizes`` counts the rows of each split; ``loads``: ``datasets`` loads the folder,
    and the front matter says where its splits are."""
    from huggingface_hub import DatasetCardData

    total = sum(sizes.values())
    data = DatasetCardData(
        pretty_name=f"{run.summary.task} (synthetic)",
        language=_language(run),
        license="unknown",
        task_categories=[HUB_TASKS[run.summary.kind]],
        size_categories=[next((name for limit, name in SIZE_CATEGORIES if total < limit), "n>1M")],
        annotations_creators=["machine-generated"],
        language_creators=["machine-generated"],
        source_datasets=["original"],
        tags=["synthetic", "s3local"],
        configs=[
            {"config_name": "default", "data_files": [{"split": name, "path": f"{name}/*.arrow"} for name in sizes]}
        ]
        if loads
        else None,
    )
    parts = [
        f"# {_plain(run.summary.task)}: synthetic rows",
        f"{total:,} rows: {_plain(str(run.task['texts']))}, each with {_targets(run)}. "
        f"A language model wrote the texts; nobody has checked them one by one.",
        _table(("split", "rows"), [(name, f"{count:,}") for name, count in sizes.items()]),
        "## Origin",
        *_origin(run),
        "## Rows by round",
        _rounds(run),
        "## Labels" if run.labels else "",
        _labels(run) if run.labels else "",
        "## Scores of classifiers that were trained on these rows" if run.labels else "## Scores of the student",
        _scores(run),
        "## Provenance of a row",
        "`method` is `seed` (written from the description of the task), `extrapolation` (written like the gold rows "
        "`shots`, of which the student got `error` wrong) or `gold`. `round`, `shard`, `request` and `seed` say which "
        "request to the teacher it was; `rationales` were part of its prompt. `requested_label` is what was asked for, "
        "`label` the likeliest label by `probabilities`.",
        "## Limits and leakage",
        _limits(run),
        "## How to repeat it",
        *_repeat(run),
    ]
    return _card(data.to_yaml(), parts)


def model_card(run: FinishedRun, thresholds: Mapping[float, Threshold]) -> str:
    """The card of the selected classifier; ``thresholds`` were chosen on held-out rows, by target accuracy."""
    from huggingface_hub import EvalResult, ModelCardData

    student = run.summary.selected_student
    body, licence = run.student_body, licence_of(run.student_body)
    results = [
        EvalResult(
            task_type=HUB_TASKS[run.summary.kind],
            dataset_type=run.summary.task,
            dataset_name=f"{run.summary.task}, {where}",
            dataset_split=split,
            metric_type="accuracy",
            metric_value=round(accuracy, 4),
        )
        for split, where, accuracy in _measured(run)
    ]
    data = ModelCardData(
        model_name=run.summary.task,
        language=_language(run),
        license="unknown" if licence == "unknown" else licence.lower(),
        library_name="onnxruntime",
        pipeline_tag=HUB_TASKS[run.summary.kind],
        tags=["s3local", "synthetic-data", "onnx"],
        eval_results=results or None,
    )
    parts = [
        f"# {_plain(run.summary.task)}: classifier",
        f"It labels {_plain(str(run.task['texts']))}: {', '.join(_code(label) for label in run.labels)}.",
        "```\npython predict.py < texts.txt\n```",
        "`predict.py` needs onnxruntime, tokenizers and numpy. `classifier.json` holds labels, the temperature that "
        "calibrates the probabilities, and thresholds.",
        "## Labels",
        _labels(run),
        "## Training",
        f"The pretrained model {_code(body)} (licence: {licence}) was trained on {student.training.rows:,} rows"
        f"{_what_was_selected(run)}",
        *_origin(run),
        "## Scores",
        _scores(run),
        *_thresholds(thresholds),
        "## Limits and leakage",
        _limits(run),
        "## How to repeat it",
        *_repeat(run),
    ]
    return _card(data.to_yaml(), parts)


# Parts


def _origin(run: FinishedRun) -> list[str]:
    summary, teacher = run.summary, run.teacher
    check = summary.label_check
    relabelled = ""
    if check.figures is not None:
        relabelled = (
            f" Judges that were trained on the gold rows relabelled {check.figures.relabelled:,} rows; "
            f"{100 * check.figures.correct_overall:.0f} % are expected to carry the label that was requested."
        )
    return [
        f"The language model {_code(teacher)} (licence: {licence_of(teacher)}) wrote the texts on this machine, by the "
        "method Synthesis Step by Step (Wang et al., 2023): a seed from the description of the task, then rounds of "
        f"texts like the gold rows that a classifier got wrong.{relabelled}",
        "The licence of the teacher, and the terms for the gold rows that stood in its prompts, decide how the texts "
        "may be used; choose a licence with them in mind.",
    ]


def _rounds(run: FinishedRun) -> str:
    rows = []
    for entry in run.summary.rounds:
        counts = entry.synthesis
        reasons = ", ".join(
            f"{reason.replace('_', ' ')} {count:,}"
            for reason, count in Counter(counts.dropped_by_reason).most_common(4)
        )
        rows.append((entry.stage, f"{counts.kept:,}", f"{counts.dropped:,}", reasons))
    return _table(("round", "kept", "dropped", "most frequent reasons"), rows)


def _labels(run: FinishedRun) -> str:
    counts = Counter(candidate.example.label for candidate in run.candidates)
    rows = [(_code(label["name"]), label["description"], f"{counts[label['name']]:,}") for label in run.task["labels"]]
    return _table(("label", "meaning", "synthetic rows"), rows)


def _scores(run: FinishedRun) -> str:
    summary, verdict = run.summary, run.summary.model_selection.verdict
    rows: list[tuple[str, ...]] = []
    if verdict is not None:
        on = f"{verdict.n_rows} dev rows, cross-validated"
        rows.append(("selected", on, _percent(verdict.selected), _interval(verdict.low, verdict.high)))
        rows.append(("gold rows alone", on, _percent(verdict.gold_only), ""))
        rows.append(("all synthetic rows and gold", on, _percent(verdict.final), ""))
    students = [("selected", summary.selected_student), ("gold rows alone", summary.gold_only)]
    for name, student in students:
        if student is not None and student.test is not None:
            rows.append((name, f"{student.test.n_rows:,} test rows", *_figures(student.test)))
    if not rows:
        rows.append(
            ("final", f"{summary.final.dev.n_rows} dev rows that it was trained on", *_figures(summary.final.dev))
        )
    measure = "F1 of answers" if isinstance(summary.final.dev, AnswerMetrics) else "accuracy"
    return _table(("classifier", "measured on", measure, "95 % interval"), rows)


def _measured(run: FinishedRun) -> list[tuple[str, str, float]]:
    """On which split the selected classifier was measured, what that is in words, and its accuracy there."""
    verdict, test = run.summary.model_selection.verdict, run.summary.selected_student.test
    found = [] if verdict is None else [("validation", "dev rows, cross-validated", verdict.selected)]
    return found if test is None or isinstance(test, AnswerMetrics) else [*found, ("test", "test rows", test.accuracy)]


def _thresholds(found: Mapping[float, Threshold]) -> list[str]:
    if not found:
        return []
    rows = [
        (
            _percent(target),
            f"{its.threshold:.3f}",
            _percent(its.coverage),
            _percent(its.accuracy),
            _interval(its.low, its.high),
        )
        for target, its in found.items()
    ]
    n_rows = next(iter(found.values())).n_rows
    return [
        "## Thresholds",
        f"Chosen on {n_rows} held-out dev rows, which makes the accuracies optimistic. Below the threshold, leave the "
        "decision to a person. Targets that these rows are too few for are left out.",
        _table(("target accuracy", "threshold", "rows answered", "accuracy on these", "95 % interval"), rows),
    ]


def _limits(run: FinishedRun) -> str:
    dropped: Counter[str] = Counter()
    for entry in run.summary.rounds:
        dropped.update(entry.synthesis.dropped_by_reason)
    copies = sum(count for reason, count in dropped.items() if reason.startswith(COPIES))
    points = [
        "- The teacher is a language model: texts may be wrong, biased or unlike real ones, and labels are estimates.",
        "- The scores hold for rows like the gold rows. With few of them, the intervals are wide.",
        "- The prompts of later rounds show gold rows, so texts may paraphrase them; do not publish them if the gold "
        f"rows are confidential. {copies:,} texts that copied a gold row or came near to one were dropped.",
        "- No label of a test row was used before the last stage. Texts of test rows were read only to keep new texts "
        "apart from them.",
    ]
    return "\n".join(points)


def _repeat(run: FinishedRun) -> list[str]:
    settings, versions = run.config["settings"], run.config["versions"]
    command = ["s3local", "run", run.summary.task]
    for key, option in (("rows", "--rows"), ("rounds", "--rounds"), ("seed", "--seed"), ("teacher", "--teacher")):
        if settings.get(key) is not None:
            command += [option, str(settings[key])]
    checksums = {
        "dev rows": run.config.get("dev_sha256"),
        "teacher": run.config.get("teacher", {}).get("sha256"),
        "pretrained student": run.config.get("student_sha256"),
        "prompts": run.config.get("program", {}).get("prompts_sha256"),
        "synthetic rows": run.summary.dataset_sha256,
    }
    return [
        f"```\n{shlex.join(command)}\n```",
        f"With s3local {versions.get('s3local')}; all settings are in the run's `config.json`. The same seed, models "
        "and versions on the same processor give the same rows.",
        _table(("SHA-256 of", ""), [(name, _code(value)) for name, value in checksums.items() if value]),
    ]


def _what_was_selected(run: FinishedRun) -> str:
    verdict = run.summary.model_selection.verdict
    if verdict is None:
        return ", synthetic and gold." if run.summary.with_gold else ", all of them synthetic."
    if verdict.share == 0:
        return " of gold; synthetic rows did not help, so the gold-only classifier was selected."
    return (
        f". It is the average of two classifiers, of which the one of all rows has {100 * verdict.share:.0f} % and the "
        "one of gold rows alone the rest; cross-validation chose the share."
    )


# Markdown


def _card(front_matter: str, parts: Sequence[str]) -> str:
    return f"---\n{front_matter}\n---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _plain(text: str) -> str:
    """Text of a user as one line of Markdown without any markup."""
    return re.sub(r"([\\`*_{}\[\]<>#|!~$])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """Text of a user as code: no character has a meaning, except the back-tick and the bar of a table."""
    return f"`{' '.join(text.split()).replace('`', chr(39)).replace('|', '/')}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(cell if cell.startswith("`") else _plain(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _targets(run: FinishedRun) -> str:
    return "a label" if run.labels else "a question and its answer"


def _language(run: FinishedRun) -> str | None:
    return LANGUAGES.get(str(run.task.get("language", "")).lower())


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _interval(low: float, high: float) -> str:
    return f"{100 * low:.0f} to {100 * high:.0f} %"


def _figures(metrics: Metrics) -> tuple[str, str]:
    if isinstance(metrics, AnswerMetrics):
        return _percent(metrics.f1), _interval(metrics.f1_low, metrics.f1_high)
    return _percent(metrics.accuracy), _interval(metrics.accuracy_low, metrics.accuracy_high)
