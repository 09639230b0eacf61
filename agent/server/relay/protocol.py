"""What senders, receivers and a relay say to each other before bytes are passed on.

Everything is a line of JSON, an object with the key "op". On one port of the relay:

a sender, plain             connect → connected | refused, then the session's bytes
a receiver, in TLS          welcome ← relay, register → registered | refused, then ping → pong for ever,
                            and `incoming ← relay` for each sender that asks
a receiver, plain           accept with the token of an `incoming` → connected | refused, then the bytes

Nobody sends a byte of a session before it has read `connected`.
"""

from __future__ import annotations

import ipaddress
import json
from typing import Any

from agent.jetstream.constants import DEFAULT_RELAY_PORT

VERSION = 1
ALPN = "lanesync-relay/1"
DEFAULT_PORT = DEFAULT_RELAY_PORT
MAX_LINE = 16 * 1024
MAX_ANSWER = 4096  # the line before a session's bytes
MAX_KEYS = 4
MAX_ADDRESSES = 8
MAX_TEXT = 500  # of a peer's words that are passed on to people

PING_SECONDS = 15.0
DEAD_SECONDS = 45.0  # without a line from the peer
ANSWER_SECONDS = 20.0  # for the relay to bring a sender and its receiver together

UNKNOWN_RECEIVER = "unknownReceiver"  # the one refusal that a sender words itself
_CONTEXT = b"lanesync relay registration 1\0"

Message = dict[str, Any]


class ProtocolError(Exception):
    """The peer does not keep to the protocol; the connection is of no more use."""


class RefusedError(Exception):
    """The relay does not do what was asked; the text is for people."""

    def __init__(self, text: str, code: str = "refused") -> None:
        super().__init__(text)
        self.code = code


def encode(op: str, **values: object) -> bytes:
    """ValueError when the line is longer than any peer reads."""
    message = {"op": op, **values}
    line = json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"
    if len(line) > MAX_LINE:
        raise ValueError(f"a relay message {op!r} has {len(line)} bytes, more than {MAX_LINE}")
    return line


def decode(line: bytes) -> Message:
    """The message of one line, with or without its newline. ProtocolError when it is none."""
    if len(line) > MAX_LINE:
        raise ProtocolError(f"a line is longer than {MAX_LINE} bytes")
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("a line is not JSON") from error
    if not isinstance(message, dict) or not isinstance(message.get("op"), str):
        raise ProtocolError("a line is not an object with an op")
    return message


def require_version(message: Message) -> None:
    if message.get("relay") != VERSION:
        raise ProtocolError(f"the relay protocol is version {VERSION}; bring both sides to one version")


def text(message: Message, key: str, limit: int = 1024) -> str:
    """A string of a message, not empty. ProtocolError when it is missing, too long or not printable."""
    value = message.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= limit or not value.isprintable():
        raise ProtocolError(f"{key} is missing or no text of at most {limit} characters")
    return value


def texts(message: Message, key: str, limit: int) -> tuple[str, ...]:
    """A list of at most `limit` strings."""
    values = message.get(key)
    if not isinstance(values, list) or len(values) > limit:
        raise ProtocolError(f"{key} is missing or no list of at most {limit}")
    return tuple(text({key: value}, key) for value in values)


def excerpt(message: Message, key: str = "error") -> str:
    """A peer's words, safe to show: bounded and printable."""
    words = str(message.get(key) or "no reason given")[:MAX_TEXT]
    return "".join(letter if letter.isprintable() else "?" for letter in words)


def address(host: str, port: int) -> str:
    """The one spelling of `host:port` by which receivers are known."""
    host = host.strip().removeprefix("[").removesuffix("]").lower().rstrip(".")
    try:
        host = str(ipaddress.ip_address(host))
    except ValueError:
        pass
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(written: str, default_port: int | None = None) -> tuple[str, int]:
    """`HOST:PORT` → (host, port). ValueError when it is malformed."""
    host, separator, port = written.strip().rpartition(":")
    if default_port is not None and (not separator or "]" in port):
        host, port = written.strip(), str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else 0
    if not host or not 0 < number <= 65535 or not host.isprintable() or " " in host or len(host) > 253:
        raise ValueError(f"{written[:80]!r} is not HOST:PORT")
    return host, number


def signed_bytes(nonce: str, relay_key: str, key: str, addresses: tuple[str, ...]) -> bytes:
    """What a receiver signs to show that `key` is its own. It holds for one link to one relay."""
    said = [nonce, relay_key, key, list(addresses)]
    return _CONTEXT + json.dumps(said, ensure_ascii=True, separators=(",", ":")).encode("ascii")
