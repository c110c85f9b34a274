"""Who may talk to the server: the page of this machine alone. And what a killed server leaves."""

from __future__ import annotations

import json
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from program import call, complains
from review_world import Server, serving, synthetic, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("served") / "run", synthetic(60))


@pytest.fixture(scope="module")
def server(folder: Path) -> object:
    with serving("review", str(folder)) as running:
        yield running


def test_nothing_is_answered_without_the_token_or_to_another_site(server: Server) -> None:
    other = Server(server.process, server.address.rsplit("/", 2)[0] + "/" + "x" * 32 + "/")
    bare = Server(server.process, server.address.rsplit("/", 2)[0] + "/")
    for stranger in (other, bare):
        for path in ("", "api/session", "page.js"):
            assert stranger.call(path)[0] == 403
    assert server.call("api/session", Origin="")[0] == 200
    assert server.call("api/session", Host="evil.example")[0] == 403
    assert server.call("api/session", Host="127.0.0.1:1")[0] == 403
    assert server.call("api/session", Origin="https://evil.example")[0] == 403
    assert server.call("api/session", Sec_Fetch_Site="cross-site")[0] == 403


def test_a_change_needs_the_origin_of_the_page_and_json(server: Server, folder: Path) -> None:
    wanted = {"place": 0, "seen": 0, "action": "keep"}
    assert server.call("api/decide", wanted, Origin="")[0] == 403
    assert server.call("api/decide", wanted, Origin="null")[0] == 403
    assert server.call("api/decide", wanted, Origin="http://localhost:1")[0] == 403
    assert server.call("api/decide", wanted, Content_Type="text/plain")[0] == 403
    assert server.call("api/decide")[0] == 405
    for wrong in ([], {"place": 0}, {**wanted, "place": 10**6}, {**wanted, "place": "0"}, {**wanted, "fields": [1]}):
        assert server.call("api/decide", wrong)[0] == 400
    for number in (True, -1, 0.0, float("nan"), float("inf"), 10**4000, [0], None):
        for wrong in ({**wanted, "place": number}, {**wanted, "seen": number}):
            assert server.call("api/decide", wrong)[0] == 400
        assert server.call("api/suggest", {"place": number})[0] == 400
    for change in ({"action": ["keep"]}, {"action": "\ud800"}, {"action": "relabel", "label": "\ud800"}, {"label": 1}):
        assert server.call("api/decide", {**wanted, **change})[0] == 400
    for fields in ({"text": 1}, {"text": "\ud800"}, {"\ud800": "a"}, {"text": ""}, {}):
        assert server.call("api/decide", {**wanted, "action": "edit", "fields": fields})[0] == 400
    assert not (folder / "decisions.jsonl").exists()


@pytest.mark.parametrize(
    "question",
    [
        f"changes?since={'9' * 5000}",
        "changes?since=-1",
        "changes?since=true",
        f"rows?places={'9' * 5000}",
        "rows?places=0,x",
        "rows?places=60",
        f"rows?places={','.join('0' * 201)}",
        "order?low=nan",
        "order?high=1e400",
        "order?low=" + "9" * 5000,
        "order?state=%ED%A0%80",
        "order?label=%F0%9F",
        "order?groups=1.5",
    ],
)
def test_a_question_that_makes_no_sense_is_refused(server: Server, question: str) -> None:
    status, answer = server.call(f"api/{question}")
    assert status == 400 and answer["error"]


def test_a_page_that_is_closed_in_the_middle_of_a_request_is_no_error(tmp_path: Path) -> None:
    with serving("review", str(write_run(tmp_path / "run", synthetic(3)))) as server:
        host, token = server.address.split("/")[2:4]
        for path in ("decide", "suggest"):
            with socket.create_connection(host.split(":")) as client:
                head = f"POST /{token}/api/{path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
                head += "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
                client.sendall(head.encode() + b'{"place": 0')
                client.shutdown(socket.SHUT_WR)
                assert b" 500 " not in client.recv(1000)
        assert server.call("api/session")[0] == 200
        server.process.send_signal(signal.SIGINT)
        _, complaint = server.process.communicate(timeout=60)
    assert complaint == ""


def test_the_server_listens_on_loopback_only(server: Server) -> None:
    connections = psutil.Process(server.process.pid).net_connections("inet")
    assert {its.laddr.ip for its in connections if its.status == psutil.CONN_LISTEN} == {"127.0.0.1"}


def test_two_windows_at_once_lose_nothing(folder: Path, server: Server) -> None:
    places = list(range(10, 40))

    def decide(place: int) -> int:
        return server.call("api/decide", {"place": place, "seen": 0, "action": "keep"})[0]

    with ThreadPoolExecutor(8) as windows:
        answers = list(windows.map(decide, places * 2))
    assert sorted(answers) == [200] * len(places) + [409] * len(places), "each row once, and told to the other window"
    written = [json.loads(line)["row"] for line in (folder / "decisions.jsonl").read_text().splitlines()]
    assert len(written) == len(set(written)) >= len(places)


def test_a_port_in_use_and_a_second_server_are_told_in_one_line(folder: Path, server: Server, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", synthetic(3))
    port = server.address.split(":")[2].split("/")[0]
    complains(call("review", str(other), "--port", port), f"port {port}", "--port")
    complains(call("review", str(folder)), "another s3local")
    complains(call("review", str(tmp_path)), "no run")


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", synthetic(8))
    with serving("review", str(folder)) as first:
        for place in range(5):
            assert first.call("api/decide", {"place": place, "seen": 0, "action": "drop"})[0] == 200
        first.kill()
    with serving("review", str(folder)) as second:
        counts = second.call("api/session")[1]["counts"]["states"]
        assert (counts["drop"], counts["open"]) == (5, 3)


def test_ctrl_c_ends_the_server_and_says_what_comes_next(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", synthetic(3))
    with serving("review", str(folder)) as server:
        server.call("api/decide", {"place": 0, "seen": 0, "action": "keep"})
        server.process.send_signal(signal.SIGINT)
        said, complaint = server.process.communicate(timeout=60)
    assert (server.process.returncode, complaint) == (0, "")
    assert said.splitlines()[-1] == f"1 decision in {folder / 'decisions.jsonl'}; next: s3local retrain {folder}"
