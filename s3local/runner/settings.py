"""Settings of a run: every choice that changes its result, with benchmarked defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from s3local.curation.dedup import DedupSettings
from s3local.curation.privacy import PrivacySettings
from s3local.curation.rules import RuleSettings
from s3local.relabelling.judge import JudgeSettings
from s3local.student.reader_training import ReaderSettings
from s3local.student.training import TrainingSettings
from s3local.synthesis.prompts import PROMPT_TOKENS
from s3local.teacher.engine import EngineSettings
from s3local.teacher.protocol import Sampling
from s3local.weights.manifest import PromptStyle

LIST_CONTRAST = 0.5
"""More of the embedded teacher's texts carry the requested label with it: 58 against 52 % zero-shot and 71 against 62 %
extrapolated on trec, 90 against 77 % and 81 against 68 % on sst2 (benchmarks/contrast.py). It doubles the teacher's
time, and was not measured with larger teachers."""


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """Settings of extractive question answering.

    ``error_f1``: a dev row whose answer has a lower F1 is an error. ``round_trip``: the teacher answers each new
    question, and the row is dropped if the F1 of its answer is lower; 0 does not ask. A small teacher that cannot
    answer questions makes this filter drop good rows.
    """

    error_f1: float = 0.5
    round_trip: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.error_f1 <= 1:
            raise ValueError(f"error_f1 must be above 0 and at most 1, got {self.error_f1}")
        if not 0 <= self.round_trip <= 1:
            raise ValueError(f"round_trip must be from 0 to 1, got {self.round_trip}")


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a run is done.

    Budget:
    ``seed``: the random seed. ``rows``: synthetic rows to train on, over seed and rounds. ``rounds``: rounds of error
    extrapolation, at most (S3 has 2). ``seed_share``: the part of ``rows`` that the seed has, if there are rounds.
    ``attempts``: texts asked for, at most, for each row. ``shard_size``: requests in a shard.

    Prompts:
    ``rationales``: kept for each label; ``rationales_shown``: in one seed prompt. ``shots``: other rows shown beside an
    error; ``samples``: texts from one prompt. ``prompt_tokens``: a longer prompt shows fewer rows, and at last
    shorter texts. ``contrast``: weight of the contrast with the prompt of another label; 0 is plain sampling, None is
    ``LIST_CONTRAST`` for list-style teachers and 0 for chat-style ones.

    Errors: ``extrapolate``: "errors" of the student, as in S3, or all of "dev" at once, without seed and rounds (the
    paper's GoldGen). ``least_share``: each label gets at least this share of its fair share of a round. ``error_cap``:
    a label has at most this many times its fair share of a round's errors; ``max_errors`` caps them over all labels.
    ``rows_per_error``: where a round has more rows for each error, the dev rows that the student is least sure of are
    extrapolated as well.

    Real texts: ``use_unlabelled``: the task's unlabelled rows are taken before the teacher is asked for more;
    ``generate``: the teacher writes what they do not fill.

    Labels and students: ``label_check``: judges trained on dev, one for each of ``folds``, give label probabilities
    that all students learn, if they explain dev better than chance; ``judging`` says how they are trained.
    ``with_gold``: the final student is trained on dev as well. ``both_finals``: a second final student is trained
    without dev. ``size``: "large" selects a further final student, which is trained on the same rows from the
    judges' encoder. ``model_selection``: cross-validation over ``folds`` selects the
    best average of the final and the gold-only student, or the gold-only student.

    ``teacher``, ``encoder``, ``student``, ``judge``: a model's id or path; None takes the embedded one. ``judge`` is
    the encoder of the judges; "none", or a missing embedded one, takes ``encoder``. ``teacher`` may also be the address
    of a server, ``http://HOST:PORT/v1#MODEL``; ``allow_host`` must name its host if that is not this machine.
    """

    seed: int = 0
    rows: int = 1000
    rounds: int = 2
    seed_share: float = 0.4
    rationales: int = 12
    rationales_shown: int = 2
    shots: int = 4
    samples: int = 8
    error_cap: float = 1.5
    least_share: float = 0.5
    contrast: float | None = None
    extrapolate: Literal["errors", "dev"] = "errors"
    max_errors: int | None = None
    rows_per_error: int = 20
    prompt_tokens: int = PROMPT_TOKENS
    shard_size: int = 256
    attempts: int = 8
    use_unlabelled: bool = True
    generate: bool = True
    label_check: bool = True
    with_gold: bool = True
    both_finals: bool = False
    size: Literal["small", "large"] = "small"
    model_selection: bool = True
    folds: int = 4
    teacher: str | None = None
    allow_host: str | None = None
    encoder: str | None = None
    student: str | None = None
    judge: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    engine: EngineSettings = field(default_factory=EngineSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    reader: ReaderSettings = field(default_factory=ReaderSettings)
    rules: RuleSettings = field(default_factory=RuleSettings)
    dedup: DedupSettings = field(default_factory=DedupSettings)
    judging: JudgeSettings = field(default_factory=JudgeSettings)
    answers: AnswerSettings = field(default_factory=AnswerSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)

    def __post_init__(self) -> None:
        for name in ("rows", "samples", "shard_size", "attempts", "prompt_tokens", "rows_per_error"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("seed", "rounds", "rationales", "rationales_shown", "shots"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.contrast is not None and not 0 <= self.contrast < math.inf:
            raise ValueError(f"contrast must not be negative and finite, got {self.contrast}")
        if self.folds < 2:
            raise ValueError(f"folds must be at least 2, got {self.folds}")
        if self.max_errors is not None and self.max_errors < 1:
            raise ValueError(f"max_errors must be at least 1, got {self.max_errors}")
        if not 0 < self.error_cap < math.inf:
            raise ValueError(f"error_cap must be above 0 and finite, got {self.error_cap}")
        if not 0 <= self.least_share <= 1:
            raise ValueError(f"least_share must be from 0 to 1, got {self.least_share}")
        if not 0 < self.seed_share <= 1:
            raise ValueError(f"seed_share must be above 0 and at most 1, got {self.seed_share}")
        if self.both_finals and not self.with_gold:
            raise ValueError("of both final students, one is trained with gold; with_gold must be true")
        if not self.generate and not (self.use_unlabelled and self.label_check):
            raise ValueError("without a teacher, rows come from unlabelled texts, which the label check labels")
        if self.extrapolate == "dev" and self.rounds:
            raise ValueError(f"all of dev is extrapolated at once, without rounds, got rounds {self.rounds}")

    def contrast_for(self, style: PromptStyle) -> float:
        """The contrast for a teacher with prompts of this style."""
        if self.contrast is not None:
            return self.contrast
        return LIST_CONTRAST if style == "list" else 0.0
