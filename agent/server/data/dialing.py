"""The way to a destination's server: a TCP connection from the wanted local ports, direct or through a relay.
What is spoken over it comes later."""

from __future__ import annotations

import errno
import socket
import time
from typing import Any

from agent.server.data.target import Target
from agent.server.data.wire import WireError
from agent.server.relay import protocol

SENDER_PORTS = 32
"""A sender port is the first of so many: a session has several streams, and a port that a connection has just
left cannot be used at once for the same destination."""
_TAKEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)


def connect(target: Target, timeout: float) -> socket.socket:
    """A blocking socket on which the destination's server is spoken to. OSError when it cannot be reached,
    WireError with what to do when a relay does not bring us together."""
    if not target.relay_address:
        return _dial(target.address, target.port, target.sender_port, timeout)
    relay = protocol.address(target.relay_address, target.relay_port)
    try:
        sock = _dial(target.relay_address, target.relay_port, target.sender_port, timeout)
    except OSError as error:
        raise WireError(f"the relay {relay} cannot be reached: {error.strerror or error}") from error
    try:
        _meet(sock, target, relay)
        sock.settimeout(timeout)
    except OSError as error:
        sock.close()
        raise WireError(f"the relay {relay} was lost: {error.strerror or error}") from error
    except BaseException:
        sock.close()
        raise
    return sock


def _meet(sock: socket.socket, target: Target, relay: str) -> None:
    """Have the relay bring us together with the receiver."""
    deadline = time.monotonic() + protocol.ANSWER_SECONDS
    receiver = protocol.address(target.address, target.port)
    wanted = {"key": target.public_key} if target.public_key else {"address": receiver}
    sock.settimeout(protocol.ANSWER_SECONDS)
    sock.sendall(protocol.encode("connect", relay=protocol.VERSION, **wanted))
    try:
        answer = protocol.decode(_line(sock, deadline))
    except protocol.ProtocolError as error:
        raise WireError(f"no LaneSync relay answers at {relay}") from error
    if answer["op"] == "connected":
        return
    if answer.get("code") == protocol.UNKNOWN_RECEIVER:
        by = " by its key" if target.public_key else ""
        raise WireError(
            f"the relay {relay} does not know the receiver {receiver}{by}; start it with --recv-relay {relay}"
        )
    raise WireError(f"the relay {relay} refuses: {protocol.excerpt(answer)}")


def _line(sock: socket.socket, deadline: float) -> bytes:
    """The relay's answer, byte by byte: what follows it belongs to the session."""
    line = bytearray()
    while not line.endswith(b"\n"):
        sock.settimeout(max(0.001, deadline - time.monotonic()))
        data = sock.recv(1)
        if not data:
            raise ConnectionResetError("it closed the connection")
        line += data
        if len(line) > protocol.MAX_ANSWER:
            raise protocol.ProtocolError("the answer is too long")
    return bytes(line)


def _dial(host: str, port: int, sender_port: int, timeout: float) -> socket.socket:
    """Connect to the first address of a host that answers."""
    last: OSError | None = None
    for family, kind, number, _, where in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        try:
            return _from_port((family, kind, number), where, sender_port, timeout)
        except OSError as error:
            last = error
    raise last or OSError(f"{host} has no address")


def _from_port(
    kind: tuple[int, int, int], where: tuple[Any, ...], sender_port: int, timeout: float
) -> socket.socket:
    if sender_port <= 0:  # -1 asks for the port to be shared, which TCP has no need of
        return _connected(kind, where, 0, timeout)
    for local in range(sender_port, min(sender_port + SENDER_PORTS, 65536)):
        try:
            return _connected(kind, where, local, timeout)
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
    last = min(sender_port + SENDER_PORTS, 65536) - 1
    raise OSError(f"the local ports from {sender_port} to {last} (senderPort) are all in use")


def _connected(
    kind: tuple[int, int, int], where: tuple[Any, ...], local: int, timeout: float
) -> socket.socket:
    sock = socket.socket(*kind)
    try:
        sock.settimeout(timeout)
        if local:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", local))
        sock.connect(where)
    except BaseException:
        sock.close()
        raise
    return sock
