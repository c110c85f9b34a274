"""The guard lets nothing out, lets loopback through, and names who tried. Each law in a fresh process: hooks stay."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest
from toys import Exported

ATTEMPTS = {
    "urllib": "import urllib.request; urllib.request.urlopen('http://example.com/', timeout=2)",
    "requests": "import requests; requests.get('https://192.0.2.1/', timeout=2)",
    "socket by name": "import socket; socket.create_connection(('example.com', 80), timeout=2)",
    "socket by address": "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)",
    "socket version 6": "import socket; socket.socket(socket.AF_INET6).connect(('2001:db8::1', 80))",
    "datagram": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    "datagram with a scope": "import socket; socket.socket(socket.AF_INET6, 2).sendto(b'', ('fe80::1%1', 53, 0, 1))",
    "datagram version 4 in 6": "import socket; socket.socket(socket.AF_INET6, 2).sendto(b'', ('::ffff:192.0.2.1', 53))",
    "message": "import socket; socket.socket(type=2).sendmsg([b'x'], [], 0, ('192.0.2.1', 53))",
    "connect_ex": "import socket; socket.socket().connect_ex(('192.0.2.1', 80))",
    "lookup": "import socket; socket.gethostbyname('example.com')",
    "lookup of all": "import socket; socket.gethostbyname_ex('example.com')",
    "lookup by address": "import socket; socket.gethostbyaddr('192.0.2.1')",
    "reverse lookup": "import socket; socket.getnameinfo(('192.0.2.1', 80), 0)",
    "reverse lookup version 6": "import socket; socket.getnameinfo(('2001:db8::1', 80, 0, 0), 0)",
    "fqdn": "import socket; socket.getfqdn('example.com')",
    "compiled module": "import _socket; _socket.socket(2, 1).connect(('192.0.2.1', 80))",
    "compiled module, reverse": "import _socket; _socket.getnameinfo(('192.0.2.1', 80), 0)",
    "a network program": "import subprocess; subprocess.run(['curl', 'http://example.com'])",
    "a network program by its path": "import subprocess; subprocess.run('/usr/bin/WGET example.com'.split())",
    "a shell": "import subprocess; subprocess.run('true; curl example.com', shell=True)",
    "the system": "import os; os.system('true && curl example.com')",
    "a process that is replaced": "import os; os.execvp('ssh', ['ssh', 'example.com'])",
    "asyncio": "import asyncio; asyncio.run(asyncio.open_connection('192.0.2.1', 80))",
    "thread": """
        import socket, concurrent.futures
        with concurrent.futures.ThreadPoolExecutor() as pool:
            pool.submit(socket.create_connection, ("192.0.2.1", 80), 2).result()
    """,
}


def run(code: str, tmp_path: Path, proxies: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run ``code`` with these proxy variables and no others: a guard in this process may have set some."""
    script = tmp_path / "attempt.py"
    script.write_text(textwrap.dedent(code), encoding="utf-8")
    others = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment = {**others, **(proxies or {}), "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, str(script)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_nothing_gets_out(attempt: str, tmp_path: Path) -> None:
    found = run("from s3local import offline\noffline.engage()\n" + textwrap.dedent(attempt), tmp_path)
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("s3local.exceptions.NetworkError: "), found.stderr
    assert "tried to reach" in last
    assert any(place in last for place in ("example.com", "192.0.2.1", "2001:db8::1", "fe80::1", "by the program"))


FAMILIES = {
    "virtual machine": "socket.socket(socket.AF_VSOCK, 1).connect((2, 80))",
    "bluetooth": "socket.socket(socket.AF_BLUETOOTH, 1, socket.BTPROTO_RFCOMM).connect(('00:11:22:33:44:55', 1))",
    "packet": "socket.socket(socket.AF_PACKET, 3).sendto(b'x' * 64, ('lo', 0x0800))",
}


@pytest.mark.parametrize("attempt", FAMILIES.values(), ids=FAMILIES.keys())
def test_no_other_family_of_sockets_gets_out(attempt: str, tmp_path: Path) -> None:
    found = run(f"import socket\nfrom s3local import offline\noffline.engage()\n{attempt}", tmp_path)
    last = found.stderr.strip().splitlines()[-1]
    if "NetworkError" not in last:
        assert last.startswith(("AttributeError: module 'socket' has no", "OSError: [Errno", "PermissionError")), last
        pytest.skip(f"this system has no such socket: {last}")
    assert "by a socket of the family" in last


PROXIES = {"http_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://localhost:9", "all_proxy": "socks5://[::1]:9"}


def test_proxies_are_hidden_from_the_program_and_its_children(tmp_path: Path) -> None:
    found = run(
        """
        from s3local import offline
        import os, subprocess, sys, urllib.request

        def visible():
            names = "import os; print(sorted(k for k in os.environ if k.lower().endswith('_proxy')))"
            child = subprocess.run([sys.executable, "-c", names], capture_output=True, text=True).stdout.strip()
            mine = str(sorted(name for name in os.environ if name.lower().endswith("_proxy")))
            assert mine == child
            return mine

        before = dict(os.environ)
        offline.engage()
        hidden = visible()
        assert {"http", "https", "all"}.isdisjoint(urllib.request.getproxies())
        assert urllib.request.proxy_bypass("example.com")
        import requests
        assert not requests.utils.get_environ_proxies("https://example.com/")
        with offline.allowed():
            with offline.allowed():
                offline.engage()
                proxies = {name: os.environ[name] for name in before if name.lower().endswith("_proxy")}
                assert proxies == {name: before[name] for name in proxies}
                assert len(proxies) == 4
                assert len(urllib.request.getproxies()) >= 3
            assert os.environ["http_proxy"] == before["http_proxy"]
        assert visible() == hidden
        os.environ["https_proxy"] = "http://127.0.0.1:9"
        offline.engage()
        assert visible() == hidden
        with offline.allowed():
            assert os.environ["https_proxy"] == "http://127.0.0.1:9"
            assert os.environ["NO_PROXY"] == "example.org"
        print(hidden)
        """,
        tmp_path,
        {**PROXIES, "NO_PROXY": "example.org"},
    )
    assert found.stdout.strip() == "['NO_PROXY', 'no_proxy']", found.stderr


def test_a_proxy_on_loopback_carries_nothing_out(tmp_path: Path) -> None:
    found = run(
        """
        import http.server, os, threading, urllib.request
        from s3local import offline
        from s3local.exceptions import NetworkError

        class Proxy(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                print("forwarded", self.path)
                self.send_response(200)
                self.end_headers()

        server = http.server.HTTPServer(("127.0.0.1", 0), Proxy)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        os.environ["http_proxy"] = f"http://127.0.0.1:{server.server_port}"
        urllib.request.urlopen("http://example.com/before", timeout=5)
        offline.engage()
        try:
            urllib.request.urlopen("http://example.com/", timeout=5)
        except NetworkError:
            print("refused")
        with offline.allowed():
            urllib.request.urlopen("http://example.com/after", timeout=5)
        """,
        tmp_path,
    )
    forwarded = [f"forwarded http://example.com/{when}" for when in ("before", "after")]
    assert found.stdout.splitlines() == [forwarded[0], "refused", forwarded[1]], found.stderr


def test_the_error_names_file_and_line_of_the_caller(tmp_path: Path) -> None:
    found = run(
        """
        from s3local import offline
        offline.engage()
        import urllib.request
        urllib.request.urlopen("http://example.com/")
        """,
        tmp_path,
    )
    assert f"__main__ ({tmp_path / 'attempt.py'}, line 5) tried to reach example.com" in found.stderr


def test_a_unix_socket_of_another_program_is_refused(tmp_path: Path) -> None:
    found = run(
        f"""
        import socket
        listener = socket.socket(socket.AF_UNIX)
        listener.bind({str(tmp_path / "proxy")!r})
        listener.listen()
        from s3local import offline
        offline.engage()
        own = socket.socket(socket.AF_UNIX)
        own.bind({str(tmp_path / "own")!r})
        own.listen()
        socket.socket(socket.AF_UNIX).connect({str(tmp_path / "own")!r})
        from multiprocessing.connection import Client, Listener
        with Listener(family="AF_UNIX") as theirs, Client(theirs.address):
            print("passed")
        socket.socket(socket.AF_UNIX).connect({str(tmp_path / "proxy")!r})
        """,
        tmp_path,
    )
    assert found.stdout.strip() == "passed", found.stderr
    assert "a Unix socket of another program" in found.stderr


def test_loopback_and_unix_sockets_work(tmp_path: Path) -> None:
    found = run(
        """
        from s3local import offline
        offline.engage()
        import http.server, socket, threading, urllib.request
        server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for host in ("127.0.0.1", "localhost"):
            assert urllib.request.urlopen(f"http://{host}:{server.server_port}/").status == 200
        one, other = socket.socketpair()
        one.sendall(b"x")
        assert other.recv(1) == b"x"
        print("passed")
        """,
        tmp_path,
    )
    assert found.stdout.strip().endswith("passed"), found.stderr


def test_allowed_opens_the_guard_for_its_block_only(tmp_path: Path) -> None:
    found = run(
        """
        from s3local import offline
        from s3local.exceptions import NetworkError
        offline.engage()
        import socket

        def outcome():
            connection = socket.socket()
            connection.settimeout(0.05)
            try:
                connection.connect(("192.0.2.1", 9))
            except NetworkError:
                return "refused"
            except OSError:
                return "tried"

        before = outcome()
        with offline.allowed():
            within = outcome()
        print(before, within, outcome())
        """,
        tmp_path,
    )
    assert found.stdout.split() == ["refused", "tried", "refused"], found.stderr


@pytest.mark.parametrize("imported_before", [False, True])
def test_the_hub_libraries_are_offline(imported_before: bool, tmp_path: Path) -> None:
    engage = "from s3local import offline; offline.engage()"
    imports = "import huggingface_hub, transformers.utils.hub"
    found = run(
        "\n".join([imports, engage] if imported_before else [engage, imports])
        + textwrap.dedent(
            """
            assert transformers.utils.hub.is_offline_mode()
            from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
            for attempt in (
                lambda: huggingface_hub.hf_hub_download("an/example", "config.json"),
                lambda: huggingface_hub.HfApi().model_info("an/example"),
            ):
                try:
                    attempt()
                except (LocalEntryNotFoundError, OfflineModeIsEnabled):
                    print("refused")
            """
        ),
        tmp_path,
    )
    assert found.stdout.split() == ["refused", "refused"], found.stderr


def test_an_admitted_host_is_reached_at_one_port_alone(tmp_path: Path) -> None:
    found = run(
        """
        import socket
        from s3local import offline
        from s3local.exceptions import NetworkError
        offline.engage()
        offline.admit("192.0.2.1", 8000)

        def reaches(host, port, family=socket.AF_INET):
            with socket.socket(family) as attempt:
                attempt.setblocking(False)
                try:
                    attempt.connect_ex((host, port))
                except NetworkError:
                    return False
                return True

        assert reaches("192.0.2.1", 8000)
        assert not reaches("192.0.2.1", 8001)
        assert not reaches("192.0.2.2", 8000)
        assert not reaches("2001:db8::1", 8000, socket.AF_INET6)
        try:
            offline.admit("no-such-host.invalid", 80)
        except NetworkError as exc:
            print(exc)
        for name in ("no-such-host.invalid", "example.com"):
            try:
                socket.getaddrinfo(name, 80)
            except NetworkError:
                print("refused")
        """,
        tmp_path,
    )
    lines = found.stdout.splitlines()
    assert len(lines) == 3, found.stderr
    assert "no-such-host.invalid" in lines[0]
    assert lines[1:] == ["refused", "refused"]


def test_onnxruntime_prepares_no_report(exported: Exported, tmp_path: Path) -> None:
    """Its compiled code, which no guard of Python sees, keeps what it would send in the user's cache folder."""
    code = "from s3local.student.inference import Classifier as C; import sys; C.load(sys.argv[1]).predict(['good'])"
    homes = {name: str(tmp_path) for name in ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "LOCALAPPDATA")}
    others = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-c", code, str(exported.folder)]
    subprocess.run(command, env={**others, **homes}, check=True, cwd=Path(__file__).parents[1])
    assert [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name.lower()] == []
