"""The proof that the program works without a network, for an auditor: ``s3local doctor --offline-proof``.

Commands of the program run in child processes whose network the kernel forbids: in a network namespace whose only
interface is loopback, or else under a seccomp filter that refuses internet sockets. What they try is counted in two
ways: by an audit hook inside of Python, and by strace, if it is installed, for compiled libraries and child processes.
"""

from __future__ import annotations

import ctypes
import datetime
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from s3local import __version__, offline
from s3local.doctor import PACKAGES, version
from s3local.exceptions import StorageError
from s3local.progress import Progress
from s3local.storage import sha256_of, write_text
from s3local.weights.store import survey

JOB_SECONDS = 1800
"""The longest that one command of the proof may take."""
REFUSED, UNANSWERED = 7, 8
"""Exit codes of a child: the control's connection was refused, as it should be; a server did not answer."""
NAMESPACE, SECCOMP = "namespace", "seccomp"
"""How the kernel forbids the network."""

CONNECTIONS = tuple(offline.CONNECTIONS)
NAME_LOOKUPS = (*offline.LOOKUPS, offline.REVERSE_LOOKUP)
"""The audit events that are counted."""

_CHILD = """
import runpy, sys
log, how, *sys.argv = sys.argv[1:]
def count(event, arguments):
    if event in {connections!r}:
        family, address = int(arguments[0].family), arguments[1]
        if family in (2, 10) and address and not str(address[0]).startswith(("127.", "::1", "localhost")):
            note(event, address)
    elif event in {lookups!r}:
        host = arguments[0][0] if isinstance(arguments[0], tuple) else arguments[0]
        if host and str(host) not in ("localhost", "127.0.0.1", "::1"):
            note(event, arguments[0])
def note(event, what):
    with open(log, "a", encoding="utf-8") as stream:
        stream.write(event + " " + ascii(what) + "\\n")
sys.addaudithook(count)
from s3local.offline_proof import begin
begin(how, sys.argv)
sys.argv.insert(0, "s3local")
runpy.run_module("s3local.cli.main", run_name="__main__")
"""


@dataclass(frozen=True, slots=True)
class Attempted:
    """A command of the proof: its exit code, and the attempts that the audit hook and strace (None: absent) saw."""

    command: str
    exit_code: int
    audited: tuple[str, ...]
    traced: tuple[str, ...] | None
    said: str


def begin(how: str, command: Sequence[str]) -> None:
    """Make a child process ready for its command: the network is forbidden, and a server will be visited.

    The command "attempt" ends the process here.
    """
    if how == SECCOMP:
        forbid_internet_sockets()
    else:
        _raise_loopback()
    if list(command) == ["attempt"]:
        _attempt_connection()
    if command[0] == "review":
        _visit_server()


def _raise_loopback() -> None:
    """Switch on the loopback interface of a new network namespace, which servers for this machine listen on."""
    import fcntl
    import socket

    set_flags, up_and_running = 0x8914, 0x41
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as interfaces:
        fcntl.ioctl(interfaces, set_flags, struct.pack("16sh14x", b"lo", up_and_running))


def _attempt_connection() -> None:
    import socket

    try:
        socket.create_connection(("192.0.2.1", 80), timeout=3)
    except OSError as exc:
        print(exc.strerror)
        sys.exit(REFUSED)
    sys.exit("a connection was possible")


def _visit_server() -> None:
    """When the server of this process prints its address, ask for its page, and end it as Ctrl-C does.

    The process ends with ``UNANSWERED`` if there is no page.
    """
    reader, writer = os.pipe()
    really = os.dup(1)
    os.dup2(writer, 1)
    os.close(writer)

    def visit() -> None:
        with os.fdopen(reader, encoding="utf-8", errors="replace") as said, os.fdopen(really, "w") as out:
            for line in said:
                out.write(line)
                out.flush()
                if not line.startswith("http://"):
                    continue
                for page in ("", "api/session", "page.js"):
                    try:
                        with urllib.request.urlopen(line.strip() + page, timeout=60) as answer:
                            answered = answer.status == 200 and bool(answer.read())
                    except OSError:
                        answered = False
                    if not answered:
                        os._exit(UNANSWERED)
                os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=visit, daemon=True).start()


