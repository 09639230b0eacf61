"""The routes. Reading is open to whoever reaches the port; changing needs the token of the state directory.

Requests on the agent's own Unix socket need none: its file mode admits the agent's user alone.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from agent.api.exposition import CONTENT_TYPE, Exposition
from agent.api.hook import HEADER, Allowance, signed
from agent.api.hosts import OwnHosts, own_names
from agent.api.live import Live
from agent.api.page import Page
from agent.model.outcome import LaneSyncError, NeedsPersonError, NotFoundError
from agent.reconcile.measures import LaneBytes, Measures

MAX_BODY = 1 << 20

Document = dict[str, Any]


class Service(Protocol):
    """What the agent offers to its HTTP face. Raises LaneSyncError with a message for the caller."""

    def status(self) -> Document: ...
    def stuck(self) -> dict[str, str]: ...
    def measure(self) -> Measures: ...
    def lanes(self, most: int) -> list[LaneBytes]: ...
    def plan(self, paths: list[str], limit: int = 0, reasons: bool = False) -> Document: ...
    def apply(self, paths: list[str], author: str) -> Document: ...
    def history(
        self, name: str = "", path: str = "", since: float = 0.0, limit: int = 1000, *, files: bool = False
    ) -> Document: ...
    def events(self, after: int | None, limit: int, name: str = "", since: float = 0.0) -> Document: ...
    def get(self, name: str = "") -> Document: ...
    def describe(self, name: str) -> Document: ...
    def explain(self, path: str) -> Document: ...
    def request(self, name: str) -> Document: ...
    def reconcile(self, name: str, author: str) -> Document: ...
    def retry(self, name: str, author: str) -> Document: ...
    def verify(self, names: list[str], checksum: bool) -> Document: ...
    def verification(self, request: str) -> Document: ...
    def look_for_specs(self) -> None: ...
    def suspend(self, name: str, reason: str, author: str, seconds: float | None) -> Document: ...
    def resume(self, name: str, author: str) -> Document: ...
    def approve(self, name: str, author: str) -> Document: ...
    def share_token(self, name: str) -> Document: ...
    @property
    def ready(self) -> bool: ...


class BadRequestError(LaneSyncError):
    """The request's body or parameters are not what the route takes."""


class TooLargeError(BadRequestError):
    """The body is larger than is read."""


