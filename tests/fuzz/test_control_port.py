"""Hostile clients of a real server's one port: everybody is answered, nobody else notices.

Longer runs: `HOSTILE_SECONDS=600 pytest tests/fuzz/test_control_port.py -k longer --timeout 900`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rawclient import Lines
from servers import Server, eventually, start_server

from agent.jetstream import APIInterface, constants
from agent.server import accounts, connection
from agent.server.data import wire

pytestmark = pytest.mark.fault

MIB = 1 << 20
RSS_BOUND = 500 * MIB  # of each process of the family, whatever was thrown at it here
PASSWORD = "a password that is in no log"
SECONDS = float(os.environ.get("HOSTILE_SECONDS", "2"))


class Place(NamedTuple):
    server: Server
    folder: Path
    pids: dict[str, int]


def resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server with accounts that receives from itself; both workers run. Afterwards it is still the same
    family, small, and has told nobody's password."""
    folder = tmp_path_factory.mktemp("control")
    accounts.add(folder / "accounts.json", "anna", PASSWORD, superuser=True)
    (folder / "source").write_bytes(os.urandom(2 * MIB))
    with start_server(folder / "s", accounts=folder / "accounts.json") as server:
        made = Place(server, folder, {})
        transfer_works(made)
        made.pids.update(family(server))
        before = sorted(os.listdir(folder))
        yield made
        transfer_works(made)
        assert family(server) == made.pids, "somebody died and was started again"
        for name, pid in made.pids.items():
            assert resident(pid) < RSS_BOUND, name
        assert PASSWORD not in server.log() and "Traceback" not in server.log()
        assert sorted(os.listdir(folder)) == before


def family(server: Server) -> dict[str, int]:
    found = {"control": server.pid}
    for role in ("sender", "receiver"):
        found[role] = server.worker(role) or 0
    assert all(found.values())
    return found


@contextlib.contextmanager
def anna(place: Place) -> Iterator[APIInterface]:
    with place.server.api() as api:
        api.server.auth("anna", PASSWORD)
        yield api


def transfer_works(place: Place) -> None:
    with anna(place) as api:
        source = str(place.folder / "source")
        manifest = api.send.waitForManifest(api.send.createManifest(mappings={"/file": source}))
        destination = api.send.createDestination("127.0.0.1", destinationPort=place.server.port)
        params: dict[str, Any] = {"userName": "anna", "password": PASSWORD, "destinationPath": "/in"}
        done = api.send.waitForTransfer(api.send.createTransfer(destination, manifest, **params))
        assert done["status"] == "complete", done["errorMessage"]
    arrived = place.server.receive_root / "in" / "file"
    assert arrived.read_bytes() == (place.folder / "source").read_bytes()
    arrived.unlink()


def logged_in(place: Place) -> Lines:
    lines = Lines(place.server.port)
    answer = lines.call("server.auth", user="anna", password=PASSWORD)
    assert "error" not in answer, answer
    return lines


def raw(place: Place) -> socket.socket:
    return socket.create_connection(("127.0.0.1", place.server.port), 20)


def rest(sock: socket.socket) -> bytes:
    """All that still comes, up to the end or a reset."""
    found = b""
    with contextlib.suppress(ConnectionError), sock:
        while data := sock.recv(65536):
            found += data
    return found


# --- lines ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":1e999,"method":"server.echo"}',
        b'{"jsonrpc":"2.0","id":-1e999,"method":"server.echo"}',
        b'{"jsonrpc":"2.0","id":NaN,"method":"server.echo"}',
        b'{"jsonrpc":"2.0","id":1,"method":"server.echo","params":[Infinity]}',
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"server.echo"}',
        b'{"jsonrpc":"2.0","id":1,"method":"server.echo","params":{"text":"a","text":"b"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"server.echo","params":{"text":"\xff"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"server.echo"',
        b"[" * 5000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
        b"[" + b"9" * 5000 + b"]",
        b"[" + b"[]," * 1200 + b"1]",
        b"{" + b"\0" * 100,
        b"[]",
    ],
    ids=lambda line: repr(line[:40]),
)
def test_lines_that_are_no_requests_are_answered_in_words(place: Place, line: bytes) -> None:
    """Each with an error; the same connection goes on."""
    with Lines(place.server.port) as lines:
        lines.say(line + b"\n")
        answer = lines.hear()
        errors = [answer] if isinstance(answer, dict) else answer
        assert errors and all(each["error"]["message"] for each in errors)
        assert lines.call("server.echo", text="still here")["result"] == "still here"


