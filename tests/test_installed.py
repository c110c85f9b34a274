"""The package without a checkout: its wheel in a new environment, from ``setup`` to a classifier."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

CHECKOUT = Path(__file__).parents[1]
ISOLATED = ("XDG_", "S3LOCAL_", "PYTHON")
"""Beginnings of variables that would lead the program elsewhere."""


class Installed(NamedTuple):
    """An environment with the project's wheel, whose other packages are those of the environment of the tests."""

    wheel: Path
    program: Path
    folder: Path
    """An empty folder to work in."""

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(ISOLATED)}
        environment |= {"HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder / "data")}
        command = [self.program, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, encoding="utf-8", check=False
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    source = folder / "source"
    shutil.copytree(CHECKOUT / "s3local", source / "s3local", symlinks=True, ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("data", "models"):
        shutil.copytree(
            CHECKOUT / name, source / name, ignore=lambda at, names: [n for n in names if has_weights(at, n)]
        )
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    offline = ["--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "env", with_pip=False)
    scripts = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    (site,) = (folder / "env").glob("Lib/site-packages" if os.name == "nt" else "lib/*/site-packages")
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (site / "shared.pth").write_text("\n".join(shared), encoding="utf-8")
    subprocess.run([*pip, "--python", scripts / "python", "install", *offline, wheel], check=True)
    (folder / "work").mkdir()
    return Installed(wheel, scripts / "s3local", folder / "work")


def has_weights(folder: str, name: str) -> bool:
    """Whether an entry of models/ is the folder of a model, which a wheel does not contain."""
    return Path(folder).name == "models" and Path(folder, name).is_dir()


def test_the_wheel_holds_the_manifest_and_the_presets(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    assert held["s3local/weights/manifest.toml"] == (CHECKOUT / "models" / "manifest.toml").read_bytes()
    for path in (CHECKOUT / "data").glob("*/*"):
        assert held[f"s3local/presets/{path.parent.name}/{path.name}"] == path.read_bytes()
    assert not [name for name in held if name.startswith(("tests", "data", "models"))]


def test_presets_are_found_by_their_names(installed: Installed) -> None:
    for path in (CHECKOUT / "data").glob("*/task.yaml"):
        done = installed.call("check", path.parent.name)
        missing_rows = "named by --dev" in done.stderr and str(Path("s3local", "presets")) in done.stderr
        assert done.returncode == 0 or missing_rows, done.stderr
    done = installed.call("check", "no_such_task")
    assert done.returncode == 2 and "presets adversarial_qa, ag_news," in done.stderr


@pytest.mark.models
def test_from_setup_to_a_classifier(installed: Installed) -> None:
    models = installed.folder / "data" / "s3local" / "models"
    models.mkdir(parents=True)
    for name in ("smollm2-135m-instruct", "all-minilm-l6-v2"):
        if not (CHECKOUT / "models" / name).is_dir():
            pytest.skip(f"needs the embedded models: models/{name} is absent")
        (models / name).symlink_to((CHECKOUT / "models" / name).resolve(), target_is_directory=True)
    small = ["--rows", "6", "--rounds", "0", "--rationales", "0", "--contrast", "0", "--threads", "1", "--slots", "16"]
    small += ["--no-label-check", "--no-model-selection"]
    for arguments in (["setup", "--no-judge"], ["init", "my_task"], ["check", "my_task"], ["run", "my_task", *small]):
        done = installed.call(*arguments)
        assert done.returncode == 0, done.stderr
        if arguments[0] == "setup":
            assert str(models) in done.stdout
    (installed.folder / "texts.jsonl").write_text('{"text": "a dull film"}\n', encoding="utf-8")
    done = installed.call("predict", "runs/my_task/default", "texts.jsonl")
    assert done.returncode == 0 and '"predicted"' in done.stdout, done.stderr
