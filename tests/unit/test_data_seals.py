"""A bit that flips in a frame is noticed, whichever it is; peers that do not seal are served as before."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import xxhash

from agent.server.data import wire
from agent.server.data.wire import CONTENT, HEADER, SEAL_SIZE, Header, Json, Kind, Stream, WireError

HEAD = HEADER.size + SEAL_SIZE
FULL = Header(
    0, flags=5, generation=0x0102, handle=0x01020304, seq=0x00010203, offset=1 << 40, digest=1 << 20
)


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.close()


class Line:
    """What a sender sends may be looked at, changed, and read by a receiver."""

    def __init__(self) -> None:
        self._near, self._far = socket.socketpair()
        self.sender = Stream(self._near)

    def passing(self) -> bytes:
        return self._far.recv(1 << 20)

    def deliver(self, data: bytes, *, sealed: bool = False) -> tuple[Header, bytes]:
        """One frame as it is read by a receiver that hears nothing more."""
        near, far = socket.socketpair()
        with near, far:
            near.sendall(data)
            near.shutdown(socket.SHUT_WR)
            stream = Stream(far)
            stream.sealed = sealed
            header, payload = stream.receive() or pytest.fail("nothing came")
            return header, bytes(payload)

    def close(self) -> None:
        self._near.close()
        self._far.close()


def flips(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The data with each of its bits flipped, and in which byte."""
    for bit in range(8 * len(data)):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        yield bit // 8, bytes(spoilt)


def noticed(line: Line, data: bytes) -> bool:
    """Whether the stream ends, or the content is asked for again."""
    try:
        header, payload = line.deliver(data, sealed=True)
    except WireError:
        return True
    return header.kind in CONTENT and xxhash.xxh3_64_intdigest(payload) != header.digest


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.name)
def test_every_bit_of_every_sealed_frame_counts(line: Line, kind: Kind) -> None:
    """Headers with all of their fields, seals and payloads."""
    payload = b'{"a": 1}' if wire.LIMITS[kind] else b""
    header = FULL._replace(kind=kind)
    if kind in CONTENT:
        header = header._replace(digest=xxhash.xxh3_64_intdigest(payload))
    line.sender.sealed = True
    line.sender.send(header, payload)
    data = line.passing()
    arrived, came = line.deliver(data, sealed=True)
    assert len(data) == HEAD + len(payload) and came == payload
    assert arrived._replace(length=0, digest=0) == header._replace(digest=0)
    if not payload:
        assert arrived.digest == FULL.digest, "where there is no payload it is free for other use"
    missed = [at for at, spoilt in flips(data) if not noticed(line, spoilt)]
    assert missed == []


def test_a_damaged_header_is_noticed_before_its_payload_is_waited_for(line: Line) -> None:
    line.sender.sealed = True
    line.sender.send(Header(Kind.CHUNK, handle=1), b"x" * 100)
    data = bytearray(line.passing())
    data[12] ^= 0x10  # of the length: a megabyte more
    near, far = socket.socketpair()
    with near, far:
        near.sendall(data[:HEAD])
        far.settimeout(10)
        stream = Stream(far)
        stream.sealed = True
        with pytest.raises(WireError, match="header was damaged"):
            stream.receive()


def test_every_bit_of_a_greeting_counts(line: Line) -> None:
    """It is not sealed yet: what was agreed on in it must not be another thing at each end."""
    line.sender.send_hello({"protocol": 1, "features": ["sealed", "sets"], "session": "s"})
    data = line.passing()
    header, payload = line.deliver(data)
    assert header.kind == Kind.HELLO and wire.both_seal(wire.decode_json(payload))
    for at, spoilt in flips(data):
        try:
            header, _ = line.deliver(spoilt)
        except WireError:
            continue
        assert header.kind != Kind.HELLO, f"a bit of byte {at} was missed"  # which no greeting bears


def test_a_greeting_of_an_older_peer_has_no_digest_and_seals_nothing(line: Line) -> None:
    line.sender.send_json(Header(Kind.HELLO), {"protocol": 1, "features": ["sets"]})
    header, payload = line.deliver(line.passing())
    assert header.digest == 0 and not wire.both_seal(wire.decode_json(payload))
    line.sender.send(Header(Kind.CLOSE, handle=3))
    data = line.passing()
    assert len(data) == HEADER.size and line.deliver(data)[0] == Header(Kind.CLOSE, handle=3)


@pytest.mark.parametrize("hello", [{}, {"features": None}, {"features": "sealed"}, {"features": 7}])
def test_features_that_are_no_list_seal_nothing(hello: Json) -> None:
    assert not wire.both_seal(hello)


def test_what_follows_a_greeting_is_sealed(line: Line) -> None:
    """The last frame without a seal is the receiver's greeting."""
    line.sender.send_hello({"features": ["sealed"]}, seal=True)
    greeting = line.passing()
    line.sender.send(Header(Kind.CLOSED, handle=1))
    data = line.passing()
    assert line.deliver(greeting)[0].kind == Kind.HELLO
    assert len(data) == HEAD == line.sender.overhead
    assert line.deliver(data, sealed=True)[0] == Header(Kind.CLOSED, handle=1)
