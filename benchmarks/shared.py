"""Shared code of the benchmarks on datasets: where datasets are, and how figures are saved and read again."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]
DATASETS = CHECKOUT.parent / "shared" / "datasets"


def parser_for(description: str | None, names: Sequence[str]) -> argparse.ArgumentParser:
    """The options of every benchmark on the datasets ``names``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=list(names), help="some of the datasets")
    parser.add_argument("--datasets", type=Path, default=DATASETS)
    parser.add_argument("--gold", type=int, default=60, help="gold rows (60)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options; ends the program with a message if the datasets are missing."""
    options = parser.parse_args()
    if not options.datasets.is_dir():
        parser.error(f"{options.datasets} is not here; the benchmark data belongs there")
    return options


def known_figures(options: argparse.Namespace, same: Sequence[str], name: str) -> list[dict[str, Any]]:
    """The figures that ``options.json`` has under ``name`` from an earlier call with the same options ``same``.

    Ends the program with a message if that call had other options.
    """
    if options.json is None or not options.json.is_file():
        return []
    earlier = json.loads(options.json.read_text(encoding="utf-8"))
    for option in same:
        was = earlier["options"].get(option) or 0  # or an option that the earlier call did not have yet
        if was != (getattr(options, option) or 0):
            sys.exit(f"{options.json} was made with --{option} {was}; choose another file")
    return list(earlier[name])


def save(options: argparse.Namespace, measured: Sequence[Any]) -> None:
    """Write the options, without paths, and the figures so far to ``options.json``, if there is one."""
    if options.json is None:
        return
    chosen = {key: value for key, value in vars(options).items() if not isinstance(value, Path)}
    content = {"options": chosen, "measured": measured}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
