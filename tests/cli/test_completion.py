"""The Tab key: what click offers for each kind of argument, and the scripts of the shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete
from program import CHECKOUT, call

from s3local.cli.main import main
from s3local.results import COMPARE_FILE, RESULT_FILE
from s3local.runner.loop import RUNS_FOLDER


def offered(line: str) -> tuple[set[str], bool]:
    """The names that are offered for the last word of ``line``, and whether the shell is to complete files."""
    *words, incomplete = line.split(" ")
    items = ShellComplete(main, {}, "s3local", "_S3LOCAL_COMPLETE").get_completions(words, incomplete)
    return {item.value for item in items if item.type == "plain"}, any(item.type == "file" for item in items)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, with two tasks, a finished run, an unfinished one, a retrained one and a comparison."""
    monkeypatch.chdir(tmp_path)
    for place in (
        Path("mine", "task.yaml"),
        Path("rent", "task.yaml"),
        RUNS_FOLDER / "mine" / "default" / RESULT_FILE,
        RUNS_FOLDER / "mine" / "default" / "retrained-1" / RESULT_FILE,
        RUNS_FOLDER / "mine" / "unfinished" / "config.json",
        RUNS_FOLDER / "mine" / "compare" / "default" / COMPARE_FILE,
    ):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    return tmp_path


RUNS = {str(Path("runs", "mine", "default")), str(Path("runs", "mine", "default", "retrained-1"))}
COMPARISON = str(Path("runs", "mine", "compare", "default"))


@pytest.mark.parametrize(
    ("line", "names", "files"),
    [
        ("r", {"run", "report", "review", "retrain"}, False),
        ("models opt", {"optimize"}, False),
        ("run r", {"rte", "rent"}, True),
        ("check mi", {"mine"}, True),
        ("run no-task-begins-so", set(), True),
        ("predict ", RUNS, True),
        ("report ", {*RUNS, COMPARISON}, True),
        ("export runs/mine/default --to p", {"parquet"}, False),
        ("label mine --run ", RUNS, True),
        ("run mine --teacher smollm2-135m", {"smollm2-135m-instruct"}, True),
        ("run mine --judge no", {"none"}, True),
        ("run mine --student l", {"large"}, True),
        ("run mine --encoder all-mini", {"all-minilm-l6-v2"}, True),
        ("models fetch all-mp", {"all-mpnet-base-v2"}, False),
        ("compare mine --methods gold,setfit-", {"gold,setfit-large"}, False),
        ("compare mine --reference goldgen", {"goldgen", "goldgen+gold"}, False),
        ("run mine --red", {"--redact"}, False),
    ],
)
def test_an_argument_is_completed_with_the_names_that_it_can_have(
    line: str, names: set[str], files: bool, folder: Path
) -> None:
    assert offered(line) == (names, files)


def test_a_damaged_record_of_a_model_does_not_disturb_the_line_that_is_typed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("s3local.weights.manifest.models_folder", lambda: tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "s3local.json").write_text("{")
    assert offered("run mine --teacher smol")[1]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_of_a_shell_asks_the_program(shell: str) -> None:
    assert f"_S3LOCAL_COMPLETE={shell}_complete" in call("completion", shell).stdout


@pytest.mark.skipif(os.name == "nt" or shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    program = tmp_path / "s3local"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(CHECKOUT)!r})\n"
        "from s3local.cli.main import main\nmain(prog_name='s3local')\n"
    )
    program.chmod(0o755)
    script = (
        'eval "$(s3local completion bash)"; COMP_WORDS=(s3local run supp); COMP_CWORD=2; '
        '_s3local_completion s3local 2>/dev/null; echo "${COMPREPLY[@]}"'
    )
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    assert done.stdout.split() == ["support_desk"]
