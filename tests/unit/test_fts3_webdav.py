"""The adapter's own work at a destination: where it may act, what it reads, and what it makes of answers."""

from __future__ import annotations

import base64
import contextlib
import os
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.fts3_service import Reply as Said
from unit.fts3_service import Service, serving

from agent.engines.fts3 import multistatus
from agent.engines.fts3.destination import ExistsError, NotEmptyError, PermissionRefusedError, Root
from agent.engines.fts3.multistatus import NotWebDavError, Response
from agent.engines.fts3.urls import join
from agent.engines.fts3.webdav import BusyError, Connections, Destination, WebDav, open_destination, tree
from agent.engines.fts3.webdav_http import Requests
from agent.fts3 import Client, Context, Limits, Retries
from agent.fts3.credentials import Token
from agent.model.outcome import (
    AuthenticationError,
    NotFoundError,
    PermanentError,
    RetryableError,
    UnreachableError,
)

QUICK = Retries(attempts=3, interval=0.001, max_interval=0.002)
names = st.binary(min_size=1, max_size=20).filter(lambda n: n not in (b".", b"..") and not {0, 47} & {*n})
paths = st.lists(names, min_size=1, max_size=4)


@dataclass
class Reply:
    """One scripted answer. cut: the connection ends without it. length: promised instead of the true one."""

    status: int = 207
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    length: int | None = None


CUT = Reply(cut=True)


class Storage:
    """Answers "METHOD /path" by its script, a reply or a list used one by one; else 404."""

    def __init__(self) -> None:
        self.script: dict[str, Reply | list[Reply]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.peers: set[tuple[str, int]] = set()
        storage = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def take(self) -> None:
                storage.answer(self)

            do_GET = do_HEAD = do_PROPFIND = do_DELETE = do_MKCOL = do_MOVE = take

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"dav://127.0.0.1:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def asked(self) -> list[str]:
        return [line for line, _ in self.requests]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        self.peers.add(handler.client_address)
        line = f"{handler.command} {handler.path}"
        self.requests.append((line, {name.lower(): value for name, value in handler.headers.items()}))
        found = self.script.get(line, Reply(404))
        reply = (found.pop(0) if len(found) > 1 else found[0]) if isinstance(found, list) else found
        handler.close_connection = reply.cut or reply.length is not None
        if reply.cut:
            return
        handler.send_response(reply.status)
        headers = {"Content-Length": str(reply.length or len(reply.body)), **reply.headers}
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(reply.body)


@pytest.fixture
def storage() -> Iterator[Storage]:
    running = Storage()
    yield running
    running.close()


def opened(storage: Storage, path: str = "/top", **options: Any) -> Destination:
    root = Root(storage.url + path)
    return WebDav(root, Requests(None, True, retries=QUICK, **options))


def entry(href: str, *, directory: bool = False, size: int = 5, more: str = "") -> str:
    kind = "<D:collection/>" if directory else ""
    length = "" if directory else f"<D:getcontentlength>{size}</D:getcontentlength>"
    return (
        f"<D:response><D:href>{href}</D:href><D:propstat><D:prop><D:resourcetype>{kind}</D:resourcetype>"
        f"{length}<D:getlastmodified>Sun, 22 Nov 2026 12:00:00 GMT</D:getlastmodified>{more}</D:prop>"
        "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
    )


def answer(*entries: str, before: str = "") -> bytes:
    inner = "".join(entries)
    return f'<?xml version="1.0"?>{before}<D:multistatus xmlns:D="DAV:">{inner}</D:multistatus>'.encode()


FILE = Reply(207, answer(entry("/top/a")))
FOLDER = Reply(207, answer(entry("/top/a/", directory=True)))


# -- where it may act


@pytest.mark.parametrize(
    "url",
    [
        "davs://host/other",
        "davs://host/topmost",
        "davs://other/top/a",
        "davs://host:444/top/a",
        "https://host/top/a",
        "davs://host/top/../etc",
        "davs://host/top/a/%2e%2E/b",
        "davs://host/top/./a",
        "davs://host/top/a%2f..%2fb",
        "davs://host/top/a%00",
        "davs://host/top/a\r\nHost: x",
        "davs://host/top/a?b",
        "davs://host/top/a#b",
        "davs://host/top//a",
        "davs://user@host/top/a",
    ],
)
def test_a_url_that_is_not_below_the_destination_is_refused(url: str) -> None:
    with pytest.raises(PermanentError, match="nothing was done"):
        Root("davs://host/top").check(url)


def test_the_root_itself_is_looked_at_but_never_deleted_or_moved(storage: Storage) -> None:
    storage.script["PROPFIND /top"] = Reply(207, answer(entry("/top/", directory=True)))
    destination, root = opened(storage), storage.url + "/top"
    found = destination.stat(root)
    assert found is not None and found.is_directory
    for act in (
        lambda: destination.delete(root),
        lambda: destination.rmdir(root + "/"),
        lambda: destination.move(root, root + "/a"),
        lambda: destination.move(root + "/a", root),
    ):
        with pytest.raises(PermanentError, match="is not below"):
            act()
    assert storage.asked() == ["PROPFIND /top"]


@pytest.mark.parametrize("call", ["stat", "listing", "delete", "rmdir", "mkdir"])
def test_nothing_is_sent_for_a_url_outside(storage: Storage, call: str) -> None:
    with pytest.raises(PermanentError):
        getattr(opened(storage), call)(storage.url + "/top/../secret")
    assert storage.requests == []


@given(paths)
def test_every_path_below_the_root_passes_once_it_is_quoted(parts: list[bytes]) -> None:
    root = Root("davs://host:8443/a%20b")
    path = os.fsdecode(b"/".join(parts))
    url = root.check(join(root.url, path), below=True)
    assert b"/".join(multistatus.segments(url)) == b"a b/" + b"/".join(parts)
    chain = root.down_to(url)
    assert chain[0] == root.url and chain[-1] == url and len(chain) == len(parts) + 1


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("davs:///top", "scheme://host"),
        ("/top", "scheme://host"),
        ("davs://host:x/top", "scheme://host"),
        ("davs://user:secret@host/top", "scheme://host"),
        ("davs://host/top/../..", "step"),
        ("davs://host/my top", "space"),
        ("davs://host/top?token=1", "query"),
        ("root://host//top", "no service to ask"),
    ],
)
def test_what_cannot_be_a_destination_is_named(url: str, why: str) -> None:
    with pytest.raises(PermanentError, match=why):
        open_destination(url)


