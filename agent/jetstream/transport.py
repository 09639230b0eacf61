"""The bytes of a control connection, plain or TLS 1.3, and whether the server is the one that is meant.

A server is known by a certificate that an authority of ours vouches for (`ca`), or by its public key
(`publicKey`). On loopback the connection is plain unless TLS is asked for; to another host it is always TLS.
One thread may receive while another sends.
"""

from __future__ import annotations

import ipaddress
import select
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass
from typing import Protocol

from agent.jetstream.errors import ConnectionFailedError, UntrustedServerError

SEND_STALL_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Security:
    """What is asked of a connection (keyword parameters of `Jetstream().api`)."""

    tls: bool | None = None  # None = to other hosts only
    ca: str | None = None  # PEM file
    public_key: str | None = None
    insecure: bool = False  # any server will do


class Transport(Protocol):
    def receive(self, size: int, timeout: float | None) -> bytes | None:
        """At least one byte; none at the end; None when nothing came in time. OSError."""

    def send(self, data: bytes) -> None:
        """All of it. OSError, also when the server takes nothing for a minute."""

    def ended(self) -> bool:
        """Whether the server hung up, as far as that is known without waiting. Only while nobody receives."""

    def shutdown(self) -> None:
        """Wakes who receives or sends. OSError when the connection is gone."""

    def close(self) -> None: ...


def connect(host: str, port: int, timeout: float, security: Security) -> Transport:
    """OSError when nobody answers; ConnectionFailedError when it is not the server that is meant."""
    deadline = time.monotonic() + timeout
    sock = socket.create_connection((host, port), timeout)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        address = f"{host}:{port}"
        local = _is_loopback(sock)
        if not _wants_tls(security, address, local=local):
            return PlainTransport(sock)
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        return _secure(sock, host, address, security, local=local)
    except BaseException:
        sock.close()
        raise


def _is_loopback(sock: socket.socket) -> bool:
    found = ipaddress.ip_address(str(sock.getpeername()[0]).partition("%")[0])
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _wants_tls(security: Security, address: str, *, local: bool) -> bool:
    if security.tls is False and not local:
        raise ConnectionFailedError(
            f"{address} is another host, which is spoken to over TLS only; leave out tls"
        )
    if security.tls is None:
        return not local or security.ca is not None or security.public_key is not None
    return security.tls


def _secure(
    sock: socket.socket, host: str, address: str, security: Security, *, local: bool
) -> SecureTransport:
    from agent.jetstream import keys

    context = _context(security)
    pin = None if security.public_key is None else _pin(security.public_key)
    name = host if pin is None else keys.server_name(pin)
    try:
        tls = context.wrap_socket(sock, server_hostname=name)
    except ssl.SSLCertVerificationError as error:
        raise UntrustedServerError(
            f"{address} shows a certificate that {security.ca} does not vouch for ({error.verify_message}); "
            "name another ca, or the server's publicKey"
        ) from error
    except ssl.SSLError as error:
        raise ConnectionFailedError(f"{address} does not speak TLS 1.3: {error.reason or error}") from error
    try:
        _check(tls, address, pin, security, local=local)
    except BaseException:
        tls.close()
        raise
    return SecureTransport(tls)


def _context(security: Security) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=security.ca)
    except OSError as error:
        raise ConnectionFailedError(f"ca {security.ca} cannot be read as PEM: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if security.ca is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # the key is looked at instead
    elif security.public_key is not None:
        context.check_hostname = False  # the key is looked at as well
    return context


def _pin(text: str) -> str:
    from agent.jetstream import keys

    try:
        return keys.normalise(text)
    except ValueError as error:
        raise ConnectionFailedError(f"publicKey must be {error}") from None


def _check(tls: ssl.SSLSocket, address: str, pin: str | None, security: Security, *, local: bool) -> None:
    """UntrustedServerError unless the server has shown what was asked for."""
    from agent.jetstream import keys

    try:
        shown = keys.of_certificate(tls.getpeercert(binary_form=True) or b"")
    except ValueError as error:
        raise ConnectionFailedError(f"{address} shows no usable certificate: {error}") from error
    if pin is not None:
        if not keys.same(pin, shown):
            raise UntrustedServerError(
                f"{address} shows the public key {shown}, not {pin}: nothing was sent. If its key was "
                "replaced on purpose, name the new one",
                shown,
            )
    elif security.ca is None and not local and not security.insecure:
        raise UntrustedServerError(
            f"{address} is not known: its public key is {shown}. Compare it with what "
            "`lanesync keygen --show` prints there, then connect with publicKey (--public-key), or name the "
            "authority of its certificate with ca (--ca)",
            shown,
        )


class PlainTransport:
    """Owns a connected socket."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(None)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", SEND_STALL_SECONDS, 0))
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def receive(self, size: int, timeout: float | None) -> bytes | None:
        if timeout is not None and not self._poll.poll(max(0.0, timeout) * 1000):
            return None
        return self._sock.recv(size)

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def ended(self) -> bool:
        try:
            return self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False

    def shutdown(self) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._sock.close()


class SecureTransport:
    """The TLS object must not be in two calls at once: a lock guards it, and waiting is done outside."""

    def __init__(self, tls: ssl.SSLSocket) -> None:
        tls.setblocking(False)
        self._tls = tls
        self._lock = threading.Lock()
        self._early = b""  # read while looking whether the server is still there

    def receive(self, size: int, timeout: float | None) -> bytes | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            found, events = self._try(size)
            if found is not None:
                return found
            if not self._wait(events, None if deadline is None else deadline - time.monotonic()):
                return None

    def _try(self, size: int) -> tuple[bytes | None, int]:
        """(what is there, what to wait for if nothing is)."""
        with self._lock:
            if self._early:
                early, self._early = self._early, b""
                return early, 0
            try:
                return self._tls.recv(size), 0
            except ssl.SSLWantReadError:
                return None, select.POLLIN
            except ssl.SSLWantWriteError:
                return None, select.POLLOUT
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b"", 0

    def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                with self._lock:
                    view = view[self._tls.send(view) :]
                continue
            except ssl.SSLWantWriteError:
                events = select.POLLOUT
            except ssl.SSLWantReadError:
                events = select.POLLIN
            if not self._wait(events, SEND_STALL_SECONDS):
                raise TimeoutError(f"the server takes nothing for {SEND_STALL_SECONDS} s")

    def ended(self) -> bool:
        found, _ = self._try(1)
        if found:
            self._early = found
        return found == b""

    def _wait(self, events: int, timeout: float | None) -> bool:
        poll = select.poll()
        poll.register(self._tls.fileno(), events)
        return bool(poll.poll(None if timeout is None else max(0.0, timeout) * 1000))

    def shutdown(self) -> None:
        socket.socket.shutdown(self._tls, socket.SHUT_RDWR)  # its own would drop TLS under a reader

    def close(self) -> None:
        with self._lock:
            self._tls.close()
