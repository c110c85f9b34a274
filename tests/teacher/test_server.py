"""A server as teacher: what it can do is found out, faults are one line, and a server may go away and come back."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer, Body, serving
from hypothesis import given
from hypothesis import strategies as st

from s3local.exceptions import ModelError, S3LocalError, TeacherError
from s3local.teacher import server as module
from s3local.teacher.engine import LlamaTeacher
from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Contrast, Request, Sampling, TeacherLostError
from s3local.teacher.server import ServerTeacher, find_server, parse_address


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.05)
    monkeypatch.delenv(module.KEY_VARIABLE, raising=False)


def found(api: ApiServer, model: str = "") -> module.Server:
    return find_server(parse_address(f"{api.url}#{model}"))


def teacher_on(api: ApiServer, parallel: int = 4, patience: float = 5.0) -> ServerTeacher:
    return ServerTeacher(found(api), parallel, patience=patience)


def requests(count: int, **options: Any) -> list[Request]:
    return [Request(f"A list of {n} things:\n-", seed=n + 2**40, stop=("\n",), **options) for n in range(count)]


def one_line(error: S3LocalError, *parts: str) -> None:
    text = str(error)
    assert "\n" not in text and len(text) < 600
    for part in parts:
        assert part in text


# What a server can do


def test_plain_completions_continue_lists() -> None:
    with serving() as api:
        server = found(api)
        assert (server.style, server.model, server.can_score) == ("list", "toy", False)
        teacher = ServerTeacher(server, 3)
        asked = requests(9)
        expected = [reply.text for reply in FakeTeacher().generate([with_small_seed(request) for request in asked])]
        seen: list[int] = []
        completions = teacher.generate(asked, seen.append)
        assert [completion.text for completion in completions] == expected
        assert {completion.finish for completion in completions} == {"stop"}
        assert seen == [1] * 9
        assert api.most <= 3
        (cut,) = teacher.generate([Request("x", seed=1, max_tokens=2)])
        assert (cut.finish, cut.n_tokens, cut.logprob) == ("length", 2, -4.0)


def with_small_seed(request: Request) -> Request:
    return Request(request.prompt, request.seed % 2**31, request.max_tokens, request.stop, Sampling(0.9))


@pytest.mark.parametrize("options", [{"completes": False}, {"template_tokens": 3}], ids=["no completions", "wrapped"])
def test_a_server_that_cannot_continue_plain_text_is_asked_in_chat(options: dict[str, Any]) -> None:
    with serving(**options) as api:
        teacher = teacher_on(api)
        assert teacher.server.style == "chat"
        messages = [{"role": "user", "content": "Write ü."}]
        (reply,) = teacher.generate([Request(teacher.chat(messages), seed=3, special=True)])
        assert reply.text
        path, body = api.bodies[-1]
        assert path == "/chat/completions"
        assert body["messages"] == messages
        assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_options_that_a_server_rejects_are_left_out() -> None:
    with serving(unknown=("top_k", "logprobs")) as api:
        teacher = teacher_on(api)
        assert teacher.server.options == {}
        (reply,) = teacher.generate([Request("x", seed=1)])
        assert reply.logprob is None
        assert set(api.bodies[-1][1]) == {"model", "prompt", "max_tokens", "temperature", "top_p", "seed"}


def test_penalties_and_cuts_of_the_server_are_switched_off_unless_asked_for() -> None:
    with serving() as api:
        teacher = teacher_on(api)
        teacher.generate([Request("x", seed=1), Request("x", seed=1, sampling=Sampling(repetition_penalty=1.3))])
        bodies = sorted((body for _, body in api.bodies[-2:]), key=lambda body: float(body["repeat_penalty"]))
        assert [body["repeat_penalty"] for body in bodies] == [1.0, 1.3] == [b["repetition_penalty"] for b in bodies]
        assert all(body["top_k"] == 0 and body["min_p"] == 0 for body in bodies)


def test_given_texts_are_scored_where_the_values_belong_to_the_tokens() -> None:
    with serving(echo="right") as api:
        teacher = teacher_on(api)
        assert teacher.server.can_score
        scores = teacher.score("one two three", [" one two", " new one", ""])
        assert [score.token_logprobs for score in scores] == [(-0.1, -0.1), (-9.0, -0.1), ()]
        assert scores[0].logprob == pytest.approx(-0.2)
    for echo in ("", "shifted"):
        with serving(echo=echo) as api:
            teacher = teacher_on(api)
            assert not teacher.server.can_score
            with pytest.raises(TeacherError, match="log-probabilities"):
                teacher.score("one", [" two"])


def test_contrast_is_a_mistake_of_the_caller() -> None:
    with serving() as api, pytest.raises(ValueError, match="contrast"):
        teacher_on(api).generate([Request("x", seed=1, contrast=Contrast("y", 0.5))])


def test_a_closed_teacher_says_so() -> None:
    with serving() as api:
        teacher = teacher_on(api)
        teacher.close()
        teacher.close()
        with pytest.raises(ValueError, match="closed"):
            teacher.generate([Request("x", seed=1)])


# Which model


def test_the_model_is_named_or_the_only_one() -> None:
    with serving(models=("a:latest", "b")) as api:
        assert found(api, "b").model == "b"
        assert found(api, "a").model == "a:latest"
        for name in ("c", ""):
            with pytest.raises(ModelError) as caught:
                found(api, name)
            one_line(caught.value, "a:latest, b", f"{api.url}#MODEL")
    with serving(models=()) as api, pytest.raises(ModelError, match="has no model"):
        found(api)


def test_the_identity_stays_the_same_and_holds_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.KEY_VARIABLE, "secret-key")
    with serving(key="secret-key") as api:
        identities = [found(api).identity for _ in range(2)]
        assert identities[0] == identities[1]
        assert identities[0]["entry"] == {"id": "toy"}
        assert "secret" not in json.dumps(identities[0])
        ServerTeacher(found(api)).generate(requests(2))


@pytest.mark.parametrize("key", ["", "other", "ключ", "two\nlines"])
def test_a_wrong_key_is_named_by_its_variable(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(module.KEY_VARIABLE, key)
    with serving(key="secret") as api, pytest.raises(ModelError) as caught:
        found(api)
    one_line(caught.value, module.KEY_VARIABLE)


@pytest.mark.parametrize(
    ("address", "part"),
    [
        ("http://user:secret@127.0.0.1:1/v1#m", module.KEY_VARIABLE),
        ("http://127.0.0.1:1/v1?key=secret#m", module.KEY_VARIABLE),
        ("http://127.0.0.1:port/v1", "http://127.0.0.1:8080/v1#MODEL"),
        ("http:///v1", "http://127.0.0.1:8080/v1#MODEL"),
        ("http://[::1/v1", "http://127.0.0.1:8080/v1#MODEL"),
    ],
)
def test_an_address_that_is_none_is_refused_without_its_key(address: str, part: str) -> None:
    with pytest.raises(ModelError) as caught:
        parse_address(address)
    one_line(caught.value, part)
    assert "secret" not in str(caught.value)


def test_the_parts_of_an_address() -> None:
    address = parse_address("HTTP://LocalHost/v1/#org/Model:7b")
    assert (address.url, address.model, address.host, address.port) == (
        "http://LocalHost/v1", "org/Model:7b", "localhost", 80,
    )  # fmt: skip
    assert address.is_local
    assert parse_address("https://10.0.0.7/v1#m").port == 443
    assert not parse_address("https://10.0.0.7/v1#m").is_local


# Faults

BAD_REPLIES = {
    "html": (200, b"<html>Welcome\n to the router</html>"),
    "empty": (200, b""),
    "list": (200, b"[1, 2]"),
    "no choices": (200, b'{"choices": []}'),
    "text of another kind": (200, b'{"choices": [{"text": 5}]}'),
    "error": (200, b'{"error": {"message": "out of memory"}}'),
    "rejected": (400, b'{"error": {"message": "prompt is too long"}}'),
    "redirected": (302, b""),
    "wrong path": (404, b"not here"),
    "broken bytes": (200, b"\xff\xfe\x00"),
    "nested": (200, b"[" * 100_000),
    "always broken inside": (500, b'{"detail": "Traceback\\n line"}'),
}


@pytest.mark.parametrize("reply", BAD_REPLIES.values(), ids=BAD_REPLIES)
def test_a_bad_reply_is_one_line(reply: tuple[int, bytes]) -> None:
    with serving() as api:
        teacher = teacher_on(api)
        api.fault = lambda path, body: reply
        with pytest.raises((TeacherError, ModelError)) as caught:
            teacher.generate(requests(3))
        one_line(caught.value, api.url)
        with pytest.raises((TeacherError, ModelError)) as caught:
            found(api)
        one_line(caught.value, api.url)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "text", "message", "content", "logprobs", "token_logprobs", "usage", "error"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
)


@pytest.fixture(scope="module")
def odd() -> Iterator[ApiServer]:
    with serving() as api:
        yield api


@given(VALUES, st.booleans())
def test_any_json_is_a_completion_or_one_line(odd: ApiServer, value: Any, as_choice: bool) -> None:
    odd.fault = lambda path, body: None
    teacher = teacher_on(odd)
    reply = json.dumps({"choices": [value], "usage": value} if as_choice else value).encode()
    odd.fault = lambda path, body: (200, reply)
    try:
        (completion,) = teacher.generate([Request("x", seed=1, stop=("y",))])
    except TeacherError as exc:
        one_line(exc)
    else:
        completion.text.encode()
        assert completion.n_tokens >= 1 and "y" not in completion.text
        json.dumps(completion.logprob, allow_nan=False)
    teacher.close()


def test_half_characters_are_replaced() -> None:
    with serving() as api:
        teacher = teacher_on(api)
        api.fault = lambda path, body: (200, b'{"choices": [{"text": "a\\ud83d b\\ud83d\\ude00"}]}')
        (completion,) = teacher.generate([Request("x", seed=1)])
        assert completion.text == "a\N{REPLACEMENT CHARACTER} b\N{GRINNING FACE}"


def test_no_server_at_all_is_said_at_once() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(ModelError) as caught:
            find_server(parse_address(f"http://127.0.0.1:{nobody.getsockname()[1]}/v1#m"))
    one_line(caught.value, "does not answer", "start the server")


def test_a_busy_server_gets_fewer_requests_at_a_time_and_all_of_them() -> None:
    """It refuses what it does not serve at once; each refusal ends a worker, the last one waits."""
    serving_now = threading.Semaphore(1)

    def refuse_a_second(path: str, body: Body) -> tuple[int, bytes] | None:
        if not serving_now.acquire(blocking=False):
            return 429, b"slow down"
        time.sleep(0.01)
        serving_now.release()
        return None

    with serving() as api:
        teacher = teacher_on(api, parallel=8)
        expected = [completion.text for completion in teacher.generate(requests(24))]
        api.fault = refuse_a_second
        assert [completion.text for completion in teacher.generate(requests(24))] == expected


FAULTS = {"closed": (0, b""), "loading": (503, b"loading"), "gateway": (502, b""), "slip": (500, b"")}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_request_that_failed_is_sent_again(fault: tuple[int, bytes]) -> None:
    with serving() as api:
        teacher = teacher_on(api)
        expected = teacher.generate(requests(6))
        failed: set[str] = set()

        def fail_once(path: str, body: Body) -> tuple[int, bytes] | None:
            if body["prompt"] in failed:
                return None
            failed.add(body["prompt"])
            return fault

        api.fault = fail_once
        assert teacher.generate(requests(6)) == expected


def test_a_server_may_go_away_and_come_back() -> None:
    with serving() as api:
        teacher = teacher_on(api, parallel=2)
        expected = teacher.generate(requests(12))

        def leave_for_a_while(n: int) -> None:
            seen.append(n)
            if len(seen) == 4:
                api.stop()
                threading.Timer(0.3, api.start).start()

        seen: list[int] = []
        assert teacher.generate(requests(12), leave_for_a_while) == expected


def test_a_server_that_stays_away_leaves_what_it_wrote() -> None:
    with serving() as api:
        teacher = teacher_on(api, parallel=2, patience=0.2)
        expected = teacher.generate(requests(12))
        seen: list[int] = []

        def leave(n: int) -> None:
            seen.append(n)
            if len(seen) == 4:
                api.stop()

        with pytest.raises(TeacherLostError) as caught:
            teacher.generate(requests(12), leave)
        one_line(caught.value, "same command resumes")
        assert 4 <= len(caught.value.completions) < 12
        for place, completion in caught.value.completions.items():
            assert completion == expected[place]


# The real thing


@pytest.fixture(scope="module")
def real_url(model_path: Path) -> Iterator[str]:
    """llama-cpp-python's own server with the embedded model."""
    pytest.importorskip("sse_starlette", reason="needs llama-cpp-python[server]")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(model_path), "--model_alias", "smol"]
    command += ["--port", str(port), "--n_ctx", "512", "--verbose", "false"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    url = f"http://127.0.0.1:{port}/v1#smol"
    try:
        while process.poll() is None:
            try:
                find_server(parse_address(url))
                break
            except ModelError:
                time.sleep(0.2)
        assert process.poll() is None, "the server ended"
        yield url
    finally:
        process.terminate()
        process.wait()


def test_a_real_server_continues_lists_and_chats(real_url: str, teacher: LlamaTeacher) -> None:
    server = find_server(parse_address(real_url))
    assert (server.style, server.gives_logprobs) == ("list", True)
    prompt = "A list of colours:\n\n- red\n- green\n- blue\n-"
    request = Request(prompt, seed=5, stop=("\n",), max_tokens=24, sampling=Sampling(temperature=0))
    asked = ServerTeacher(server, 2)
    (first, chatted, capped) = asked.generate(
        [
            request,
            Request(asked.chat([{"role": "user", "content": "Say hello."}]), seed=1, max_tokens=8, special=True),
            Request(prompt, seed=1, max_tokens=3),
        ]
    )
    (own,) = teacher.generate([request])
    assert (first.text, first.finish) == (own.text, "stop")
    assert first.logprob is not None and own.logprob is not None
    assert first.logprob < 0
    assert chatted.text.strip()
    assert (capped.finish, capped.n_tokens) == ("length", 3)
    text = "The parcel came late, and half of it was broken. Who pays for that?"
    assert teacher.count_tokens(text) <= asked.count_tokens(text) <= 3 * teacher.count_tokens(text)
