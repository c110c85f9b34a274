"""The results of a run and of a comparison as typed values, and the one place that writes and reads their files.

``RunSummary`` is result.json, ``CompareSummary`` is compare.json; the ``StageResult`` classes are the markers that a
run leaves after each stage. All of them hold plain values, so that reports need neither torch nor a teacher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from s3local.comparison.significance import Comparison
from s3local.evaluation.gap import Diversity, Gap
from s3local.evaluation.leakage import LeakageFigures, Membership
from s3local.evaluation.metrics import ClassificationMetrics
from s3local.evaluation.squad import AnswerMetrics
from s3local.exceptions import RunError
from s3local.records import Row
from s3local.storage import parsed_json, write_text
from s3local.student.agreement import ExportReport

SCHEMA_VERSION, COMPARE_SCHEMA_VERSION = 2, 1
"""Change with every field of ``RunSummary`` or ``CompareSummary`` that is renamed, removed or given a new meaning."""

RESULT_FILE = "result.json"
COMPARE_FILE = "compare.json"
QUICK_FILE = "quick.json"
DEV_FILE = "dev.jsonl"
MAP_FILE, MAP_OF_DEV, MAP_OF_SYNTHETIC = "map/map.json", "map/dev.jsonl", "map/synthetic.jsonl"

FINAL, FINAL_WITHOUT_GOLD, GOLD_ONLY, AVERAGED, LARGE = "final", "final-without-gold", "gold", "averaged", "large"
"""Folders of the final students: trained on all rows, on the synthetic rows, on dev (the gold-only baseline); and the
average of the first's and the third's weights."""

NO_SYNTHETIC, ALL_SYNTHETIC = 0.0, 1.0
SHARES = (NO_SYNTHETIC, 0.25, 0.5, 0.75, ALL_SYNTHETIC)
"""The averages that model selection compares, by the share of the final student's weights in them."""

Metrics = ClassificationMetrics | AnswerMetrics

T = TypeVar("T")


