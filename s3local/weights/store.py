"""What lies on this disk: which models are here and complete, and which file to load for a role.

It loads no model and uses no network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from s3local.exceptions import InputError, ModelError
from s3local.hardware import cpu_name
from s3local.progress import Advance, Progress, ignore
from s3local.storage import read_utf8, sha256_of, translated_errors
from s3local.weights.folders import check_model_folder
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
from s3local.weights.verified import record_verified, verified_sha256

OPTIMIZED_NAME = "optimized.json"
CHAT_MIN_PARAMETERS = 1_000_000_000
"""The fewest parameters of a model with a chat template that is asked in chat style, not in list style."""

State = Literal["ready", "missing", "damaged"]


class Measured(BaseModel):
    """The speed of one format on one core in tokens a second, its drift from the original, and its size in bytes.

    ``decode`` is a batch of 32 sequences with one token each, ``prompt`` a batch of 256 prompt tokens. ``drift`` is the
    mean Kullback-Leibler divergence of the next-token distributions, in nats.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    decode_tokens_per_second: float
    prompt_tokens_per_second: float
    drift: float
    size: int


class Optimized(BaseModel):
    """``optimized.json``: which format was selected for this processor, and why. ``file`` None: the original."""

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
    """A model, its state, its size in bytes (None: not known), and the optimised format that is in use, if any."""

    model: Model
    state: State
    size: int | None
    fast: str | None


def folder_of(model: Model) -> Path:
    """The model's own folder; it may not exist."""
    return models_folder() / model.id


def survey() -> list[LocalModel]:
    """Every known model with its state, by the sizes of its files alone."""
    found = []
    for model in known_models().values():
        optimized = read_optimized(model) if "teacher" in model.roles else None
        fast = optimized.format if optimized and fast_file(model, optimized) else None
        here = sum(_size_on_disk(folder_of(model) / file.path) or 0 for file in model.files)
        found.append(LocalModel(model, state_of(model), model.size or here or None, fast))
    return found


def state_of(model: Model) -> State:
    """The worst state of the model's files, see ``state_of_file``."""
    states = [state_of_file(folder_of(model), file) for file in model.files]
    return next((state for state in ("missing", "damaged") if state in states), "ready")


def state_of_file(folder: Path, file: WeightFile) -> State:
    """ "missing" if the file is not in ``folder``, "damaged" if its size is wrong, else "ready"."""
    found = _size_on_disk(folder / file.path)
    if found is None:
        return "missing"
    return "ready" if file.size in (None, found) else "damaged"


def wrong_files(folder: Path, files: Sequence[WeightFile], advance: Advance = ignore) -> list[WeightFile]:
    """Those of the ``files``, all of which are in ``folder``, whose SHA-256 is wrong.

    A file is hashed if it was not verified since it last changed, and recorded if it is right. ``advance`` gets the
    bytes that were checked.
    """
    wrong, right = [], {}
    for file in files:
        path = folder / file.path
        if file.sha256 is None or verified_sha256(folder, file.path) == file.sha256:
            advance(file.size or 0)
            continue
        with translated_errors(path, "read"):
            found = sha256_of(path, advance)
        if found == file.sha256:
            right[file.path] = found
        else:
            wrong.append(file)
    if right:
        record_verified(folder, right)
    return wrong


def find_teacher(name_or_path: str | None = None) -> TeacherWeights:
    """The GGUF file to load: of the embedded teacher (None), of a model's id, or a path to a ``.gguf`` file.

    The file that ``optimize`` made for this processor is preferred. A file given by its path is loaded as it is, after
    its checksum is computed. Raises ``ModelError`` if the model is missing, damaged or not a teacher.
    """
    if name_or_path is not None and (name_or_path.endswith(".gguf") or _has_separator(name_or_path)):
        path = Path(name_or_path).expanduser()
        header = whole_gguf_header(path)
        with translated_errors(path, "read"):
            checksum = sha256_of(path)
        return TeacherWeights(path.stem, path, prompt_style_of(header), checksum)

    model = require(name_or_path, "teacher")
    file, folder = model.files[0], folder_of(model)
    optimized = read_optimized(model)
    if optimized and optimized.file and fast_file(model, optimized):
        file = optimized.file
        if wrong_files(folder, [file]):
            problem = f"{shown_path(folder / file.path)} is damaged"
            raise ModelError(f"{problem}: run 's3local models optimize {model.id}' to make it again")
    path = folder / file.path
    read_gguf_header(path)
    assert model.prompt_style is not None  # the manifest requires it of a teacher
    return TeacherWeights(model.id, path, model.prompt_style, file.sha256 or sha256_of(path))


def find_encoder(name_or_path: str | None = None) -> Path:
    """The folder of a sentence encoder: the embedded one (None), that of a model's id, or the path of a folder.

    Raises ``ModelError`` if it is missing, damaged or has not this role.
    """
    return _find_folder(name_or_path, "encoder")


def find_student_body(name_or_path: str | None = None) -> Path:
    """The folder of a pretrained student body, found as ``find_encoder`` does. Raises ``ModelError``."""
    return _find_folder(name_or_path, "student")


