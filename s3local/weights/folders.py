"""Model folders from strangers: what may be in them, checked before a library opens them.

A folder can carry code: Python files beside the weights, named in ``auto_map`` or in modules.json, and pickled weights.
Nothing of that is loaded. Files that lead out of the folder by a link or by a path are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from s3local.exceptions import ModelError
from s3local.storage import parsed_json, translated_errors
from s3local.wording import shown

MODULES_FILE = "modules.json"
ALLOWED_MODULES = ("Transformer", "Pooling", "Normalize")
"""The parts of sentence-transformers that an encoder may consist of."""
MAX_JSON_BYTES = 64 << 20
"""The tokenizer of a vocabulary of 250,000 pieces has 17 MB."""
MAX_FILES = 1000
_CODE_KEYS = ("auto_map", "custom_pipelines", "trust_remote_code")
"""Entries of a configuration that name code or ask for it."""
_CONFIGURATIONS = ("config.json", "tokenizer_config.json", "config_sentence_transformers.json", "processor_config.json")


def check_model_folder(folder: Path) -> None:
    """Refuse a model folder that asks for code, leads out of itself, or has files that no model needs.

    Raises ``ModelError`` with one line; ``StorageError`` if a file cannot be read.
    """
    with translated_errors(folder, "read"):
        root = folder.resolve()
        hub_cache = root.parent.parent / "blobs"  # the hub's cache keeps files there, and links to them
        for number, path in enumerate(folder.rglob("*")):
            if number >= MAX_FILES:
                raise ModelError(f"{folder} holds more than {MAX_FILES:,} files; a model folder belongs here")
            if path.is_symlink():
                target = path.resolve()
                if not (target.is_relative_to(root) or target.is_relative_to(hub_cache)):
                    raise ModelError(f"{path} is a link that leads out of the model folder; copy the file itself")
        for name in _CONFIGURATIONS:
            for path in (folder / name, *sorted(folder.glob(f"*/{name}"))):
                if path.is_file():
                    _refuse_code(path, read_json(path))
    modules = folder / MODULES_FILE
    if modules.is_file():
        _check_modules(folder, modules)


def read_json(path: Path) -> Any:
    """The content of a JSON file of a model. Raises ``ModelError`` if it is too large, or not JSON."""
    with translated_errors(path, "read"):
        size = path.stat().st_size
        if size > MAX_JSON_BYTES:
            raise ModelError(f"{path} has {size:,} bytes, at most {MAX_JSON_BYTES:,} are allowed")
        content = path.read_bytes()
    try:
        return parsed_json(content)
    except ValueError as exc:
        raise ModelError(f"{path} is not valid JSON: {exc}") from exc


def _refuse_code(path: Path, content: Any) -> None:
    if not isinstance(content, dict):
        raise ModelError(f"{path} holds {type(content).__name__}, keys with values belong there")
    for key in _CODE_KEYS:
        if content.get(key):
            raise ModelError(f"{path} asks for code of its own ({key}); only models that need none are loaded")


def _check_modules(folder: Path, path: Path) -> None:
    """Refuse modules.json unless it lists allowed parts of sentence-transformers, in folders inside of ``folder``."""
    modules = read_json(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise ModelError(f"{path} is damaged: a list of modules belongs there")
    for module in modules:
        kind, place = module.get("type"), module.get("path")
        package, _, name = str(kind).rpartition(".")
        if not (package.split(".")[0] == "sentence_transformers" and name in ALLOWED_MODULES):
            allowed = ", ".join(ALLOWED_MODULES)
            raise ModelError(f"{path} asks for the module {shown(kind)}; sentence_transformers' {allowed} are loaded")
        if not isinstance(place, str) or not (folder / place).resolve().is_relative_to(folder.resolve()):
            raise ModelError(f"{path}: the path {shown(place)} leads out of the model folder")