def test_a_token_does_not_go_out_in_the_clear() -> None:
    with pytest.raises(PermanentError, match="without TLS"):
        open_destination("dav://storage.example.org/top", Token(lambda: "secret"))
    open_destination("dav://127.0.0.1/top", Token(lambda: "secret"))
    open_destination("davs://storage.example.org/top", Token(lambda: "secret"))


# -- what it reads


@given(names, st.integers(0, 10**15), st.booleans())
def test_names_of_any_bytes_come_back_from_a_listing(name: bytes, size: int, raw: bool) -> None:
    text = name.decode("utf-8", "replace")
    plain = raw and text.isprintable() and not set("%<>&\ufffd") & {*text} and "".join(text.split()) == text
    href = text if plain else quote(name)
    (found,) = multistatus.read(answer(entry(f"/top/{href}", size=size)))
    assert multistatus.segments(found.href) == (b"top", name)
    assert (found.size, found.mtime, found.is_directory) == (size, 1795348800, False)


def test_properties_that_the_server_does_not_have_are_no_properties() -> None:
    body = b"""<multistatus xmlns="DAV:"><response><href>https://host:1/top/a</href>
      <propstat><prop><getcontentlength>7</getcontentlength><resourcetype></resourcetype></prop>
        <status>HTTP/1.1 200 OK</status></propstat>
      <propstat><prop><getlastmodified/><resourcetype><collection/></resourcetype></prop>
        <status>HTTP/1.1 404 Not Found</status></propstat>
      </response><response><href>/top/b</href><status>HTTP/1.1 403 Forbidden</status></response>
      <responsedescription>two</responsedescription></multistatus>"""
    first, second = multistatus.read(body)
    assert first == Response("https://host:1/top/a", size=7)
    assert multistatus.segments(first.href) == (b"top", b"a")
    assert (second.href, second.status) == ("/top/b", 403)


