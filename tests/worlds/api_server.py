"""An OpenAI-compatible server on loopback whose texts a scripted teacher writes, and whose faults a test chooses."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from s3local.teacher.fake import FakeTeacher
from s3local.teacher.protocol import Request, Sampling

Body = dict[str, Any]
Fault = Callable[[str, Body], "tuple[int, bytes] | None"]
"""What to answer instead, by the path below /v1 and the body; status 0 closes the connection without an answer."""


class ApiServer:
    """``teacher`` writes; ``models`` are what /models lists.

    ``completes`` False: only chat is there. ``template_tokens`` are added to each plain prompt, as by a server that
    puts a chat template around it. ``unknown`` are options that the server rejects. ``echo`` "right" or "shifted":
    given texts are scored, in the second case one token too early. ``bodies`` are all requests so far; ``most`` is the
    most that were served at the same time. ``fault`` can be set at any time.
    """

    def __init__(
        self,
        teacher: FakeTeacher | None = None,
        *,
        models: tuple[str, ...] = ("toy",),
        completes: bool = True,
        template_tokens: int = 0,
        unknown: tuple[str, ...] = (),
        echo: str = "",
        key: str = "",
    ) -> None:
        self.teacher = teacher or FakeTeacher()
        self.models = models
        self.completes = completes
        self.template_tokens = template_tokens
        self.unknown = unknown
        self.echo = echo
        self.key = key
        self.bodies: list[tuple[str, Body]] = []
        self.most = 0
        self.fault: Fault = lambda path, body: None
        self._serving = 0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        """Listen, on the same port as before."""
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, body: Body) -> None:
                status, content = api.answer(self.path.removeprefix("/v1"), body, self.headers["Authorization"] or "")
                if status:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                else:
                    self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = not status

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Listen no longer; connections that are open end with their next request."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, path: str, body: Body, key: str) -> tuple[int, bytes]:
        with self._lock:
            self._serving += 1
            self.most = max(self.most, self._serving)
        try:
            if self._server is None:
                return 0, b""
            if self.key and key != f"Bearer {self.key}":
                return 401, b'{"error": "who are you?"}'
            self.bodies.append((path, body))
            faulty = self.fault(path, body)
            return faulty if faulty is not None else self._right_answer(path, body)
        finally:
            with self._lock:
                self._serving -= 1

    def _right_answer(self, path: str, body: Body) -> tuple[int, bytes]:
        if path == "/models":
            return _ok({"object": "list", "data": [{"id": name, "created": len(self.bodies)} for name in self.models]})
        if rejected := [name for name in self.unknown if name in body]:
            return 400, json.dumps({"error": {"message": f"unknown option {rejected[0]}"}}).encode()
        if path == "/chat/completions":
            written = self._written(self.teacher.chat(body["messages"]), body)
            choice = {"message": {"role": "assistant", "content": written.text}}
            prompt_tokens = 9
        elif path == "/completions" and self.completes:
            prompt_tokens = self.teacher.count_tokens(body["prompt"]) + self.template_tokens
            written = self._written(body["prompt"], body)
            choice = {"text": written.text}
            if body.get("logprobs"):
                choice["logprobs"] = {"token_logprobs": [-2.0] * written.n_tokens}
            if body.get("echo") and self.echo:
                choice["logprobs"] = self._echoed(body["prompt"])
        else:
            return 404, b'{"detail": "Not Found"}'
        choice["finish_reason"] = "length" if written.finish == "length" else "stop"
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": written.n_tokens}
        return _ok({"choices": [choice], "usage": usage})

    def _written(self, prompt: str, body: Body) -> Any:
        request = Request(
            prompt, body.get("seed", 0), body["max_tokens"], tuple(body.get("stop", ())), Sampling(body["temperature"])
        )
        (completion,) = self.teacher.generate([request])
        return completion

    def _echoed(self, text: str) -> Body:
        """Words that were there before are certain, others are not; a shift moves all values by one token."""
        words = text.split(" ")
        values: list[float | None] = [-0.1 if word in words[:place] else -9.0 for place, word in enumerate(words)]
        if self.echo == "shifted":
            values = [-9.0] * len(values)
        values[0] = None
        places = [len(" ".join(words[:place])) for place in range(len(words))]
        return {"text_offset": places, "token_logprobs": values}


def _ok(content: Body) -> tuple[int, bytes]:
    return 200, json.dumps(content).encode()


@contextlib.contextmanager
def serving(*arguments: Any, **options: Any) -> Iterator[ApiServer]:
    """An ``ApiServer`` that is stopped at the end of the block."""
    server = ApiServer(*arguments, **options)
    try:
        yield server
    finally:
        server.stop()
