"""The methods of a comparison, the runs that they are read from, and the defaults.

Imports no library, so that the command line can name the methods in its help.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from s3local.exceptions import S3LocalError
from s3local.wording import nearest_name

TEACHER_ROWS = 200
"""Test rows for methods that let the teacher score each text under every label, which is slow. The same ones in every
cell."""

_REAL = {"use_unlabelled": True}
_ZEROGEN = {"rounds": 0, "rationales": 0, "rationales_shown": 0, "with_gold": False, "label_check": False}
RUNS: Mapping[str, Mapping[str, Any]] = {
    "zerogen": _ZEROGEN,
    "zerogen-no-contrast": {**_ZEROGEN, "contrast": 0.0},
    "goldgen": {"extrapolate": "dev", "rounds": 0, "with_gold": True, "both_finals": True},
    "s3": {"with_gold": True, "both_finals": True},
    "s3-large": {"with_gold": True, "size": "large"},
    "s3-unlabelled": {**_REAL, "with_gold": True},
    "self-training": {**_REAL, "with_gold": True, "rounds": 0, "generate": False},
    "s3-no-ees": {"rounds": 0, "with_gold": False},
    "s3-no-rationale": {"rationales": 0, "rationales_shown": 0, "with_gold": False},
}
"""What each run changes in the settings of the comparison, which uses no unlabelled rows by itself. ZeroGen uses no
gold: every setting that does is off."""


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table.

    ``run``: the entry of ``RUNS`` that it is read from, None for a baseline without synthetic rows. ``student``: which
    student of that run: the selected one, or the final one that was not trained on gold rows.
    ``uses_gold``, ``uses_seed``: a method without them has one cell for all numbers of gold rows, for all seeds; the
    lengths of its texts are then those of the most gold rows. ``test_rows``: how many test rows it predicts, None for
    all. ``chosen``: its gold rows are chosen by their texts, not drawn.
    """

    name: str
    meaning: str
    run: str | None = None
    student: Literal["selected", "without gold"] = "selected"
    uses_gold: bool = True
    uses_seed: bool = True
    test_rows: int | None = None
    chosen: bool = False


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("gold", "the student trained on gold rows alone"),
        Method("active", "the same on rows that suggest chose, not drawn", chosen=True),
        Method("probe", "a linear layer on embeddings of gold rows"),
        Method("probe-large", "the same with the judges' encoder"),
        Method("setfit", "the SetFit package on gold rows"),
        Method("setfit-large", "the same with the judges' encoder"),
        Method("judge", "the judges' encoder, trained on gold rows"),
        Method(
            "teacher-zero-shot",
            "the teacher itself, without gold",
            uses_gold=False,
            uses_seed=False,
            test_rows=TEACHER_ROWS,
        ),
        Method("teacher-few-shot", "the teacher itself, shown gold rows", test_rows=TEACHER_ROWS),
        Method("zerogen", "zero-shot rows, no rationales, no rounds", run="zerogen", uses_gold=False),
        Method("zerogen-no-contrast", "the same, plainly sampled", run="zerogen-no-contrast", uses_gold=False),
        Method("goldgen", "all gold rows extrapolated", run="goldgen", student="without gold"),
        Method("goldgen+gold", "the same, trained on gold too", run="goldgen"),
        Method("s3-no-ees", "S3 without error extrapolation", run="s3-no-ees"),
        Method("s3-no-rationale", "S3 without rationales", run="s3-no-rationale"),
        Method("s3", "Synthesis Step by Step", run="s3", student="without gold"),
        Method("s3+gold", "the same, trained on gold too", run="s3"),
        Method("self-training", "unlabelled rows with the judges' labels, and gold", run="self-training"),
        Method("s3+unlabelled", "s3+gold, unlabelled rows before the teacher's", run="s3-unlabelled"),
        Method("s3+gold-large", "the same, a student of the judges' encoder", run="s3-large"),
    )
}
GROUPS: Mapping[str, tuple[str, ...]] = {"teacher": ("teacher-zero-shot", "teacher-few-shot")}
"""Names that stand for several methods."""

DEFAULT_METHODS = ("gold", "zerogen", "goldgen", "s3", "s3-no-ees", "s3-no-rationale", "s3+gold", "goldgen+gold")
DEFAULT_SEEDS = (0, 1, 2)
DEFAULT_REFERENCE = "s3"


def methods_named(names: Iterable[str]) -> tuple[Method, ...]:
    """The methods that ``names`` of ``METHODS`` and ``GROUPS`` stand for, once each, in the order of ``METHODS``."""
    wanted = {single for name in names for single in GROUPS.get(name, (name,))}
    return tuple(method for method in METHODS.values() if method.name in wanted)


def require_known(names: Iterable[str], reference: str) -> None:
    """Raises ``S3LocalError`` for a name that is no method or group, or a ``reference`` that is no method."""
    for name in (*names, reference):
        if name not in METHODS and (name not in GROUPS or name == reference):
            known = [*METHODS, *GROUPS]
            nearest = nearest_name(name, known)
            meant = f", did you mean {nearest}?" if nearest is not None else ";"
            raise S3LocalError(f"unknown method {name!r}{meant} known are {', '.join(known)}")