@pytest.mark.parametrize("name", [b"caf\xe9", b"\xff\xfe", "é".encode() + b"\xe9", b"a%FFb\xff"])
def test_names_that_the_server_writes_as_they_are_come_back(name: bytes) -> None:
    body = answer(entry("/top/NAME"), entry("/top/b%20c")).replace(b"NAME", name)
    first, second = multistatus.read(body)
    assert multistatus.segments(first.href) == (b"top", unquote_to_bytes(name))
    assert multistatus.segments(second.href) == (b"top", b"b c")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            '<c:checksums xmlns:c="http://owncloud.org/ns"><c:checksum>SHA1:'
            + "0A" * 20
            + " ADLER32:62c0215</c:checksum></c:checksums>",
            {"sha1": "0a" * 20, "adler32": "062c0215"},
        ),
        (
            '<c:Checksums xmlns:c="http://www.dcache.org/2013/webdav">adler32=062C0215,md5='
            + base64.b64encode(bytes(range(16))).decode()
            + "</c:Checksums>",
            {"adler32": "062c0215", "md5": bytes(range(16)).hex()},
        ),
        ('<c:Checksums xmlns:c="http://www.dcache.org/2013/webdav">adler32=xyz,new=1</c:Checksums>', {}),
    ],
)
def test_checksums_are_read_under_both_names(more: str, expected: dict[str, str]) -> None:
    (found,) = multistatus.read(answer(entry("/top/a", more=more)))
    assert found.checksums == expected


@given(st.sampled_from(["adler32", "md5", "sha256"]), st.binary(min_size=32, max_size=32))
def test_a_checksum_is_the_same_in_hex_and_in_base64(algorithm: str, noise: bytes) -> None:
    digest = noise[: {"adler32": 4, "md5": 16, "sha256": 32}[algorithm]]
    written = base64.b64encode(digest).decode()
    expected = {algorithm: digest.hex()}
    assert multistatus.checksums(f"{algorithm}={digest.hex().upper()}") == expected
    assert multistatus.checksums(f"{algorithm}=:{written}:") == expected  # as in newer headers
    if algorithm != "adler32":
        assert multistatus.checksums(f"crc32c=0 , {algorithm}={written}")[algorithm] == digest.hex()


@given(st.text(max_size=200))
def test_no_checksum_text_is_too_odd(text: str) -> None:
    assert all(set(value) <= set("0123456789abcdef") for value in multistatus.checksums(text).values())


@given(st.binary(max_size=300))
def test_what_is_no_answer_is_refused_as_such(body: bytes) -> None:
    with pytest.raises(NotWebDavError):
        multistatus.read(body)


def bomb() -> bytes:
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    return answer(entry("/top/&e9;"), before=f'<!DOCTYPE D [<!ENTITY e0 "boom">{levels}]>')


