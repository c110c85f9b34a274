"""A classifier behind ``POST /predict``, for other programs on the same machine.

It listens on loopback alone and answers only requests that name it as their host, so that no web page of a browser can
reach it by a name of its own (DNS rebinding). Texts that arrive while others are being predicted form the next batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import html
import json
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from s3local import __version__
from s3local.exceptions import RunError
from s3local.storage import parsed_json
from s3local.student.encoding import Text
from s3local.student.inference import Classifier
from s3local.task.rows import MAX_TEXT_CHARACTERS
from s3local.wording import shown

HOST = "127.0.0.1"
HOSTS = (HOST, "localhost")
"""Names of this machine that a request may be addressed to."""

MAX_BODY_BYTES = 20_000_000
MAX_TEXTS = 10_000
"""The most texts in one request."""
MAX_BATCH = 512
"""Texts that are predicted together; onnxruntime gets them sorted by length, in smaller batches."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class _Asked:
    """The texts of one request, and where their probabilities are awaited."""

    texts: Sequence[Text]
    answer: asyncio.Future[list[list[float]]]


class Batcher:
    """Predicts the texts of all requests that wait, together, in one thread beside the server's."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._waiting: asyncio.Queue[_Asked] = asyncio.Queue()

    async def probabilities(self, texts: Sequence[Text]) -> list[list[float]]:
        """The probability of each label for each text."""
        asked = _Asked(texts, asyncio.get_running_loop().create_future())
        await self._waiting.put(asked)
        return await asked.answer

    async def work(self) -> None:
        """Answer requests until the task is cancelled."""
        while True:
            batch = [await self._waiting.get()]
            while not self._waiting.empty() and sum(len(asked.texts) for asked in batch) < MAX_BATCH:
                batch.append(self._waiting.get_nowait())
            texts = [text for asked in batch for text in asked.texts]
            try:
                found = (await asyncio.to_thread(self._classifier.predict_proba, texts)).tolist()
            except Exception as exc:  # the one request may be at fault, the server goes on
                for asked in batch:
                    if not asked.answer.done():
                        asked.answer.set_exception(exc)
                continue
            place = 0
            for asked in batch:
                if not asked.answer.done():  # whoever asked may have gone
                    asked.answer.set_result(found[place : place + len(asked.texts)])
                place += len(asked.texts)


def make_app(classifier: Classifier, threshold: float = 0.0) -> Starlette:
    """The server's application; ``threshold`` holds for requests that name none."""
    batcher = Batcher(classifier)
    description = openapi(classifier, threshold)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        worker = asyncio.create_task(batcher.work())
        try:
            yield
        finally:
            worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await worker

    async def predict(request: Request) -> Response:
        asked = await _json_of(request)
        texts = _texts_of(asked, classifier)
        lowest = _number_of(asked, "threshold", threshold, 0.0, 1.0)
        top = int(_number_of(asked, "top", 1, 1, len(classifier.labels)))
        answers = [_answer(classifier, row, lowest, top) for row in await batcher.probabilities(texts)]
        return JSONResponse({"predictions": answers})

    async def page(_: Request) -> Response:
        return HTMLResponse(_page(description))

    async def described(_: Request) -> Response:
        return JSONResponse(description)

    async def refused(_: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)
        return JSONResponse({"error": exc.detail}, exc.status_code, headers=exc.headers)

    async def gone(_: Request, exc: Exception) -> Response:
        return Response(status_code=400)  # for nobody: the client hung up in the middle of its request

    app = Starlette(
        routes=[
            Route("/", page),
            Route("/openapi.json", described),
            Route("/predict", predict, methods=["POST"]),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: refused, ClientDisconnect: gone},
    )
    app.add_middleware(_Guard)
    return app


