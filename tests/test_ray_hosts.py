"""Two and three machines in network namespaces: one is cut off in the middle, another one dies, and the dataset is the
same as without Ray.

It takes minutes, since Ray must notice what is missing. So it runs only if S3LOCAL_TEST_HOSTS=1, and needs root.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from small_world import make_task

from s3local.runner.state import RunFolder
from s3local.storage import sha256_of

CHECKOUT = Path(__file__).parents[1]
RAY = Path(sys.executable).with_name("ray")
ADDRESSES = {"s3local-a": "10.177.0.1", "s3local-b": "10.177.0.2", "s3local-c": "10.177.0.3"}
FIRST, CUT_OFF, KILLED = ADDRESSES
PORT = 6390

DRIVER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from small_world import settings, toy_models, write
    from s3local.executor import InThisProcess
    from s3local.ray_executor import RayExecutor
    from s3local.runner.loop import run
    from s3local.task.model import Task
    from s3local.teacher.fake import FakeTeacher

    body, task, folder, address = sys.argv[1:]

    def slow(request):
        time.sleep(0.5 if address else 0)
        return write(request)

    chosen = settings(Path(body), rows=80, rounds=0, label_check=False)
    executor = RayExecutor(address) if address else InThisProcess()
    models = toy_models(chosen, lambda: FakeTeacher(slow))
    run(Task.load(Path(task)), chosen, folder=Path(folder), models=models, executor=executor)
    """
)

pytestmark = [
    pytest.mark.skipif(os.environ.get("S3LOCAL_TEST_HOSTS") != "1", reason="takes minutes; set S3LOCAL_TEST_HOSTS=1"),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the package ray"),
    pytest.mark.skipif(shutil.which("ip") is None, reason="needs network namespaces: there is no program ip"),
]


def ip(*words: str, check: bool = True) -> int:
    return subprocess.run(["ip", *words], check=check, capture_output=True).returncode


@pytest.fixture
def hosts() -> Iterator[None]:
    """Three network namespaces that reach each other, over a bridge in the first, and nothing else."""
    if ip("netns", "add", FIRST, check=False):
        pytest.skip("needs network namespaces: this user cannot make them")
    try:
        ip("-n", FIRST, "link", "add", "bridge", "type", "bridge")
        ip("-n", FIRST, "addr", "add", f"{ADDRESSES[FIRST]}/24", "dev", "bridge")
        for name in (CUT_OFF, KILLED):
            end = f"to-{name[-1]}"
            ip("netns", "add", name)
            ip("link", "add", end, "netns", FIRST, "type", "veth", "peer", "name", "out", "netns", name)
            ip("-n", FIRST, "link", "set", end, "master", "bridge", "up")
            ip("-n", name, "addr", "add", f"{ADDRESSES[name]}/24", "dev", "out")
            ip("-n", name, "link", "set", "out", "up")
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", FIRST, "link", "set", "bridge", "up")
        ip("-n", FIRST, "link", "set", "lo", "up")
        yield
    finally:
        for name in ADDRESSES:
            kill(name)
            ip("netns", "del", name, check=False)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name: Ray's sockets lie in it, and their names have at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="r") as name:
        yield Path(name)


def kill(host: str) -> None:
    """End all processes of a host at once."""
    for number in subprocess.run(["ip", "netns", "pids", host], capture_output=True, text=True).stdout.split():
        subprocess.run(["kill", "-9", number], check=False)


def on(host: str, words: list[object], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program on one of the hosts."""
    command = ["ip", "netns", "exec", host, *map(str, words)]
    with log.open("ab") as stream:
        return subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("others", [[CUT_OFF], [CUT_OFF, KILLED]], ids=["two machines", "three machines"])
def test_machines_that_are_lost_change_nothing(
    others: list[str], hosts: None, short: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    script, log = tmp_path / "driver.py", tmp_path / "log.txt"
    script.write_text(DRIVER)
    make_task(tmp_path / "task")
    paths = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests/worlds")])
    environment = {
        **os.environ,
        "PYTHONPATH": paths,
        "OMP_NUM_THREADS": "1",
        "HOME": str(tmp_path),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0" * 64,
        "RAY_worker_niceness": "0",
        "RAY_health_check_initial_delay_ms": "1000",
        "RAY_health_check_period_ms": "1000",
        "RAY_health_check_timeout_ms": "3000",
        "RAY_health_check_failure_threshold": "3",
    }
    common = ["--num-cpus=1", "--disable-usage-stats", "--object-store-memory=100000000", "--include-log-monitor=false"]
    head = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={short / 'ray'}"]
    for name in (FIRST, *others):
        words = head if name == FIRST else [f"--address={ADDRESSES[FIRST]}:{PORT}"]
        command = [RAY, "start", *words, f"--node-ip-address={ADDRESSES[name]}", *common]
        assert on(name, command, environment, log).wait() == 0, log.read_text()

    arguments = [sys.executable, script, tiny_bert, tmp_path / "task"]
    address = f"ray://{ADDRESSES[FIRST]}:{PORT}"
    process = on(FIRST, [*arguments, tmp_path / "there", address], environment, log)
    shards = tmp_path / "there/round-0/shards"
    while not shards.is_dir() or len(list(shards.iterdir())) < 2:
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)
    ip("-n", CUT_OFF, "link", "set", "out", "down")
    if KILLED in others:
        kill(KILLED)
    assert process.wait() == 0, log.read_text()
    assert on(FIRST, [*arguments, tmp_path / "here", ""], environment, log).wait() == 0, log.read_text()

    there, here = (sha256_of(tmp_path / name / "final/dataset.jsonl") for name in ("there", "here"))
    assert there == here
    lost = [event["event"] for event in RunFolder(tmp_path / "there").events()].count("worker lost")
    assert lost >= len(others)
