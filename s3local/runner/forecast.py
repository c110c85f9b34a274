"""How long a run takes: its long steps as amounts of work, and how fast this machine does each kind of work.

A step is known by the beginning of the name that it reports its progress with. Speeds are measured for some seconds
before the first step, and then learned from the steps of the run itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from s3local.hardware import physical_cores, torch_device
from s3local.progress import Advance, ignore
from s3local.records import Example
from s3local.results import AVERAGED, FINAL, GOLD_ONLY, LARGE
from s3local.runner.generation import EXPECTED_RATE
from s3local.runner.models import Models
from s3local.runner.relabel import DEV_MARKER
from s3local.runner.settings import RunSettings
from s3local.runner.task_kinds import TrainingSet, kind_of
from s3local.storage import parsed_json
from s3local.student.reader_training import ReaderSettings
from s3local.student.training import StudentSettings, TrainingSettings
from s3local.synthesis.rationales import SAMPLES_PER_KEPT
from s3local.task.model import Task
from s3local.task.rows import load_dev
from s3local.teacher.recommend import CONTRAST_FACTOR, writing_speed
from s3local.teacher.server import is_server_address

Kind = Literal["rationales", "texts", "student", "students", "judges", "reading", "large", "export"]
"""Kinds of work, and their units: rationales and texts of the teacher; texts through the student while it trains, in
this process or in the workers; texts through the judges while they train in the workers; texts that all judges read;
texts through a student of the judges' encoder; exported students."""

CHARACTERS_PER_TOKEN = 3.5
RATIONALE_TOKENS = 22
PROMPT_TOKENS = 6
"""What a text's share of its prompt costs, in tokens that are written."""
EXPORT_PASSES = 300
"""Exporting a student, scoring it and what else happens once for each, in texts through the student."""
READING_SHARE = 1 / 7
"""The time of a text through a layer that only reads it, as a share of that through one that trains. A third by the
number of products; but larger batches and two threads help reading more."""
BESIDE_OTHERS = 0.7
"""The speed of a worker beside others on one processor, as a share of its speed alone (two workers on two cores)."""
PROBE_SECONDS = 1.5
"""How long a training is measured, at most."""
PROBE_ROWS = 64
PRIOR_SECONDS = 10.0
"""How many seconds of a run's own work count as much as the speed that was measured before it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A long step of a run.

    ``step`` is the beginning of the name that it reports, ``amount`` what it has to do in the units that it counts, and
    ``marker`` the file of the run's folder that says that it is done.
    """

    step: str
    kind: Kind
    amount: float
    marker: str

    @property
    def title(self) -> str:
        """What a person calls it: "round-1", "final students and cross-validation"."""
        return self.step.partition(":")[0]


def stages_of(task: Task, settings: RunSettings, n_dev: int) -> list[Stage]:
    """The long steps of a run in their order, as far as they can be known before it: ``n_dev`` dev rows.

    Cross-validation is taken to have all its folds, and judges to be better than chance. Unlabelled rows, which spare
    the teacher some texts, are not counted.
    """
    answers = task.kind == "extractive_qa"
    whole: StudentSettings = settings.reader if answers else settings.training
    brief = dataclasses.replace(whole, brief=True)
    judges = settings.label_check and not answers
    stages, rows = [], 0
    asked = sum(not label.rationales for label in task.labels) if task.kind == "classification" else 0
    if asked and settings.rationales and settings.extrapolate == "errors":
        amount = asked * settings.rationales * SAMPLES_PER_KEPT
        stages.append(Stage("rationales: the teacher writes", "rationales", amount, "rationales.json"))
    for number, new in enumerate(rows_of_rounds(settings)):
        name, rows = f"round-{number}", rows + new
        marker = f"{name}/metrics.json"
        teacher, training_of_judges = list[Stage](), list[Stage]()
        if settings.generate:
            teacher = [Stage(f"{name}: the teacher writes", "texts", new / EXPECTED_RATE, f"{name}/synthesis.json")]
        if judges and number == 0:
            amount = settings.judging.passes * settings.folds
            training_of_judges = [Stage("the judges train", "judges", amount, DEV_MARKER)]
        real = (
            task.unlabelled is not None and settings.use_unlabelled
        )  # judges label real rows before texts are written
        stages += training_of_judges + teacher if real else teacher + training_of_judges
        if judges:
            stages.append(Stage(f"{name}: the judges read", "reading", new, f"{name}/judged.json"))
        stages.append(Stage(f"{name}: the student trains", "student", brief.passes_for(rows), marker))
        stages.append(Stage(f"{name}: exporting", "export", 1, marker))
    everything = rows + (n_dev if settings.with_gold else 0)
    if settings.model_selection and settings.with_gold:
        inside = max(1, round(n_dev * (1 - 1 / settings.folds)))
        of_fold = round(rows * (1 - 1 / settings.folds)) + inside
        folds = brief.passes_for(of_fold) + brief.passes_for(inside)
        passes = whole.passes_for(everything) + whole.passes_for(n_dev) + settings.folds * folds
        stages.append(Stage("final students and cross-validation", "students", passes, f"{GOLD_ONLY}/metrics.json"))
        exported = [FINAL, GOLD_ONLY, AVERAGED]
    else:
        passes = whole.passes_for(everything)
        stages.append(Stage(f"{FINAL}: the student trains", "student", passes, f"{FINAL}/metrics.json"))
        exported = [FINAL]
    stages += [Stage(f"{name}: exporting", "export", 1, f"{name}/metrics.json") for name in exported]
    if settings.size == "large":
        marker = f"{LARGE}/metrics.json"
        stages.append(Stage(f"{LARGE}: the student trains", "large", whole.passes_for(everything), marker))
        stages.append(Stage(f"{LARGE}: exporting", "export", 1, marker))
    return stages


