"""What lies on this disk: which models are here and whole, and the one to load for a role.

Knows nothing of the network and never loads a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from s3local.exceptions import InputError, ModelError
from s3local.hardware import cpu_name
from s3local.progress import Progress
from s3local.storage import read_utf8, sha256_of, translated_errors
from s3local.weights.headers import GGUFHeader, check_safetensors, read_gguf_header
from s3local.weights.manifest import (
    Model,
    PromptStyle,
    Role,
    WeightFile,
    default_model,
    known_models,
    model_named,
    models_folder,
)

OPTIMIZED_NAME = "optimized.json"
CHAT_MIN_PARAMETERS = 1_000_000_000
"""A model with a chat template and at least this many parameters is asked in chat form; a smaller one writes lists."""

State = Literal["ready", "missing", "damaged"]


class Measured(BaseModel):
    """How one format did on one core: tokens a second, and its drift from the original in nats.

    ``decode`` is a batch of 32 sequences with a token each, ``prompt`` one of 256 prompt tokens. ``drift`` is the mean
    Kullback-Leibler divergence of the next-token distributions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    decode_tokens_per_second: float
    prompt_tokens_per_second: float
    drift: float
    size: int


class Optimized(BaseModel):
    """``optimized.json``: which format was kept for this processor, and why. ``file`` None: the original."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    format: str
    file: WeightFile | None
    why: str
    cpu: str
    llama_cpp: str
    original_sha256: str
    measured: dict[str, Measured]


@dataclass(frozen=True, slots=True)
class TeacherWeights:
    """The file that the engine loads, and its SHA-256."""

    id: str
    path: Path
    prompt_style: PromptStyle
    sha256: str


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model and what of it is here."""

    model: Model
    state: State
    size: int | None
    fast: str | None

    @property
    def imported(self) -> bool:
        return self.model.package is None and self.model.hub is None


def folder_of(model: Model) -> Path:
    """The model's own folder; it may not exist."""
    return models_folder() / model.id


def survey() -> list[LocalModel]:
    """Every known model and its state, judged by the files' sizes alone."""
    found = []
    for model in known_models().values():
        optimized = read_optimized(model) if "teacher" in model.roles else None
        fast = optimized.format if optimized and fast_file(model, optimized) else None
        sizes = [_size_on_disk(folder_of(model) / file.path) for file in model.files]
        here = sum(size for size in sizes if size is not None)
        found.append(LocalModel(model, state_of(model), model.size or here or None, fast))
    return found


def state_of(model: Model) -> State:
    """ "missing" if a file is not here, "damaged" if one has another size than it should, else "ready"."""
    sizes = [(file.size, _size_on_disk(folder_of(model) / file.path)) for file in model.files]
    if any(found is None for _, found in sizes):
        return "missing"
    return "ready" if all(found == (size if size is not None else found) for size, found in sizes) else "damaged"


def find_teacher(name_or_path: str | None = None) -> TeacherWeights:
    """The GGUF to load: of the embedded teacher (None), of a model's id, or a path to a ``.gguf`` file.

    The file that ``optimize`` made for this processor is preferred; a file given by its path is loaded as it is, and
    read once to know its checksum. Raises ``ModelError`` if the model is missing, damaged or no teacher.
    """
    if name_or_path is not None and (name_or_path.endswith(".gguf") or _has_separator(name_or_path)):
        path = Path(name_or_path).expanduser()
        header = whole_gguf_header(path)
        with translated_errors(path, "read"):
            checksum = sha256_of(path)
        return TeacherWeights(path.stem, path, prompt_style_of(header), checksum)

    model = require(name_or_path, "teacher")
    path, checksum_known = folder_of(model) / model.files[0].path, model.files[0].sha256
    optimized = read_optimized(model)
    if optimized and optimized.file and (fast := fast_file(model, optimized)):
        path, checksum_known = fast, optimized.file.sha256
    read_gguf_header(path)
    assert model.prompt_style is not None  # the manifest requires it of a teacher
    return TeacherWeights(model.id, path, model.prompt_style, checksum_known or sha256_of(path))


def find_encoder(name_or_path: str | None = None) -> Path:
    """The folder of a sentence encoder: the embedded one (None), of a model's id, or the path of a folder.

    Raises ``ModelError`` if it is missing, damaged or of the wrong sort.
    """
    return _find_folder(name_or_path, "encoder")


def find_student_body(name_or_path: str | None = None) -> Path:
    """The folder of a pretrained student body, found as ``find_encoder`` does. Raises ``ModelError``."""
    return _find_folder(name_or_path, "student")


