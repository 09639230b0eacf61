"""TLS 1.3 on data connections: both ends show their keys, and no authority vouches for them.

The receiver's certificate is only the envelope of its key. The handshake proves that it holds that key;
whether it is the right one is decided before anything else is sent. The sender proves its key with its HELLO.

A stream is written by one thread while another reads it, but an SSL object must not be in two calls at once.
So the socket never blocks, a lock is held for the length of a call, and waiting is done outside of it: a
writer that waits for its peer keeps no reader from reading.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from typing import Any

from OpenSSL import SSL

from agent.jetstream import constants, keys
from agent.server import clienthello
from agent.server.callers import DATA_PROTOCOL
from agent.server.clienthello import ClientHelloError
from agent.server.errors import StartError
from agent.server.identity import Identities, Identity

PLAIN = constants.MIN_CIPHER_NONE
KEY_BYTES = 1 << 38
"""Sent with one connection's keys before a new one is better: AES-GCM is good for 2^24.5 records."""
RECORD = 16 * 1024  # most content of a TLS record; one is written and read per call
STRONG = b"TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
ANY = b"TLS_AES_128_GCM_SHA256:" + STRONG
LOOK = 2048  # bytes of a first look at a ClientHello
_BINDING = b"EXPORTER-lanesync-data-sender"
Buffer = bytes | bytearray | memoryview


class SecureError(OSError):
    """The connection cannot be used: the handshake failed, or what arrives was altered on its way."""


class Contexts:
    """What handshakes of this server need. For any thread."""

    def __init__(self, identities: Identities) -> None:
        self._identities = identities
        self._lock = threading.Lock()
        self._made: dict[object, SSL.Context] = {}

    def own(self) -> tuple[Identity, ...]:
        """Identities that may be shown now, the current one first. SecureError when there is none."""
        try:
            return self._identities.valid(time.time())
        except StartError as error:
            raise SecureError(f"this server's key cannot be used: {error}") from error

    def client(self, level: int) -> SSL.Context:
        with self._lock:
            if level not in self._made:
                context = _context(STRONG if level >= constants.MIN_CIPHER_ENCRYPTED_256 else ANY)
                context.set_alpn_protos([DATA_PROTOCOL])
                self._made[level] = context
            return self._made[level]

    def server(self, wanted: str) -> SSL.Context:
        """With the key of ours that a peer expects, the current one if it is none of them."""
        own = self.own()
        identity = next((one for one in own if one.name == wanted), own[0])
        number = ("server", identity.certificate.serial_number)
        with self._lock:
            if number not in self._made:
                context = _context(ANY)
                context.use_certificate(identity.certificate)
                context.use_privatekey(identity.key)
                self._made[number] = context
            return self._made[number]


def _context(ciphers: bytes) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_tls13_ciphersuites(ciphers)
    return context


def connect(
    sock: socket.socket, contexts: Contexts, level: int, pin: str | None, timeout: float
) -> SecureSocket:
    """TLS as the sender, within `timeout` seconds; `pin` is the key that is expected, and compared by the
    caller. SecureError; the socket is still the caller's then."""
    connection = SSL.Connection(contexts.client(level), sock)
    if pin is not None:
        connection.set_tlsext_host_name(keys.server_name(pin).encode("ascii"))
    connection.set_connect_state()
    _handshake(sock, connection, time.monotonic() + timeout)
    certificate = connection.get_peer_certificate(as_cryptography=True)
    if certificate is None:
        raise SecureError("the receiver shows no key")
    return SecureSocket(sock, connection, keys.encode(certificate.public_key()))


def accept(sock: socket.socket, contexts: Contexts, timeout: float) -> SecureSocket:
    """TLS as the receiver. The sender's key is in its HELLO."""
    deadline = time.monotonic() + timeout
    connection = SSL.Connection(contexts.server(_wanted(sock, deadline)), sock)
    connection.set_accept_state()
    _handshake(sock, connection, deadline)
    return SecureSocket(sock, connection, None)


def _wanted(sock: socket.socket, deadline: float) -> str:
    """The server name in the ClientHello, which is looked at and not taken."""
    needed = 1
    while True:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, needed)
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        try:
            first = sock.recv(max(needed, LOOK), socket.MSG_PEEK)
            found = clienthello.parse(first) if len(first) >= needed else None
        except TimeoutError as error:
            raise SecureError("TLS was not agreed on in time") from error
        except ClientHelloError as error:
            raise SecureError(f"TLS could not be agreed on ({error})") from error
        if found is None:
            raise SecureError("the connection ended before TLS was agreed on")
        if isinstance(found, clienthello.ClientHello):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            return found.server_name
        needed = found


