"""What is known only while the server runs: progress between checkpoints and the state of connections."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.jetstream import marks
from agent.server.counters import Counters
from agent.server.store.transfers import Transfer


@dataclass(slots=True)
class Link:
    """How the sender's session with one destination is doing. Times are microseconds since 1970."""

    state: str = "disconnected"  # disconnected | negotiating | connected
    error: str = ""
    relay_ip: str | None = None  # of the last session that went through a relay
    server_id: str | None = None
    server_uid: str | None = None
    answering_id: str | None = None  # the server that answered the last ping
    public_key: str | None = None  # that the receiver has shown
    encrypted: bool = False  # the present session, or the last
    last_recv_us: int | None = None
    last_send_us: int | None = None
    algorithm: str = ""  # TCP's congestion control in the present session
    problem: str = ""  # why that is not the one that was asked for

    def told(self, state: str, error: str) -> None:
        """A new session alone does not say that there is room again: what moves does."""
        self.state = state
        if state != "connected" or not marks.is_no_space(self.error):
            self.error = error

    def moved(self, now_us: int) -> None:
        self.last_send_us = self.last_recv_us = now_us
        if marks.is_no_space(self.error) and self.state == "connected":
            self.error = ""


@dataclass(slots=True)
class RelayState:
    """How the link to the relay is doing through which this server is reached."""

    host: str
    port: int
    registered: bool = False
    trouble: str = ""  # why it is not


@dataclass(slots=True)
class Flow:
    """All that is sent, or all that is received."""

    rate: float = 0.0  # kbit/s, over the last second
    short: bool = False  # the server's limit let through less than was wanted


@dataclass(slots=True)
class Live:
    sending: Flow = field(default_factory=Flow)
    receiving: Flow = field(default_factory=Flow)
    connections: dict[int, float] = field(default_factory=dict)  # kbit/s over the last second
    progress: dict[int, Counters] = field(default_factory=dict)  # by transfer
    links: dict[int, Link] = field(default_factory=dict)  # by destination
    lanes: dict[int, dict[str, int]] = field(default_factory=dict)  # by destination: bytes sent by lane
    relay: RelayState | None = None

    def link(self, destination_id: int) -> Link:
        return self.links.setdefault(destination_id, Link())

    def counters(self, transfer: Transfer) -> Counters:
        """The latest of what the sender told and what is stored."""
        live = self.progress.get(transfer.id) if transfer.active else None
        return transfer.counters if live is None else live