class _Guard:
    """Refuses requests that are addressed to another host or come from a page of another one; adds headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        name, _, port = host.rpartition(":") if ":" in host else (host, "", "")
        if name.lower() not in HOSTS or (port and port != str(scope["server"][1])):
            problem = f"this server is {HOST}; it answers no other host"
            await JSONResponse({"error": problem}, 421, headers=_HEADERS)(scope, receive, send)
            return
        if origin is not None and origin.lower() != f"http://{host.lower()}":
            problem = "pages of other servers get no answer"
            await JSONResponse({"error": problem}, 403, headers=_HEADERS)(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in _HEADERS.items()),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)


# Requests and answers


async def _json_of(request: Request) -> dict[str, Any]:
    """The JSON object in a request. Raises ``HTTPException``."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "a body of the type application/json belongs here")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise HTTPException(413, f"more than {MAX_BODY_BYTES:,} bytes; send fewer texts at a time")
    try:
        asked = parsed_json(bytes(body))
    except ValueError as exc:
        raise HTTPException(400, "not valid JSON") from exc
    if not isinstance(asked, dict):
        raise HTTPException(400, 'an object such as {"texts": ["..."]} belongs here')
    if unknown := sorted(asked.keys() - {"texts", "threshold", "top"}):
        raise HTTPException(422, f"unknown key {shown(unknown[0])}; known are texts, threshold and top")
    return asked


def _texts_of(asked: dict[str, Any], classifier: Classifier) -> list[Text]:
    """The texts of a request: strings, or objects with the classifier's fields. Raises ``HTTPException``."""
    given = asked.get("texts")
    if not isinstance(given, list) or not given:
        raise HTTPException(422, "texts: a list with at least one text belongs here")
    if len(given) > MAX_TEXTS:
        raise HTTPException(413, f"texts: found {len(given):,}, at most {MAX_TEXTS:,} are allowed in a request")
    return [_text_of(entry, place, classifier) for place, entry in enumerate(given)]


def _text_of(entry: object, place: int, classifier: Classifier) -> Text:
    fields = classifier.fields
    values: list[Any] = [entry]
    if isinstance(entry, dict):
        values = [entry.get(name) for name in fields]
    elif isinstance(entry, list):
        values = entry
    if len(values) != len(fields) or not all(isinstance(value, str) for value in values):
        example = "a text" if len(fields) == 1 else "an object with " + " and ".join(fields)
        raise HTTPException(422, f"texts, place {place}: {example} belongs here")
    for value in values:
        if len(value) > MAX_TEXT_CHARACTERS:
            problem = f"{len(value):,} characters, at most {MAX_TEXT_CHARACTERS:,} are allowed"
            raise HTTPException(413, f"texts, place {place}: {problem}")
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise HTTPException(422, f"texts, place {place}: found half a character; remove it") from exc
    return values[0] if len(values) == 1 else (values[0], values[1])


