"""The package without a checkout: its wheel in a new environment, from ``setup`` through the whole tutorial."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

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
        return subprocess.run([self.program, *arguments], capture_output=True, check=False, **self._options())

    def shell(self, block: str) -> subprocess.CompletedProcess[str]:
        """Run lines of shell, up to the first that fails; from a file, as the guard of this process allows no curl."""
        script = self.folder.parent / "block.sh"
        script.write_text(block, encoding="utf-8")
        command = ["bash", "-e", "-o", "pipefail", str(script)]
        return subprocess.run(command, capture_output=True, check=False, **self._options())

    @contextlib.contextmanager
    def serving(self, line: str) -> Iterator[None]:
        """The server of a line of shell is ready inside, and is interrupted as Ctrl-C does at the end."""
        output: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "start_new_session": True}
        with subprocess.Popen(["bash", "-c", line], **output, **self._options()) as process:
            try:
                said = list(itertools.takewhile(lambda line: "http://127.0.0.1" not in line, process.stdout or ()))
                assert process.poll() is None, said
                yield
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)
                process.communicate(timeout=60)

    def _options(self) -> dict[str, Any]:
        environment = {key: value for key, value in os.environ.items() if not key.startswith(ISOLATED)}
        environment |= {"HOME": str(self.folder), "XDG_DATA_HOME": str(self.folder / "data")}
        environment["PATH"] = os.pathsep.join([str(self.program.parent), environment["PATH"]])
        return {"cwd": self.folder, "env": environment, "text": True, "encoding": "utf-8"}


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


def tutorial_blocks() -> list[str]:
    """The blocks of shell in docs/tutorial.md, in their order."""
    text = (CHECKOUT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.models
@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_the_tutorial_works_as_it_is_written(installed: Installed) -> None:
    """A set-up, every block of the tutorial, and once more its run, which finds that all is done."""
    models = installed.folder / "data" / "s3local" / "models"
    models.mkdir(parents=True)
    for name in ("smollm2-135m-instruct", "all-minilm-l6-v2"):
        if not (CHECKOUT / "models" / name).is_dir():
            pytest.skip(f"needs the embedded models: models/{name} is absent")
        (models / name).symlink_to((CHECKOUT / "models" / name).resolve(), target_is_directory=True)
    done = installed.call("setup", "--no-judge")
    assert done.returncode == 0 and str(models) in done.stdout, done.stderr

    blocks, said = tutorial_blocks(), dict[str, str]()
    with contextlib.ExitStack() as servers:
        for block in blocks:
            if block.startswith(("s3local serve", "s3local review")):
                servers.close()
                servers.enter_context(installed.serving(block))
            elif not block.startswith("curl") or shutil.which("curl"):
                done = installed.shell(block)
                assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
                said[block] = done.stdout

    def answer(part: str) -> str:
        (block,) = (block for block in blocks if part in block)
        return said[block]

    labels = {"appointment", "prescription", "bill"}
    assert all(label in answer("s3local check") for label in labels)
    run = installed.folder / "runs" / "clinic" / "default"
    rows = [json.loads(line) for line in (run / "final" / "dataset.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == 24 and {row["origin"]["asked"] for row in rows} <= labels
    with (installed.folder / "labelled.csv").open(encoding="utf-8", newline="") as stream:
        labelled = list(csv.DictReader(stream))
    assert len(labelled) == 4
    for row in labelled:
        assert row["predicted"] in (labels if float(row["probability"]) >= 0.7 else {"abstain"})
    here = json.loads(answer("predict.py"))
    assert here["label"] in labels and abs(here["probability"] - float(labelled[0]["probability"])) < 0.05
    if shutil.which("curl"):
        (served,) = json.loads(answer("curl"))["predictions"]
        assert served["label"] == here["label"] and len(served["top"]) == 2

    result = (run / "result.json").read_bytes()
    (again,) = (block for block in blocks if block.startswith("s3local run"))
    assert installed.shell(again).stdout.replace("\n", "") == said[again].replace("\n", "")
    assert (run / "result.json").read_bytes() == result
