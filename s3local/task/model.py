"""``Task``: what the student is to learn. ``load_task`` reads it from task.yaml.

Every mistake in the file raises an ``InputError`` with file and line. All values of the YAML are read as text, so that
a label written as ``yes``, ``no`` or ``0`` stays exactly that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from s3local.exceptions import InputError
from s3local.records import SPAN, Example
from s3local.sources import ROW_SUFFIXES, Reading, format_of, is_source
from s3local.storage import safe_folder_name, translated_errors
from s3local.task.yaml_file import dotted, line_of, read_yaml
from s3local.text import composed, is_blank, one_line
from s3local.wording import nearest_name, shown, unknown

TASK_FILE = "task.yaml"
_CHECKOUT_DATA = Path(__file__).resolve().parents[2] / "data"
PRESETS = _CHECKOUT_DATA if (_CHECKOUT_DATA / "support_desk").is_dir() else Path(__file__).parents[1] / "presets"
"""The tasks that come with the program: ``data/`` of the checkout; an installed package has a copy of it."""
MAX_LINE_CHARACTERS = 1_000
"""The longest name, description, phrase or rationale. A prompt must have room for many of them."""

RESERVED_FIELDS = ("id", "label", "origin", "reason", "score", "detail", "answer_start")
"""Keys with another meaning in the rows that a run writes (see ``records``)."""

Kind = Literal["classification", "pair", "extractive_qa"]
"""A text and its label; a source text, a target text and the label of both; or a question on a context and the span of
the context that answers it."""

USUAL_FIELDS: Mapping[str, tuple[str, ...]] = {"classification": ("text",), "extractive_qa": ("context", "question")}
"""The fields of a task that names none. A pair must name its own."""

_OF_A_LABEL = ("texts", "language", "label", "description", "phrase")
_OF_A_PAIR = (*_OF_A_LABEL, "given", "given_name", "written_name")
_OF_A_SPAN = ("texts", "language", "given", "given_name", "written_name")
PROMPT_VARIABLES: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {
    "classification": {
        "rationale": _OF_A_LABEL,
        "seed": (*_OF_A_LABEL, "reasons"),
        "extrapolation": (*_OF_A_LABEL, "shots"),
    },
    "pair": {"seed": _OF_A_PAIR, "extrapolation": (*_OF_A_LABEL, "given_name", "written_name", "shots")},
    "extractive_qa": {
        "seed": (*_OF_A_SPAN, "answer"),
        "extrapolation": ("texts", "language", "given_name", "written_name", "shots"),
    },
}
"""The prompts of each kind, and the variables that each may use. "given" is the source text, "written" the target."""

_NAMES_THE_LABEL = ("label", "description", "phrase")
PROMPT_NEEDS: Mapping[Kind, Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "classification": {
        "rationale": (_NAMES_THE_LABEL,),
        "seed": (_NAMES_THE_LABEL,),
        "extrapolation": (_NAMES_THE_LABEL, ("shots",)),
    },
    "pair": {"seed": (_NAMES_THE_LABEL, ("given",)), "extrapolation": (_NAMES_THE_LABEL, ("shots",))},
    "extractive_qa": {"seed": (("given",), ("answer",)), "extrapolation": (("shots",),)},
}
"""Variables that each prompt must use: at least one of each group."""

MAX_PROMPT_CHARACTERS = 20_000
"""The longest prompt in a task, before its variables are filled in."""


def _one_line(text: str) -> str:
    """``text`` in Unicode NFC with each run of white space as one blank; refused if it is blank or too long."""
    line = one_line(composed(text))
    if is_blank(line):
        raise ValueError("empty, a line of text belongs here")
    if len(line) > MAX_LINE_CHARACTERS:
        raise ValueError(f"{len(line):,} characters, at most {MAX_LINE_CHARACTERS:,} are allowed")
    return line


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("empty, a name belongs here")
    return composed(text)


Line = Annotated[str, AfterValidator(_one_line)]
Name = Annotated[str, AfterValidator(_not_empty)]
FolderName = Annotated[Line, AfterValidator(safe_folder_name)]
Unit = Literal["characters", "words"]


class Label(BaseModel):
    """One label: its name in the rows, its description, and optional help for the teacher."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Line
    """The label as it stands in the rows."""
    description: Line
    """Which texts get the label, in one line. The teacher's prompts show it, and the judges learn from it."""
    phrase: Line = Field(default="", validate_default=False)
    """Continues ``texts`` of the task in a prompt: "messages to a shop" and "that report a fault"."""
    rationales: tuple[Line, ...] = ()
    """Reasons why a text would carry the label; the teacher writes some if there are none. The labels of a pair have
    none, because there the source text is what the teacher writes about."""