@pytest.mark.parametrize(
    "body",
    [
        bomb(),
        answer(entry("/top/&x;"), before='<!DOCTYPE D [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
        answer(entry("/top/a"), before='<!DOCTYPE D SYSTEM "http://127.0.0.1:1/x.dtd">'),
        answer("<a>" * 100 + "</a>" * 100),
        answer(entry("/top/" + "a" * 100_000)),
    ],
    ids=["entities", "external entity", "external subset", "deep", "long"],
)
def test_an_answer_that_breaks_the_bounds_needs_a_person(storage: Storage, body: bytes) -> None:
    storage.script["PROPFIND /top/a"] = Reply(207, body)
    with pytest.raises(PermanentError, match="cannot be read"):
        opened(storage).stat(storage.url + "/top/a")
    assert storage.asked() == ["PROPFIND /top/a"]


def test_an_answer_that_is_too_long_is_not_read_to_its_end(storage: Storage) -> None:
    storage.script["PROPFIND /top/"] = Reply(207, answer(*[entry(f"/top/{n}") for n in range(1000)]))
    with pytest.raises(PermanentError, match="more than 10000 bytes"):
        opened(storage, limits=Limits(answer_bytes=10_000)).listing(storage.url + "/top")


# -- what it makes of answers


def test_nothing_there_is_no_error_of_a_look(storage: Storage) -> None:
    storage.script["PROPFIND /top/b"] = Reply(
        207, answer("<D:response><D:href>/top/b</D:href><D:status>HTTP/1.1 404 No</D:status></D:response>")
    )
    destination = opened(storage)
    assert destination.stat(storage.url + "/top/a") is None
    assert destination.stat(storage.url + "/top/b") is None


def test_a_server_without_propfind_is_asked_for_headers(storage: Storage) -> None:
    storage.script["PROPFIND /top/a"] = Reply(405)
    storage.script["HEAD /top/a"] = Reply(
        200,
        b"12345",
        {"Last-Modified": "Sun, 22 Nov 2026 12:00:00 GMT", "Digest": "adler32=62c0215"},
    )
    found = opened(storage).stat(storage.url + "/top/a", "ADLER32")
    assert found is not None
    assert (found.size, found.mtime, found.checksums) == (5, 1795348800, {"adler32": "062c0215"})
    assert storage.requests[-1][1]["want-digest"].lower() == "adler32"


def test_a_checksum_is_asked_for_only_where_the_storage_did_not_tell_it(storage: Storage) -> None:
    told = '<c:Checksums xmlns:c="http://www.dcache.org/2013/webdav">adler32=062c0215</c:Checksums>'
    storage.script["PROPFIND /top/a"] = [Reply(207, answer(entry("/top/a", more=told))), FILE]
    storage.script["HEAD /top/a"] = Reply(501)
    destination, url = opened(storage), storage.url + "/top/a"
    first, second = destination.stat(url, "adler32"), destination.stat(url, "adler32")
    assert first is not None and first.checksums == {"adler32": "062c0215"}
    assert second is not None and second.checksums == {} and second.size == 5
    assert storage.asked() == ["PROPFIND /top/a", "PROPFIND /top/a", "HEAD /top/a"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_look_follows_the_server_to_the_same_path(storage: Storage, status: int) -> None:
    storage.script["PROPFIND /top/a"] = Reply(status, headers={"Location": "/top/a/"})
    storage.script["PROPFIND /top/a/"] = FOLDER
    found = opened(storage).stat(storage.url + "/top/a")
    assert found is not None and found.is_directory and found.url == storage.url + "/top/a"


@pytest.mark.parametrize("location", ["/elsewhere/a", "http://127.0.0.1:1/secret", "//x/top/b", ""])
def test_it_does_not_follow_to_another_path(storage: Storage, location: str) -> None:
    storage.script["PROPFIND /top/a"] = FILE
    storage.script["DELETE /top/a"] = Reply(307, headers={"Location": location})
    with pytest.raises(PermanentError, match="redirects elsewhere"):
        opened(storage).delete(storage.url + "/top/a")


def test_a_redirect_that_changes_the_method_is_not_followed(storage: Storage) -> None:
    storage.script["PROPFIND /top/a"] = FILE
    storage.script["DELETE /top/a"] = Reply(302, headers={"Location": "/top/a/"})
    with pytest.raises(PermanentError, match="redirects elsewhere"):
        opened(storage).delete(storage.url + "/top/a")
    assert "DELETE /top/a/" not in storage.asked()


def test_a_token_is_not_shown_to_another_host(storage: Storage) -> None:
    other = Storage()
    try:
        address = f"http://localhost:{other.port}/top/a"
        storage.script["PROPFIND /top/a"] = Reply(307, headers={"Location": address})
        other.script["PROPFIND /top/a"] = FILE
        destination = open_destination(storage.url + "/top", Token(lambda: "secret"))
        assert destination.stat(storage.url + "/top/a") is not None
    finally:
        other.close()
    assert storage.requests[0][1]["authorization"] == "Bearer secret"
    assert "authorization" not in other.requests[0][1]


def test_redirects_come_to_an_end(storage: Storage) -> None:
    storage.script["PROPFIND /top/a"] = Reply(307, headers={"Location": "/top/a"})
    with pytest.raises(PermanentError, match="redirects elsewhere"):
        opened(storage).stat(storage.url + "/top/a")
    assert len(storage.requests) == 5


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, PermanentError),
        (401, AuthenticationError),
        (405, PermanentError),
        (409, PermanentError),
        (412, ExistsError),
        (423, BusyError),
        (429, BusyError),
        (500, RetryableError),
        (501, PermanentError),
        (503, BusyError),
        (504, BusyError),
        (507, RetryableError),
        (207, RetryableError),
    ],
)
def test_a_refusal_has_the_kind_that_decides_what_follows(
    storage: Storage, status: int, error: type[Exception]
) -> None:
    storage.script["PROPFIND /top/a"] = FILE
    storage.script["DELETE /top/a"] = Reply(status, b"<html><title>Why</title>", {"Retry-After": "7"})
    with pytest.raises(error) as caught:
        opened(storage).delete(storage.url + "/top/a")
    assert type(caught.value) is error
    assert storage.url + "/top/a" in str(caught.value) and "<" not in str(caught.value)
    assert getattr(caught.value, "retry_after", 7.0) in (7.0, None)


