"""The offline guard: no connection leaves this machine.

``engage`` switches the hub libraries offline, hides the user's proxies and guards Python's sockets. Call it before
anything is imported that might look for a network. ``allowed`` opens the guard for what fetches packages and models.

``admit`` opens it for one port of one host that the user named, where a teacher's server is.

The guard is an audit hook, which cannot be removed. It sees every call of Python's ``socket`` module in every thread,
and refuses to start the common network programs. It does not see what other child processes do, nor what a compiled
library does on its own: ``s3local doctor --offline-proof`` counts that from outside. Loopback addresses are allowed:
another program that listens there could forward what it gets. A Unix socket is allowed only if this program, or
Python's multiprocessing, opened it: behind another one a proxy may listen.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import sys
import sysconfig
from collections.abc import Iterator
from types import FrameType
from typing import Any

from s3local.exceptions import NetworkError

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_XET": "1",  # a compiled downloader, which the guard would not see
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "ANONYMIZED_TELEMETRY": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime's compiled code looks for its host as soon as it is imported
    "OTEL_SDK_DISABLED": "true",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "WANDB_MODE": "disabled",
}

LOOKUPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
"""Audit events whose first argument is a host."""
REVERSE_LOOKUP = "socket.getnameinfo"
"""The audit event whose first argument is an address: a tuple of host and port."""
CONNECTIONS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
"""Audit events whose arguments are a socket and an address."""
UNIX_FAMILY = getattr(socket, "AF_UNIX", None)
KERNEL_FAMILY = getattr(socket, "AF_NETLINK", None)
"""The family of sockets that reach the kernel of this machine alone."""
HOST_FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6})
"""Families of sockets whose addresses begin with a host; no address of another family is allowed."""

STARTS = frozenset({"subprocess.Popen", "os.exec", "os.posix_spawn", "os.spawn"})
"""Audit events that start a program."""
NETWORK_PROGRAMS = frozenset(
    "aria2c curl ftp nc ncat netcat pip pip3 rsync scp sftp socat ssh telnet wget".split()  # noqa: SIM905
)
SHELLS = frozenset({"sh", "bash", "dash", "zsh", "cmd", "powershell", "pwsh"})

NO_PROXY = {"no_proxy": "*", "NO_PROXY": "*"}
"""Tells the common libraries to use no proxy, not even one of the system's settings."""

_STANDARD_LIBRARY = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_SITE_PACKAGES = ("site-packages", "dist-packages")

_admitted: dict[tuple[str, int], None] = {}
"""What ``admit`` was called with, in order."""
_admitted_names: set[str] = set()
"""Hosts that may be looked up, in lower case."""
_admitted_addresses: set[tuple[str, int]] = set()
"""Addresses and ports that may be connected to, beyond those of this machine."""
_engaged = False
_allowed = False
_hidden = False
_own_sockets: set[str] = set()
"""The Unix sockets that this process opened, by their paths."""
_users_proxies: dict[str, str] = {}
"""The user's variables about proxies, while they are hidden."""


def engage() -> None:
    """Refuse every connection that is not to this machine itself, from now to the end of the program.

    A refused attempt raises ``NetworkError``, which names the code that made it and the address.
    """
    global _engaged
    os.environ.update(ENVIRONMENT)
    _switch_imported_libraries()
    if not _allowed:
        _hide_proxies()
    if not _engaged:
        _engaged = True
        sys.addaudithook(_guard)


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Let connections through while the block runs, in every thread, by the user's proxies if there are any."""
    global _allowed
    before, _allowed = _allowed, True
    _show_proxies()
    try:
        yield
    finally:
        _allowed = before
        if _engaged and not _allowed:
            _hide_proxies()


def admit(host: str, port: int) -> None:
    """Let connections to this port of ``host`` through, at the addresses that its name has now, and to no other.

    Raises ``NetworkError`` if the name is not known.
    """
    name = host.lower()
    _admitted_names.add(name)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        _admitted_names.discard(name)
        raise NetworkError(f"the host {host} is not known here ({exc})") from exc
    _admitted_addresses.update((str(address[0]), port) for *_, address in found)
    _admitted[host, port] = None


def admitted() -> tuple[tuple[str, int], ...]:
    """The hosts and ports that were admitted, for other processes of this program to admit as well."""
    return tuple(_admitted)


def _hide_proxies() -> None:
    """Take every variable such as ``https_proxy`` out of the environment, for child processes as well.

    A proxy on loopback would forward to the outside what the guard lets through.
    """
    global _hidden
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        if not (_hidden and os.environ[name] == NO_PROXY.get(name)):
            _users_proxies[name] = os.environ.pop(name)
    os.environ.update(NO_PROXY)
    _hidden = True
    _forget_opener()