def rows_of_rounds(settings: RunSettings) -> list[int]:
    """How many rows each round adds, the seed first, if each gets all that it asks for."""
    rounds = [max(1, round(settings.rows * settings.seed_share)) if settings.rounds else settings.rows]
    while len(rounds) <= settings.rounds and sum(rounds) < settings.rows:
        rounds.append(max(1, (settings.rows - sum(rounds)) // (settings.rounds - len(rounds) + 1)))
    return rounds


class Forecast:
    """What is left of a run, by the speed of the machine.

    ``speeds`` are units a second of each kind, None for a kind that nothing is known of yet: its stages count as soon
    as the run has done some of it. ``clock`` gives seconds.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        speeds: Mapping[Kind, float | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stages = list(stages)
        self._left = [stage.amount for stage in stages]
        self._speeds = speeds
        self._clock = clock
        self._done: defaultdict[Kind, float] = defaultdict(float)
        self._seconds: defaultdict[Kind, float] = defaultdict(float)
        self._place = 0
        self._begun = self._last = clock()

    @contextlib.contextmanager
    def step(self, name: str, total: int | None) -> Iterator[Advance]:
        """Follow a step of the run; the block gets the function that reports its units.

        The stages before it are over. A step that is no stage is not followed.
        """
        places = range(self._place, len(self._stages))
        found = next((place for place in places if name.startswith(self._stages[place].step)), None)
        if found is None:
            yield ignore
            return
        self._left[self._place : found] = [0.0] * (found - self._place)
        self._place, self._last = found, self._clock()
        yield lambda units: self._advance(found, units)
        self._advance(found, self._stages[found].amount if total is None else 0.0)

    def _advance(self, place: int, units: float) -> None:
        kind, now = self._stages[place].kind, self._clock()
        self._left[place] = max(0.0, self._left[place] - units)
        self._done[kind] += units
        self._seconds[kind] += now - self._last
        self._last = now

    def speed(self, kind: Kind) -> float | None:
        """Units of this kind a second, as measured and as the run has shown; None if nothing is known."""
        measured = self._speeds.get(kind)
        done, seconds = self._done[kind], self._seconds[kind]
        if measured is None:
            return done / seconds if done and seconds else None
        return (measured * PRIOR_SECONDS + done) / (PRIOR_SECONDS + seconds)

    @property
    def seconds_left(self) -> float:
        """How long the rest takes, in seconds, as far as speeds are known."""
        left = [self._seconds_of(place) for place in range(len(self._stages))]
        if left:
            left[self._place] = max(0.0, left[self._place] - (self._clock() - self._last))
        return sum(left)

    def _seconds_of(self, place: int) -> float:
        speed = self.speed(self._stages[place].kind)
        return self._left[place] / speed if speed else 0.0

    @property
    def share(self) -> float:
        """How much of the time of this sitting has passed, from 0 to 1."""
        passed = self._clock() - self._begun
        return passed / (passed + self.seconds_left) if passed else 0.0

    @property
    def is_whole(self) -> bool:
        """Whether a speed is known for all that is to come."""
        return all(
            self.speed(stage.kind) is not None for stage, left in zip(self._stages, self._left, strict=True) if left
        )

    @property
    def to_come(self) -> list[str]:
        """The titles of the stages after the present one that are not done, each once."""
        titles = {stage.title: left for stage, left in zip(self._stages, self._left, strict=True) if left}
        here = self._stages[self._place].title if self._stages else ""
        return [title for title in titles if title != here]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured on this machine.

    ``tokens``: tokens a second of the teacher, None if it was not asked. ``passes``: texts a second through the student
    while it trains in this process; ``passes_alone``: on one thread. ``workers``: processes that train side by side.
    """

    tokens: float | None
    passes: float
    passes_alone: float
    workers: int


def speeds_of(
    measured: Measured, settings: RunSettings, *, text_tokens: float, contrast: bool, body: Path, judge: Path
) -> dict[Kind, float | None]:
    """The speed of each kind of work: the teacher's by the tokens of a text, the others by the sizes of the encoders.

    The time of a text through an encoder grows with the weights of its layers.
    """
    student, strong = Encoder.read(body), Encoder.read(judge)
    trained = min(strong.layers, settings.judging.trained_layers)
    relative = strong.layer_weights / (student.layer_weights * student.layers)
    judges_at_once = settings.folds / -(-settings.folds // measured.workers)
    read_layers = strong.layers - trained + settings.folds * trained
    tokens = measured.tokens
    worker = measured.passes_alone * (BESIDE_OTHERS if measured.workers > 1 else 1.0)
    return {
        "rationales": tokens and tokens / RATIONALE_TOKENS,
        "texts": tokens and tokens / ((text_tokens + PROMPT_TOKENS) * (CONTRAST_FACTOR if contrast else 1.0)),
        "student": measured.passes,
        "students": worker * measured.workers,
        "judges": worker * judges_at_once / (relative * trained),
        "reading": measured.passes / (relative * read_layers * READING_SHARE),
        "large": measured.passes / (relative * strong.layers),
        "export": measured.passes / EXPORT_PASSES,
    }


@dataclass(frozen=True, slots=True)
class Encoder:
    """The number of layers of an encoder, and of the weights in one of them."""

    layers: int
    layer_weights: int

    @classmethod
    def read(cls, folder: Path) -> Encoder:
        """By the folder's config.json, whose entries have other names in a DistilBERT."""
        config = parsed_json((folder / "config.json").read_text(encoding="utf-8"))
        width = config.get("hidden_size") or config["dim"]
        inner = config.get("intermediate_size") or config["hidden_dim"]
        return cls(config.get("num_hidden_layers") or config["n_layers"], 4 * width * width + 2 * width * inner)


def forecast(task: Task, settings: RunSettings, models: Models, workers: int | None, folder: Path) -> Forecast:
    """Measure this machine for some seconds; what is left of the run in ``folder``.

    ``workers`` is as for ``executor_for``. Raises as the run itself does where a model cannot be loaded.
    """
    dev = load_dev(task)
    stages = [stage for stage in stages_of(task, settings, len(dev)) if not (folder / stage.marker).is_file()]
    tokens = None
    if any(stage.kind in ("rationales", "texts") for stage in stages) and not is_server_address(settings.teacher):
        with contextlib.closing(models.teacher()) as teacher:
            tokens = writing_speed(teacher)
    count = 1 if torch_device() == "cuda" else workers or physical_cores()
    passes = training_speed(task, dev, settings, models.body)
    alone = passes if count == 1 else training_speed(task, dev, settings, models.body, threads=1)
    written = [len(row.fields[task.target_field]) for row in dev]
    speeds = speeds_of(
        Measured(tokens, passes, alone, count),
        settings,
        text_tokens=max(1.0, sum(written) / len(written) / CHARACTERS_PER_TOKEN),
        contrast=models.contrast(settings) > 0,
        body=models.body,
        judge=models.judge,
    )
    return Forecast(stages, speeds)


class _MeasuredError(Exception):
    """Ends a training that is only measured."""


def training_speed(
    task: Task, dev: Sequence[Example], settings: RunSettings, body: Path, threads: int | None = None
) -> float:
    """Texts a second that go through a student while it learns dev rows, on ``threads`` (None: as torch is set)."""
    kind = kind_of(task, dev, [], settings)
    rows = [dev[place % len(dev)] for place in range(PROBE_ROWS)]
    training = kind.training_settings(body)
    if isinstance(training, TrainingSettings):
        training = dataclasses.replace(training, passes=100 * PROBE_ROWS)
    elif isinstance(training, ReaderSettings):
        training = dataclasses.replace(training, epochs=100, batch_size=8)
    times, done = list[float](), 0

    def advance(texts: int) -> None:
        nonlocal done
        done += texts if times else 0  # the first batch also prepares the computation
        times.append(time.perf_counter())
        if done and times[-1] - times[0] > PROBE_SECONDS:
            raise _MeasuredError

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with contextlib.suppress(_MeasuredError):
            kind.train(body, TrainingSet(rows, settings.seed), training, advance)
    finally:
        torch.set_num_threads(before)
    return done / (times[-1] - times[0])
