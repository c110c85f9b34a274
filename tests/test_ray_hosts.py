"""Two machines in network namespaces: one is cut off in the middle, and the dataset is the same as without Ray.

It takes minutes, since Ray must notice what is missing. So it runs only if S3LOCAL_TEST_HOSTS=1, and needs root.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
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
ADDRESSES = {"s3local-a": "10.177.0.1", "s3local-b": "10.177.0.2"}
FIRST, SECOND = ADDRESSES
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
    """Two network namespaces that reach each other and nothing else."""
    if ip("netns", "add", FIRST, check=False):
        pytest.skip("needs network namespaces: this user cannot make them")
    try:
        ip("netns", "add", SECOND)
        ip("link", "add", "s3a", "netns", FIRST, "type", "veth", "peer", "name", "s3b", "netns", SECOND)
        for name, link in ((FIRST, "s3a"), (SECOND, "s3b")):
            for words in (
                ("addr", "add", f"{ADDRESSES[name]}/24", "dev", link),
                ("link", "set", link, "up"),
                ("link", "set", "lo", "up"),
            ):
                ip("-n", name, *words)
        yield
    finally:
        for name in ADDRESSES:
            for number in subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split():
                subprocess.run(["kill", "-9", number], check=False)
            ip("netns", "del", name, check=False)


def on(host: str, words: list[object], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a program on one of the hosts."""
    command = ["ip", "netns", "exec", host, *map(str, words)]
    with log.open("ab") as stream:
        return subprocess.Popen(command, env=environment, stdout=stream, stderr=stream, stdin=subprocess.DEVNULL)


def test_a_machine_that_is_cut_off_changes_nothing(hosts: None, tiny_bert: Path, tmp_path: Path) -> None:
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
    for name, words in (
        (FIRST, ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={tmp_path / 'ray'}"]),
        (SECOND, [f"--address={ADDRESSES[FIRST]}:{PORT}"]),
    ):
        command = [RAY, "start", *words, f"--node-ip-address={ADDRESSES[name]}", *common]
        assert on(name, command, environment, log).wait() == 0, log.read_text()

    arguments = [sys.executable, script, tiny_bert, tmp_path / "task"]
    address = f"ray://{ADDRESSES[FIRST]}:{PORT}"
    process = on(FIRST, [*arguments, tmp_path / "there", address], environment, log)
    shards = tmp_path / "there/round-0/shards"
    while not shards.is_dir() or len(list(shards.iterdir())) < 2:
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)
    ip("-n", SECOND, "link", "set", "s3b", "down")
    assert process.wait() == 0, log.read_text()
    assert on(FIRST, [*arguments, tmp_path / "here", ""], environment, log).wait() == 0, log.read_text()

    there, here = (sha256_of(tmp_path / name / "final/dataset.jsonl") for name in ("there", "here"))
    assert there == here
    assert "worker lost" in [event["event"] for event in RunFolder(tmp_path / "there").events()]