def require(name: str | None, role: Role) -> Model:
    """The model of that id (None: the embedded one), with all its files here.

    Raises ``ModelError`` that says what is missing and how to get it, or that the model has not this role.
    """
    model = model_named(name) if name is not None else default_model(role)
    if role not in model.roles:
        raise ModelError(f"the model {model.id} is no {role}; it is: {', '.join(model.roles)}")
    remedy = "run 's3local models fetch' on a connected machine, or 's3local models import' from a folder"
    for file in model.files:
        path = folder_of(model) / file.path
        size = _size_on_disk(path)
        if size is None:
            raise ModelError(f"model {model.id} is not here ({shown(path)} is missing): {remedy}")
        if file.size not in (None, size):
            sizes = f"{shown(path)} has {size:,} bytes, {file.size:,} belong there"
            raise ModelError(f"model {model.id} is damaged ({sizes}): {remedy}")
    return model


def whole_gguf_header(path: Path) -> GGUFHeader:
    """The header of a GGUF file that is a model by itself. Raises ``ModelError`` for one of several parts."""
    header = read_gguf_header(path)
    if header.parts > 1:
        raise ModelError(f"{path} is one of {header.parts} parts; join them with llama.cpp's gguf-split --merge first")
    return header


def prompt_style_of(header: GGUFHeader) -> PromptStyle:
    """How to ask a model that the manifest does not describe."""
    return "chat" if header.has_chat_template and header.n_parameters >= CHAT_MIN_PARAMETERS else "list"


def read_optimized(model: Model) -> Optimized | None:
    """What ``optimize`` decided for this model; None if it has not run. Raises ``ModelError`` if unreadable."""
    path = folder_of(model) / OPTIMIZED_NAME
    if not path.is_file():
        return None
    try:
        return Optimized.model_validate_json(read_utf8(path))
    except (ValidationError, InputError) as exc:
        raise ModelError(f"{path} is damaged: run 's3local models optimize {model.id}' to write it anew") from exc


def fast_file(model: Model, optimized: Optimized) -> Path | None:
    """The optimised file, if there is one and it was made for this processor from the present original."""
    if optimized.file is None or optimized.cpu != cpu_name():
        return None
    if model.files[0].sha256 not in (None, optimized.original_sha256):
        return None
    path = folder_of(model) / optimized.file.path
    return path if _size_on_disk(path) == optimized.file.size else None


def verify(ids: Sequence[str], progress: Progress) -> dict[str, list[str]]:
    """Hash every file of these models (none named: of all that are here at least in part) again.

    Gives for each id one line for each file that is missing or not what it should be; no lines: it is right.
    Raises ``ModelError`` for an unknown id.
    """
    models = [model_named(name) for name in ids] or [
        model for model in known_models().values() if any(path.is_file() for path in _paths_of(model))
    ]
    return {model.id: _problems_of(model, progress) for model in models}


def shown(path: Path) -> str:
    """``path`` relative to the current folder if it lies inside."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _files_of(model: Model) -> list[WeightFile]:
    """The model's files, and the one that ``optimize`` made."""
    optimized = read_optimized(model) if "teacher" in model.roles else None
    return [*model.files, optimized.file] if optimized and optimized.file else list(model.files)


def _paths_of(model: Model) -> list[Path]:
    return [folder_of(model) / file.path for file in model.files]


def _problems_of(model: Model, progress: Progress) -> list[str]:
    problems = []
    files = _files_of(model)
    total = sum(_size_on_disk(folder_of(model) / file.path) or 0 for file in files)
    with progress.step(f"verifying {model.id}", total, "B") as advance:
        for file in files:
            path = folder_of(model) / file.path
            if _size_on_disk(path) is None:
                problems.append(f"{shown(path)} is missing")
                continue
            with translated_errors(path, "read"):
                found = sha256_of(path, advance)
            if file.sha256 is None:
                problems.append(f"{shown(path)} has no known SHA-256 to compare; it is {found}")
            elif found != file.sha256:
                problems.append(f"{shown(path)} is damaged: its SHA-256 is {found}, {file.sha256} belongs there")
    return problems


def _find_folder(name_or_path: str | None, role: Role) -> Path:
    if name_or_path is not None and (_has_separator(name_or_path) or Path(name_or_path).is_dir()):
        folder = Path(name_or_path).expanduser()
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} is not a model folder: it has no config.json")
    else:
        folder = folder_of(require(name_or_path, role))
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError(f"{folder} has no .safetensors weights; other forms of weights are not loaded")
    for path in weights:
        check_safetensors(path)
    return folder


def _has_separator(name: str) -> bool:
    return "/" in name or "\\" in name


def _size_on_disk(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
