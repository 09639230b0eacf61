"""How a receiver finds its relay."""

from __future__ import annotations

from dataclasses import dataclass

from agent.jetstream import keys
from agent.server.errors import StartError
from agent.server.relay import protocol


@dataclass(frozen=True, slots=True)
class Way:
    host: str
    port: int
    key: str = ""  # pinned; "" = any
    ping_seconds: float = protocol.PING_SECONDS
    dead_seconds: float = protocol.DEAD_SECONDS

    @property
    def shown(self) -> str:
        """For messages."""
        return protocol.address(self.host, self.port)


def parse_way(relay: str, key: str) -> Way:
    """From `--recv-relay` and `--recv-relay-key`. StartError when they are malformed."""
    try:
        host, port = protocol.parse_address(relay, protocol.DEFAULT_PORT)
    except ValueError as error:
        raise StartError(f"--recv-relay: {error}; write for example relay.example.org:8887") from error
    try:
        return Way(host, port, keys.normalise(key) if key else "")
    except ValueError as error:
        raise StartError(f"--recv-relay-key must be {error}") from error
