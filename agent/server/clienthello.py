"""What a TLS client says first: which protocols it wants to speak (ALPN) and whom it wants to reach (SNI).

Pure and bounded: bytes in, an answer or `ClientHelloError` out. RFC 8446, sections 4.1.2 and 5.1.
"""

from __future__ import annotations

from dataclasses import dataclass

HANDSHAKE = 0x16
MAX_BYTES = 16 * 1024
"""Longest ClientHello that is looked at, record headers included; usual ones have 300 to 2000 bytes."""

_RECORD_HEADER = 5
_CLIENT_HELLO = 1
_MAX_RECORD = 1 << 14
_SERVER_NAME, _ALPN = 0, 16


class ClientHelloError(Exception):
    """This is no ClientHello, or one that is too long."""


@dataclass(frozen=True, slots=True)
class ClientHello:
    protocols: tuple[bytes, ...] = ()
    server_name: str = ""


def parse(data: bytes) -> ClientHello | int:
    """The ClientHello that a connection begins with, or how many of its bytes are needed at least to know
    more than from `data` (always more than that). ClientHelloError for anything else."""
    message = bytearray()
    at = 0
    while True:
        if len(data) < at + _RECORD_HEADER:
            return _bounded(at + _RECORD_HEADER)
        kind, major, length = data[at], data[at + 1], int.from_bytes(data[at + 3 : at + 5], "big")
        if kind != HANDSHAKE or major != 3 or not 0 < length <= _MAX_RECORD:
            raise ClientHelloError("no TLS handshake record")
        at += _RECORD_HEADER + length
        _bounded(at)
        message += data[at - length : at]
        if message and message[0] != _CLIENT_HELLO:
            raise ClientHelloError("the handshake does not begin with a ClientHello")
        if len(data) < at:
            return at
        if len(message) >= 4:
            size = 4 + int.from_bytes(message[1:4], "big")
            _bounded(size)
            if len(message) >= size:
                return _body(_Reader(bytes(message[4:size])))


def _bounded(size: int) -> int:
    if size > MAX_BYTES:
        raise ClientHelloError(f"a ClientHello of more than {MAX_BYTES} bytes")
    return size


class _Reader:
    """Takes bytes from the front; ClientHelloError when there are too few."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise ClientHelloError("a ClientHello is cut short")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """Bytes behind a length of `size` bytes."""
        return self.take(self.number(size))


def _body(reader: _Reader) -> ClientHello:
    reader.take(2 + 32)  # version, random
    reader.vector(1)  # session id
    reader.vector(2)  # cipher suites
    reader.vector(1)  # compression
    if not reader.left:
        return ClientHello()
    protocols: tuple[bytes, ...] = ()
    server_name = ""
    extensions = _Reader(reader.vector(2))
    while extensions.left:
        kind, content = extensions.number(2), _Reader(extensions.vector(2))
        if kind == _ALPN:
            protocols = _vectors(content.vector(2))
        elif kind == _SERVER_NAME:
            server_name = _host_name(content.vector(2))
    return ClientHello(protocols, server_name)


def _vectors(data: bytes) -> tuple[bytes, ...]:
    reader, found = _Reader(data), []
    while reader.left:
        found.append(reader.vector(1))
    return tuple(found)


def _host_name(data: bytes) -> str:
    reader = _Reader(data)
    while reader.left:
        kind, name = reader.number(1), reader.vector(2)
        if kind == 0:
            return name.decode("ascii", "replace")
    return ""
