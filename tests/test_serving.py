"""Laws of the server: it answers as the classifier does, and only those who name this machine."""

from __future__ import annotations

import http.client
import json
import logging
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvicorn
from toys import Exported, reviews

from s3local.exceptions import RunError
from s3local.serving import HOST, MAX_TEXTS, bound_socket, make_app
from s3local.student.inference import Classifier

TEXTS = [row.text for row in reviews()]
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def classifier(exported: Exported) -> Classifier:
    """The 32-bit file: there, a row's probabilities do not depend on the other rows of its batch."""
    return Classifier.load(exported.folder, file="model.onnx")


@pytest.fixture(scope="module")
def port(classifier: Classifier) -> Iterator[int]:
    """The port of a running server."""
    listening = bound_socket(0)
    server = uvicorn.Server(uvicorn.Config(make_app(classifier, 0.5), log_level="warning", server_header=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join()
    listening.close()


def ask(
    port: int, body: Any, headers: dict[str, str] | None = None, path: str = "/predict", method: str = "POST"
) -> tuple[int, Any, Any]:
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection(HOST, port, timeout=120)
    try:
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, content, JSON | (headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def predictions(port: int, **asked: Any) -> list[dict[str, Any]]:
    status, _, body = ask(port, asked)
    assert status == 200, body
    found: list[dict[str, Any]] = json.loads(body)["predictions"]
    return found


def test_it_answers_as_the_classifier(port: int, classifier: Classifier) -> None:
    wanted = classifier.predict_proba(TEXTS)
    found = predictions(port, texts=TEXTS)
    assert [row["label"] for row in found] == classifier.predict(TEXTS)
    assert [row["probability"] for row in found] == pytest.approx(wanted.max(axis=1).tolist(), abs=1e-4)
    assert predictions(port, texts=[{"text": TEXTS[0]}]) == predictions(port, texts=TEXTS[:1])


def test_many_at_once_get_each_their_own_answers(port: int, classifier: Classifier) -> None:
    parts = [TEXTS[start : start + 1 + start % 3] for start in range(40)]
    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda texts: predictions(port, texts=texts), parts))
    assert [[row["label"] for row in rows] for rows in found] == [classifier.predict(part) for part in parts]


def test_threshold_and_top_are_chosen(port: int, classifier: Classifier) -> None:
    (row,) = predictions(port, texts=TEXTS[:1], threshold=1.0, top=2)
    assert row["label"] is None
    assert [entry["label"] for entry in row["top"]][:1] == classifier.predict(TEXTS[:1])
    assert sum(entry["probability"] for entry in row["top"]) == pytest.approx(1, abs=2e-4)


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        (b"{nonsense", 400, "not valid JSON"),
        (b"\xff", 400, "not valid JSON"),
        (b"[" * 100_000, 400, "not valid JSON"),
        (["a"], 400, "an object"),
        ({}, 422, "texts: a list with at least one text"),
        ({"texts": "a"}, 422, "texts: a list"),
        ({"texts": []}, 422, "texts: a list"),
        ({"texts": ["a", 3]}, 422, "texts, place 1: a text belongs here"),
        ({"texts": [{"body": "a"}]}, 422, "texts, place 0: a text belongs here"),
        ({"texts": [["a", "b"]]}, 422, "texts, place 0: a text belongs here"),
        (b'{"texts": ["\\ud83d"]}', 422, "half a character"),
        ({"texts": ["a" * 100_001]}, 413, "100,001 characters"),
        ({"texts": ["a"] * (MAX_TEXTS + 1)}, 413, "at most 10,000"),
        ({"texts": ["a"], "threshold": 2}, 422, "threshold: a number from 0 to 1"),
        ({"texts": ["a"], "threshold": True}, 422, "threshold: a number from 0 to 1"),
        (b'{"texts": ["a"], "threshold": NaN}', 422, "threshold: a number from 0 to 1"),
        (b'{"texts": ["a"], "threshold": 1e400}', 422, "threshold: a number from 0 to 1"),
        (b'{"texts": ["a"], "threshold": ' + b"9" * 5000 + b"}", 400, "not valid JSON"),
        ({"texts": ["a"], "top": 10**4000}, 422, "top: a whole number from 1 to 2"),
        ({"texts": ["a"], "top": True}, 422, "top: a whole number from 1 to 2"),
        ({"texts": ["a"], "top": 1.0}, 422, "top: a whole number from 1 to 2"),
        ({"texts": ["a"], "top": 3}, 422, "top: a whole number from 1 to 2"),
        ({"texts": ["a"], "tresh": 1}, 422, 'unknown key "tresh"'),
        (b'{"texts": ["a"], "\\ud800": 1}', 422, "unknown key"),
        (b'{"texts": [{"\\ud800": "a"}]}', 422, "texts, place 0: a text belongs here"),
    ],
)
def test_a_request_that_does_not_fit_is_told(port: int, body: Any, status: int, problem: str) -> None:
    found, _, answer = ask(port, body)
    assert found == status and problem in json.loads(answer)["error"]
    assert predictions(port, texts=TEXTS[:1])  # the server goes on


def test_a_client_that_hangs_up_is_no_error(port: int, caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("uvicorn.error")
    log.addHandler(caplog.handler)
    try:
        for sent in (b"", b'{"texts": ["a'):
            with socket.create_connection((HOST, port)) as client:
                head = f"POST /predict HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
                client.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + sent)
                client.shutdown(socket.SHUT_WR)
                assert b" 500 " not in client.recv(1000)
        assert predictions(port, texts=TEXTS[:1])
    finally:
        log.removeHandler(caplog.handler)
    assert not caplog.records


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "127.0.0.1:1"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
    ],
)
def test_web_pages_of_others_get_no_answer(port: int, headers: dict[str, str], status: int) -> None:
    assert ask(port, {"texts": ["a"]}, headers)[0] == status


def test_its_own_names_are_answered(port: int) -> None:
    for host in (f"{HOST}:{port}", HOST, f"localhost:{port}", f"LOCALHOST:{port}"):
        assert ask(port, {"texts": ["a"]}, {"Host": host, "Origin": f"http://{host}"})[0] == 200


def test_the_page_describes_the_server_without_outside_resources(port: int, classifier: Classifier) -> None:
    status, headers, page = ask(port, None, path="/", method="GET")
    assert status == 200 and headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "<script" not in page and not re.search(r"(?:src|href)=\"(?!/openapi\.json)", page)
    described = json.loads(ask(port, None, path="/openapi.json", method="GET")[2])
    assert described["openapi"].startswith("3.1")
    asked = described["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert asked["properties"]["top"]["maximum"] == len(classifier.labels)
    assert predictions(port, **asked["example"])
    assert ask(port, None, method="GET")[0] == 405 and ask(port, None, path="/x", method="GET")[0] == 404


def test_a_port_in_use_is_told(port: int) -> None:
    with pytest.raises(RunError, match=f"cannot listen on port {port} .* another --port"):
        bound_socket(port)