def _number_of(asked: dict[str, Any], key: str, usual: float, least: float, most: float) -> float:
    value = asked.get(key, usual)
    whole = isinstance(least, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not least <= value <= most:
        raise HTTPException(422, f"{key}: a {'whole ' if whole else ''}number from {least:g} to {most:g} belongs here")
    return value


def _answer(classifier: Classifier, probabilities: Sequence[float], threshold: float, top: int) -> dict[str, Any]:
    ranked = sorted(range(len(probabilities)), key=lambda its: -probabilities[its])
    best = ranked[0]
    answer: dict[str, Any] = {
        "label": classifier.labels[best] if probabilities[best] >= threshold else None,
        "probability": round(probabilities[best], 4),
    }
    if top > 1:
        answer["top"] = [
            {"label": classifier.labels[place], "probability": round(probabilities[place], 4)} for place in ranked[:top]
        ]
    return answer


# Description


def openapi(classifier: Classifier, threshold: float) -> dict[str, Any]:
    """The description of the server in the form of OpenAPI 3.1."""
    text: dict[str, Any] = {"type": "string", "maxLength": MAX_TEXT_CHARACTERS}
    example: Any = "the text to label"
    if len(classifier.fields) == 2:
        text = {
            "type": "object",
            "properties": dict.fromkeys(classifier.fields, text),
            "required": list(classifier.fields),
        }
        example = dict.fromkeys(classifier.fields, "a text")
    label = {"type": "string", "enum": list(classifier.labels)}
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    ranked = {"type": "object", "properties": {"label": label, "probability": probability}}
    prediction = {
        "type": "object",
        "properties": {
            "label": {"anyOf": [label, {"type": "null"}], "description": "null where the classifier abstains"},
            "probability": probability,
            "top": {"type": "array", "items": ranked, "description": "only if top is above 1"},
        },
        "required": ["label", "probability"],
    }
    asked = {
        "type": "object",
        "properties": {
            "texts": {"type": "array", "items": text, "minItems": 1, "maxItems": MAX_TEXTS},
            "threshold": {**probability, "default": threshold, "description": "abstain below this probability"},
            "top": {"type": "integer", "minimum": 1, "maximum": len(classifier.labels), "default": 1},
        },
        "required": ["texts"],
        "additionalProperties": False,
        "example": {"texts": [example]},
    }
    error = {"type": "object", "properties": {"error": {"type": "string"}}}
    problems = {
        "400": "not valid JSON",
        "413": "too large",
        "415": "not application/json",
        "422": "a key or a value does not fit",
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "s3local classifier", "version": __version__},
        "paths": {
            "/predict": {
                "post": {
                    "summary": "The label of each text, with its calibrated probability",
                    "requestBody": {"required": True, "content": {"application/json": {"schema": asked}}},
                    "responses": {
                        "200": {
                            "description": "one prediction for each text, in order",
                            "content": {
                                "application/json": {
                                    "schema": {
                                        "type": "object",
                                        "properties": {"predictions": {"type": "array", "items": prediction}},
                                    }
                                }
                            },
                        },
                        **{
                            code: {"description": what, "content": {"application/json": {"schema": error}}}
                            for code, what in problems.items()
                        },
                    },
                }
            }
        },
    }


def _page(description: dict[str, Any]) -> str:
    """The description as a page without scripts and outside resources."""
    post = description["paths"]["/predict"]["post"]
    schema = post["requestBody"]["content"]["application/json"]["schema"]
    body = json.dumps(schema["example"], ensure_ascii=False)
    labels = schema["properties"], post["responses"]["200"]["content"]["application/json"]["schema"]
    prediction = labels[1]["properties"]["predictions"]["items"]["properties"]
    names = "".join(f"<li>{html.escape(name)}</li>" for name in prediction["label"]["anyOf"][0]["enum"])
    command = f"curl http://{HOST}:PORT/predict -H 'Content-Type: application/json' -d '{body}'"
    whole = html.escape(json.dumps(description, indent=2, ensure_ascii=False))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>s3local classifier</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }}
pre {{ overflow: auto; padding: .75rem; border: 1px solid; border-radius: .25rem }}
</style></head><body>
<h1>s3local classifier</h1>
<p><code>POST /predict</code>: {html.escape(post["summary"])}.</p>
<pre>{html.escape(command)}</pre>
<p>With <code>"threshold": 0.8</code>, the label is <code>null</code> where its probability is lower;
<code>"top": 3</code> adds the three likeliest labels.</p>
<h2>Labels</h2><ul>{names}</ul>
<h2>OpenAPI</h2><p><a href="/openapi.json">openapi.json</a></p><pre>{whole}</pre>
</body></html>
"""


# Listening


def bound_socket(port: int) -> socket.socket:
    """A socket on loopback; ``port`` 0 takes a free one. Raises ``RunError`` if the port is in use."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen(128)  # from now on requests wait until the server begins
    except OSError as exc:
        listening.close()
        raise RunError(f"cannot listen on port {port} ({exc.strerror or exc}); choose another --port, or 0") from exc
    return listening


def serve(classifier: Classifier, listening: socket.socket, threshold: float = 0.0) -> None:
    """Answer requests until the process is interrupted."""
    import uvicorn

    config = uvicorn.Config(make_app(classifier, threshold), log_level="warning", server_header=False)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
