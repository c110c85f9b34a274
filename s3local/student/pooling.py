"""Sentence embeddings from hidden states: the mean of the tokens, or what a model folder declares.

A folder of sentence-transformers lists its modules in ``modules.json``. Only the modules in ``KNOWN_MODULES`` are
built, from their settings and safetensors; nothing in the folder is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from s3local.exceptions import ModelError
from s3local.storage import parsed_json

Pool = Callable[[Any, Any], Any]
"""Unit vectors (n, dim) from hidden states (n, length, width) and their attention mask (n, length)."""

KNOWN_MODULES = ("Transformer", "Pooling", "Dense", "Normalize")

ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": torch.nn.Identity,
    "torch.nn.modules.activation.Tanh": torch.nn.Tanh,
    "torch.nn.modules.activation.ReLU": torch.nn.ReLU,
    "torch.nn.modules.activation.GELU": torch.nn.GELU,
}
"""What the activation of a Dense module may be; the names are those of its ``config.json``."""


def _first(hidden: Any, mask: Any) -> Any:
    return hidden[:, 0]


def _greatest(hidden: Any, mask: Any) -> Any:
    return hidden.masked_fill(mask[:, :, None] == 0, -torch.inf).amax(dim=1)


def _mean(hidden: Any, mask: Any) -> Any:
    shares = mask[:, :, None].to(hidden.dtype)
    return (hidden * shares).sum(dim=1) / shares.sum(dim=1)


def _mean_by_root(hidden: Any, mask: Any) -> Any:
    shares = mask[:, :, None].to(hidden.dtype)
    return (hidden * shares).sum(dim=1) / shares.sum(dim=1).sqrt()


MODES: dict[str, Pool] = {
    "cls": _first,
    "max": _greatest,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_by_root,
}
"""Poolings by their names in a Pooling module; several of them are concatenated in this order."""
LEGACY_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


class Pooling(torch.nn.Module):  # type: ignore[misc]
    """The ``Pool`` of a model folder: poolings side by side, dense layers after them, and length 1 at the end.

    Dense layers are on the CPU, as the module is; use ``to`` as for any module. They are not trained.
    """

    def __init__(self, modes: Sequence[str], dense: Sequence[Any] = ()) -> None:
        super().__init__()
        self.modes = tuple(modes)
        self.dense = torch.nn.Sequential(*dense).requires_grad_(False)

    def forward(self, hidden: Any, mask: Any) -> Any:
        """Unit vectors (n, dim)."""
        vectors = torch.cat([MODES[mode](hidden, mask) for mode in self.modes], dim=1)
        return torch.nn.functional.normalize(self.dense(vectors), dim=1)


def load_pooling(folder: Path) -> Pooling:
    """The pooling that a model folder declares in ``modules.json``; the mean of the tokens if it has none.

    Raises ``ModelError`` for a module, a pooling or an activation that is not known, and for missing or damaged files.
    """
    if not (folder / "modules.json").exists():
        return Pooling(["mean"])
    modes: list[str] = []
    dense: list[Any] = []
    try:
        for module in parsed_json((folder / "modules.json").read_text(encoding="utf-8")):
            kind, place = str(module["type"]).rpartition(".")[2], folder / str(module["path"])
            if not str(module["type"]).startswith("sentence_transformers.") or kind not in KNOWN_MODULES:
                known = ", ".join(KNOWN_MODULES)
                raise ModelError(
                    f"{folder / 'modules.json'}: the module {module['type']} is not known, only {known} are"
                )
            if kind == "Pooling":
                modes += _modes(place / "config.json")
            elif kind == "Dense":
                dense += _dense(place)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ModelError(f"{folder}: modules.json or a folder that it names is damaged: {exc}") from exc
    return Pooling(modes or ["mean"], dense)


def _modes(path: Path) -> list[str]:
    settings = parsed_json(path.read_text(encoding="utf-8"))
    declared = settings.get("pooling_mode") or [
        mode for name, mode in LEGACY_MODES.items() if settings.get(name, False)
    ]
    modes = [declared] if isinstance(declared, str) else list(declared or ["mean"])
    for mode in modes:
        if mode not in MODES:
            raise ModelError(f"{path}: the pooling {mode!r} is not known, only {', '.join(MODES)} are")
    return modes


def _dense(folder: Path) -> list[Any]:
    """A linear layer and its activation."""
    settings = parsed_json((folder / "config.json").read_text(encoding="utf-8"))
    activation = settings["activation_function"]
    if activation not in ACTIVATIONS:
        raise ModelError(f"{folder / 'config.json'}: the activation {activation!r} is not known")
    weights_file = folder / "model.safetensors"
    if not weights_file.is_file():
        raise ModelError(f"{weights_file} is missing; weights in another format are not read")
    linear = torch.nn.Linear(settings["in_features"], settings["out_features"], bias=settings["bias"])
    weights = {name.removeprefix("linear."): value.float() for name, value in load_file(weights_file).items()}
    try:
        linear.load_state_dict(weights)
    except RuntimeError as exc:
        raise ModelError(f"{weights_file} does not fit config.json beside it") from exc
    return [linear, ACTIVATIONS[activation]()]
