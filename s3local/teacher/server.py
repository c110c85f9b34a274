"""A teacher behind a server that speaks the OpenAI-compatible API: llama-server, Ollama, LM Studio, vLLM and others.

``find_server`` asks the server once what it has and can do; ``ServerTeacher`` then generates with it. A server with
completions of plain text continues lists; any other one is asked in chat. A request that fails is repeated, so that a
server may be restarted in between. What is received is stored with the run: a server need not write the same texts for
the same seed.
"""

from __future__ import annotations

import collections
import functools
import json
import math
import os
import queue
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

import httpx

from s3local.exceptions import ModelError, TeacherError
from s3local.offline import is_local_host
from s3local.progress import Advance, Progress, Silent, ignore
from s3local.storage import parsed_json
from s3local.teacher.protocol import Completion, FinishReason, Request, Score, TeacherLostError
from s3local.weights.manifest import PromptStyle

Asked = TypeVar("Asked")
Got = TypeVar("Got")

KEY_VARIABLE = "S3LOCAL_TEACHER_KEY"
"""The environment variable with the server's key, if it needs one."""

DEFAULT_PARALLEL = 16
"""Requests at the same time. A server that can do less keeps them waiting or refuses some; then there are fewer."""
CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 600.0
"""For one answer, including the time that a request waits inside the server and that a model is loaded."""
PATIENCE_SECONDS = 300.0
"""How long a server that was there may be gone before generation ends."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0
"""Seconds before a request is repeated; doubled each time."""
ATTEMPTS = 4
"""A request that the server answers with an internal error is sent this many times."""

BUSY = frozenset({429, 503})
TEMPORARY = frozenset({408, 425, 500, 502, 504}) | BUSY
UNKNOWN_PATH = frozenset({404, 405, 501})

PLAIN_PROMPT_TOKENS = 3
"""The most tokens that the prompt "a" has without a chat template, which some servers put around a plain prompt."""
SCORED_TEXT = "one two three four five one two three four five one two three four five"
LEAST_LOGPROB = -2.0
"""The least mean log-probability of the last five words of ``SCORED_TEXT``. A server whose values are shifted by one
token gives far less, and is not used for scoring."""

BYTES_PER_TOKEN = 3
"""A careful estimate, as servers have no common way to count tokens: English has some four, Chinese some three."""

EXTRA_OPTIONS: Mapping[str, Any] = {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "repetition_penalty": 1.0}
"""Switches the cuts and penalties off that many servers apply by themselves. A server that rejects them gets none."""
NO_THINKING: Mapping[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "none"}
"""Switches reasoning off where the server and the model allow it."""

VOLATILE = frozenset({"created", "permission", "permissions", "loaded_at"})
"""Keys of a model's entry that differ from one answer of a server to the next."""
SHOWN_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a server is: ``url`` up to its ``/v1``, and the ``model`` to ask for ("": the only one that it has)."""

    url: str
    model: str
    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        return is_local_host(self.host)


def is_server_address(name: str | None) -> bool:
    """Whether the ``name`` of a teacher is the address of a server."""
    return name is not None and name.lower().startswith(("http://", "https://"))


def parse_address(text: str) -> ServerAddress:
    """The address in ``http://HOST:PORT/v1#MODEL``. Raises ``ModelError`` that says what belongs there."""
    form = "http://127.0.0.1:8080/v1#MODEL"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ModelError(f"the teacher's address is not valid ({exc}); it has the form {form}") from exc
    if parts.username is not None or parts.password is not None or parts.query:
        raise ModelError(
            f"the teacher's address holds a key or a query, which would be stored with the run; it has the form "
            f"{form}, and a key belongs into the environment variable {KEY_VARIABLE}"
        )
    if not host:
        raise ModelError(f"the teacher's address {text} names no host; it has the form {form}")
    port = port if port is not None else (443 if parts.scheme.lower() == "https" else 80)
    url = f"{parts.scheme.lower()}://{parts.netloc}{parts.path}".rstrip("/")
    return ServerAddress(url, parts.fragment, host, port)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that was asked what it has and can do.

    ``entry`` is what it says about the model. ``style`` "list": it completes plain text; "chat": it only answers
    messages. ``options`` are those that it accepts beyond the standard ones. ``gives_logprobs``: it gives those of
    what it writes; ``can_score``: also those of a given text.
    """

    address: ServerAddress
    model: str
    entry: Mapping[str, Any]
    style: PromptStyle
    options: Mapping[str, Any]
    gives_logprobs: bool
    can_score: bool

    @property
    def identity(self) -> dict[str, Any]:
        """What a result depends on, for config.json; the key is no part of it."""
        return {"url": self.address.url, "model": self.model, "entry": dict(self.entry), "style": self.style}


def find_server(address: ServerAddress) -> Server:
    """Ask the server for its models, and try what it can do.

    Raises ``ModelError`` if it does not answer, refuses the key, lacks the model or can neither complete nor chat.
    """
    connection = _Connection(address)
    try:
        model, entry = _choose_model(address, connection.once("GET", "/models"))
        found = _try_completions(connection, model) or _try_chat(connection, model)
        if found is None:
            raise ModelError(f"{address.url} has neither completions nor chat completions for {model}")
        style, options, gives_logprobs = found
        can_score = style == "list" and gives_logprobs and _scores_well(connection, model, options)
        return Server(address, model, entry, style, options, gives_logprobs, can_score)
    except _TemporaryError as exc:
        raise ModelError(f"{exc}; start the server, or wait until it has loaded its model") from exc
    finally:
        connection.close()


class ServerTeacher:
    """A ``Teacher`` behind a server. ``parallel`` is the most requests at the same time.

    If the server is gone, requests are repeated for ``patience`` seconds before ``generate`` ends with an error;
    ``progress`` says that. After ``close``, ``generate`` and ``score`` raise ``ValueError``.
    """

    def __init__(
        self,
        server: Server,
        parallel: int = DEFAULT_PARALLEL,
        *,
        patience: float = PATIENCE_SECONDS,
        progress: Progress | None = None,
    ) -> None:
        self.server = server
        self.parallel = parallel
        self.patience = patience
        self._progress = progress or Silent()
        self._open: _Connection | None = _Connection(server.address, parallel)

    def generate(self, requests: Sequence[Request], advance: Advance = ignore) -> list[Completion]:
        """See ``Teacher.generate``; the same seed need not give the same text.

        Raises ``TeacherError`` for a request that the server rejects, and ``TeacherLostError`` with the completions so
        far if the server stays away.
        """
        if any(request.contrast is not None and request.contrast.gamma for request in requests):
            raise ValueError("a server cannot contrast two prompts")
        return _Call(requests, self._ask, self.patience, self._progress).run(self.parallel, advance)

    def score(self, prompt: str, continuations: Sequence[str]) -> list[Score]:
        """See ``Teacher.score``. Raises ``TeacherError`` if the server gives no log-probabilities of a given text."""
        if not self.server.can_score:
            raise TeacherError(f"{self.server.address.url} gives no log-probabilities of a given text")
        ask = functools.partial(_score, self._connection, self.server.model, self.server.options)
        return _Call([(prompt, text) for text in continuations], ask, self.patience, self._progress).run(self.parallel)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> str:
        """``messages`` as JSON, which ``generate`` sends as they are: the server has the chat template."""
        return json.dumps([dict(message) for message in messages], ensure_ascii=False)

    def count_tokens(self, text: str) -> int:
        """An estimate of the model's tokens in ``text``, too many rather than too few."""
        return -(-len(text.encode(errors="replace")) // BYTES_PER_TOKEN)

    def close(self) -> None:
        """Close the connections. Calling it again does nothing."""
        connection, self._open = self._open, None
        if connection is not None:
            connection.close()

    @property
    def _connection(self) -> _Connection:
        if self._open is None:
            raise ValueError("the teacher is closed")
        return self._open

    def _ask(self, request: Request) -> Completion:
        """The completion of one request, sent once."""
        logprobs: bool | int
        body: dict[str, Any] = {"model": self.server.model, **_options_of(request, self.server.options)}
        if request.special:
            path, logprobs = "/chat/completions", True
            body["messages"] = json.loads(request.prompt)
        else:
            path, logprobs = "/completions", 1
            body["prompt"] = request.prompt
        if self.server.gives_logprobs:
            body["logprobs"] = logprobs
        return _read_completion(self._connection, self._connection.once("POST", path, body), request)


def _options_of(request: Request, options: Mapping[str, Any]) -> dict[str, Any]:
    """The sampling options of a request; ``options`` are the further ones that the server accepts."""
    sampling = request.sampling
    penalty = sampling.repetition_penalty
    further = {name: penalty if name.endswith("_penalty") else value for name, value in options.items()}
    if options and request.min_tokens:
        further["min_tokens"] = request.min_tokens
    return {
        "max_tokens": request.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": request.seed % 2**31,  # servers differ in the largest seed that they take
        **({"stop": list(request.stop)} if request.stop else {}),
        **further,
    }


def _read_completion(connection: _Connection, reply: Mapping[str, Any], request: Request) -> Completion:
    """The completion in a reply of either kind. Raises ``TeacherError`` if it has another form."""
    choice = connection.choice(reply)
    if request.special:
        message = choice.get("message")
        text = message.get("content") if isinstance(message, dict) else None
        text = "" if text is None and isinstance(message, dict) else text
    else:
        text = choice.get("text")
    if not isinstance(text, str):
        raise connection.wrong_form(reply)
    text = _without_surrogates(text)
    finish: FinishReason = "stop" if request.stop else "end"
    places = [place for stop in request.stop if (place := text.find(stop)) >= 0]
    if places:  # a server that ignores stop strings
        text = text[: min(places)]
    elif choice.get("finish_reason") == "length":
        finish = "length"
    usage = reply.get("usage")
    n_tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if not isinstance(n_tokens, int) or n_tokens < 1:
        n_tokens = max(1, -(-len(text.encode()) // BYTES_PER_TOKEN))
    values = _token_logprobs(choice)
    return Completion(text, n_tokens, finish, math.fsum(values) if values else None)


def _token_logprobs(choice: Mapping[str, Any]) -> list[float]:
    """The log-probabilities of the tokens of a reply, in either form; none if they are missing or not finite."""
    logprobs = choice.get("logprobs")
    values: Any = None
    if isinstance(logprobs, dict):
        if isinstance(content := logprobs.get("content"), list):
            values = [token.get("logprob") if isinstance(token, dict) else None for token in content]
        else:
            values = logprobs.get("token_logprobs")
    if not isinstance(values, list) or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        return []
    return [float(value) for value in values]


def _score(connection: _Connection, model: str, options: Mapping[str, Any], texts: tuple[str, str]) -> Score:
    """The log-probability of a continuation, from the echo of prompt and continuation.

    A token that begins in the prompt does not count.
    """
    prompt, continuation = texts
    if not continuation:
        return Score(0.0, ())
    body = {"model": model, "prompt": prompt + continuation, "max_tokens": 1, "temperature": 0.0, "echo": True}
    reply = connection.once("POST", "/completions", {**body, "logprobs": 1, **options})
    logprobs = connection.choice(reply).get("logprobs")
    if not isinstance(logprobs, dict):
        raise connection.wrong_form(reply)
    places, values = logprobs.get("text_offset"), logprobs.get("token_logprobs")
    if not isinstance(places, list) or not isinstance(values, list) or len(places) != len(values):
        raise connection.wrong_form(reply)
    inside = [
        value
        for place, value in zip(places, values, strict=True)
        if isinstance(place, int) and len(prompt) <= place < len(prompt) + len(continuation)
    ]
    if not inside or not all(isinstance(value, int | float) and math.isfinite(value) for value in inside):
        raise connection.wrong_form(reply)
    return Score(math.fsum(inside), tuple(float(value) for value in inside))


# What a server has and can do


def _choose_model(address: ServerAddress, reply: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name of the model to ask for, and the server's entry for it."""
    data = reply.get("data")
    entries = [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []
    known = {str(entry["id"]): entry for entry in entries if "id" in entry}
    if not known:
        raise ModelError(f"{address.url} has no model; load one into the server")
    name = address.model
    if not name and len(known) == 1:
        name = next(iter(known))
    elif f"{name}:latest" in known:  # Ollama's name of a model without a tag
        name = f"{name}:latest"
    if name not in known:
        listed = ", ".join(sorted(known)[:20])
        problem = f"has no model {name!r}" if name else f"has {len(known)} models, and none is named"
        raise ModelError(f"{address.url} {problem}; say {address.url}#MODEL with one of: {listed}")
    return name, {key: value for key, value in known[name].items() if key not in VOLATILE}


def _try_completions(connection: _Connection, model: str) -> tuple[PromptStyle, Mapping[str, Any], bool] | None:
    """Whether the server completes plain text: with which options, and whether it gives log-probabilities."""
    body = {"model": model, "prompt": "a", "max_tokens": 1, "temperature": 0.0}
    for options, logprobs in ((EXTRA_OPTIONS, True), (EXTRA_OPTIONS, False), ({}, False)):
        reply = connection.attempt("/completions", {**body, **options, **({"logprobs": 1} if logprobs else {})})
        if reply is None:
            return None
        if not isinstance(reply, str):
            usage = reply.get("usage")
            n_tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
            if not isinstance(n_tokens, int) or not 0 < n_tokens <= PLAIN_PROMPT_TOKENS:
                return None
            return "list", options, bool(_token_logprobs(connection.choice(reply)))
    return None


def _try_chat(connection: _Connection, model: str) -> tuple[PromptStyle, Mapping[str, Any], bool] | None:
    """Whether the server answers messages: with which options, and whether it gives log-probabilities.

    Raises ``ModelError`` with the server's words if it rejects all of them.
    """
    body = {"model": model, "messages": [{"role": "user", "content": "a"}], "max_tokens": 1, "temperature": 0.0}
    thinking = {**EXTRA_OPTIONS, **NO_THINKING}
    without_effort = {key: value for key, value in thinking.items() if key != "reasoning_effort"}
    refusal = ""
    for options, logprobs in ((thinking, True), (thinking, False), (without_effort, False), ({}, False)):
        reply = connection.attempt("/chat/completions", {**body, **options, **({"logprobs": True} if logprobs else {})})
        if reply is None:
            return None
        if isinstance(reply, str):
            refusal = reply
        else:
            return "chat", options, bool(_token_logprobs(connection.choice(reply)))
    raise ModelError(refusal)


def _scores_well(connection: _Connection, model: str, options: Mapping[str, Any]) -> bool:
    """Whether the server echoes a text with log-probabilities that belong to its tokens."""
    words = SCORED_TEXT.split()
    prompt, rest = " ".join(words[:-5]), " " + " ".join(words[-5:])
    try:
        score = _score(connection, model, options, (prompt, rest))
    except (TeacherError, ModelError, _TemporaryError):
        return False
    return score.logprob / len(score.token_logprobs) >= LEAST_LOGPROB


# The connection


class _TemporaryError(Exception):
    """The server is gone, busy or has an internal error: worth another attempt.

    ``busy``: it has too many requests. ``answered``: it is there, and answered with an error.
    """

    def __init__(self, message: str, *, busy: bool = False, answered: bool = False) -> None:
        super().__init__(message)
        self.busy = busy
        self.answered = answered


class _Connection:
    """Sends single requests to a server and translates what can go wrong. It is thread-safe."""

    def __init__(self, address: ServerAddress, parallel: int = 1) -> None:
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not key.isascii() or not key.isprintable():
            raise ModelError(f"{KEY_VARIABLE} holds characters that no key has")
        self._url = address.url
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=parallel, max_keepalive_connections=parallel),
            verify=ssl.create_default_context() if address.url.startswith("https:") else False,
            trust_env=False,  # no proxies
        )

    def once(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The reply to one request, a JSON object.

        Raises ``_TemporaryError``, ``ModelError`` for a wrong key or model, or ``TeacherError`` for a request or a
        reply that is wrong.
        """
        place = f"{self._url}{path}"
        try:
            response = self._client.request(method, place, json=body)
        except httpx.TimeoutException as exc:
            raise _TemporaryError(f"{self._url} does not answer in time ({type(exc).__name__})") from exc
        except httpx.TransportError as exc:
            raise _TemporaryError(f"{self._url} does not answer ({exc or type(exc).__name__})") from exc
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:
            raise ModelError(f"{self._url} cannot be asked: {exc}") from exc
        status = response.status_code
        if status == 200:
            return self._json(response)
        said = f"{self._url} answered {status}: {_said(response)}"
        if status in (401, 403):
            raise ModelError(f"{self._url} refuses the key ({status}); set {KEY_VARIABLE} to the server's key")
        if status in TEMPORARY:
            raise _TemporaryError(said, busy=status in BUSY, answered=status not in BUSY and status < 502)
        if status in UNKNOWN_PATH:
            advice = "an address ends with /v1 for most servers, and the model must be loaded"
            raise _UnknownPathError(f"{said}; {path} is not there: {advice}")
        raise TeacherError(said)

    def attempt(self, path: str, body: Mapping[str, Any]) -> dict[str, Any] | str | None:
        """The reply to a POST; the server's words if it rejects the request, None if it does not know the path."""
        try:
            return self.once("POST", path, body)
        except _UnknownPathError:
            return None
        except TeacherError as exc:
            return str(exc)
        except _TemporaryError as exc:
            if not exc.answered:
                raise
            return str(exc)

    def choice(self, reply: Mapping[str, Any]) -> Mapping[str, Any]:
        """The one choice of a reply. Raises ``TeacherError`` if there is none."""
        choices = reply.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise self.wrong_form(reply)
        return choices[0]

    def wrong_form(self, reply: Mapping[str, Any]) -> TeacherError:
        """The error about a reply that is no completion."""
        return TeacherError(f"{self._url} answered without a completion: {_short(json.dumps(reply))}")

    def close(self) -> None:
        self._client.close()

    def _json(self, response: httpx.Response) -> dict[str, Any]:
        try:
            reply = parsed_json(response.content)
        except ValueError as exc:
            raise TeacherError(f"{self._url} answered with what is no JSON: {_short(response.text)}") from exc
        if not isinstance(reply, dict):
            raise TeacherError(f"{self._url} answered with what is no JSON object: {_short(response.text)}")
        if reply.get("error") and "choices" not in reply and "data" not in reply:
            raise TeacherError(f"{self._url} answered: {_said(response)}")
        return reply


class _UnknownPathError(ModelError):
    """The server does not have what was asked for: the address or the model is wrong."""


def _said(response: httpx.Response) -> str:
    """What a server says about an error, on one line."""
    try:
        content = parsed_json(response.content)
        error = content.get("error", content) if isinstance(content, dict) else content
        said = error.get("message", error) if isinstance(error, dict) else error
        said = said if isinstance(said, str) else json.dumps(said)
    except ValueError:
        said = response.text
    return _short(said) or response.reason_phrase or "nothing"


def _short(text: str) -> str:
    """The beginning of ``text`` on one line, without control characters."""
    line = " ".join("".join(c if c.isprintable() or c.isspace() else "?" for c in text[: 4 * SHOWN_CHARACTERS]).split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}..."


def _without_surrogates(text: str) -> str:
    """``text`` with halves of characters joined or replaced: JSON may spell them out, and they cannot be written."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# Many requests at the same time


class _Call(Generic[Asked, Got]):
    """The requests of one call, which workers take in turn; ``ask`` sends one of them once."""

    def __init__(
        self, requests: Sequence[Asked], ask: Callable[[Asked], Got], patience: float, progress: Progress
    ) -> None:
        self._requests = requests
        self._ask = ask
        self._patience = patience
        self._progress = progress
        self._waiting = collections.deque(range(len(requests)))
        self._n_workers = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._gone_since: float | None = None
        self._finished: queue.SimpleQueue[tuple[int, Got] | Exception] = queue.SimpleQueue()

    def run(self, parallel: int, advance: Advance = ignore) -> list[Got]:
        """A result for each request, in their order. Raises what ``ask`` raises first, or ``TeacherLostError``."""
        done: dict[int, Got] = {}
        self._n_workers = min(parallel, len(self._requests))
        for _ in range(self._n_workers):
            threading.Thread(target=self._work, daemon=True).start()
        try:
            while len(done) < len(self._requests):
                found = self._finished.get()
                if isinstance(found, _LostError):
                    raise TeacherLostError(str(found), done | self._received()) from found
                if isinstance(found, Exception):
                    raise found
                done[found[0]] = found[1]
                advance(1)
        finally:
            self._stop.set()
        return [done[number] for number in range(len(self._requests))]

    def _received(self) -> dict[int, Got]:
        """What other workers have finished meanwhile."""
        found = [self._finished.get() for _ in range(self._finished.qsize())]
        return dict(entry for entry in found if not isinstance(entry, Exception))

    def _work(self) -> None:
        """Take requests until none is left, or until the server has too many and another worker goes on."""
        while not self._stop.is_set() and (number := self._next()) is not None:
            try:
                result = self._ask_patiently(number)
            except Exception as exc:
                self._finished.put(exc)
                return
            if result is None:
                return
            self._finished.put((number, result))

    def _ask_patiently(self, number: int) -> Got | None:
        """The result of a request, repeated while the server is gone or busy; None if this worker must end."""
        pause, failures = FIRST_PAUSE, 0
        while True:
            try:
                result = self._ask(self._requests[number])
            except _TemporaryError as exc:
                if exc.busy and self._leave(number):
                    return None
                failures += exc.answered
                if failures == ATTEMPTS:
                    raise TeacherError(str(exc)) from exc
                self._note_failure(exc)
            else:
                self._gone_since = None
                return result
            if self._stop.wait(pause):
                return None
            pause = min(2 * pause, LONGEST_PAUSE)

    def _next(self) -> int | None:
        with self._lock:
            if self._waiting:
                return self._waiting.popleft()
            self._n_workers -= 1
            return None

    def _leave(self, number: int) -> bool:
        """Give a request back, and say whether this worker can end because another one goes on."""
        with self._lock:
            if self._n_workers == 1:
                return False
            self._n_workers -= 1
            self._waiting.appendleft(number)
            return True

    def _note_failure(self, problem: _TemporaryError) -> None:
        """Say that the server is gone, once. Raises ``_LostError`` if it has been gone for too long."""
        now = time.monotonic()
        with self._lock:
            is_first = self._gone_since is None
            since = self._gone_since = now if self._gone_since is None else self._gone_since
        if is_first:
            self._progress.say(f"{problem}; trying again for {self._patience:.0f} seconds")
        if now - since >= self._patience:
            raise _LostError(
                f"{problem}; start it again, and the same command resumes with what was received"
            ) from problem


class _LostError(Exception):
    """The server has been gone for too long."""
