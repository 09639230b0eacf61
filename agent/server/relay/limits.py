"""How much of a relay anybody may take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

from agent.server.relay.protocol import DEAD_SECONDS


@dataclass(frozen=True, slots=True)
class Limits:
    receivers: int = 256
    receivers_each: int = 64  # of one address
    undecided: int = 512  # connections that have not said yet what they want
    undecided_each: int = 128  # of one address, behind which there may be many hosts
    waiting: int = 256  # senders whose receiver is on its way
    waiting_each: int = 64  # of one receiver
    sessions: int = 2048
    sessions_each: int = 512  # of one receiver
    sessions_from: int = 256  # of one sender's address
    decide_seconds: float = 10.0  # for a peer to say what it wants
    rendezvous_seconds: float = 10.0  # for a receiver to come to a sender
    dead_seconds: float = DEAD_SECONDS  # without a line of a receiver
    half_seconds: float = 60.0  # without a byte when one direction has ended
    idle_seconds: float = 900.0  # without a byte at all; servers close theirs after a minute


class Tally:
    """Counts in all and by owner, up to a limit of both. Pure."""

    def __init__(self, limit: int, limit_each: int) -> None:
        self._limit = limit
        self._limit_each = limit_each
        self._each: Counter[Hashable] = Counter()
        self.total = 0

    def enter(self, owner: Hashable) -> bool:
        """Whether there was room; who entered leaves later."""
        if self.total >= self._limit or self._each[owner] >= self._limit_each:
            return False
        self._each[owner] += 1
        self.total += 1
        return True

    def leave(self, owner: Hashable) -> None:
        self._each[owner] -= 1
        self.total -= 1
        if not self._each[owner]:
            del self._each[owner]
