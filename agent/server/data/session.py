"""A session as its sender knows it: the streams to one receiver, and what goes over them next."""

from __future__ import annotations

from collections import deque

from agent.server.data import wire
from agent.server.data.wire import Header, Json, Stream

Frame = tuple[Header, bytes]


class Session:
    """One connection to the receiver, of several streams. It ends as a whole and is never reused. OSError
    when it is gone already."""

    def __init__(self, streams: list[Stream], hello: Json, ident: str = "") -> None:
        self.ident = ident  # what the receiver knows it by
        self.streams = streams
        self.outboxes: list[deque[Frame]] = [deque() for _ in streams]
        self.level = streams[0].level  # of all of them
        self.loopback = wire.is_loopback(streams[0].sock)  # asked while it stands: later it may not be told
        self.epoch = str(hello.get("epoch"))
        self.features = frozenset(str(name) for name in hello.get("features") or ())
        self.over = False
        self.error = ""
        self.piece = wire.CHUNK_SIZE  # most content of one frame
        self.used = len(streams)  # for content; what is beyond them rests

    @property
    def wide(self) -> bool:
        """Whether it has many streams, of which some may be slow."""
        return self.piece < wire.CHUNK_SIZE

    @property
    def worn(self) -> bool:
        return any(stream.worn for stream in self.streams)

    @property
    def confidential(self) -> bool:
        """Whether nobody but the receiver can read along."""
        return self.level > 0 or self.loopback