def test_nesting_is_answered_at_every_depth(place: Place) -> None:
    """Also where reading it just works and answering it needs a little more."""
    with logged_in(place) as lines:
        for depth in range(850, 1010):
            nested = b"[" * depth + b"]" * depth
            lines.say(
                b'{"jsonrpc":"2.0","id":1,"method":"lanesync.waitEvents","params":{"x":' + nested + b"}}\n"
            )
            assert "error" in lines.hear()


def test_long_lines_are_for_those_who_have_logged_in(place: Place) -> None:
    """Strangers are refused at a quarter of a megabyte, and cannot keep others from sending long lines."""
    strangers = [raw(place) for _ in range(2 * connection.LARGE_LINES)]
    for sock in strangers:
        sock.sendall(b'{"jsonrpc":"2.0","x":"' + b"x" * connection.SMALL_LINE)
    with logged_in(place) as lines:
        names = {f"/d/{number}": {"src": "/nowhere", "size": 1} for number in range(20_000)}
        assert "result" in lines.call("send.createManifest", mappings=names)
    for sock in strangers:
        sock.sendall(b"x" * 100)
        assert b"logged in" in rest(sock)


def test_an_endless_line_ends_the_connection_in_words(place: Place) -> None:
    with logged_in(place) as lines:
        with contextlib.suppress(OSError):
            for _ in range(constants.MAX_MESSAGE_BYTES // MIB + 4):
                lines.say(b" {" + b"x" * MIB)
        assert str(constants.MAX_MESSAGE_BYTES) in lines.hear()["error"]["message"]


def test_what_strangers_asked_for_is_gone_with_their_connection(place: Place) -> None:
    """A record that nobody can read any more fills no disk."""
    with Lines(place.server.port) as lines:
        asked = lines.call("server.authAsync", user="anna", password=PASSWORD)["result"]["requestId"]
        assert "error" not in lines.call("server.getRequestResult", requestId=asked)
    with logged_in(place) as chief:
        chief.call("server.superuser")

        def gone() -> bool:
            answer = chief.call("server.getRequestStatus", requestId=asked)
            return "was not found" in answer.get("error", {}).get("message", "")

        eventually(gone, what="the record is gone")


def test_requests_that_are_never_read_are_dropped_with_their_client(place: Place) -> None:
    """A client that asks and asks and takes no answer costs a bounded amount and nobody else anything."""
    flooding = [logged_in(place) for _ in range(3)]
    line = b'{"jsonrpc":"2.0","id":1,"method":"server.echo","params":["' + b"x" * 4000 + b'"]}\n'
    for lines in flooding:
        lines.sock.settimeout(1)
        with contextlib.suppress(OSError):
            for _ in range(4000):
                lines.say(line)
    transfer_works(place)
    for lines in flooding:
        lines.sock.close()


# --- who comes to the port ------------------------------------------------------------------------------


def alpn(*protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@pytest.mark.parametrize(
    ("protocols", "said", "heard"),
    [
        (
            ("lanesync-data/1",),
            b'{"jsonrpc":"2.0","id":1,"method":"server.echo"}\n',
            b"does not begin as a data",
        ),
        ((), wire.PREAMBLE + b"\0" * 64, b"not JSON"),
        (("lanesync-relay/1",), wire.PREAMBLE + b"\n", b"not JSON"),
        (("http/1.1",), b"GET / HTTP/1.1\r\n\r\n", b"not JSON"),
        (("lanesync-data/1", "http/1.1"), b"GET / HTTP/1.1\r\n\r\n", b"does not begin as a data"),
    ],
)
def test_one_protocol_does_not_get_to_the_other_through_tls(
    place: Place, protocols: tuple[str, ...], said: bytes, heard: bytes
) -> None:
    """What the handshake announced is what is spoken."""
    with alpn(*protocols).wrap_socket(raw(place)) as tls:
        tls.sendall(said)
        found = b""
        with contextlib.suppress(OSError):
            while heard not in found and (data := tls.recv(65536)):
                found += data
        assert heard in found


@pytest.mark.parametrize("protocols", [(), ("lanesync-data/1",)])
def test_older_tls_is_refused(place: Place, protocols: tuple[str, ...]) -> None:
    context = alpn(*protocols)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with raw(place) as sock, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(sock)


@pytest.mark.parametrize("protocols", [(), ("lanesync-data/1",)])
def test_plain_bytes_after_tls_end_the_connection(place: Place, protocols: tuple[str, ...]) -> None:
    """Somebody in between who adds a line in the clear is not heard."""
    sock = raw(place)
    tls = alpn(*protocols).wrap_socket(socket.socket(fileno=os.dup(sock.fileno())))
    sock.sendall(b'{"jsonrpc":"2.0","id":1,"method":"server.echo","params":["heard"]}\n')
    found = rest(sock)
    assert b"heard" not in found
    tls.close()


def test_silent_connections_keep_nobody_out(place: Place) -> None:
    """More than there may be undecided ones, some in the middle of a word."""
    silent = []
    for number in range(300):
        sock = raw(place)
        sock.sendall((b"", b"L", wire.PREAMBLE[:8], b"\x16\x03\x01\x10\x00")[number % 4])
        silent.append(sock)
    transfer_works(place)
    for sock in silent:
        sock.close()


def test_clients_that_only_stay_keep_no_transfers_out(place: Place) -> None:
    """A thousand clients that do nothing: the next one is told so, and data sessions go on."""
    idle: list[socket.socket] = []
    with anna(place) as api:
        manifest = api.send.waitForManifest(
            api.send.createManifest(mappings={"/beside": str(place.folder / "source")})
        )
        destination = api.send.createDestination("127.0.0.1", destinationPort=place.server.port)
        try:
            for _ in range(1100):
                idle.append(raw(place))
                idle[-1].sendall(b"{")
            assert b"connections are open" in rest(idle.pop())
            done = api.send.createTransfer(destination, manifest, userName="anna", password=PASSWORD)
            assert api.send.waitForTransfer(done)["status"] == "complete"
        finally:
            for sock in idle:
                sock.close()
    (place.server.receive_root / "beside").unlink()
    eventually(lambda: "result" in _echo(place), what="clients are taken again")


def _echo(place: Place) -> dict[str, Any]:
    with Lines(place.server.port) as lines:
        return dict(lines.call("server.echo", text="x"))


# --- all at once ----------------------------------------------------------------------------------------

_BEGINNINGS = (
    b"{",
    b"[",
    b"\n",
    b"LSDATA/1\n",
    b"LSFIND/1\n",
    b"\x16\x03\x01",
    b"GET / HTTP/1.1\r\n",
    b'{"jsonrpc":"2.0","id":1,"method":"server.',
    b'{"jsonrpc":"2.0","id":1,"method":"server.auth","params":["anna","',
    wire.PREAMBLE + wire.HEADER.pack(wire.Kind.HELLO, 0, 0, 0, 0, 30, 0, 0),
)


def _annoy(place: Place, generator: random.Random, until: float) -> None:
    """Connect, say something, and leave, in any order, until the time is over."""
    while time.monotonic() < until:
        with contextlib.suppress(OSError), raw(place) as sock:
            sock.settimeout(0.2)
            for _ in range(generator.randrange(5)):
                said = generator.choice(_BEGINNINGS) + generator.randbytes(
                    generator.choice((0, 9, 500, 70_000))
                )
                sock.sendall(said + generator.choice((b"", b"\n", b'"}\n')))
                if generator.random() < 0.3:
                    sock.recv(65536)
            if generator.random() < 0.3:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # ends by a reset


def test_a_longer_time_of_everything_at_once(place: Place) -> None:
    """Four hostile peers without pause, and transfers beside them, each of which arrives."""
    seed = int(os.environ.get("HOSTILE_SEED", "1"))
    until = time.monotonic() + SECONDS
    peers = [
        threading.Thread(target=_annoy, args=(place, random.Random(seed * 10 + number), until))
        for number in range(4)
    ]
    for peer in peers:
        peer.start()
    worked = 0
    while time.monotonic() < until:
        transfer_works(place)
        worked += 1
    for peer in peers:
        peer.join()
    assert worked > 0
    for name, pid in place.pids.items():
        assert resident(pid) < RSS_BOUND, name
    told = json.dumps({name: resident(pid) // MIB for name, pid in place.pids.items()})
    print(f"seed {seed}: {worked} transfers, resident MiB {told}")