class Length(BaseModel):
    """How long a text may be."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    unit: Unit
    """What is counted; words are parts between white space."""
    min: int = Field(ge=1)
    """The least that is allowed."""
    max: int = Field(ge=1)
    """The most that is allowed."""

    @model_validator(mode="after")
    def _in_order(self) -> Length:
        if self.min > self.max:
            raise ValueError(f"min is {self.min} and max is {self.max}; min must not be above max")
        return self

    def measure(self, text: str) -> int:
        """The length of ``text`` in this unit."""
        return length_in(self.unit, text)

    def allows(self, text: str) -> bool:
        """Whether ``text`` is neither too short nor too long."""
        return self.min <= self.measure(text) <= self.max


def length_in(unit: Unit, text: str) -> int:
    """The number of characters of ``text``, or of its words: parts between white space."""
    return len(text) if unit == "characters" else len(text.split())


class PromptTexts(BaseModel):
    """Prompts that replace the built-in ones: ``string.Template`` texts with the variables of ``PROMPT_VARIABLES``."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    rationale: str | None = None
    """Asks why a text would carry a label. Only for single texts."""
    seed: str | None = None
    """Asks for a text without showing an example."""
    extrapolation: str | None = None
    """Asks for a text like those it shows."""


class Task(BaseModel):
    """A text task: its kind, its labels, what the texts are, and where the gold rows are.

    After ``load_task``, ``dev``, ``test``, ``contexts`` and ``unlabelled`` are complete paths; the last three are None
    where there is no such file. Names, descriptions and columns are in Unicode NFC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: FolderName
    """The task's name in reports, and of its folder in runs/."""
    kind: Kind = "classification"
    """A text and its label; a source text, a target text and the label of both; or a question on a context, and the
    span of the context that answers it."""
    language: Line = "English"
    """The language of the texts."""
    texts: Line
    """What the texts are that the teacher writes: a phrase that continues "A list of ..."."""
    labels: tuple[Label, ...] = ()
    """The labels, at least two: a list, or a mapping from name to description or to the keys of a label. Question
    answering has none."""
    fields: tuple[Line, ...] = ()
    """The names of a row's texts, in the order in which the student reads them. One for a classification, usually
    [text]; a source field and a target field for a pair, which must name them, and for question answering, usually
    [context, question]. The teacher writes the target field."""
    generated: Line | None = None
    """The target field of a pair, if it is not the last field."""
    columns: dict[str, Name] = Field(default_factory=dict)
    """The column of your files for a field, for label (answer and answer_start in question answering) or for id, where
    it has another name."""
    length: Length | None = None
    """How long a text may be; without it, the lengths of the dev rows decide."""
    prompts: PromptTexts = PromptTexts()
    """Prompts of your own instead of the built-in ones."""
    dev: Path = Path("dev.jsonl")
    """The labelled rows to learn from. Paths are relative to the folder of task.yaml. Without this key, the first of
    dev.jsonl, dev.csv, dev.tsv and so on is taken; likewise for the next three, which may be absent."""
    test: Path | None = None
    """Labelled rows that are scored once, at the end."""
    contexts: Path | None = None
    """More source texts without labels, of pairs and questions."""
    unlabelled: Path | None = None
    """Real rows without labels, which are taken before the teacher writes more. Question answering has none."""
    reading: Reading = Reading()
    """How files of rows are read where they do not say it; each file takes what its format has."""

    @model_validator(mode="before")
    @classmethod
    def _usual_fields(cls, content: object) -> object:
        """A task without fields gets those of its kind."""
        if not isinstance(content, Mapping) or "fields" in content:
            return content
        return {**content, "fields": USUAL_FIELDS.get(str(content.get("kind", "classification")), ())}

    @field_validator("labels", mode="before")
    @classmethod
    def _as_list(cls, value: object) -> object:
        """Labels are a list, or a mapping from name to description (or to the other keys of a label)."""
        if isinstance(value, list):
            return [{"name": entry} if isinstance(entry, str) else entry for entry in value]
        if not isinstance(value, Mapping):
            return value
        return [
            {"name": name, **entry} if isinstance(entry, Mapping) else {"name": name, "description": entry}
            for name, entry in value.items()
        ]

    @field_validator("labels")
    @classmethod
    def _distinct_labels(cls, labels: tuple[Label, ...]) -> tuple[Label, ...]:
        names = [label.name for label in labels]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise _misplaced(f"the label {shown(name)} is there twice", index)
        return labels

    @field_validator("fields")
    @classmethod
    def _free_distinct_fields(cls, fields: tuple[str, ...]) -> tuple[str, ...]:
        for index, name in enumerate(fields):
            if name in RESERVED_FIELDS:
                raise ValueError(f"{shown(name)} has another meaning in a row; choose another name for the field")
            if name in fields[:index]:
                raise ValueError(f"{shown(name)} is there twice; each text of a row needs its own name")
        return fields

    @model_validator(mode="after")
    def _as_its_kind(self) -> Task:
        """Each kind has its number of fields and labels, and keys that the others do not have."""
        if self.kind == "classification":
            if len(self.fields) != 1:
                raise _misplaced(f"found {len(self.fields)} names, a classification has exactly one field", "fields")
        elif not self.fields:
            raise _misplaced("a pair names its two texts under fields, such as [premise, hypothesis]", "kind")
        elif len(self.fields) != 2:
            what = "a pair has exactly two fields, such as [premise, hypothesis]"
            if self.kind == "extractive_qa":
                what = "question answering has exactly two fields, such as [context, question]"
            raise _misplaced(f"found {len(self.fields)} names, {what}", "fields")
        if self.kind == "extractive_qa":
            if self.labels:
                raise _misplaced("found labels, question answering has none; its rows hold an answer", "labels")
            if SPAN in self.fields:
                raise _misplaced(f"{shown(SPAN)} holds the answer; choose another name for the field", "fields")
        elif "labels" not in self.model_fields_set:
            raise _misplaced("labels is missing")
        elif len(self.labels) < 2:
            raise _misplaced(f"found {len(self.labels)}, a {self.kind} needs at least two labels", "labels")
        if self.kind == "pair":
            for number, label in enumerate(self.labels):
                if label.rationales:
                    problem = "a pair has no rationales, the teacher writes about the source text; leave them out"
                    raise _misplaced(problem, "labels", number, "rationales")
        if self.unlabelled is not None and self.kind == "extractive_qa":
            raise _misplaced("rows of question answering cannot be labelled by judges; leave this out", "unlabelled")
        for key in ("generated", "contexts"):
            if getattr(self, key) is not None and self.kind == "classification":
                raise _misplaced("a classification has no source text; leave this out", key)
        if self.generated is not None and self.kind == "extractive_qa":
            raise _misplaced("question answering always writes its last field; leave this out", "generated")
        if self.generated is not None and self.generated not in self.fields:
            raise _misplaced(unknown("field", self.generated, self.fields), "generated")
        return self

    @model_validator(mode="after")
    def _whole_prompts(self) -> Task:
        """The task's own prompts have known names, known variables, and all variables that they need."""
        for name in self.prompts.model_fields_set:
            text, known = getattr(self.prompts, name), PROMPT_VARIABLES[self.kind]
            if name not in known:
                raise _misplaced(unknown(f"prompt of a task of kind {self.kind}", name, tuple(known)), "prompts", name)
            problem = _prompt_problem(text, known[name], PROMPT_NEEDS[self.kind][name])
            if problem:
                raise _misplaced(problem, "prompts", name)
        return self

    @model_validator(mode="after")
    def _distinct_columns(self) -> Task:
        known = (*self.fields, *self.targets, "id")
        for key in self.columns:
            if key not in known:
                raise _misplaced(unknown("key", key, known), "columns", key)
        holders: dict[str, str] = {}
        for key in known:
            other = holders.setdefault(self.column(key), key)
            if other != key:
                problem = f"{shown(self.column(key))} would hold both {other} and {key}; each needs its own column"
                raise _misplaced(problem, "columns")
        return self

    @classmethod
    def load(
        cls,
        path: str | Path,
        dev: str | Path | None = None,
        test: str | Path | None = None,
        contexts: str | Path | None = None,
        unlabelled: str | Path | None = None,
    ) -> Task:
        """Read a task; see ``load_task``."""
        return load_task(path, dev, test, contexts, unlabelled)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the labels in the order of the task: a label's index is its class. Empty for spans."""
        return tuple(label.name for label in self.labels)

    @property
    def groups(self) -> tuple[str, ...]:
        """What rows are counted by: the labels, or the one label ``SPAN`` of all rows where there are none."""
        return self.label_names or (SPAN,)

    @property
    def targets(self) -> tuple[str, ...]:
        """What a row holds besides its texts: "label", or "answer" and "answer_start"."""
        return (SPAN, "answer_start") if self.kind == "extractive_qa" else ("label",)

    @property
    def target_field(self) -> str:
        """The field that the teacher writes."""
        return self.generated or self.fields[-1]

    @property
    def source_fields(self) -> tuple[str, ...]:
        """The fields that the teacher writes about: none, or one."""
        return tuple(name for name in self.fields if name != self.target_field)

    def label(self, name: str) -> Label:
        """The label called ``name``. Raises ``ValueError`` if there is none."""
        return self.labels[self.label_names.index(name)]

    def column(self, name: str) -> str:
        """The column of the user's files that holds a field, a target or "id"."""
        return self.columns.get(name, name)

    def length_of_texts(self, dev: Sequence[Example]) -> Length:
        """The ``length`` of target texts: that of the task, or one taken from the dev rows, in characters.

        The latter reaches from half of the 5 % quantile to twice the 95 % quantile. Raises ``ValueError`` without rows.
        """
        if self.length is not None:
            return self.length
        lengths = [len(row.fields[self.target_field]) for row in dev]
        shortest, longest = quantile(lengths, 0.05), quantile(lengths, 0.95)
        return Length(unit="characters", min=max(1, shortest // 2), max=longest * 2)


def _prompt_problem(text: str, known: Sequence[str], needed: Sequence[Sequence[str]]) -> str | None:
    """What is wrong with a prompt of a task; None if nothing is."""
    if is_blank(text):
        return "empty, a prompt belongs here"
    if len(text) > MAX_PROMPT_CHARACTERS:
        return f"{len(text):,} characters, at most {MAX_PROMPT_CHARACTERS:,} are allowed"
    found = set()
    for match in Template.pattern.finditer(text):
        name = match["named"] or match["braced"]
        if match["invalid"] is not None:
            return f"a $ without a name after it, at character {match.start() + 1}; write $$ for a dollar sign"
        if name is not None and name not in known:
            return unknown("variable", f"${name}", tuple(f"${name}" for name in known))
        found.add(name)
    for names in needed:
        if not found & set(names):
            return f"the variable {' or '.join(f'${name}' for name in names)} is missing; this prompt needs it"
    return None


def quantile(values: Sequence[int], share: float) -> int:
    """The smallest of ``values`` that at least ``share`` of them do not exceed. Raises ``ValueError`` without any."""
    if not values:
        raise ValueError("a quantile needs at least one value")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


# Reading task.yaml


def load_task(
    path: str | Path,
    dev: str | Path | None = None,
    test: str | Path | None = None,
    contexts: str | Path | None = None,
    unlabelled: str | Path | None = None,
    reading: Reading | None = None,
    *,
    without_dev: bool = False,
) -> Task:
    """The task of a folder, of a task.yaml, or the preset of that name, in this order.

    ``dev``, ``test``, ``contexts`` and ``unlabelled`` replace the files that the task names. Paths in task.yaml are
    relative to its folder. If it names no dev file, the first of dev.jsonl, dev.csv, dev.tsv and so on
    (``ROW_SUFFIXES``) is taken; likewise for the others, which may be absent. What ``reading`` sets replaces what the
    task says. With ``without_dev``, a task may have no dev rows yet; its ``dev`` is then a dev.jsonl that is missing.
    Raises ``InputError`` with the line of a mistake in the file, and if there are no dev rows.
    """
    path = Path(path)
    with translated_errors(path, "read"):
        if not path.exists() and str(path) in preset_names():
            path = PRESETS / path
        file = path / TASK_FILE if path.is_dir() else path
        if not file.is_file():
            belongs = f"a {TASK_FILE} that describes the task belongs here"
            if path == Path(path.name):
                belongs += f", or one of the presets {', '.join(preset_names())}"
                nearest = nearest_name(path.name, preset_names())
                belongs += f"; did you mean {shown(nearest)}?" if nearest is not None else ""
            raise InputError(file, f"no such file; {belongs}")
        node, content = read_yaml(file)
        try:
            task = Task.model_validate(content)
        except ValidationError as exc:
            raise _input_error(file, node, exc) from exc
        dev_file = _rows_file("dev", dev, task, file, node)
        test_file = _rows_file("test", test, task, file, node)
        unlabelled_file = None
        if task.kind != "extractive_qa":
            unlabelled_file = _rows_file("unlabelled", unlabelled, task, file, node)
        elif unlabelled is not None:
            raise InputError(unlabelled, "rows of question answering cannot be labelled by judges; leave the file out")
        contexts_file = None
        if task.source_fields:
            contexts_file = _rows_file("contexts", contexts, task, file, node)
        elif contexts is not None:
            raise InputError(contexts, f"a task of kind {task.kind} has no source text, so it cannot use contexts")
        if dev_file is None and without_dev:
            dev_file = file.parent / "dev.jsonl"
        elif dev_file is None:
            problem = "no dev rows; a file dev.jsonl, dev.csv or dev.xlsx belongs in this folder, or one named by --dev"
            raise InputError(file.parent, problem)
        if test_file is not None:
            if dev_file.exists() and dev_file.samefile(test_file):
                problem = "dev and test are the same file; test rows must not be in dev"
                raise InputError(dev_file, problem)
            if contexts_file is not None and contexts_file.samefile(test_file):
                raise InputError(contexts_file, "contexts and test are the same file; contexts must not come from test")
            if unlabelled_file is not None and unlabelled_file.samefile(test_file):
                problem = "unlabelled and test are the same file; unlabelled rows must not come from test"
                raise InputError(unlabelled_file, problem)
        files = [path for path in (dev_file, test_file, contexts_file, unlabelled_file) if path is not None]
        reading = _reading(task, reading, files)
    found = {"dev": dev_file, "test": test_file, "contexts": contexts_file, "unlabelled": unlabelled_file}
    return task.model_copy(update={**found, "reading": reading})


def _reading(task: Task, given: Reading | None, files: Sequence[Path]) -> Reading:
    """The task's own ``reading`` with what ``given`` sets, each part of which some file must have a use for."""
    chosen = {} if given is None else given.model_dump(exclude_none=True)
    for name, value in chosen.items():
        if not any(getattr(Reading(**{name: value}).fitting(format_of(path)), name) for path in files):
            Reading(**{name: value}).refuse_unfitting(format_of(files[0]), files[0])
    return task.reading.model_copy(update=chosen)


def preset_names() -> list[str]:
    """The names of the tasks that come with the program."""
    return sorted(path.parent.name for path in PRESETS.glob(f"*/{TASK_FILE}"))


def _rows_file(
    key: Literal["dev", "test", "contexts", "unlabelled"],
    given: str | Path | None,
    task: Task,
    file: Path,
    node: yaml.Node,
) -> Path | None:
    """A file of rows: ``given``, else the one named in the task, else the first of the usual names that exists."""
    if given is not None:
        if not is_source(Path(given)):
            raise InputError(given, f"no such file; the {key} rows belong here")
        return Path(given)
    if key in task.model_fields_set:
        written = file.parent / str(getattr(task, key))
        if not is_source(written):
            raise InputError(file, f"{key}: there is no file {written}", line=line_of(node, (key,)))
        return written
    usual = [file.parent / f"{key}{suffix}" for suffix in ROW_SUFFIXES]
    return next((path for path in usual if path.is_file()), None)


def _misplaced(problem: str, *place: str | int) -> PydanticCustomError:
    """An error at ``place``, a path that continues the place of the validator."""
    return PydanticCustomError("misplaced", "{problem}", {"problem": problem, "place": place})


_BELONGS_THERE = {
    "string_type": "a line of text belongs here",
    "path_type": "a path belongs here",
    "tuple_type": "a list belongs here",
    "dict_type": "keys with values belong here",
    "model_type": "keys with values belong here",
    "int_parsing": "a whole number belongs here",
    "int_type": "a whole number belongs here",
}
"""What belongs there, for pydantic's types of error."""

_KEYS = {
    "": tuple(Task.model_fields),
    "labels": tuple(Label.model_fields),
    "length": tuple(Length.model_fields),
    "prompts": tuple(PromptTexts.model_fields),
    "reading": tuple(Reading.model_fields),
}
"""The known keys at the top of a task file and below four of its keys."""


def _input_error(file: Path, node: yaml.Node, invalid: ValidationError) -> InputError:
    """The first of pydantic's errors as one line; an unknown key comes before others, as it explains a missing one."""
    errors = invalid.errors(include_url=False)
    error = next((error for error in errors if error["type"] == "extra_forbidden"), errors[0])
    context = error.get("ctx", {})
    place = (*error["loc"], *context.get("place", ()))
    where = dotted(node, place, TASK_FILE)
    kind, found = error["type"], shown(error["input"])
    if kind == "extra_forbidden":
        owner = _KEYS[str(place[0]) if len(place) > 1 else ""]
        problem = unknown("key", str(place[-1]), owner)
    elif kind == "missing":
        problem = f"{where} is missing"
    elif kind == "literal_error":
        problem = f"{where}: found {found}, supported is {context['expected']}"
    elif kind in _BELONGS_THERE:
        problem = f"{where}: found {found}, {_BELONGS_THERE[kind]}"
    elif kind == "value_error":
        problem = f"{where}: {context['error']}"
    else:
        problem = f"{where}: {error['msg']}"
    return InputError(file, problem, line=line_of(node, place))
