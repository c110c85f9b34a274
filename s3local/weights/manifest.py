"""The manifest: what each model is, its licence, its checksums and where it comes from.

It is ``models/manifest.toml``; an installed package has a copy of it. A model that was imported has a record with the
same keys, ``s3local.json``, in its own folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from s3local.exceptions import InputError, ModelError
from s3local.storage import read_utf8, write_text
from s3local.wording import unknown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Role = Literal["teacher", "encoder", "student", "judge"]
PromptStyle = Literal["list", "chat", "prefill"]
"""How a teacher is asked: with a list that it continues, in its chat template, or there with its answer begun by a
dash, so that it goes on with a text and not with a lead-in."""
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

RECORD_NAME = "s3local.json"
_CHECKOUT_MANIFEST = Path(__file__).resolve().parents[2] / "models" / "manifest.toml"
_PACKAGE_MANIFEST = Path(__file__).with_name("manifest.toml")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightFile(_Strict):
    """One file: its path below the model's folder, its size in bytes and its SHA-256 (None: not known)."""

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


class Hub(_Strict):
    """A Hugging Face repository at a revision, which holds the files."""

    repo: str
    revision: str

    def __str__(self) -> str:
        return f"hub {self.repo} at {self.revision[:12]}"


class Wheel(_Strict):
    """The wheel of a package version, with its size in bytes and its SHA-256."""

    name: str
    version: str
    size: Annotated[int, Field(gt=0)]
    sha256: Sha256

    @property
    def requirement(self) -> str:
        """The package version as pip reads it."""
        return f"{self.name}=={self.version}"


class Package(Wheel):
    """A wheel that holds the files, in ``folder``."""

    folder: str

    def __str__(self) -> str:
        return f"package {self.requirement}"


class Part(Wheel):
    """A wheel whose file ``member`` is one part of an archive."""

    member: str


class Archive(_Strict):
    """A ZIP archive that holds the files, in ``folder``. It was cut into ``parts``, in their order.

    ``size`` in bytes and ``sha256`` are those of the archive as a whole. Without a ``folder``, it is no archive: the
    parts together are the model's only file.
    """

    parts: Annotated[tuple[Part, ...], Field(min_length=1)]
    folder: str | None = None
    size: Annotated[int, Field(gt=0)]
    sha256: Sha256

    def __str__(self) -> str:
        return f"packages {self.parts[0].requirement} to {self.parts[-1].requirement}"


Source = Hub | Package | Archive


class Model(_Strict):
    """One entry of the manifest; ``models/manifest.toml`` explains the keys. A model without a source was imported."""

    id: Annotated[str, Field(pattern="^[a-z0-9][a-z0-9._-]*$")]
    roles: Annotated[tuple[Role, ...], Field(min_length=1)]
    licence: str
    files: Annotated[tuple[WeightFile, ...], Field(min_length=1)]
    hub: Hub | None = None
    package: Package | None = None
    archive: Archive | None = None
    embedded: bool = False
    prompt_style: PromptStyle | None = None
    memory_gb: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Model:
        if self.package or self.archive:
            for file in self.files:
                if file.size is None or file.sha256 is None:
                    raise ValueError(f"{file.path} comes out of a package; it needs size and sha256")
        if self.archive and self.archive.folder is None:
            whole = [(self.archive.size, self.archive.sha256)]
            if [(file.size, file.sha256) for file in self.files] != whole:
                raise ValueError("parts without a folder are one file, with the size and sha256 of the whole")
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
    def sources(self) -> tuple[Source, ...]:
        """Where it can be fetched from, in the order in which the sources are tried; none if it was imported."""
        return tuple(source for source in (self.hub, self.package, self.archive) if source is not None)

    @property
    def origin(self) -> str:
        """Its sources in words."""
        return ", else ".join(map(str, self.sources)) or "imported"


class _Record(Model):
    """The record of a model. It may hold keys of another version of the program, which are ignored."""

    model_config = ConfigDict(extra="ignore")


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
    """Where the models lie: S3LOCAL_MODELS, else ``models/`` of the checkout, else what a bundle brought, else the
    user's data folder."""
    if named := os.environ.get("S3LOCAL_MODELS"):
        return Path(named).expanduser()
    if _CHECKOUT_MANIFEST.is_file():
        return _CHECKOUT_MANIFEST.parent
    brought = Path(sys.prefix) / "share" / "s3local" / "models"  # by bundle.carried.install
    if brought.is_dir():
        return brought
    return platformdirs.user_data_path("s3local", appauthor=False) / "models"


def load_manifest() -> dict[str, Model]:
    """The models of the manifest, by id. Raises ``InputError`` that names an unknown key or a wrong value."""
    path = _CHECKOUT_MANIFEST if _CHECKOUT_MANIFEST.is_file() else _PACKAGE_MANIFEST
    try:
        entries = _Manifest.model_validate(tomllib.loads(read_utf8(path))).model
    except tomllib.TOMLDecodeError as exc:
        raise InputError(path, f"not valid TOML: {exc}") from exc
    except ValidationError as exc:
        raise InputError(path, in_words(exc)) from exc
    return {model.id: model for model in entries}


def known_models() -> dict[str, Model]:
    """The models of the manifest and those that were imported on this machine, by id.

    A checksum that the manifest does not have comes from the record of what was received.
    Raises ``InputError`` if the manifest or a record is damaged.
    """
    models = load_manifest()
    for path in sorted(models_folder().glob(f"*/{RECORD_NAME}")):
        try:
            record = Model.model_validate(_Record.model_validate_json(read_utf8(path)).model_dump())
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
    """The first embedded model of that role in the manifest."""
    return next(model for model in load_manifest().values() if model.embedded and role in model.roles)


def model_named(name: str) -> Model:
    """The model of that id, of the manifest or imported. Raises ``ModelError`` that lists the known ids."""
    models = known_models()
    if name not in models:
        raise ModelError(unknown("model", name, tuple(models)))
    return models[name]


def _completed(model: Model, record: Model) -> Model:
    received = {file.path: file for file in record.files}
    files = tuple(received.get(file.path, file) if file.sha256 is None else file for file in model.files)
    return model.model_copy(update={"files": files})


def in_words(error: ValidationError) -> str:
    """The first problem as one line that names its key."""
    first: Any = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "the whole"
    if first["type"] == "extra_forbidden":
        return f"the key {where} is unknown"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"
