"""A disk that loses, at a power cut, what was not synced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


class LossyDisk:
    """A disk that forgets, at a power cut, every byte and every name that was not synced."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.cut_after = -1
        self.moments = 0
        self._bytes: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._alive: list[int] = []
        """Open handles of synced files, so that the system does not give their numbers to others."""
        really_sync, really_replace = os.fsync, Path.replace

        def fsync(handle: int) -> None:
            self._moment()
            really_sync(handle)
            place = Path(f"/proc/self/fd/{handle}").resolve()
            self._alive.append(os.dup(handle))
            number = os.fstat(handle).st_ino
            if place.is_dir():
                self._names[number] = {path.name: path.stat().st_ino for path in place.iterdir()}
            else:
                self._bytes[number] = place.read_bytes()

        def replace(path: Path, target: Path) -> Path:
            self._moment()
            return really_replace(path, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", replace)

    def _moment(self) -> None:
        if self.moments == self.cut_after:
            raise KeyboardInterrupt
        self.moments += 1

    def after_the_cut(self, target: Path) -> None:
        """Write to ``target`` what the disk holds when the power is back."""
        self._restore(self.root.stat().st_ino, target)
        for handle in self._alive:
            os.close(handle)
        self._alive.clear()

    def _restore(self, number: int, target: Path) -> None:
        target.mkdir()
        for name, inside in self._names.get(number, {}).items():
            if inside in self._names or inside in self._folders():
                self._restore(inside, target / name)
            else:
                (target / name).write_bytes(self._bytes.get(inside, b""))

    def _folders(self) -> set[int]:
        return {path.stat().st_ino for path in self.root.rglob("*") if path.is_dir()}
