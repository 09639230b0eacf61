"""A threaded HTTP/1.1 server, plain or TLS: hands requests to one function, and misbehaves on demand."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO
from urllib.parse import parse_qsl, unquote, urlsplit

from .faults import Faults, Rule

BODY_LIMIT = 256 << 20
REQUEST_LINE_LIMIT = 8190  # Apache's default; a longer one is 414
IDLE_SECONDS = 60.0
BLOCK = 1 << 20
SLICE_SECONDS = 0.05  # a slow body comes in slices of so much time
REASONS = {419: "Authentication Timeout", **{s.value: s.phrase for s in HTTPStatus}}
OWN_REASONS = {419: "Authentication Timeout", 413: "Request Entity Too Large"}


@dataclass
class Answer:
    """What goes back. `body` is bytes; with `file` that many bytes of it follow the head instead."""

    status: int = 200
    body: bytes = b""
    content_type: str | None = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    chunked: bool = False
    false_length: int = 0  # this much is added to Content-Length, though no byte follows
    file: BinaryIO | None = None
    size: int = 0


@dataclass
class Request:
    """One request; `path` is decoded, without double slashes; `query` holds the first of each name."""

    method: str
    path: str
    query: dict[str, str]
    headers: Any
    stream: BodyReader
    tls: ssl.SSLSocket | None
    user: Any = None

    def body(self) -> bytes:
        """The whole body; ValueError when it is larger than BODY_LIMIT."""
        return b"".join(self.stream.blocks(BODY_LIMIT))


class BodyReader:
    """Reads a request body, of known length or chunked, and knows whether all of it was read."""

    def __init__(self, file: BinaryIO, length: int, chunked: bool) -> None:
        self._file, self._left, self._chunked = file, length, chunked

    def blocks(self, limit: int = 1 << 62) -> Iterator[bytes]:
        """Bounded blocks up to the end; ConnectionError when the client stops early."""
        while self._chunked or self._left:
            if not self._left and not self._next_chunk():
                return
            block = self._file.read(min(BLOCK, self._left))
            if not block:
                raise ConnectionError("the body ended early")
            self._left -= len(block)
            limit -= len(block)
            if limit < 0:
                raise ValueError("the body is too large")
            yield block
            if self._chunked and not self._left:
                self._file.readline(4)

    def _next_chunk(self) -> bool:
        self._left = int(self._file.readline(100).split(b";")[0], 16)
        if not self._left:
            while self._file.readline(8192) not in (b"\r\n", b"\n", b""):
                pass
            self._chunked = False
        return self._left > 0

    @property
    def finished(self) -> bool:
        return not self._chunked and not self._left


def json_answer(value: Any, status: int = 200, *, chunked: bool | None = None, **more: Any) -> Answer:
    """JSON as the service writes it; lists go chunked."""
    body = json.dumps(value).encode()
    return Answer(status, body, chunked=isinstance(value, list) if chunked is None else chunked, **more)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    rbufsize = 1 << 16
    server: Front

    def setup(self) -> None:
        super().setup()
        self.connection.settimeout(self.server.idle_seconds())

    def _serve(self) -> None:
        started = time.monotonic()
        parts = urlsplit("//host/" + self.path.lstrip("/") if self.path.startswith("/") else self.path)
        path = unquote(parts.path, errors="surrogateescape") or "/"
        length = int(self.headers.get("Content-Length") or 0)
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
        reader = BodyReader(self.rfile, length, chunked)  # type: ignore[arg-type]
        tls = self.connection if isinstance(self.connection, ssl.SSLSocket) else None
        query: dict[str, str] = {}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            query.setdefault(name, value)
        request = Request(self.command, path, query, self.headers, reader, tls)
        status = self._act(request)
        self.server.note(request, status, time.monotonic() - started, self.path)

    def _act(self, request: Request) -> int:
        """Answer one request, rightly or as a fault has it; returns the status sent, 0 for none."""
        self.server.faults.wait_while_paused()
        rule = self.server.faults.for_request(request.method, request.path)
        if rule and rule.seconds:
            time.sleep(rule.seconds)
        if rule and rule.action == "drop_request":
            return self._hang_up()
        if len(self.requestline) > REQUEST_LINE_LIMIT:
            answer = html_answer(414, "The requested URL's length exceeds the capacity limit.")
        elif rule and rule.action == "status":
            answer = Answer(rule.status, rule.body.encode(), rule.content_type)
        else:
            answer = self.server.dispatch(request)
        if rule and rule.action == "drop_answer":
            return self._hang_up()
        if not request.stream.finished:
            self._drain(request.stream)
        try:
            self._send(answer, rule)
        finally:
            if answer.file is not None:
                answer.file.close()
        return answer.status

    def _drain(self, stream: BodyReader) -> None:
        """Read the rest of a body that nobody wanted, up to a limit, so that the answer can be read."""
        try:
            for _ in stream.blocks(BODY_LIMIT):
                pass
        except (ValueError, OSError):
            self.close_connection = True

    def _hang_up(self) -> int:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        return 0

    def _send(self, answer: Answer, rule: Rule | None) -> None:
        if rule and rule.action == "replace_body":
            answer = replace(answer, body=rule.body.encode(), file=None)
        elif rule and rule.action in ("slow_body", "cut_body"):
            answer = replace(answer, chunked=False)
        body = answer.body
        head = self._head(answer, len(body))
        if answer.false_length:
            self.close_connection = True
        if self.command == "HEAD":
            self.wfile.write(head)
        elif rule and rule.action in ("slow_body", "cut_body"):
            self.wfile.write(head)
            self._misbehave(_blocks(answer, body, int(rule.rate * SLICE_SECONDS) or 4096), rule)
        elif answer.file is not None:
            self.wfile.write(head)
            for block in _blocks(answer, body, BLOCK):
                self.wfile.write(block)
        elif answer.chunked:
            self.wfile.write(head + b"%x\r\n%b\r\n" % (len(body), body) * bool(body) + b"0\r\n\r\n")
        else:
            self.wfile.write(head + body)

    def _misbehave(self, blocks: Iterator[bytes], rule: Rule) -> None:
        """The body at `rule.rate` bytes a second, or only its first `rule.bytes` and then the end."""
        left = rule.bytes if rule.action == "cut_body" else 1 << 62
        for block in blocks:
            self.wfile.write(block[:left])
            left -= len(block)
            if left <= 0:
                self._hang_up()
                return
            if rule.rate:
                time.sleep(len(block) / rule.rate)

    def _head(self, answer: Answer, length: int) -> bytes:
        status = answer.status
        lines = [f"HTTP/1.1 {status} {OWN_REASONS.get(status) or REASONS.get(status, 'Unknown')}"]
        lines.append(f"Date: {self.date_time_string(time.time() + self.server.clock_skew())}")
        if answer.content_type:
            lines.append(f"Content-Type: {answer.content_type}")
        lines += [f"{name}: {value}" for name, value in answer.headers.items()]
        if answer.chunked and answer.file is None:
            lines.append("Transfer-Encoding: chunked")
        elif status != 204:
            lines.append(f"Content-Length: {(answer.size if answer.file else length) + answer.false_length}")
        if self.close_connection or answer.false_length:
            lines.append("Connection: close")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, *args: Any) -> None:
        pass


def _blocks(answer: Answer, body: bytes, size: int) -> Iterator[bytes]:
    if answer.file is None:
        yield from (body[at : at + size] for at in range(0, len(body), size))
        return
    left = answer.size
    while left:
        block = answer.file.read(min(size, left))
        if not block:
            return
        left -= len(block)
        yield block


def html_answer(status: int, text: str) -> Answer:
    """An error as the web server or the login layer gives it."""
    name = REASONS.get(status, "Unknown")
    body = (
        '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 3.2 Final//EN">\n'
        f"<title>{status} {name}</title>\n<h1>{name}</h1>\n<p>{text}</p>\n"
    )
    return Answer(status, body.encode(), "text/html; charset=utf-8")


class Front(ThreadingHTTPServer):
    """Listens; every connection has a thread of its own, where also the TLS handshake takes place."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self,
        address: tuple[str, int],
        dispatch: Callable[[Request], Answer],
        *,
        tls: ssl.SSLContext | None = None,
        faults: Faults | None = None,
        clock_skew: Callable[[], float] = lambda: 0.0,
        idle_seconds: Callable[[], float] = lambda: IDLE_SECONDS,
    ) -> None:
        self.dispatch = dispatch
        self.tls = tls
        self.faults = faults or Faults()
        self.clock_skew = clock_skew
        self.idle_seconds = idle_seconds
        self.log: deque[dict[str, Any]] = deque(maxlen=20_000)
        self.accepted = 0
        super().__init__(address, _Handler)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()

    def note(self, request: Request, status: int, seconds: float, target: str) -> None:
        user = getattr(request.user, "user_dn", None)
        self.log.append(
            {
                "method": request.method,
                "path": request.path,
                "target": target,
                "user": user,
                "status": status,
                "seconds": round(seconds, 6),
                "at": time.time(),
            }
        )

    def finish_request(self, request: Any, client_address: Any) -> None:
        self.accepted += 1
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        request.settimeout(IDLE_SECONDS)
        with self.tls.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections and handshakes are the clients' affair; anything else is printed."""
        import sys

        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handle_error(request, client_address)
