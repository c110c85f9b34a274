"""The proof of working without a network can fail, and servers are part of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from program import call
from review_world import synthetic, write_run

from s3local import offline_proof
from s3local.offline_proof import NAMESPACE, Attempted, prove_offline
from s3local.progress import Silent

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@needs_linux
def test_the_kernel_refuses_internet_sockets_and_nothing_else() -> None:
    code = (
        "import socket, subprocess, sys\n"
        "from s3local.offline_proof import forbid_internet_sockets\n"
        "forbid_internet_sockets()\n"
        "socket.socketpair()\n"
        "for family in (socket.AF_INET, socket.AF_INET6):\n"
        "    try: socket.socket(family)\n"
        "    except PermissionError: print('refused')\n"
        "child = 'import socket; socket.socket()'\n"
        "print(subprocess.run([sys.executable, '-c', child], capture_output=True).returncode)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["refused", "refused", "1"], done.stderr


@needs_linux
@pytest.mark.parametrize("how", ["namespace", "seccomp"])
def test_an_attempt_is_refused_by_the_kernel_and_counted(how: str, tmp_path: Path) -> None:
    if how == "namespace" and offline_proof._restriction() != how:
        pytest.skip("no network namespace can be made here")
    found = offline_proof._attempt(["attempt"], how, tmp_path, 0)
    assert found.exit_code == 7
    assert any("192.0.2.1" in line for line in found.audited)
    if found.traced is not None and how == "namespace":
        assert any("192.0.2.1" in line for line in found.traced)


@pytest.mark.parametrize(
    ("exit_code", "audited", "control", "holds"),
    [(0, (), 7, True), (1, (), 7, False), (0, ("socket.connect ('192.0.2.1', 80)",), 7, False), (0, (), 0, False)],
)
def test_the_proof_holds_only_if_nothing_was_tried_and_the_network_was_forbidden(
    exit_code: int,
    audited: tuple[str, ...],
    control: int,
    holds: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def attempt(command: list[str], how: str, folder: Path, number: int) -> Attempted:
        if command == ["attempt"]:
            return Attempted("a connection", control, ("socket.connect",), ("connect(",), "Network is unreachable")
        return Attempted(" ".join(command[:1]), exit_code, audited, (), "")

    monkeypatch.setattr(offline_proof, "_restriction", lambda: "seccomp")
    monkeypatch.setattr(offline_proof, "_attempt", attempt)
    file = tmp_path / "proof.txt"
    assert prove_offline(file, Silent()) is holds
    text = file.read_text()
    assert ("The proof holds." in text) is holds
    assert f"Attempted connections: {6 * len(audited)}." in text
    result = call("doctor", "--offline-proof", "-o", str(file), "--quiet")
    assert result.exit_code == (0 if holds else 1)
    assert result.stdout == file.read_text()


@needs_linux
@pytest.mark.slow
def test_a_server_is_visited_and_ended(tmp_path: Path) -> None:
    if offline_proof._restriction() != NAMESPACE:
        pytest.skip("no network namespace can be made here")
    run = write_run(tmp_path / "run", synthetic(8))
    found = offline_proof._attempt(["review", str(run)], NAMESPACE, tmp_path, 0)
    assert (found.exit_code, found.audited, found.traced or ()) == (0, (), ()), found.said
    assert offline_proof._attempt(["review", str(tmp_path)], NAMESPACE, tmp_path, 1).exit_code == 2
