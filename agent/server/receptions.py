"""What this server receives, and from whom, as far as it remembers: for `recv.getTransfers` and `getSources`.

Times are microseconds since 1970, rates kbit/s. What ended is forgotten after an hour, what was interrupted
and never went on after two days; of more than a thousand the oldest that ended go first.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from agent.server.ipc import Message
from agent.server.store.scope import Scope

MAX_TRANSFERS = 1000
KEEP_ENDED_US = 3600 * 1_000_000
KEEP_INTERRUPTED_US = 48 * 3600 * 1_000_000
PROGRESS_US = 1_000_000  # between two reports of what came
WINDOW_US = 10 * 1_000_000
RECEIVING = "receiving"
_COUNTS = {"complete": "completeTransferCount", "error": "errorTransferCount"}
SourceKey = tuple[str, str]
Structure = dict[str, Any]


@dataclass(slots=True)
class Received:
    """One transfer, over all its sessions."""

    uid: str
    user: str
    source: SourceKey
    address: str
    port: int
    path: str
    total: int
    status: str = RECEIVING
    interrupted: bool = False
    last_error_us: int | None = None
    last_recv_us: int | None = None
    last_send_us: int | None = None
    changed_us: int = 0

    def seen(self, scope: Scope) -> bool:
        return scope.owner is None or (scope.token is None and scope.owner == self.user)

    def old(self, now: int) -> bool:
        if self.status == RECEIVING:
            return self.interrupted and now - self.changed_us > KEEP_INTERRUPTED_US
        return now - self.changed_us > KEEP_ENDED_US

    def told(self) -> Structure:
        return {
            "transferId": self.uid,
            "sourceIP": self.address,
            "sourcePort": self.port,
            "destinationPath": self.path,
            "status": self.status,
            "totalSize": self.total,
            "lastErrorTime": self.last_error_us,
            "lastRecvTime": self.last_recv_us,
            "lastSendTime": self.last_send_us,
        }


@dataclass(slots=True)
class Source:
    """A sending server. The average is over the time in which something came, the window the last ten
    seconds."""

    address: str
    port: int
    public_key: str | None
    encrypted: bool
    total: int = 0
    active_us: int = 0
    last_us: int = 0
    recent: deque[tuple[int, int]] = field(default_factory=deque)

    def came(self, size: int, now: int) -> None:
        """It took no longer to come than reports are apart."""
        self.total += size
        self.active_us += max(1, min(PROGRESS_US, now - self.last_us))
        self.last_us = now
        self.recent.append((now, size))
        while not now - WINDOW_US < self.recent[0][0] <= now:  # the clock may have been set back
            self.recent.popleft()

    def average(self) -> float:
        return self.total * 8000 / self.active_us if self.active_us else 0.0

    def window(self, now: int) -> float:
        return sum(size for at, size in self.recent if now - WINDOW_US < at <= now) * 8000 / WINDOW_US


class Receptions:
    """Pure: time is a parameter."""

    def __init__(self) -> None:
        self._transfers: dict[str, Received] = {}  # latest change last
        self._sources: dict[SourceKey, Source] = {}

    def note(self, message: Message, now: int) -> Structure | None:
        """A report of the receiver worker about one transfer; its structure when it has become complete.
        KeyError or ValueError for a malformed report."""
        ident, address = str(message["ident"]), str(message["sourceIP"])
        port, key = int(message["sourcePort"]), message.get("publicKey")
        source = (address, str(message.get("sourceUid") or key or ""))
        known = self._transfers.pop(ident, None)
        if known is None:
            known = Received(str(message["uid"]), str(message["user"]), source, address, port, "", 0)
        before = known.status
        known.source, known.address, known.port = source, address, port
        known.path, known.total = str(message["destinationPath"]), int(message["totalSize"])
        known.status, known.interrupted = str(message["status"]), bool(message.get("interrupted"))
        known.changed_us = known.last_recv_us = known.last_send_us = now
        if known.interrupted or known.status == "error":
            known.last_error_us = now
        self._transfers[ident] = known
        peer = self._sources.setdefault(source, Source(address, port, None, encrypted=False, last_us=now))
        peer.port, peer.public_key, peer.encrypted = port, key, bool(message.get("encrypted"))
        if message.get("received"):
            peer.came(int(message["received"]), now)
        self.expire(now)
        return known.told() if known.status == "complete" != before else None

    def progress(self, rows: list[list[Any]], now: int) -> None:
        """Bytes that came since the last report."""
        came: dict[SourceKey, int] = {}
        for ident, size, received_us, sent_us in rows:
            known = self._transfers.get(str(ident))
            if known is not None and size:
                known.last_recv_us, known.last_send_us = int(received_us), int(sent_us)
                came[known.source] = came.get(known.source, 0) + int(size)
        for source, size in came.items():
            if source in self._sources:
                self._sources[source].came(size, now)

    def interrupted(self, now: int) -> None:
        """The worker is gone, and all sessions with it."""
        for known in self._transfers.values():
            if known.status == RECEIVING and not known.interrupted:
                known.interrupted, known.last_error_us, known.changed_us = True, now, now

    def expire(self, now: int) -> None:
        for ident in [ident for ident, known in self._transfers.items() if known.old(now)]:
            del self._transfers[ident]
        while len(self._transfers) > MAX_TRANSFERS:
            ended = (ident for ident, known in self._transfers.items() if known.status != RECEIVING)
            del self._transfers[next(ended, None) or next(iter(self._transfers))]
        used = {known.source for known in self._transfers.values()}
        for source in self._sources.keys() - used:
            del self._sources[source]

    def transfers(self, scope: Scope, now: int) -> list[Structure]:
        self.expire(now)
        return [known.told() for known in self._transfers.values() if known.seen(scope)]

    def sources(self, scope: Scope, now: int) -> list[Structure]:
        """Those who send something that the caller may see; counts are of that."""
        self.expire(now)
        found: dict[SourceKey, Structure] = {}
        for known in self._transfers.values():
            if not known.seen(scope):
                continue
            told = found.setdefault(known.source, self._told(self._sources[known.source], now))
            if known.status != RECEIVING:
                told[_COUNTS[known.status]] += 1
            elif known.interrupted:
                told["inactiveTransferCount"] += 1
            else:
                told["activeTransferCount"] += 1
                told["encryptedConnectionState"] = "connected"
        return list(found.values())

    def _told(self, source: Source, now: int) -> Structure:
        return {
            "sourceIP": source.address,
            "sourcePort": source.port,
            "activeTransferCount": 0,
            "inactiveTransferCount": 0,
            "completeTransferCount": 0,
            "errorTransferCount": 0,
            "aveRecvRate": round(source.average(), 3),
            "aveRecvRateWindow": round(source.window(now), 3),
            "destinationPublicKey": source.public_key,
            "encryptedConnectionState": "disconnected",
            "encryptionEnabled": source.encrypted,
        }
