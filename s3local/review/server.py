"""The web server of a desk, for the people of this machine alone.

It listens on 127.0.0.1. Every path begins with a secret token, without which nothing is answered. The Host header must
be the server's own, so that no other site can reach it under its own name (DNS rebinding). Whatever changes something
is a POST of JSON whose Origin is the page itself, which no other site can send. The content security policy allows
scripts, styles and requests of this server only, and no script that is made from text.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from s3local.exceptions import RunError, S3LocalError
from s3local.review.desk import Desk, Filters, OutdatedError, RefusedError
from s3local.storage import parsed_json

HOST = "127.0.0.1"
MAX_BODY_BYTES = 1 << 20

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}

PAGE = {
    "": ("page.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}


def serve(desk: Desk, port: int, command: str, ready: Callable[[str], None]) -> None:
    """Serve ``desk`` until the process gets Ctrl-C; ``ready`` is called with the address of the page.

    ``port`` 0 takes a free one. ``command`` is the command that uses the decisions, for people to copy.
    Raises ``RunError`` if the port is in use, or may not be used.
    """
    with _listening(port) as listener:
        number = listener.getsockname()[1]
        token = secrets.token_urlsafe(24)
        app = application(desk, token, {f"{HOST}:{number}", f"localhost:{number}"}, command)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off", ws="none", http="h11", server_header=False
        )
        ready(f"http://{HOST}:{number}/{token}/")
        uvicorn.Server(config).run(sockets=[listener])


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen()
    except OSError as exc:
        listener.close()
        raise RunError(f"port {port} of {HOST}: {exc.strerror}; choose another --port, or leave it out") from exc
    return listener


def application(desk: Desk, token: str, hosts: set[str], command: str) -> ASGIApp:
    """The web application below ``/token/``; ``hosts`` are the values of the Host header that it answers to."""

    def asset(request: Request) -> Response:
        found = PAGE.get(request.path_params.get("name", ""))
        if found is None:
            return PlainTextResponse("not found", 404)
        return Response(resources.files("s3local.review").joinpath("page", found[0]).read_bytes(), media_type=found[1])

    def session(request: Request) -> Response:
        sheet = desk.sheet
        return JSONResponse(
            {
                "mode": sheet.mode,
                "title": sheet.title,
                "labels": [{"name": name, "description": description} for name, description in sheet.labels],
                "fields": list(sheet.fields),
                "editable": sheet.editable,
                "groups": list(sheet.group_names),
                "reasons": list(sheet.reason_names),
                "rows": len(sheet.ids),
                "told": dict(sheet.told),
                "suggests": desk.can_suggest,
                "command": command,
                "counts": desk.counts(),
            }
        )

    def order(request: Request) -> Response:
        return JSONResponse({"order": desk.order(_filters(request.query_params))})

    def rows(request: Request) -> Response:
        return JSONResponse({"rows": desk.rows(_numbers(request.query_params.get("places", "")))})

    def changes(request: Request) -> Response:
        since = _number(request.query_params.get("since", "0"))
        return JSONResponse({"rows": desk.changes(since), "counts": desk.counts()})

    async def decide(request: Request) -> Response:
        wanted = await _json(request)
        place, seen = _whole(wanted, "place"), _whole(wanted, "seen")
        action, label, fields = wanted.get("action"), wanted.get("label"), wanted.get("fields")
        if not isinstance(action, str):
            raise RefusedError("action: the name of a decision belongs here")
        if not isinstance(label, str | None) or not isinstance(fields, dict | None):
            raise RefusedError("a label is a text, and fields are texts by name")
        try:
            row = await run_in_threadpool(desk.decide, place, action, seen, label, fields)
        except OutdatedError:
            return JSONResponse({"rows": desk.rows([place]), "counts": desk.counts()}, 409)
        return JSONResponse({"rows": [row], "counts": desk.counts()})

    async def suggest(request: Request) -> Response:
        place = _whole(await _json(request), "place")
        return JSONResponse(await run_in_threadpool(desk.suggestion, place))

    def refused(request: Request, exc: Exception) -> Response:
        return JSONResponse({"error": str(exc)}, 400)

    def failed(request: Request, exc: Exception) -> Response:
        return JSONResponse({"error": str(exc)}, 507)

    def gone(request: Request, exc: Exception) -> Response:
        return Response(status_code=400)  # for nobody: the page was closed in the middle of its request

    app = Starlette(
        routes=[
            Route("/", asset),
            Route("/api/session", session),
            Route("/api/order", order),
            Route("/api/rows", rows),
            Route("/api/changes", changes),
            Route("/api/decide", decide, methods=["POST"]),
            Route("/api/suggest", suggest, methods=["POST"]),
            Route("/{name}", asset),
        ],
        exception_handlers={RefusedError: refused, S3LocalError: failed, ClientDisconnect: gone},
    )
    return _Guard(app, token, hosts)


class _Guard:
    """Lets requests of the page through to ``app``, and refuses all others before anything is read."""

    def __init__(self, app: ASGIApp, token: str, hosts: set[str]) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.lower().encode(), value.encode()) for name, value in SECURITY_HEADERS.items()),
                ]
            await send(message)

        if scope["type"] != "http":
            return
        problem = self._problem(scope)
        if problem is not None:
            await PlainTextResponse(problem, 403)(scope, receive, with_headers)
            return
        rest = "/" + scope["path"].lstrip("/").partition("/")[2]
        await self._app({**scope, "path": rest, "raw_path": rest.encode()}, receive, with_headers)

    def _problem(self, scope: Scope) -> str | None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if host not in self._hosts:
            return "this server answers to its own address only"
        token, slash, _ = scope["path"].lstrip("/").partition("/")
        if not slash or not secrets.compare_digest(token.encode(), self._token):
            return "the address lacks the token; open the address that s3local printed"
        origin = headers.get("origin")
        changing = scope["method"] not in ("GET", "HEAD")
        if origin != f"http://{host}" and (changing or origin is not None):
            return "requests of other sites are refused"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "requests of other sites are refused"
        if changing and headers.get("content-type") != "application/json":
            return "JSON belongs here"
        return None


async def _json(request: Request) -> Mapping[str, Any]:
    """The JSON object of a request. Raises ``RefusedError`` for anything else, or for too much."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise RefusedError(f"at most {MAX_BODY_BYTES:,} bytes are read")
    try:
        content = parsed_json(bytes(body))
    except ValueError as exc:
        raise RefusedError("a JSON object belongs here") from exc
    if not isinstance(content, dict):
        raise RefusedError("a JSON object belongs here")
    return content


def _whole(wanted: Mapping[str, Any], key: str) -> int:
    """A whole number of a request. Raises ``RefusedError`` for anything else: true is no number here."""
    value = wanted.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**12:
        raise RefusedError(f"{key}: a whole number belongs here")
    return value


def _filters(asked: Mapping[str, str]) -> Filters:
    label = asked.get("label", "")
    return Filters(
        state=asked.get("state", "open"),
        label=_number(label) if label else None,
        groups=_numbers(asked.get("groups", "")),
        reasons=_numbers(asked.get("reasons", "")),
        low=_share(asked.get("low", "0")),
        high=_share(asked.get("high", "1")),
        words=asked.get("words", ""),
        by_place=asked.get("sort") == "place",
    )


def _numbers(text: str) -> list[int]:
    return [_number(part) for part in text.split(",") if part]


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 12:
        raise RefusedError(f"found {text[:20]!r}, a whole number belongs here")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError as exc:
        raise RefusedError(f"found {text[:20]!r}, a number from 0 to 1 belongs here") from exc
    if not 0 <= value <= 1:
        raise RefusedError(f"found {text[:20]!r}, a number from 0 to 1 belongs here")
    return value