def find_judge(name_or_path: str | None = None) -> Path | None:
    """The folder of the encoder that a judge is made of, found as ``find_encoder`` does; any encoder can be one.

    None if none is named and the embedded one was not fetched: the program works without it. Raises ``ModelError`` if
    it is damaged, or if the one that is named is missing or has neither role.
    """
    if name_or_path is None and state_of(default_model("judge")) == "missing":
        return None
    return _find_folder(name_or_path, "judge", "encoder")


def require(name: str | None, *roles: Role) -> Model:
    """The model of that id (None: the embedded one of the first role), if all its files are here and verified.

    Raises ``ModelError`` that says what is missing or damaged and how to get it, or that the model has none of the
    ``roles``.
    """
    model = model_named(name) if name is not None else default_model(roles[0])
    if not set(roles) & set(model.roles):
        raise ModelError(f"the model {model.id} is not a {roles[0]}; it is: {', '.join(model.roles)}")
    folder = folder_of(model)
    remedy = f"run 's3local models fetch {model.id}' on a connected machine, or 's3local models import'"
    for file in model.files:
        path = folder / file.path
        state = state_of_file(folder, file)
        if state == "missing":
            raise ModelError(f"model {model.id} is not here ({shown_path(path)} is missing): {remedy}")
        if state == "damaged":
            sizes = f"{shown_path(path)} has {_size_on_disk(path):,} bytes, {file.size:,} belong there"
            raise ModelError(f"model {model.id} is damaged ({sizes}): {remedy}")
    if wrong := wrong_files(folder, model.files):
        path = folder / wrong[0].path
        raise ModelError(f"model {model.id} is damaged ({shown_path(path)} has a wrong checksum): {remedy}")
    return model


def whole_gguf_header(path: Path) -> GGUFHeader:
    """The header of a GGUF file that holds a whole model. Raises ``ModelError`` for one of several parts."""
    header = read_gguf_header(path)
    if header.parts > 1:
        raise ModelError(f"{path} is one of {header.parts} parts; join them with llama.cpp's gguf-split --merge first")
    return header


def prompt_style_of(header: GGUFHeader) -> PromptStyle:
    """The prompt style of a model that the manifest does not describe."""
    return "chat" if header.has_chat_template and header.n_parameters >= CHAT_MIN_PARAMETERS else "list"


def read_optimized(model: Model) -> Optimized | None:
    """What ``optimize`` selected for this model; None if it has not run. Raises ``ModelError`` if unreadable."""
    path = folder_of(model) / OPTIMIZED_NAME
    if not path.is_file():
        return None
    try:
        return Optimized.model_validate_json(read_utf8(path))
    except (ValidationError, InputError) as exc:
        raise ModelError(f"{path} is damaged: run 's3local models optimize {model.id}' to write it again") from exc


def fast_file(model: Model, optimized: Optimized) -> Path | None:
    """The optimised file, if there is one that was made for this processor from the present original."""
    if optimized.file is None or optimized.cpu != cpu_name():
        return None
    if model.files[0].sha256 not in (None, optimized.original_sha256):
        return None
    path = folder_of(model) / optimized.file.path
    return path if _size_on_disk(path) == optimized.file.size else None


def verify(ids: Sequence[str], progress: Progress) -> dict[str, list[str]]:
    """Hash every file again, of these models, or of all that are here at least in part if none is named.

    Returns for each id one line per file that is missing or wrong; an empty list means that all are right.
    Raises ``ModelError`` for an unknown id.
    """
    models = [model_named(name) for name in ids] or [
        model for model in known_models().values() if any(path.is_file() for path in _paths_of(model))
    ]
    return {model.id: _problems_of(model, progress) for model in models}


def shown_path(path: Path) -> str:
    """``path`` for a message: relative to the current folder if it lies inside."""
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
    checksums: dict[str, str | None] = {}
    folder, files = folder_of(model), _files_of(model)
    total = sum(_size_on_disk(folder / file.path) or 0 for file in files)
    with progress.step(f"verifying {model.id}", total, "B") as advance:
        for file in files:
            path = folder / file.path
            if _size_on_disk(path) is None:
                problems.append(f"{shown_path(path)} is missing")
                continue
            with translated_errors(path, "read"):
                found = sha256_of(path, advance)
            checksums[file.path] = found if found == file.sha256 else None
            if file.sha256 is None:
                problems.append(f"{shown_path(path)} has no known SHA-256 to compare; it is {found}")
            elif found != file.sha256:
                problems.append(f"{shown_path(path)} is damaged: its SHA-256 is {found}, {file.sha256} belongs there")
    if checksums:
        record_verified(folder, checksums)
    return problems


def _find_folder(name_or_path: str | None, *roles: Role) -> Path:
    if name_or_path is not None and (_has_separator(name_or_path) or Path(name_or_path).is_dir()):
        folder = Path(name_or_path).expanduser()
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} is not a model folder: it has no config.json")
    else:
        folder = folder_of(require(name_or_path, *roles))
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError(f"{folder} has no .safetensors weights; other forms of weights are not loaded")
    check_model_folder(folder)
    for path in weights:
        check_safetensors(path)
    return folder


def _has_separator(name: str) -> bool:
    return "/" in name or "\\" in name


def _size_on_disk(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
