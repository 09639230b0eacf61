"""How long those wait who failed to log in. Pure; time is a parameter, seconds of a clock that never jumps.

A user name waits longer with each failure, up to PAUSE. A peer may fail a few times, for whatever names;
after that its attempts follow each other at a growing distance, and those that would wait too long are
refused. Nobody is locked out: a user at another peer waits PAUSE at most, and one who has logged in from this
peer before has a line of their own.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

FIRST = 0.25
PAUSE = 4.0
LONGEST = 10.0  # a peer's attempts do not queue up for longer
FREE_FAILURES = 10  # of a peer
FREE_AT_ONCE = 16  # attempts of a peer that are not decided yet
FORGET = 600.0  # seconds after the last failure
MAX_KEYS = 10_000


@dataclass(slots=True)
class _Record:
    failures: int = 0
    undecided: int = 0
    last: float = 0.0  # failure
    next: float = 0.0  # a peer's next attempt is looked at from then on


class _Records:
    """A bounded table; who failed longest ago goes first."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def get(self, key: str, now: float) -> _Record:
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = _Record()
            if len(self._records) > MAX_KEYS:
                self._records.popitem(last=False)
        elif record.failures and now - record.last > FORGET:
            record.failures = 0
        self._records.move_to_end(key)
        return record

    def drop(self, key: str) -> None:
        self._records.pop(key, None)

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __len__(self) -> int:
        return len(self._records)


class Patience:
    """Every `admit` that returns is followed by one `failed` or `succeeded` with the same names."""

    def __init__(self) -> None:
        self.users = _Records()
        self.peers = _Records()
        self.known = _Records()  # users who have logged in, each at a peer

    def _line(self, user: str, peer: str, now: float) -> _Record:
        """Whose attempts follow each other."""
        network = _network(peer)
        both = f"{user} {network}"
        return self.known.get(both, now) if both in self.known else self.peers.get(network, now)

    def admit(self, user: str, peer: str, now: float) -> float | None:
        """Seconds until this attempt is looked at; None = refuse it now."""
        mine, theirs = self.users.get(user, now), self._line(user, peer, now)
        over = max(0, theirs.failures - FREE_FAILURES) + max(0, theirs.undecided - FREE_AT_ONCE)
        pause = _pause(over)
        start = max(now, theirs.next) if pause else now
        if start - now > LONGEST:
            return None
        theirs.next = start + pause
        theirs.undecided += 1
        return max(start - now, mine.last + _pause(mine.failures) - now, 0.0)

    def failed(self, user: str, peer: str, now: float) -> int:
        """Failures of this user name in a row."""
        mine, theirs = self.users.get(user, now), self._line(user, peer, now)
        theirs.undecided = max(0, theirs.undecided - 1)
        for record in (mine, theirs):
            record.failures += 1
            record.last = now
        return mine.failures

    def succeeded(self, user: str, peer: str, now: float) -> None:
        theirs = self._line(user, peer, now)
        theirs.undecided = max(0, theirs.undecided - 1)
        self.known.get(f"{user} {_network(peer)}", now).failures = 0
        self.users.drop(user)


def _pause(failures: int) -> float:
    return 0.0 if failures <= 0 else min(PAUSE, FIRST * 2.0 ** min(failures - 1, 10))


def _network(peer: str) -> str:
    """An IPv6 host has a whole /64 to come from."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    if address.version == 6:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return peer
