"""A software bill of materials: the packages and models of a bundle with licences and checksums (CycloneDX 1.6).

The format is small enough to be written here; a test validates it against the published schema. Source: the
specification of CycloneDX 1.6 (ECMA-424).
"""

from __future__ import annotations

import email
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from email.message import Message
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from s3local.exceptions import ModelError
from s3local.weights.manifest import Model

MAX_LICENCE_CHARACTERS = 100
"""A longer entry is the text of a licence, not its name."""


def wheel_metadata(wheel: Path) -> Message:
    """The METADATA of a wheel. Raises ``ModelError`` if it is not a wheel."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            return email.message_from_bytes(archive.read(name))
    except (zipfile.BadZipFile, StopIteration) as exc:
        raise ModelError(f"{wheel} is not a readable wheel") from exc


def bill_of_materials(
    version: str, created: str, wheels: Mapping[Path, str], needs: Mapping[str, Iterable[str]], models: Sequence[Model]
) -> dict[str, Any]:
    """The bill as the content of a JSON file.

    ``version`` is that of s3local, ``created`` the time (ISO 8601, UTC). ``wheels`` has the SHA-256 of each wheel,
    ``needs`` the packages that a package depends on, both by their normal names.
    """
    packages = [_package(wheel_metadata(wheel), checksum) for wheel, checksum in sorted(wheels.items())]
    references = {str(canonicalize_name(package["name"])): package["bom-ref"] for package in packages}
    program = {"type": "application", "bom-ref": "s3local-bundle", "name": "s3local bundle", "version": version}
    components = [*packages, *map(_model, models)]
    dependencies = [{"ref": "s3local-bundle", "dependsOn": [component["bom-ref"] for component in components]}]
    dependencies += [
        {
            "ref": reference,
            "dependsOn": sorted({references[other] for other in needs.get(name, ()) if other in references}),
        }
        for name, reference in sorted(references.items())
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"timestamp": created, "component": program},
        "components": components,
        "dependencies": dependencies,
    }


def _package(metadata: Message, checksum: str) -> dict[str, Any]:
    name, version = str(metadata["Name"]), str(metadata["Version"])
    address = f"pkg:pypi/{canonicalize_name(name)}@{version.replace('+', '%2B')}"
    entry = {
        "type": "library",
        "bom-ref": address,
        "name": name,
        "version": version,
        "purl": address,
        "hashes": [{"alg": "SHA-256", "content": checksum}],
    }
    licences = _licences(metadata)
    return {**entry, "licenses": licences} if licences else entry


def _licences(metadata: Message) -> list[dict[str, Any]]:
    """The licences that a package names: its SPDX expression, else its classifiers, else its free text if short."""
    if expression := metadata["License-Expression"]:
        return [{"expression": str(expression)}]
    classifiers = [str(value).split(" :: ") for value in metadata.get_all("Classifier", [])]
    names = [parts[-1] for parts in classifiers if parts[0] == "License" and parts[-1] != "OSI Approved"]
    text = " ".join(str(metadata["License"] or "").split())
    if not names and text and len(text) <= MAX_LICENCE_CHARACTERS:
        names = [text]
    return [{"license": {"name": name}} for name in names]


def _model(model: Model) -> dict[str, Any]:
    files = [
        {
            "type": "file",
            "bom-ref": f"model:{model.id}/{file.path}",
            "name": file.path,
            "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        }
        for file in model.files
    ]
    return {
        "type": "machine-learning-model",
        "bom-ref": f"model:{model.id}",
        "name": model.id,
        "description": f"{', '.join(model.roles)}; from {model.origin}",
        "licenses": [{"license": {"name": model.licence}}],
        "components": files,
    }
