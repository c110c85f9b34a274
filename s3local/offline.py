"""No connection leaves this machine: the hub libraries are switched offline, and Python's sockets are guarded.

``engage`` is called once, before anything else is imported that might look for a network. The guard is an audit hook,
which cannot be taken off again; it sees everything that goes through Python's ``socket`` module, and nothing that a
compiled library or another process does on its own. ``allowed`` opens it for ``models fetch`` alone.
Knows nothing of models, and nothing of what a connection would be for.
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
}

LOOKUPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
"""Audit events whose first argument is a host."""
CONNECTIONS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
"""Audit events whose arguments are a socket and an address."""
LOCAL_FAMILIES = frozenset(getattr(socket, name) for name in ("AF_UNIX", "AF_NETLINK") if hasattr(socket, name))

_STANDARD_LIBRARY = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_SITE_PACKAGES = ("site-packages", "dist-packages")

_engaged = False
_allowed = False


def engage() -> None:
    """Refuse every connection that is not to this machine itself, from now to the end of the program.

    A refused attempt raises ``NetworkError``, which names the code that made it and the address.
    """
    global _engaged
    os.environ.update(ENVIRONMENT)
    _switch_imported_libraries()
    if not _engaged:
        _engaged = True
        sys.addaudithook(_guard)


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Let connections through while the block runs, in every thread."""
    global _allowed
    before, _allowed = _allowed, True
    try:
        yield
    finally:
        _allowed = before


def _guard(event: str, arguments: tuple[Any, ...]) -> None:
    if not event.startswith("socket.") or _allowed:  # called for every event of the interpreter, so this comes first
        return
    if event in LOOKUPS:
        if not _is_local_host(arguments[0]):
            _refuse(_text(arguments[0]))
    elif event in CONNECTIONS:
        connection, address = arguments[0], arguments[1]
        if connection.family in LOCAL_FAMILIES or address is None:
            return
        if not isinstance(address, tuple) or not _is_local_host(address[0]):
            _refuse(":".join(_text(part) for part in address[:2]) if isinstance(address, tuple) else _text(address))


def _is_local_host(host: Any) -> bool:
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


def _text(part: Any) -> str:
    return part.decode("ascii", errors="replace") if isinstance(part, bytes | bytearray) else str(part)


def _refuse(address: str) -> None:
    raise NetworkError(
        f"{_who_asks()} tried to reach {address}; nothing here may use the network except 's3local models fetch'"
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
    """Tell the hub libraries that were imported before: they read their environment only then."""
    if constants := sys.modules.get("huggingface_hub.constants"):
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
        constants.HF_HUB_DISABLE_TELEMETRY = True  # type: ignore[attr-defined]
        from huggingface_hub.utils import reset_sessions

        reset_sessions()  # a session that was made online would stay so
    if hub := sys.modules.get("transformers.utils.hub"):
        hub._is_offline_mode = True  # type: ignore[attr-defined]
