"""What `lanesync relay` was asked to do."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.jetstream import keys
from agent.server.errors import StartError
from agent.server.relay.protocol import DEFAULT_PORT

DEFAULT_LISTEN = f"127.0.0.1:{DEFAULT_PORT}"


@dataclass(frozen=True, slots=True)
class RelayOptions:
    state_dir: Path
    host: str
    port: int  # 0 = any free one
    accepted: tuple[str, ...] = ()  # keys of receivers, normalised; none = every receiver under its own
    address_file: Path | None = None
    ready_fd: int | None = None


def parse_listen(text: str) -> tuple[str, int]:
    """`HOST:PORT` → (numeric address, port). StartError when it is malformed or not of this machine."""
    host, separator, port = text.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise StartError(f"--listen {text!r} is not HOST:PORT; write for example {DEFAULT_LISTEN}")
    host = host.removeprefix("[").removesuffix("]")
    try:
        found = socket.getaddrinfo(host or "0.0.0.0", int(port), type=socket.SOCK_STREAM)  # noqa: S104
    except OSError as error:
        raise StartError(
            f"--listen {text!r}: {host!r} is not an address of this machine ({error})"
        ) from error
    numeric = min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0]
    return str(numeric), int(port)


def parse_keys(given: Iterable[str]) -> tuple[str, ...]:
    """Keys in their one spelling. StartError for what is no key."""
    try:
        return tuple(keys.normalise(key) for key in given)
    except ValueError as error:
        raise StartError(f"--accept-key must be {error}") from error