def _handshake(sock: socket.socket, connection: SSL.Connection, deadline: float) -> None:
    sock.setblocking(False)
    while True:
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            events = select.POLLIN
        except SSL.WantWriteError:
            events = select.POLLOUT
        except SSL.Error as error:
            raise SecureError(f"TLS could not be agreed on ({_why(error)})") from error
        else:
            return
        poll = select.poll()
        poll.register(sock, events)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise SecureError("TLS was not agreed on in time")


class SecureSocket:
    """What a Stream needs of a socket. One thread may read while one writes; any may shut down."""

    def __init__(self, sock: socket.socket, connection: SSL.Connection, peer_key: str | None) -> None:
        bits = connection.get_cipher_bits() or 0
        self.level = constants.MIN_CIPHER_ENCRYPTED_256 if bits >= 256 else constants.MIN_CIPHER_ENCRYPTED_128
        self.peer_key = peer_key  # that it has shown in the handshake; normalised
        self.binding = connection.export_keying_material(_BINDING, 32)  # of this session, at both ends
        self.sent = 0  # bytes, with this connection's keys
        self._sock = sock
        self._tls = connection
        self._lock = threading.Lock()
        self._closed = False
        self._timeout: float | None = None
        self._send_timeout: float | None = None
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(sock, select.POLLIN)
        self._writable.register(sock, select.POLLOUT)

    @property
    def worn(self) -> bool:
        return self.sent > KEY_BYTES

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def limit_sends(self, seconds: float) -> None:
        """Sending fails when the peer takes nothing for so long."""
        self._send_timeout = seconds

    def recv_into(self, view: memoryview, size: int, _flags: int = 0) -> int:
        """At least one byte, 0 at the end of the stream (also one that was cut: frames know their ends)."""
        size = min(size, RECORD)
        while True:
            try:
                with self._lock:
                    self._check()
                    return int(self._tls.recv_into(view, size))
            except SSL.WantReadError:
                self._wait(self._readable, self._timeout)
            except SSL.WantWriteError:
                self._wait(self._writable, self._timeout)
            except (SSL.ZeroReturnError, SSL.SysCallError) as error:
                return _end(error)
            except SSL.Error as error:
                if not error.args or not error.args[0]:
                    return 0  # it was over already: the writer has found that out
                raise SecureError(f"what arrived was altered on its way ({_why(error)})") from error

    def sendall(self, data: Buffer) -> None:
        view = memoryview(data)
        while view:
            view = view[self._send(view[:RECORD]) :]

    def sendmsg(self, parts: tuple[bytes, Buffer]) -> int:
        """All of a head and what follows it. The head shares a record with the beginning."""
        head, body = parts
        room = RECORD - len(head)
        self.sendall(head + bytes(body[:room]))
        if len(body) > room:
            self.sendall(memoryview(body)[room:])
        return len(head) + len(body)

    def _send(self, view: memoryview) -> int:
        while True:
            try:
                with self._lock:
                    self._check()
                    count = int(self._tls.send(view))
                    self.sent += count
                    return count
            except SSL.WantWriteError:
                self._wait(self._writable, self._send_timeout or self._timeout)
            except SSL.WantReadError:
                self._wait(self._readable, self._send_timeout or self._timeout)
            except SSL.SysCallError as error:
                code = error.args[0] if error.args and int(error.args[0]) > 0 else errno.EPIPE
                raise OSError(code, "the peer closed the connection") from error
            except SSL.Error as error:
                raise SecureError(f"sending failed ({_why(error)})") from error

    def _check(self) -> None:
        """Under the lock: a closed descriptor may be somebody else's by now."""
        if self._closed:
            raise OSError(errno.EBADF, "the connection was closed")

    @staticmethod
    def _wait(poll: select.poll, timeout: float | None) -> None:
        if not poll.poll(None if timeout is None else timeout * 1000):
            raise TimeoutError(errno.ETIMEDOUT, "the peer does not answer")

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._sock.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    def getpeername(self) -> Any:
        return self._sock.getpeername()

    def getsockname(self) -> Any:
        return self._sock.getsockname()

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        self._sock.setsockopt(level, option, value)

    def getsockopt(self, level: int, option: int, size: int = 4) -> bytes:
        return self._sock.getsockopt(level, option, size)


def _end(error: SSL.Error) -> int:
    """0 for an end of the stream, OSError for a loss of the connection."""
    code = int(error.args[0]) if isinstance(error, SSL.SysCallError) and error.args else 0
    if code > 0:
        raise OSError(code, os.strerror(code))
    return 0


def _why(error: SSL.Error) -> str:
    """OpenSSL's words for it."""
    if isinstance(error, SSL.SysCallError):
        return "the peer closed the connection"
    found = error.args[0] if error.args else ()
    texts = [str(entry[-1]) for entry in found if isinstance(entry, tuple) and entry]
    return texts[-1] if texts else "the connection is over"