def _show_proxies() -> None:
    """Put the user's variables about proxies back."""
    global _hidden
    if _hidden:
        for name in NO_PROXY:
            os.environ.pop(name, None)
        os.environ.update(_users_proxies)
        _users_proxies.clear()
        _hidden = False
        _forget_opener()


def _forget_opener() -> None:
    """Let urllib read the environment again: its opener keeps the proxies of the first request."""
    if request := sys.modules.get("urllib.request"):
        request.install_opener(None)


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if not event.startswith(("socket.", "subprocess.", "os.")) or _allowed:  # called for every event: this comes first
        return
    if event in STARTS:
        _check_program(event, arguments)
    elif event == "os.system":
        _check_command(_text(arguments[0]))
    elif event == "socket.bind":
        if arguments[0].family == UNIX_FAMILY:
            _own_sockets.add(_text(arguments[1]))
    elif event in LOOKUPS:
        if not is_local_host(arguments[0]) and _text(arguments[0]).lower() not in _admitted_names:
            _refuse(_text(arguments[0]))
    elif event == REVERSE_LOOKUP:
        _check_address(arguments[0])
    elif event in CONNECTIONS:
        connection, address = arguments[0], arguments[1]
        if connection.family == KERNEL_FAMILY or address is None:
            return
        if connection.family == UNIX_FAMILY:
            _check_unix_socket(_text(address))
            return
        if connection.family not in HOST_FAMILIES:
            _refuse(f"{address!r} by a socket of the family {connection.family!r}")
        _check_address(address)


def _check_program(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse to start a program whose purpose is the network; the arguments of a shell are looked through."""
    program, words = (arguments[1], arguments[2]) if event == "os.spawn" else (arguments[0], arguments[1])
    listed = [_text(os.fsdecode(word) if isinstance(word, os.PathLike) else word) for word in words or ()]
    name = _text(os.fsdecode(program) if isinstance(program, os.PathLike) else program or (listed or [""])[0])
    if _name_of(name) in NETWORK_PROGRAMS:
        _refuse(f"the network by the program {name}")
    if _name_of(name) in SHELLS and "-c" in listed:
        _check_command(listed[-1])


def _check_command(command: str) -> None:
    """Refuse a shell's command with a network program in it."""
    for word in command.replace(";", " ").replace("|", " ").replace("&", " ").split():
        if _name_of(word) in NETWORK_PROGRAMS:
            _refuse(f"the network by the program {word}")


def _name_of(program: str) -> str:
    return program.replace("\\", "/").rpartition("/")[2].lower().removesuffix(".exe")


def _check_unix_socket(path: str) -> None:
    """Refuse a Unix socket that neither this process nor Python's multiprocessing has opened."""
    name = path.lstrip("\0").rpartition("/")[2]
    of_multiprocessing = name.startswith("listener-") or "/pymp-" in path
    if not (path in _own_sockets or of_multiprocessing):
        _refuse(f"{path!a}, a Unix socket of another program")


def _check_address(address: object) -> None:
    """Refuse an address of host and port whose host is not this machine, unless it was admitted."""
    if isinstance(address, tuple) and (_text(address[0]), address[1]) in _admitted_addresses:
        return
    if not isinstance(address, tuple) or not is_local_host(address[0]):
        _refuse(":".join(_text(part) for part in address[:2]) if isinstance(address, tuple) else _text(address))


def is_local_host(host: object) -> bool:
    """Whether ``host`` is a loopback name or address; None and "" mean this machine, as does 0.0.0.0."""
    name = "" if host is None else _text(host)
    if name.lower() in ("", "localhost", "localhost.localdomain", "ip6-localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


def _text(part: object) -> str:
    return part.decode("ascii", errors="replace") if isinstance(part, bytes | bytearray) else str(part)


def _refuse(address: str) -> None:
    raise NetworkError(
        f"{_who_asks()} tried to reach {address}; only 'setup', 'models fetch', 'bundle create' and a teacher's server "
        f"that --allow-host names may use the network"
    )


def _who_asks() -> str:
    """The first frame outside the standard library and this file, or the outermost one."""
    frame: FrameType | None = sys._getframe(1)
    last = frame
    while frame is not None:
        last = frame
        path = frame.f_code.co_filename
        standard = path.startswith(("<frozen", *_STANDARD_LIBRARY)) and not any(part in path for part in _SITE_PACKAGES)
        if path != __file__ and not standard:
            break
        frame = frame.f_back
    assert last is not None
    return f"{last.f_globals.get('__name__', '?')} ({last.f_code.co_filename}, line {last.f_lineno})"


def _switch_imported_libraries() -> None:
    """Switch hub libraries that are imported already: they read their environment on import only."""
    if constants := sys.modules.get("huggingface_hub.constants"):
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
        constants.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]
        from huggingface_hub.utils import reset_sessions

        reset_sessions()  # a session that was opened online would stay online
    if hub := sys.modules.get("transformers.utils.hub"):
        hub._is_offline_mode = True  # type: ignore[attr-defined]