def test_the_anonymous_need_a_credential_and_the_known_a_permission(storage: Storage) -> None:
    storage.script["PROPFIND /top/a"] = Reply(403)
    with pytest.raises(AuthenticationError, match="give a credential"):
        opened(storage).stat(storage.url + "/top/a")
    with pytest.raises(PermissionRefusedError):
        open_destination(storage.url + "/top", Token(lambda: "known")).stat(storage.url + "/top/a")


def test_nobody_there_is_told_from_a_refusal() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as closed:
        port = closed.server_address[1]
    root = Root(f"dav://127.0.0.1:{port}/top")
    with pytest.raises(UnreachableError):
        WebDav(root, Requests(None, True, retries=QUICK)).stat(root.url + "/a")


def test_a_look_is_repeated_and_a_deletion_is_not(storage: Storage) -> None:
    """A lost answer may be that of a deletion that was done; the next one could hit a new file."""
    storage.script["PROPFIND /top/a"] = [CUT, Reply(503), FILE]
    storage.script["DELETE /top/a"] = CUT
    with pytest.raises(UnreachableError):
        opened(storage).delete(storage.url + "/top/a")
    assert storage.asked() == ["PROPFIND /top/a"] * 3 + ["DELETE /top/a"]


def test_an_answer_that_breaks_off_is_none(storage: Storage) -> None:
    """Half a listing would show a directory as empty."""
    whole = answer(entry("/top/a/", directory=True))
    storage.script["PROPFIND /top/a/"] = Reply(207, whole, length=len(whole) + 100)
    with pytest.raises(UnreachableError, match="ended before"):
        opened(storage).rmdir(storage.url + "/top/a")
    assert not [line for line in storage.asked() if line.startswith("DELETE")]


def test_destinations_share_their_connections(storage: Storage) -> None:
    with contextlib.closing(Connections()) as connections:
        for number in range(20):
            assert connections.open(f"{storage.url}/top{number}").stat(f"{storage.url}/top{number}") is None
    assert len(storage.requests) == 20 and len(storage.peers) == 1


# -- nothing but what was meant is deleted


def test_a_file_is_not_deleted_when_a_directory_is_in_its_place(storage: Storage) -> None:
    storage.script["PROPFIND /top/a"] = FOLDER
    with pytest.raises(ExistsError, match="is a directory now"):
        opened(storage).delete(storage.url + "/top/a")
    assert storage.asked() == ["PROPFIND /top/a"]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (answer(entry("/top/a/", directory=True), entry("/top/a/b")), NotEmptyError),
        (answer(entry("/top/a/", directory=True), entry("http://x/top/a/b", directory=True)), NotEmptyError),
        (answer(entry("/top/a")), ExistsError),
        (answer(entry("/top/a/", directory=True), entry("/inner/top/a/b")), PermanentError),
        (answer(entry("/inner/top/a/", directory=True), entry("/inner/top/a/b")), PermanentError),
        (answer(entry("/top/a/", directory=True), entry("/top/a/b/c")), PermanentError),
        (answer(entry("/top/", directory=True)), PermanentError),
        (answer(), PermanentError),
        (b"", RetryableError),
        (answer(entry("/top/a/", directory=True))[:-20], RetryableError),
    ],
    ids=[
        "a file in it",
        "a directory in it",
        "a file itself",
        "something from elsewhere",
        "seen through a proxy",
        "only deeper ones",
        "the one above",
        "nothing",
        "empty",
        "broken off",
    ],
)
def test_a_directory_is_deleted_only_when_the_server_says_that_it_is_empty(
    storage: Storage, body: bytes, error: type[Exception]
) -> None:
    storage.script["PROPFIND /top/a/"] = Reply(207, body)
    storage.script["DELETE /top/a/"] = storage.script["DELETE /top/a"] = Reply(204)
    with pytest.raises(error) as caught:
        opened(storage).rmdir(storage.url + "/top/a")
    assert type(caught.value) is error
    assert storage.asked() == ["PROPFIND /top/a/"]


