"""The guard lets nothing out, lets loopback through, and names who tried. Each law in a fresh process: hooks stay."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ATTEMPTS = {
    "urllib": "import urllib.request; urllib.request.urlopen('http://example.com/', timeout=2)",
    "requests": "import requests; requests.get('https://192.0.2.1/', timeout=2)",
    "socket by name": "import socket; socket.create_connection(('example.com', 80), timeout=2)",
    "socket by address": "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)",
    "socket version 6": "import socket; socket.socket(socket.AF_INET6).connect(('2001:db8::1', 80))",
    "datagram": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    "lookup": "import socket; socket.gethostbyname('example.com')",
    "asyncio": "import asyncio; asyncio.run(asyncio.open_connection('192.0.2.1', 80))",
    "thread": """
        import socket, concurrent.futures
        with concurrent.futures.ThreadPoolExecutor() as pool:
            pool.submit(socket.create_connection, ("192.0.2.1", 80), 2).result()
    """,
}


def run(code: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "attempt.py"
    script.write_text(textwrap.dedent(code), encoding="utf-8")
    return subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS.keys())
def test_nothing_gets_out(attempt: str, tmp_path: Path) -> None:
    found = run("from s3local import offline\noffline.engage()\n" + textwrap.dedent(attempt), tmp_path)
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("s3local.exceptions.NetworkError: "), found.stderr
    assert "tried to reach" in last
    assert "example.com" in last or "192.0.2.1" in last or "2001:db8::1" in last


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
