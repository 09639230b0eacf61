"""A sender's session as the receiver knows it, and what is told of the transfers in it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.server.data import wire
from agent.server.data.granting import Authority, Grants, RefusedError
from agent.server.data.wire import WireError
from agent.server.ipc import Message

if TYPE_CHECKING:
    from agent.server.data.received import ReceivedTransfer
    from agent.server.data.wire import Stream

MAX_HANDLES = 10_000  # transfers of one session; of our senders fewer are open


@dataclass(slots=True)
class Reception:
    """One transfer in one session, for `recv.getTransfers`. Times are microseconds since 1970."""

    ident: str  # by which this server knows the transfer
    uid: str  # by which its sender does
    user: str  # whose it is; empty where there are no accounts
    source: Message  # who sends it
    path: str
    total: int
    received: int = 0  # bytes, frames and all, in this session
    last_recv: int = 0
    last_send: int = 0
    told: int = 0  # of the bytes
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, size: int) -> None:
        with self.lock:
            self.received += size
            self.last_recv = self.last_send = now_us()  # each piece is answered as it is stored

    def news(self) -> int:
        """Bytes that came since this was asked last."""
        with self.lock:
            came, self.told = self.received - self.told, self.received
            return came

    def report(self, status: str, *, interrupted: bool = False) -> Message:
        return {
            "op": "recvTransfer",
            "ident": self.ident,
            "uid": self.uid,
            "user": self.user,
            "destinationPath": self.path,
            "status": status,
            "interrupted": interrupted,
            "totalSize": self.total,
            "received": self.news(),
            **self.source,
        }


def now_us() -> int:
    return time.time_ns() // 1000


FEW_STREAMS = 16  # of one session, while many are served


class Session:
    """All streams of one sender's session, which ends as one."""

    def __init__(self, ident: str, level: int, peer_key: str | None, authority: Authority) -> None:
        self.ident = ident
        self.level = level  # what protects it: MIN_CIPHER_*
        self.peer_key = peer_key  # the sender's public key; None when it is not encrypted
        self.server_uid = ""  # of the sender, as it says
        self.grants = Grants(authority)
        self.lock = threading.Lock()
        self.streams: set[Stream] = set()
        self.handles: dict[int, ReceivedTransfer] = {}
        self.receptions: dict[int, Reception] = {}
        self.over = threading.Event()  # no thread of it runs any more
        self.ending = False
        self.closed = False  # takes no more transfers; guarded by the receiver's lock

    def take(self, stream: Stream, *, few: bool) -> None:
        """One more stream. `few`: there is room for others, but not for what one session would rather have.
        WireError when it cannot be."""
        with self.lock:
            if self.ending or (self.level, self.peer_key) != (stream.level, stream.peer_key):
                raise WireError("the session is over; begin a new one")
            if few and len(self.streams) >= FEW_STREAMS:
                raise WireError(f"no more than {FEW_STREAMS} streams for one session just now")
            self.streams.add(stream)

    def end(self) -> None:
        """Shut all streams down; `over` is set when their threads are through with the frame at hand."""
        with self.lock:
            self.ending = True
            for stream in self.streams:
                stream.shutdown()

    def check_room(self, handle: int) -> None:
        """WireError when it is over, RefusedError when it has no room for one more transfer; under the
        receiver's lock."""
        if self.closed:
            raise WireError("the session is over")
        if len(self.handles) >= MAX_HANDLES and handle not in self.handles:
            raise RefusedError(
                f"the receiving server has {MAX_HANDLES} transfers of this sender open and takes no more at "
                "once; create the transfer again when some have ended"
            )

    def expel(self, message: str) -> None:
        """End it, and tell the sender why."""
        with self.lock:
            streams = list(self.streams)
        for stream in streams:
            stream.refuse(message, wire.UNAUTHORIZED)
        self.end()