def forbid_internet_sockets() -> None:
    """Let the kernel refuse new internet sockets to this process and its children, for good (Linux: seccomp).

    Raises ``StorageError`` where the system cannot do that.
    """
    numbers = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}  # audit architecture, number of socket(2)
    if sys.platform != "linux" or platform.machine() not in numbers:
        raise StorageError(f"no seccomp filter for {sys.platform} on {platform.machine()}")
    architecture, socket_call = numbers[platform.machine()]
    load, equal, give = 0x20, 0x15, 0x06
    allow, refuse, kill = 0x7FFF0000, 0x00050000 | 13, 0x80000000  # 13 is EACCES
    lines = [
        (load, 0, 0, 4),  # architecture
        (equal, 1, 0, architecture),
        (give, 0, 0, kill),
        (load, 0, 0, 0),  # number of the call
        (equal, 4, 0, 425),  # io_uring_setup, whose sockets the filter would not see
        (equal, 0, 4, socket_call),
        (load, 0, 0, 16),  # the family: 2 is AF_INET, 10 is AF_INET6
        (equal, 1, 0, 2),
        (equal, 0, 1, 10),
        (give, 0, 0, refuse),
        (give, 0, 0, allow),
    ]
    program = b"".join(struct.pack("HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("lines", ctypes.c_void_p))

    libc = ctypes.CDLL(None, use_errno=True)
    filtered = Program(len(lines), ctypes.addressof(buffer))
    no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.prctl(set_seccomp, filter_mode, ctypes.byref(filtered), 0, 0):
        raise StorageError("the kernel takes no seccomp filter")


def prove_offline(file: Path, progress: Progress) -> bool:
    """Run a small job without a network, and write what was tried to ``file``; whether the proof holds.

    Raises ``StorageError`` if ``file`` cannot be written or the kernel can forbid nothing here.
    """
    how = _restriction()
    with tempfile.TemporaryDirectory(prefix="s3local-proof-") as name:
        folder = Path(name)
        commands = _commands(folder, how)
        control = _attempt(["attempt"], how, folder, 0)
        done = []
        with progress.step("commands without a network", len(commands), "commands") as advance:
            for number, command in enumerate(commands, start=1):
                done.append(_attempt(command, how, folder, number))
                advance(1)
        dataset = folder / "run" / "final" / "dataset.jsonl"
        hashes = [f"dataset of the job  {sha256_of(dataset)}"] if dataset.is_file() else []
    holds = control.exit_code == REFUSED and all(
        its.exit_code == 0 and not its.audited and not its.traced for its in done
    )
    write_text(file, _report(how, control, done, hashes, holds))
    return holds


def _commands(folder: Path, how: str) -> list[list[str]]:
    """A task from its beginning to its end, small but with every part of the program; each command as its arguments."""
    task, run = str(folder / "task"), str(folder / "run")
    commands = [
        ["init", task],
        ["check", task],
        ["run", task, "--out", run, "--rows", "24", "--rounds", "1", "--quiet"],
        ["report", run],
        ["predict", run, str(Path(task) / "dev.jsonl"), "--output", str(folder / "predicted.jsonl"), "--quiet"],
        ["compare", task, "--methods", "gold,judge", "--seeds", "0", "--out", str(folder / "compare"), "--quiet"],
    ]
    return [*commands, ["review", run]] if how == NAMESPACE else commands


def _restriction() -> str:
    """ "namespace" if a network namespace can be made here, else "seccomp"; raises ``StorageError`` if neither can."""
    unshare = shutil.which("unshare")
    if unshare and subprocess.run([unshare, "-rn", "true"], capture_output=True, check=False).returncode == 0:
        return NAMESPACE
    code = "from s3local.offline_proof import forbid_internet_sockets; forbid_internet_sockets()"
    if subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0:
        return SECCOMP
    raise StorageError(
        "the kernel forbids no network here: a proof needs Linux with user namespaces or seccomp; "
        "disconnect the machine, and run the program as usual"
    )


def _attempt(command: Sequence[str], how: str, folder: Path, number: int) -> Attempted:
    audit, trace = folder / f"audit-{number}", folder / f"trace-{number}"
    code = _CHILD.format(connections=CONNECTIONS, lookups=NAME_LOOKUPS)
    whole = [sys.executable, "-c", code, str(audit), how, *command]
    strace = shutil.which("strace")
    if strace:
        whole = [strace, *_strace_options(strace), "-e", "trace=connect,sendto,sendmsg", "-o", str(trace), *whole]
    if how == NAMESPACE:
        whole = [shutil.which("unshare") or "unshare", "-rn", *whole]
    done = subprocess.run(whole, capture_output=True, text=True, check=False, timeout=JOB_SECONDS)
    said = (done.stdout if command == ["attempt"] else done.stderr).strip().splitlines()
    return Attempted(
        command=" ".join(command[:2] if command[0] != "attempt" else ["a connection to 192.0.2.1, on purpose"]).replace(
            str(folder), "…"
        ),
        exit_code=done.returncode,
        audited=tuple(audit.read_text(encoding="utf-8").splitlines()) if audit.is_file() else (),
        traced=_internet_calls(trace) if strace and trace.is_file() else None,
        said=said[-1] if said else "",
    )


def _strace_options(strace: str) -> list[str]:
    """Follow child processes, and stop a process at the traced calls alone, if this strace can: that is far faster."""
    fast = [strace, "-f", "-qq", "--seccomp-bpf", "-o", os.devnull, sys.executable, "-c", ""]
    known = subprocess.run(fast, capture_output=True, check=False).returncode == 0
    return ["-f", "-qq", *(["--seccomp-bpf"] if known else [])]


def _internet_calls(trace: Path) -> tuple[str, ...]:
    """The calls of strace's record that name an internet address other than loopback."""
    lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    found = [line for line in lines if re.search(r"sa_family=AF_INET6?\b", line)]
    local = re.compile(r'inet_addr\("127\.|inet_pton\(AF_INET6, "::1"')
    return tuple(line for line in found if not local.search(line))


def _report(how: str, control: Attempted, done: Sequence[Attempted], hashes: Sequence[str], holds: bool) -> str:
    ways = {
        NAMESPACE: "a network namespace whose only interface is loopback (unshare)",
        SECCOMP: "a seccomp filter that refuses sockets of the families AF_INET and AF_INET6, in which no server runs",
    }
    package = Path(__file__).parent
    sources = sorted(package.rglob("*.py"))
    code = hashlib.sha256(b"".join(f"{p.relative_to(package).as_posix()} {sha256_of(p)}\n".encode() for p in sources))
    seen = "strace, with child processes and compiled libraries"
    tracing = seen if control.traced is not None else "nothing else: strace is not installed"
    lines = [
        "s3local: proof of working without a network",
        "",
        f"date        {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M:%S} UTC",
        f"s3local     {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"sources     sha256 {code.hexdigest()} over {len(sources)} files",
        *(f"package     {name} {version(name)}" for name in PACKAGES),
        *(
            f"model       {local.model.id} {file.path} sha256 {file.sha256}"
            for local in survey()
            if local.state == "ready"
            for file in local.model.files
        ),
        *(f"result      {line}" for line in hashes),
        "",
        f"The kernel forbids the network by {ways[how]}.",
        f"Attempts are counted by Python's audit hook, and by {tracing}.",
        "",
        f"Control: {control.command}: refused with {json.dumps(control.said)}; "
        f"seen by the audit hook: {len(control.audited)}, by strace: {_count(control.traced)}.",
        "",
    ]
    for its in done:
        lines.append(
            f"s3local {its.command}: exit code {its.exit_code}; attempts seen by the audit hook: {len(its.audited)}, "
            f"by strace: {_count(its.traced)}"
        )
        lines += [f"    {line}" for line in (*its.audited, *(its.traced or ()))]
        if its.exit_code:
            lines.append(f"    {its.said}")
    attempts = sum(len(its.audited) + len(its.traced or ()) for its in done)
    lines += ["", f"Attempted connections: {attempts}. The proof {'holds' if holds else 'FAILS'}.", ""]
    return "\n".join(lines)


def _count(traced: tuple[str, ...] | None) -> str:
    return "not counted" if traced is None else str(len(traced))