def test_an_empty_directory_is_deleted_as_a_directory(storage: Storage) -> None:
    storage.script["PROPFIND /top/a/"] = FOLDER
    storage.script["DELETE /top/a/"] = [Reply(204), Reply(404)]
    destination, url = opened(storage), storage.url + "/top/a"
    assert destination.rmdir(url) is True
    assert destination.rmdir(url) is False  # somebody was faster


def test_nothing_is_moved_onto_something(storage: Storage) -> None:
    storage.script["PROPFIND /top"] = Reply(207, answer(entry("/top/", directory=True)))
    storage.script["PROPFIND /top/a"] = FILE
    storage.script["PROPFIND /top/b"] = [FILE, Reply(404), Reply(404), FILE]
    storage.script["MOVE /top/a"] = [Reply(412), Reply(201)]
    destination, old, new = opened(storage), storage.url + "/top/a", storage.url + "/top/b"
    with pytest.raises(ExistsError):
        destination.move(old, new)
    assert "MOVE /top/a" not in storage.asked()
    with pytest.raises(ExistsError):  # it came in between, and the server saw it
        destination.move(old, new)
    destination.move(old, new)
    (headers,) = [headers for line, headers in storage.requests if line == "MOVE /top/a"][1:]
    assert headers["overwrite"] == "F"
    assert headers["destination"] == f"http://127.0.0.1:{storage.port}/top/b"


def test_a_move_that_leads_elsewhere_is_told(storage: Storage) -> None:
    """XRootD 5.5 takes the new name without decoding it."""
    storage.script["PROPFIND /top"] = Reply(207, answer(entry("/top/", directory=True)))
    storage.script["PROPFIND /top/a"] = FILE
    storage.script["MOVE /top/a"] = Reply(201)
    with pytest.raises(PermanentError, match="is not at"):
        opened(storage).move(storage.url + "/top/a", storage.url + "/top/two%20words")


def test_nothing_is_moved_into_a_directory_that_is_not_there(storage: Storage) -> None:
    storage.script["PROPFIND /top/a"] = FILE
    with pytest.raises(NotFoundError, match="the directory of"):
        opened(storage).move(storage.url + "/top/a", storage.url + "/top/no/a")
    assert not [line for line in storage.asked() if line.startswith("MOVE")]


@pytest.mark.parametrize("status", [400, 500])
def test_a_path_through_a_file_leads_nowhere(storage: Storage, status: int) -> None:
    """Apache answers 400 to it, XRootD 500; others 404."""
    storage.script["PROPFIND /top"] = Reply(207, answer(entry("/top/", directory=True)))
    storage.script["PROPFIND /top/a"] = FILE
    for line in ("PROPFIND /top/a/", "PROPFIND /top/a/b", "MKCOL /top/a/b/"):
        storage.script[line] = Reply(status)
    destination, file = opened(storage), storage.url + "/top/a"
    assert destination.stat(file + "/b") is None
    assert destination.delete(file + "/b") is False
    for act in (
        lambda: destination.mkdir(file + "/b"),
        lambda: destination.rmdir(file),
        lambda: destination.listing(file),
    ):
        with pytest.raises(ExistsError, match="top/a is a file"):
            act()


def test_a_server_that_fails_is_not_taken_for_one_that_has_nothing(storage: Storage) -> None:
    for line in ("PROPFIND /top", "PROPFIND /top/a"):
        storage.script[line] = Reply(500)
    with pytest.raises(RetryableError):
        opened(storage).stat(storage.url + "/top/a")
    storage.script["PROPFIND /top"] = Reply(207, answer(entry("/top/", directory=True)))
    with pytest.raises(RetryableError):
        opened(storage).stat(storage.url + "/top/a")


def test_a_directory_is_made_with_those_above_it_but_not_above_the_root(storage: Storage) -> None:
    storage.script["MKCOL /top/a/b/"] = [Reply(409), Reply(201)]
    storage.script["MKCOL /top/a/"] = Reply(201)
    storage.script["MKCOL /top/"] = [Reply(201), Reply(409)]
    destination, url = opened(storage), storage.url + "/top/a/b"
    destination.mkdir(url)
    made = [line for line in storage.asked() if line.startswith("MKCOL")]
    assert made == ["MKCOL /top/a/b/", "MKCOL /top/", "MKCOL /top/a/", "MKCOL /top/a/b/"]
    storage.script["MKCOL /top/a/b/"] = Reply(409)
    with pytest.raises(NotFoundError, match="make it first"):
        destination.mkdir(url)


