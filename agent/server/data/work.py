"""Pieces of a transfer that a thread takes in hand, and what is known of large files."""

from __future__ import annotations

import os
import secrets
from collections import Counter, deque
from dataclasses import dataclass, field

from agent.server.data.delta import SUMS_COST
from agent.server.data.delta_sending import Comparing
from agent.server.data.digesting import ContentDigest
from agent.server.data.manifest import Entry
from agent.server.data.ranges import Range
from agent.server.data.reading import Extent, Identity
from agent.server.data.wire import CHUNK_SIZE

ENTRY_COST = 64  # bytes on the wire beside the content


@dataclass(slots=True, eq=False)
class LargeFile:
    """A file that goes in chunks."""

    entry: Entry
    fd: int  # -1 when it is not read (or closed)
    identity: Identity
    generation: int
    todo: deque[Extent]  # in the order of the file, each for the first time
    busy: int = 0  # chunks being read and sent
    naks: int = 0
    damaged: Counter[int] = field(default_factory=Counter)  # how often, by CHUNK_SIZE of the file
    changed: bool = False
    answered: int = -1  # how many NAKs the last END took account of
    over: bool = False
    announced: set[int] = field(default_factory=set)  # streams of this session that carry some of it
    left: int = 0  # bytes of content still to be sent
    sent: int = 0  # and those that were
    digest: ContentDigest = field(default_factory=ContentDigest)
    seed: int | None = None  # of block digests, where the receiver is asked for an older version
    parked: bool = False  # until the receiver says whether it has one
    comparing: Comparing | None = None
    wanted: deque[Range] = field(default_factory=deque)  # of what was compared

    def __post_init__(self) -> None:
        self.left = sum(end - start for start, end, hole in self.todo if not hole)

    @property
    def ready(self) -> bool:
        """Whether there is something to send just now."""
        if self.changed or self.parked:
            return False
        waits = self.comparing is not None and self.comparing.full
        return bool(self.wanted) or (bool(self.todo) and not waits)

    @property
    def all_claimed(self) -> bool:
        return not (self.todo or self.wanted)

    def claim(self, limit: int) -> ChunkWork:
        """The next piece, of about `limit` bytes on the wire."""
        if self.wanted:
            start, end = self.wanted.popleft()
            stop = _stop(start, end, limit)
            if stop < end:
                self.wanted.appendleft((stop, end))
            return ChunkWork(self, start, stop, False, again=True)
        start, end, hole = self.todo.popleft()
        if hole:
            return ChunkWork(self, start, end, True)
        stop = start if self.comparing is None else self.comparing.claim(start, end, limit)
        compare = stop > start
        if not compare:
            stop = _stop(start, end, limit)
            if self.comparing is not None:
                self.comparing.sent_plain(stop - start)
        if stop < end:
            self.todo.appendleft((stop, end, False))
        return ChunkWork(self, start, stop, False, compare)

    def ask(self) -> None:
        """Have the receiver say whether it has an older version, before anything else."""
        self.seed, self.parked = secrets.randbits(64), True

    def forget_todo(self) -> None:
        self.todo.clear()
        self.wanted.clear()

    def close(self) -> None:
        """Give the descriptor back once no thread reads from it."""
        self.over = True
        self.forget_todo()
        if self.busy == 0 and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _stop(start: int, end: int, limit: int) -> int:
    return min(end, start + max(1, min(limit, CHUNK_SIZE)))


@dataclass(frozen=True, slots=True)
class PackWork:
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class OpenWork:
    entry: Entry


@dataclass(frozen=True, slots=True)
class ChunkWork:
    file: LargeFile
    start: int
    end: int
    hole: bool
    compare: bool = False  # its digests are sent in its place
    again: bool = False  # it was read before, for its digests

    @property
    def cost(self) -> int:
        """What it takes on the wire."""
        if self.hole:
            return ENTRY_COST
        size = self.end - self.start
        return ENTRY_COST + size // SUMS_COST if self.compare else size

    @property
    def turn(self) -> int:
        """As how many bytes it counts among the lanes: comparing takes about as long as sending."""
        return self.end - self.start if self.compare else 0


@dataclass(frozen=True, slots=True)
class RecheckWork:
    """Of a set that is whole at the receiver: see whether the sources are still what was sent."""


Work = PackWork | OpenWork | ChunkWork | RecheckWork


@dataclass(frozen=True, slots=True)
class KnownPartial:
    """What the receiver said it has of a file."""

    generation: int
    identity: Identity
    ranges: list[tuple[int, int]]


def known_partials(partials: object) -> dict[int, KnownPartial]:
    """ValueError or TypeError when the receiver's answer makes no sense."""
    found = {}
    if not isinstance(partials, list):
        raise TypeError("partials")
    for seq, generation, identity, ranges in partials:
        size, mtime, ctime, inode = (int(part) for part in identity)
        spans = [(int(start), int(end)) for start, end in ranges]
        if not all(0 <= start <= end <= size for start, end in spans):
            raise ValueError("ranges that the file does not have")
        found[int(seq)] = KnownPartial(int(generation), Identity(size, mtime, ctime, inode), spans)
    return found