class AsciiJson(JSONResponse):
    """JSON that survives names which are not UTF-8."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=True, separators=(",", ":")).encode("ascii")


def make_app(
    service: Service,
    token: str,
    *,
    trusted: bool,
    hook_secret: bytes | None = None,
    live: Live | None = None,
    names: Iterable[str] = (),
) -> Starlette:
    """`trusted`: the socket that this app is served on is protected by its file mode. `hook_secret`: whoever
    signs with it may have the agent look for new specs. `live`: with the status page. `names`: those of this
    machine, beside its own."""
    faces = _Faces(service, token, trusted, hook_secret)
    guard = Middleware(OwnHosts, names=own_names(names), may=faces.authorised)
    return Starlette(
        middleware=[] if trusted else [guard],
        routes=[
            *(_page(live) if live is not None else ()),
            Route("/healthz", faces.health),
            Route("/readyz", faces.ready),
            Route("/metrics", faces.metrics),
            Route("/api/v1/status", faces.status),
            *(Route(f"/api/v1/{name}", faces.asked(answer)) for name, answer in faces.questions().items()),
            Route("/api/v1/plan", faces.guarded(faces.plan), methods=["POST"]),
            Route("/api/v1/apply", faces.guarded(faces.apply), methods=["POST"]),
            Route("/api/v1/reconcile", faces.reconcile_or_hook, methods=["POST"]),
            Route("/api/v1/verify", faces.guarded(faces.verify), methods=["POST"]),
            Route("/api/v1/retry", faces.guarded(faces.retry), methods=["POST"]),
            Route("/api/v1/suspend", faces.guarded(faces.suspend), methods=["POST"]),
            Route("/api/v1/resume", faces.guarded(faces.resume), methods=["POST"]),
            Route("/api/v1/token", faces.guarded(faces.share_token), methods=["POST"]),
            Route("/api/v1/approve", faces.guarded(faces.approve), methods=["POST"]),
        ],
    )


def _page(live: Live) -> list[Route]:
    async def look(request: Request) -> Response:
        try:
            found = await run_in_threadpool(live.look, request.query_params.get("since", ""))
        except LaneSyncError as error:
            return _refused(error)
        return Response(found, media_type="application/json", headers={"Cache-Control": "no-store"})

    return [*Page().routes(), Route("/api/v1/live", look)]


class _Faces:
    def __init__(self, service: Service, token: str, trusted: bool, hook_secret: bytes | None) -> None:
        self._service = service
        self._token = token
        self._trusted = trusted
        self._hook_secret = hook_secret
        self._exposition = Exposition(service.measure)
        self._allowance = Allowance()

    def guarded(self, verb: Callable[[Document], Document]) -> Callable[[Request], Awaitable[Response]]:
        """A changing call: authorised, its body read within bounds, its error told in words."""

        async def face(request: Request) -> Response:
            if not self.authorised(request):
                text = "this call needs `Authorization: Bearer TOKEN` with the token in the state directory"
                return AsciiJson({"error": text}, status_code=401)
            try:
                body = _document(await _body(request))
                return AsciiJson(await run_in_threadpool(verb, body))
            except TooLargeError as error:
                return AsciiJson({"error": str(error)}, status_code=413)
            except LaneSyncError as error:
                return _refused(error)

        return face

    def asked(self, answer: Callable[[Request], Document]) -> Callable[[Request], Awaitable[Response]]:
        """A question: open to whoever reaches the port."""

        async def face(request: Request) -> Response:
            try:
                return AsciiJson(await run_in_threadpool(answer, request))
            except LaneSyncError as error:
                return _refused(error)

        return face

    def questions(self) -> dict[str, Callable[[Request], Document]]:
        """By route below /api/v1/."""
        ask = self._service
        return {
            "events": self.events,
            "history": self.history,
            "specs": lambda _request: ask.get(),
            "specs/{kind}": lambda request: ask.get(request.path_params["kind"]),
            "specs/{kind}/{name}": lambda request: ask.get(_object(request)),
            "objects/{kind}/{name}": lambda request: ask.describe(_object(request)),
            "explain": lambda request: ask.explain(_needed(request, "path")),
            "verifications/{request}": lambda request: ask.verification(request.path_params["request"]),
            "requests/{request}": lambda request: ask.request(request.path_params["request"]),
        }

    async def reconcile_or_hook(self, request: Request) -> Response:
        """With the token an object's, or everything's, reconcile; with a signature a push hook."""
        if HEADER in request.headers and self._hook_secret is not None:
            return await self._hook(request, self._hook_secret)
        return await self.guarded(self.reconcile)(request)

    async def _hook(self, request: Request, secret: bytes) -> Response:
        try:
            body = await _body(request)
        except TooLargeError as error:
            return AsciiJson({"error": str(error)}, status_code=413)
        if not signed(body, request.headers[HEADER], secret):
            text = "the signature does not fit the body; is the secret the same at both ends?"
            return AsciiJson({"error": text}, status_code=401)
        seconds = self._allowance.take()
        if seconds:
            text = f"too many hooks; the next one is taken in {seconds} s"
            return AsciiJson({"error": text}, status_code=429, headers={"Retry-After": str(seconds)})
        self._service.look_for_specs()
        return AsciiJson({"enqueued": ["specs"]}, status_code=202)

    def authorised(self, request: Request) -> bool:
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        return self._trusted or hmac.compare_digest(given.encode(), self._token.encode())

    async def metrics(self, _request: Request) -> Response:
        pieces = await run_in_threadpool(self._exposition.pieces)
        return StreamingResponse(pieces, media_type=CONTENT_TYPE)

    async def health(self, _request: Request) -> Response:
        stuck = self._service.stuck()
        if stuck:
            return AsciiJson({"ok": False, "stuck": stuck}, status_code=503)
        return AsciiJson({"ok": True})

    async def ready(self, _request: Request) -> Response:
        ready = self._service.ready
        return AsciiJson({"ready": ready}, status_code=200 if ready else 503)

    async def status(self, _request: Request) -> Response:
        return AsciiJson(await run_in_threadpool(self._service.status))

    def events(self, request: Request) -> Document:
        query = request.query_params
        after = int(_number(request, "since", 0)) if "since" in query else None
        limit, start = int(_number(request, "limit", 100)), _number(request, "from", 0)
        return self._service.events(after, limit, query.get("object", ""), start)

    def history(self, request: Request) -> Document:
        query = request.query_params
        since, limit = _number(request, "from", 0), int(_number(request, "limit", 1000))
        files = query.get("files", "") in ("1", "true")
        return self._service.history(
            query.get("object", ""), _path(request, "path"), since, limit, files=files
        )

    def plan(self, body: Document) -> Document:
        limit, reasons = body.get("limit", 0), body.get("reasons", False)
        if not isinstance(limit, int) or limit < 0 or not isinstance(reasons, bool):
            raise BadRequestError("`limit` is a whole number, `reasons` is true or false")
        return self._service.plan(_texts(body, "paths"), limit, reasons)

    def apply(self, body: Document) -> Document:
        return self._service.apply(_texts(body, "paths"), self._author(body))

    def reconcile(self, body: Document) -> Document:
        return self._service.reconcile(_text(body, "name"), self._author(body))

    def verify(self, body: Document) -> Document:
        checksum = body.get("checksum", False)
        if not isinstance(checksum, bool):
            raise BadRequestError("`checksum` is true or false")
        return self._service.verify(_texts(body, "names"), checksum)

    def retry(self, body: Document) -> Document:
        return self._service.retry(_text(body, "name"), self._author(body))

    def suspend(self, body: Document) -> Document:
        seconds = body.get("seconds")
        if seconds is not None and not isinstance(seconds, int | float):
            raise BadRequestError("`seconds` is a number")
        reason = _text(body, "reason", "")
        return self._service.suspend(_text(body, "name"), reason, self._author(body), seconds)

    def resume(self, body: Document) -> Document:
        return self._service.resume(_text(body, "name"), self._author(body))

    def approve(self, body: Document) -> Document:
        return self._service.approve(_text(body, "name"), self._author(body))

    def share_token(self, body: Document) -> Document:
        return self._service.share_token(_text(body, "name"))

    def _author(self, body: Document) -> str:
        """Who asks, by their own word; else by what let them in."""
        return _text(body, "author", "") or ("the agent's user" if self._trusted else "holder of the token")


def _refused(error: LaneSyncError) -> Response:
    """409: somebody has to do something else first."""
    code = 409 if isinstance(error, NeedsPersonError) else 404 if isinstance(error, NotFoundError) else 400
    return AsciiJson({"error": str(error)}, status_code=code)


def _object(request: Request) -> str:
    return "{kind}/{name}".format(**request.path_params)


def _needed(request: Request, name: str) -> str:
    found = _path(request, name)
    if not found:
        raise BadRequestError(f"`{name}` is missing")
    return found


def _path(request: Request, name: str) -> str:
    """A path of the query; bytes that are not UTF-8 survive."""
    query = request.scope["query_string"].decode("ascii", "replace")
    found: list[str] = parse_qs(query, errors="surrogateescape").get(name, [""])
    return found[0]


def _number(request: Request, name: str, default: float) -> float:
    text = request.query_params.get(name, str(default))
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e15:
        raise BadRequestError(f"`{name}` is a number, and not below zero")
    return found


async def _body(request: Request) -> bytes:
    too_large = f"the body is larger than {MAX_BODY} bytes"
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_BODY:
        raise TooLargeError(too_large)
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BODY:
            raise TooLargeError(too_large)
    return bytes(data)


def _document(data: bytes) -> Document:
    try:
        found = json.loads(data or b"{}")
    except ValueError as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadRequestError("the body is not a JSON object")
    return found


def _text(body: Document, name: str, default: str | None = None) -> str:
    value = body.get(name, default)
    if not isinstance(value, str):
        raise BadRequestError(f"`{name}` is missing or not a string")
    return value


def _texts(body: Document, name: str) -> list[str]:
    value = body.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadRequestError(f"`{name}` is missing or not a list of strings")
    return value