def test_a_directory_that_is_there_is_as_good_as_made(storage: Storage) -> None:
    storage.script["MKCOL /top/a/"] = Reply(405)
    storage.script["PROPFIND /top/a"] = [FOLDER, FILE]
    opened(storage).mkdir(storage.url + "/top/a")
    with pytest.raises(ExistsError, match="is a file"):
        opened(storage).mkdir(storage.url + "/top/a")


def test_a_tree_is_listed_directory_by_directory(storage: Storage) -> None:
    storage.script["PROPFIND /top/"] = Reply(
        207, answer(entry("/top/", directory=True), entry("/top/%FF/", directory=True), entry("/top/b"))
    )
    storage.script["PROPFIND /top/%FF/"] = Reply(
        207, answer(entry("/top/%ff/", directory=True), entry("/top/%ff/c%20d"))
    )
    found = [one.url.removeprefix(storage.url) for one in tree(opened(storage), storage.url + "/top")]
    assert found == ["/top/%FF", "/top/b", "/top/%FF/c%20d"]
    assert unquote_to_bytes(found[0]) == b"/top/\xff"


# -- through the service


@pytest.fixture
def service() -> Iterator[Service]:
    with serving() as running:
        yield running


def asked_by_service(service: Service) -> tuple[Destination, str]:
    root = "root://se.example.org//data"
    return open_destination(root, service=Client(Context(service.url, no_creds=True, retries=QUICK))), root


LOOK = {"size": 3, "mode": 0o100644, "mtime": 7}
LOOK_DIRECTORY = {"size": 0, "mode": 0o040755, "mtime": 7}


def test_storages_without_webdav_are_asked_through_the_service(service: Service) -> None:
    service.script["GET /dm/list"] = Said({"a%20b": LOOK, "two words": LOOK, "below/": LOOK_DIRECTORY})
    destination, root = asked_by_service(service)
    found = {one.url: one.is_directory for one in destination.listing(root)}
    assert found == {f"{root}/a%20b": False, f"{root}/two words": False, f"{root}/below": True}
    assert service.requests[-1].query == {"surl": root}
    with pytest.raises(PermanentError, match="space"):  # told, but no URL that could be sent back
        destination.delete(f"{root}/two words")


def test_the_service_is_asked_what_is_there_before_it_deletes(service: Service) -> None:
    looks = service.script["GET /dm/stat"] = [Said(LOOK_DIRECTORY), Said(LOOK_DIRECTORY), Said(LOOK)]
    service.script["GET /dm/list"] = Said({"kept": LOOK})
    service.script["POST /dm/unlink"] = Said(None)
    destination, root = asked_by_service(service)
    with pytest.raises(ExistsError):
        destination.delete(f"{root}/a")
    with pytest.raises(NotEmptyError):
        destination.rmdir(f"{root}/a")
    with pytest.raises(ExistsError):
        destination.move(f"{root}/b", f"{root}/a")
    assert not [line for line in service.asked() if line.startswith("POST")]
    assert len(looks) == 1
    assert destination.delete(f"{root}/a") is True
    assert service.requests[-1].json == {"surl": f"{root}/a"}


def test_a_directory_that_somebody_else_makes_meanwhile_is_made(service: Service) -> None:
    gone, there = Said({"message": "no"}, 404), Said(LOOK_DIRECTORY)
    service.script["GET /dm/stat"] = [gone, there, gone, there]
    service.script["POST /dm/mkdir"] = Said({"message": "File exists"}, 500)
    destination, root = asked_by_service(service)
    destination.mkdir(f"{root}/a")
    assert service.requests[-2].json == {"surl": f"{root}/a"}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (403, PermissionRefusedError),
        (419, AuthenticationError),
        (400, PermanentError),
        (500, RetryableError),
        (503, BusyError),
    ],
)
def test_what_the_service_says_of_a_storage_has_its_kind(
    service: Service, status: int, error: type[Exception]
) -> None:
    service.script["GET /dm/stat"] = Said({"status": f"{status} No", "message": "[5] no"}, status)
    destination, root = asked_by_service(service)
    with pytest.raises(error, match=r"\[5\] no") as caught:
        destination.stat(f"{root}/a")
    assert type(caught.value) is error
