"""The manifest: what each model is, its licence, its checksums and where it comes from.

``models/manifest.toml`` is the one source; an installed package carries a copy of it. A model that was imported
has a record of the same shape, ``s3local.json``, in its own folder.
Knows nothing of what lies on the disk beyond these descriptions, and nothing of the network.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from s3local.exceptions import InputError, ModelError
from s3local.storage import read_utf8, write_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Role = Literal["teacher", "encoder", "student"]
PromptStyle = Literal["list", "chat"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

RECORD_NAME = "s3local.json"
_CHECKOUT_MANIFEST = Path(__file__).resolve().parents[2] / "models" / "manifest.toml"
_PACKAGE_MANIFEST = Path(__file__).with_name("manifest.toml")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightFile(_Strict):
    """One file: its path below the model's folder, its size in bytes and its SHA-256 (None: not known yet)."""

    path: str
    size: Annotated[int, Field(ge=0)] | None = None
    sha256: Sha256 | None = None

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or "\\" in path or ":" in path:
            raise ValueError("must be a relative path inside the model's folder")
        return path


class Package(_Strict):
    """A package version whose wheel carries the files, in ``folder``; ``sha256`` is the wheel's."""

    name: str
    version: str
    sha256: Sha256
    folder: str


class Hub(_Strict):
    """A Hugging Face repository at a revision."""

    repo: str
    revision: str


class Model(_Strict):
    """One entry of the manifest; ``models/manifest.toml`` explains the keys. No origin: it was imported."""

    id: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9._-]*$")]
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    licence: str
    files: Annotated[tuple[WeightFile, ...], Field(min_length=1)]
    package: Package | None = None
    hub: Hub | None = None
    embedded: bool = False
    prompt_style: PromptStyle | None = None
    memory_gb: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Model:
        if self.package and self.hub:
            raise ValueError("has both package and hub; one origin belongs there")
        if "teacher" in self.roles:
            if self.prompt_style is None:
                raise ValueError("a teacher needs prompt_style")
            if len(self.files) != 1 or not self.files[0].path.endswith(".gguf"):
                raise ValueError("a teacher is one .gguf file")
        return self

    @property
    def size(self) -> int | None:
        """All files together in bytes; None if one of them is not known."""
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        if self.package:
            return f"package {self.package.name}=={self.package.version}"
        if self.hub:
            return f"hub {self.hub.repo} at {self.hub.revision[:12]}"
        return "imported"


class _Manifest(_Strict):
    model: list[Model]

    @model_validator(mode="after")
    def _ids_differ(self) -> _Manifest:
        ids = [model.id for model in self.model]
        repeated = sorted({name for name in ids if ids.count(name) > 1})
        if repeated:
            raise ValueError(f"the id {repeated[0]} is there twice")
        return self


def models_folder() -> Path:
    """Where the models lie: S3LOCAL_MODELS, else ``models/`` of the checkout, else a folder of the user's own."""
    if named := os.environ.get("S3LOCAL_MODELS"):
        return Path(named).expanduser()
    if _CHECKOUT_MANIFEST.is_file():
        return _CHECKOUT_MANIFEST.parent
    if sys.platform == "win32":
        home = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Application Support"
    else:
        home = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return home / "s3local" / "models"


def load_manifest() -> dict[str, Model]:
    """The models that the program knows of, by id.

    Raises ``InputError`` for a key that is unknown or a value that does not fit, and names both.
    """
    path = _CHECKOUT_MANIFEST if _CHECKOUT_MANIFEST.is_file() else _PACKAGE_MANIFEST
    try:
        entries = _Manifest.model_validate(tomllib.loads(read_utf8(path))).model
    except tomllib.TOMLDecodeError as exc:
        raise InputError(path, f"not valid TOML: {exc}") from exc
    except ValidationError as exc:
        raise InputError(path, in_words(exc)) from exc
    return {model.id: model for model in entries}


def known_models() -> dict[str, Model]:
    """The manifest and the models that were imported on this machine, by id.

    Where the manifest leaves a size or a checksum open, the record of what was received fills it.
    Raises ``InputError`` if the manifest or a record is damaged.
    """
    models = load_manifest()
    for path in sorted(models_folder().glob(f"*/{RECORD_NAME}")):
        try:
            record = Model.model_validate_json(read_utf8(path))
        except ValidationError as exc:
            raise InputError(path, in_words(exc)) from exc
        if record.id != path.parent.name:
            raise InputError(path, f"its id is {record.id!r}, the folder's name {path.parent.name!r}")
        models[record.id] = _completed(models[record.id], record) if record.id in models else record
    return models


def write_record(model: Model) -> None:
    """Write ``model`` as the record in its folder. Raises ``StorageError``."""
    text = model.model_dump_json(indent=2, exclude_defaults=True)
    write_text(models_folder() / model.id / RECORD_NAME, text + "\n")


def default_model(role: Role) -> Model:
    """The embedded model of that role."""
    return next(model for model in load_manifest().values() if model.embedded and role in model.roles)


def model_named(name: str) -> Model:
    """The manifest's or the imported model of that id. Raises ``ModelError`` with the ids that there are."""
    models = known_models()
    if name not in models:
        raise ModelError(f"there is no model {name!r}; known are {', '.join(models)}")
    return models[name]


def _completed(model: Model, record: Model) -> Model:
    received = {file.path: file for file in record.files}
    files = tuple(received.get(file.path, file) if file.sha256 is None else file for file in model.files)
    return model.model_copy(update={"files": files})


def in_words(error: ValidationError) -> str:
    """The first thing that does not fit, by its key."""
    first: Any = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the whole"
    if first["type"] == "extra_forbidden":
        return f"the key {where} is not known"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"
