"""A bundle of small stand-in wheels: made, verified, damaged in every way, and installed where there is no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pip
import pytest
from bundle_world import PROGRAM, THIS_PYTHON, make_wheel
from program import call, complains

from s3local.bundle import carried, create
from s3local.bundle.carried import BundleError, install, misfit, verify
from s3local.bundle.create import BundleSettings, markers_of
from s3local.exceptions import ModelError, NetworkError, StorageError
from s3local.progress import Silent
from s3local.weights.manifest import Model, WeightFile

SETTINGS = BundleSettings(platform="linux-x86_64", python=THIS_PYTHON)


def quiet(_: str) -> None: ...


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every wheel that the stand-in project needs, and one that it does not."""
    folder = tmp_path_factory.mktemp("wheels")
    make_wheel(folder, "small_part", needs=["deep-part[odd]>=1"], more=["License-Expression: MIT"])
    make_wheel(folder, "deep_part", needs=["odd-part; extra == 'odd'", "even-part; extra == 'even'"])
    make_wheel(folder, "odd_part", more=["Classifier: License :: OSI Approved :: BSD License"])
    make_wheel(folder, "even_part")
    make_wheel(folder, "windows_part")
    make_wheel(folder, "pip", pip.__version__)
    return folder


def stand_ins(wheels: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., BundleSettings]:
    """The settings of a bundle of stand-ins with one model; nothing comes from a network or from this installation."""
    for name, value in {
        "PIP_NO_INDEX": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "S3LOCAL_MODELS": str(folder / "models"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    (folder / "models" / "small").mkdir(parents=True)
    (folder / "models" / "small" / "config.json").write_text("{}", encoding="utf-8")
    digest = carried.hashlib.sha256(b"{}").hexdigest()
    model = Model(
        id="small",
        roles=("encoder",),
        licence="MIT",
        embedded=True,
        files=(WeightFile(path="config.json", size=2, sha256=digest),),
    )
    for module in ("s3local.bundle.create", "s3local.weights.manifest"):
        monkeypatch.setattr(f"{module}.known_models", lambda: {"small": model})

    def project(into: Path, _: BundleSettings) -> None:
        needs = ["small-part", "llama-cpp-python", "windows-part; sys_platform == 'win32'"]
        make_wheel(
            into, "s3local", "0.1.0", needs=needs, files={"program.py": PROGRAM}, script="s3local = program:main"
        )

    monkeypatch.setattr(create, "_project_wheel", project)
    llama = make_wheel(folder, "llama_cpp_python", tag="py3-none-any")

    def settings(**changes: Any) -> BundleSettings:
        here = {
            "platform": carried.this_platform(),
            "python": THIS_PYTHON,
            "find_links": (wheels,),
            "llama_wheel": llama,
        }
        return BundleSettings(**{**here, **changes})

    return settings


@pytest.fixture
def world(wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., BundleSettings]:
    return stand_ins(wheels, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def made(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle in both forms. Tests share it: they may not change it."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as monkeypatch:
        settings = stand_ins(wheels, folder, monkeypatch)
        for name in ("carry", "carry.zip"):
            create.create(folder / name, settings(), Silent())
    return folder


@pytest.fixture(params=["carry", "carry.zip"])
def bundle(request: pytest.FixtureRequest, made: Path, tmp_path: Path) -> Path:
    """A copy of a bundle."""
    copy = shutil.copytree if request.param == "carry" else shutil.copy
    return Path(copy(made / request.param, tmp_path / request.param))


def names_in(bundle: Path) -> set[str]:
    return set(carried.Bundle(bundle).names())


def test_it_holds_what_is_needed_and_no_more(bundle: Path) -> None:
    packages = {name.split("-")[0].removeprefix("wheels/") for name in names_in(bundle) if name.startswith("wheels/")}
    assert packages == {"s3local", "small_part", "deep_part", "odd_part", "llama_cpp_python", "pip"}
    others = {name for name in names_in(bundle) if not name.startswith("wheels/")}
    assert others == {"bundle.json", "__main__.py", "sbom.cdx.json", "models/small/config.json"}
    contents, _ = verify(bundle, quiet)
    assert (contents.python, contents.platform, contents.models) == (THIS_PYTHON, carried.this_platform(), ("small",))


def test_what_another_machine_needs_is_decided_by_its_markers(
    world: Callable[..., BundleSettings], tmp_path: Path
) -> None:
    create.create(tmp_path / "carry", world(platform="windows-x86_64", python="3.12"), Silent())
    assert any(name.startswith("wheels/windows_part-") for name in names_in(tmp_path / "carry"))
    contents, _ = verify(tmp_path / "carry", quiet)
    assert contents.fits == "windows-x86_64, Python 3.12"
    assert str(misfit(contents)).startswith("the bundle is for windows-x86_64")


def test_the_bill_of_materials_names_packages_models_and_licences(bundle: Path) -> None:
    with carried.Bundle(bundle).opened("sbom.cdx.json") as stream:
        bill = json.load(stream)
    by_name = {component["name"]: component for component in bill["components"]}
    assert by_name["small-part"]["licenses"] == [{"expression": "MIT"}]
    assert by_name["odd-part"]["licenses"] == [{"license": {"name": "BSD License"}}]
    assert (
        by_name["small"]["type"] == "machine-learning-model"
        and by_name["small"]["licenses"][0]["license"]["name"] == "MIT"
    )
    listed = {Path(file.path).name: file.sha256 for file in carried.read_contents(carried.Bundle(bundle)).files}
    assert by_name["odd-part"]["hashes"] == [{"alg": "SHA-256", "content": listed["odd_part-1.0-py3-none-any.whl"]}]
    needs = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    assert needs["pkg:pypi/deep-part@1.0"] == ["pkg:pypi/odd-part@1.0"]


def test_the_bill_is_valid_by_the_schema(bundle: Path) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    with carried.Bundle(bundle).opened("sbom.cdx.json") as stream:
        problem = validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(stream.read().decode())
    assert problem is None


def without_network() -> list[str]:
    """A command that runs another one in a namespace whose only network interface is down."""
    command = ["unshare", "-rn"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*command, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs unshare and the right to make a namespace")
    return command


def test_it_installs_itself_without_a_network(bundle: Path, tmp_path: Path) -> None:
    """The other machine has Python alone: no s3local, no pip."""
    moved = bundle.rename(tmp_path / f"moved{bundle.suffix}")
    python = [*without_network(), sys.executable, "-I", "-S"]
    done = subprocess.run([*python, moved, "verify"], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "this machine fits" in done.stdout, done.stderr
    target = tmp_path / "installed"  # the stand-in of pip cannot install: that is one line, and nothing is left
    done = subprocess.run([*python, moved, "install", target], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "packages cannot be installed" in done.stderr and not target.exists()


def test_what_was_installed_works(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = carried._run

    def with_real_pip(command: list[str], problem: str) -> None:
        if command[2:3] == ["install"]:
            command = [sys.executable, "-m", "pip", "--python", command[0], *command[2:]]
        run(command, problem)

    monkeypatch.setattr(carried, "_run", with_real_pip)
    target = tmp_path / "installed"
    install(bundle, target, quiet)
    program = target / ("Scripts" if os.name == "nt" else "bin") / "s3local"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "works --version"
    assert (target / "share" / "s3local" / "models" / "small" / "config.json").read_text() == "{}"
    assert not (target / carried.UNFINISHED).exists() and not (target / ".wheels").exists()
    with pytest.raises(BundleError, match="exists already"):
        install(bundle, target, quiet)
    (target / carried.UNFINISHED).touch()  # as after a power cut
    install(bundle, target, quiet)


def rewritten(bundle: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """A copy of the bundle, of the same form, whose files were changed."""
    opened = carried.Bundle(bundle)
    files = {}
    for name in opened.names():
        with opened.opened(name) as stream:
            files[name] = stream.read()
    change(files)
    copy = bundle.with_name(f"copy-{bundle.name}")
    if bundle.is_dir():
        for name, data in files.items():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes(data)
    else:
        with zipfile.ZipFile(copy, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    return copy


def edit(**changes: object) -> Callable[[dict[str, bytes]], None]:
    def change(files: dict[str, bytes]) -> None:
        files["bundle.json"] = json.dumps({**json.loads(files["bundle.json"]), **changes}).encode()

    return change


def lists(path: str) -> Callable[[dict[str, bytes]], None]:
    return edit(files=[{"path": path, "size": 1, "sha256": "0" * 64}])


DAMAGES: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "changed": (lambda files: files.update({"models/small/config.json": b"[]"}), "config.json has a wrong checksum"),
    "shorter": (lambda files: files.update({"models/small/config.json": b"{"}), "config.json has 1 bytes, not 2"),
    "longer": (
        lambda files: files.update({"models/small/config.json": b"{}" * 9}),
        "config.json has more than 2 bytes",
    ),
    "missing": (lambda files: files.pop("models/small/config.json") and None, "config.json is missing"),
    "added": (lambda files: files.update({"wheels/evil-1.0-py3-none-any.whl": b"x"}), "does not list"),
    "no contents": (lambda files: files.pop("bundle.json") and None, "bundle.json is missing"),
    "not JSON": (lambda files: files.update({"bundle.json": b"{"}), "bundle.json is damaged"),
    "nested": (lambda files: files.update({"bundle.json": b"[" * 200_000}), "bundle.json is damaged"),
    "a list": (lambda files: files.update({"bundle.json": b"[]"}), "bundle.json is damaged"),
    "a newer format": (edit(format=2), "has the format 2; this version reads 1"),
    "a number for a text": (edit(python=3), "bundle.json is damaged"),
    "a path upwards": (lists("../evil"), "is not a path inside a bundle"),
    "a path upwards inside": (lists("models/../../evil"), "is not a path inside a bundle"),
    "an absolute path": (lists("/etc/passwd"), "is not a path inside a bundle"),
    "a path of Windows": (lists("C:\\evil"), "is not a path inside a bundle"),
    "another system": (edit(platform="plan9-x86_64"), "the bundle is for plan9-x86_64"),
    "another Python": (edit(python="3.99"), "the bundle is for CPython 3.99"),
    "a newer C library": (edit(glibc="2.999"), "the bundle needs glibc 2.999 or newer"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_unfitting_bundle_is_refused_in_one_line(bundle: Path, damage: str, tmp_path: Path) -> None:
    change, message = DAMAGES[damage]
    copy = rewritten(bundle, change)
    result = call("bundle", "install", str(copy), str(tmp_path / "there"))
    assert result.exit_code == 2
    *said, line = result.stderr.splitlines()
    assert line.startswith("error: ") and message in line
    assert not said or said[0].startswith("verifying ")
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_archive_is_refused(made: Path, tmp_path: Path, kept: float) -> None:
    data = (made / "carry.zip").read_bytes()
    (tmp_path / "short.zip").write_bytes(data[: int(kept * len(data))])
    # the end of a wheel inside may look like the end of an archive, which then has no bundle.json
    complains(call("bundle", "verify", str(tmp_path / "short.zip")), "short.zip", "copy the bundle again")


def test_a_link_in_a_folder_is_refused(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made / "carry", tmp_path / "carry")
    file = tmp_path / "carry" / "models" / "small" / "config.json"
    file.rename(tmp_path / "outside")
    file.symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match="a link"):
        verify(tmp_path / "carry", quiet)


def test_what_cannot_be_made_leaves_nothing(world: Callable[..., BundleSettings], tmp_path: Path) -> None:
    target = tmp_path / "carry.zip"
    with pytest.raises(NetworkError, match="No matching distribution"):
        create.create(target, world(find_links=()), Silent())
    with pytest.raises(ModelError, match='unknown model "none"'):
        create.create(target, world(models=("none",)), Silent())
    with pytest.raises(ModelError, match="cannot be built for macos-aarch64"):
        create.create(target, world(platform="macos-aarch64", llama_wheel=None), Silent())
    with pytest.raises(ModelError, match="no such file"):
        create.create(target, world(llama_wheel=tmp_path / "none.whl"), Silent())
    assert not list(tmp_path.glob("*carry*"))
    target.touch()
    with pytest.raises(StorageError, match="exists already"):
        create.create(target, world(), Silent())


def test_torch_is_the_build_for_cpus_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create.metadata, "version", lambda name: "2.13.0+cu130")
    torch = create.Requirement("torch>=2.4")
    assert create._pinned(torch, SETTINGS) == "torch==2.13.0+cpu"
    assert create._pinned(torch, BundleSettings("linux-x86_64", "3.11", cuda=True)) == "torch==2.13.0"
    assert create._pinned(torch, BundleSettings("windows-x86_64", "3.11")) == "torch==2.13.0"


def test_the_c_library_that_a_wheel_needs_is_read_from_its_libraries(tmp_path: Path) -> None:
    assert create.oldest_glibc(tmp_path) == "2.28"
    make_wheel(tmp_path, "a", tag="py3-none-linux_x86_64", files={"a/liba.so": "\0GLIBC_2.9\0GLIBC_2.34\0"})
    assert create.oldest_glibc(tmp_path) == "2.34"


def test_markers_are_those_of_the_other_machine() -> None:
    markers = markers_of(BundleSettings("windows-x86_64", "3.10"))
    assert create.Marker("sys_platform == 'win32' and python_version < '3.11'").evaluate(markers)
    assert not create.Marker("platform_machine == 'x86_64'").evaluate(markers)