def score_of(metrics: Metrics) -> float:
    """The figure that sums up: accuracy for labels, F1 for answers."""
    return metrics.f1 if isinstance(metrics, AnswerMetrics) else metrics.accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """What a finished stage of a run leaves in its marker; ``seconds`` is how long the stage took."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RationalesResult(StageResult):
    """The rationales of each label, by its name."""

    rationales: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisResult(StageResult):
    """How many of the teacher's texts a round kept and dropped, and what they cost.

    ``shortfall`` counts the rows that are missing after the last request. ``cleaned_by_rule`` counts the replies from
    which a rule cut off what was not their text, kept or dropped. ``requests`` texts were asked for in
    ``shards``; the teacher generated ``tokens`` in ``teacher_seconds``, over all sittings.
    """

    kept: int
    kept_per_label: Mapping[str, int]
    shortfall: int
    dropped: int
    dropped_by_reason: Mapping[str, int]
    requests: int
    shards: int
    tokens: int
    teacher_seconds: float
    cleaned_by_rule: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolResult(StageResult):
    """The unlabelled rows of a run: ``rows`` in the file, of which ``sampled`` may be taken.

    ``dropped_by_reason`` counts the others that were looked at; of a long file, most rows are not.
    """

    rows: int
    sampled: int
    dropped_by_reason: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnlabelledResult(StageResult):
    """The unlabelled rows that a round took.

    ``rows`` is how many there are to take from, ``looked_at`` how many of them the judges predicted in this round,
    ``taken_per_label`` how many were taken, by their predicted label. ``dropped_by_reason`` counts those that broke a
    rule, repeat another row or dev or test, or are out of scope.
    """

    rows: int
    looked_at: int
    taken_per_label: Mapping[str, int]
    dropped_by_reason: Mapping[str, int]

    @property
    def taken(self) -> int:
        """How many rows were taken."""
        return sum(self.taken_per_label.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class GapResult(StageResult):
    """The gap to dev and the diversity of all rows after a round, and of the rows that the round added."""

    gap: Gap
    diversity: Diversity
    gap_of_new: Gap
    diversity_of_new: Diversity


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingFigures:
    """How a student was trained: on how many rows, with which seed and settings; ``passes`` are the texts that went
    through its body, ``loss`` is the mean training loss at the end."""

    rows: int
    rows_per_label: Mapping[str, int]
    seed: int
    learning_rate: float
    passes: int
    batch_size: int
    max_length: int
    loss: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StudentResult(StageResult):
    """One trained and exported student, and its scores.

    ``stage`` is its folder in the run. ``dev`` is the score on dev and ``errors`` the number of its wrong rows; a
    student that was trained on dev has seen these rows. ``test`` is None until the run ends, and if there are no test
    rows. ``temperature`` divides the logits.
    """

    stage: str
    training: TrainingFigures
    dev: Metrics
    errors: int
    temperature: float
    export: ExportReport
    test: Metrics | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """One round: its texts, their gap to dev, the student that was trained on all rows so far, where there are judges,
    their reading of the new texts, and, where there are any, the unlabelled rows that it took."""

    synthesis: SynthesisResult
    gap: GapResult
    student: StudentResult
    reading: ReadingResult | None = None
    unlabelled: UnlabelledResult | None = None

    @property
    def rows(self) -> int:
        """The rows that the round added."""
        return self.synthesis.kept + (self.unlabelled.taken if self.unlabelled else 0)

    @property
    def stage(self) -> str:
        """The folder of the round."""
        return self.student.stage


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgesResult(StageResult):
    """The judges of a run, and what they know of dev rows that they were not trained on.

    "applied": students learn label probabilities. Otherwise the requested labels stay: "off": no check was asked for;
    "undivided": dev has no two rows of one label that can be kept apart; "no_gain": the judges explain dev no better
    than chance. ``judges`` is how many were trained; for the others see ``label_model.Calibration``.
    """

    outcome: Literal["off", "undivided", "no_gain", "applied"]
    judges: int = 0
    n_rows: int = 0
    exponent: float = 1.0
    accuracy: float = 0.0
    gain: float = 0.0

    @property
    def applied(self) -> bool:
        """Whether students learn label probabilities in place of the requested labels."""
        return self.outcome == "applied"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingResult(StageResult):
    """How many rows of a round the judges predicted."""

    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelModelFigures:
    """What the label model found.

    ``correct``: for each requested label, the share of its texts that is expected to carry it; ``correct_overall``: the
    same over all rows. ``relabelled``: rows whose likeliest label is not the requested one.
    """

    correct: Mapping[str, float]
    correct_overall: float
    relabelled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelCheckResult(StageResult):
    """What became of the requested labels: the judges, and the figures of the label model where it was applied."""

    judges: JudgesResult
    figures: LabelModelFigures | None = None

    @property
    def applied(self) -> bool:
        """Whether students learn label probabilities in place of the requested labels."""
        return self.judges.applied


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldResult(StageResult):
    """Scores of one fold's students on the dev rows ``ids`` that were held out, for each of ``SHARES``.

    ``scores`` is (n_shares, n_rows), from 0 to 1; ``logits`` (n_shares, n_rows, n_labels), None where rows have no
    labels. ``synthetic_rows`` are those that the fold's students could learn from.
    """

    synthetic_rows: int
    ids: tuple[str, ...]
    scores: tuple[tuple[float, ...], ...]
    logits: tuple[tuple[tuple[float, ...], ...], ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The comparison of students with and without synthetic rows, on dev rows that neither was trained on.

    ``share`` is the part of the final student's weights in the selected average; 0 selects the gold-only student.
    ``final``, ``gold_only`` and ``selected`` are mean scores of the student of all rows, of the gold-only student and
    of the average with ``share``; ``low`` and ``high`` bound the 95 % interval of ``selected``. ``gain`` is by how many
    nats a row the selected average explains the labels better than gold-only, None where rows have no labels.
    ``synthetic_rows`` are those that each fold's students could learn from: rows that descend from the fold are left
    out, so that ``final`` is biased low. ``selected`` and ``gain`` are those of the best of several shares, and so
    optimistically biased.
    """

    share: float
    final: float
    gold_only: float
    selected: float
    low: float
    high: float
    gain: float | None
    n_rows: int
    synthetic_rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSelectionResult(StageResult):
    """How the selected student was chosen.

    "off": model selection was not asked for, or there is no student with gold; "undivided": dev has no two rows of one
    label that can be kept apart. ``seconds`` are those of the folds' students.
    """

    outcome: Literal["off", "undivided", "done"]
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MapResult(StageResult):
    """The share of the variance of all rows that each axis of the map explains, from 0 to 1."""

    explained: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the row ``id`` lies on the map, the id of the nearest row of the other side, and the cosine to it."""

    id: str
    x: float
    y: float
    nearest: str
    cosine: float

    def to_row(self) -> Row:
        """The place as a dictionary of plain JSON values."""
        return {
            "id": self.id,
            "x": round(self.x, 4),
            "y": round(self.y, 4),
            "nearest": self.nearest,
            "cosine": round(self.cosine, 4),
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Place:
        """The inverse of ``to_row``. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        return cls(row["id"], float(row["x"]), float(row["y"]), row["nearest"], float(row["cosine"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipResult:
    """The membership attack on the selected classifier, and on the gold-only one for comparison.

    The rows that were not trained on are those of test or, where there is none, those of each fold of model selection,
    as predicted by the student without that fold.
    """

    held_out: Literal["test", "folds"]
    selected: Membership
    gold_only: Membership | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakageResult(StageResult):
    """What a run gives away of its gold rows.

    ``synthetic`` compares the dataset's rows with dev, ``gold`` each dev row with the others (None: there is one), in
    runs of ``unit``. ``copies_dropped`` counts the texts that copied gold rows, ``personal_dropped`` those that
    repeated personal data of them. ``redacted``: how many values of each kind were replaced in dev for the prompts;
    None if that was not asked for. ``membership`` is None where no classifier was trained on dev, or no gold rows are
    held out.
    """

    unit: Literal["words", "characters"]
    synthetic: LeakageFigures
    gold: LeakageFigures | None
    copies_dropped: int
    personal_dropped: int
    redacted: Mapping[str, int] | None
    membership: MembershipResult | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary(StageResult):
    """The figures of a finished run. ``selected`` is the stage of the student that ``RunResult.model`` names."""

    schema_version: int = SCHEMA_VERSION
    task: str
    kind: str
    dataset_sha256: str
    rows: int
    with_gold: bool
    rounds: tuple[RoundResult, ...]
    label_check: LabelCheckResult
    model_selection: ModelSelectionResult
    final: StudentResult
    final_without_gold: StudentResult | None
    gold_only: StudentResult | None
    averaged: StudentResult | None
    large: StudentResult | None = None
    selected: str
    leakage: LeakageResult | None = None

    @property
    def students(self) -> tuple[StudentResult, ...]:
        """All students: those of the rounds, then the final ones."""
        finals = (self.final, self.final_without_gold, self.gold_only, self.averaged, self.large)
        return (*(entry.student for entry in self.rounds), *(student for student in finals if student is not None))

    @property
    def selected_student(self) -> StudentResult:
        """The student that ``selected`` names."""
        return next(student for student in self.students if student.stage == self.selected)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickResult:
    """The figures of ``s3local run --quick``: a student of ``rows`` dev rows.

    ``score`` is its accuracy (question answering: F1) in cross-validation on ``scored`` of them, with a 95 % interval
    from ``low`` to ``high``; None where dev cannot be divided. ``test`` are the scores on test rows, if there are any.
    """

    task: str
    rows: int
    scored: int
    score: float | None
    low: float | None
    high: float | None
    test: Metrics | None
    temperature: float
    export: ExportReport
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRound:
    """A round of a run, as a cell of a comparison keeps it."""

    stage: str
    rows: int
    dev_accuracy: float
    test_accuracy: float
    gap: Gap
    diversity: Diversity
    gap_of_new: Gap
    diversity_of_new: Diversity


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """One method with one seed (None: it has none) and one number of gold rows (0: it uses none).

    ``test_low`` and ``test_high`` bound the 95 % interval of the accuracy on ``test_rows``. ``right`` has one character
    for each test row in order: 1 or 0 for a correct or a wrong prediction, - for a row that was not predicted.
    """

    dataset: str
    method: str
    seed: int | None
    gold_rows: int
    synthetic_rows: int
    shortfall: int
    test_rows: int
    test_accuracy: float
    test_macro_f1: float
    test_low: float
    test_high: float
    seconds: float
    rounds: tuple[CellRound, ...]
    right: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSummary:
    """A method with one number of gold rows, over its seeds: means, standard deviations (None for one seed), and the
    95 % interval of the mean accuracy over test rows and seeds."""

    gold_rows: int
    method: str
    meaning: str
    seeds: int
    test_rows: int
    synthetic_rows: float
    shortfall: float
    accuracy: float
    accuracy_std: float | None
    accuracy_low: float
    accuracy_high: float
    macro_f1: float
    macro_f1_std: float | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodComparison(Comparison):
    """The ``reference`` method against another one on the ``test_rows`` that both predicted."""

    gold_rows: int
    reference: str
    method: str
    test_rows: int
    in_words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareSummary:
    """The figures of a comparison. ``skipped`` says why a method was left out, by its name."""

    schema_version: int = COMPARE_SCHEMA_VERSION
    task: str
    reference: str
    synthetic_rows: int
    test_rows: int
    skipped: Mapping[str, str]
    cells: tuple[CellResult, ...]
    summary: tuple[MethodSummary, ...]
    comparisons: tuple[MethodComparison, ...]


def to_json(result: object) -> str:
    """A result of this module as indented JSON."""
    return _adapter(type(result)).dump_json(result, indent=2).decode()


def to_plain(result: object) -> Any:
    """A result of this module as plain JSON values."""
    return _adapter(type(result)).dump_python(result, mode="json")


def write_result(path: Path, result: object) -> None:
    """Write a result of this module to ``path``, whole or not at all. Raises ``StorageError``."""
    write_text(path, to_json(result) + "\n")


def read_result(path: Path, kind: type[T]) -> T:
    """The result in ``path``. Raises ``RunError`` for a file of another version, or a damaged one."""
    try:
        content = parsed_json(path.read_text(encoding="utf-8"))
        version = getattr(kind, "__dataclass_fields__", {}).get("schema_version")
        if version is not None:
            _require_version(path, content, version.default)
        result: T = _adapter(kind).validate_python(content)
        return result
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole file"
        problem = f"{place}: {first['msg']}"
        raise RunError(f"{path} is damaged ({problem}); delete it, and run the same command again") from exc
    except (OSError, ValueError) as exc:
        raise RunError(f"{path} is damaged ({exc}); delete it, and run the same command again") from exc


def _require_version(path: Path, content: Any, wanted: int) -> None:
    found = content.get("schema_version") if isinstance(content, dict) else None
    if found != wanted:
        written = "a newer s3local" if isinstance(found, int) and found > wanted else "an older s3local"
        raise RunError(
            f"{path} was written by {written} (schema version {found or 'none'}, {wanted} belongs here); "
            "read it with that version, or run again under another --name"
        )


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}


def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """Reads and writes ``kind``; made once, which takes milliseconds."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
