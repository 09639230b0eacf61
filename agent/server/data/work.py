"""Pieces of a transfer that a thread takes in hand, and what is known of large files."""

from __future__ import annotations

import os
from collections import Counter, deque
from dataclasses import dataclass, field

from agent.server.data.digesting import ContentDigest
from agent.server.data.manifest import Entry
from agent.server.data.reading import Extent, Identity


@dataclass(slots=True, eq=False)
class LargeFile:
    """A file that goes in chunks."""

    entry: Entry
    fd: int  # -1 when it is not read (or closed)
    identity: Identity
    generation: int
    todo: deque[Extent]
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

    def __post_init__(self) -> None:
        self.left = sum(end - start for start, end, hole in self.todo if not hole)

    def close(self) -> None:
        """Give the descriptor back once no thread reads from it."""
        self.over = True
        self.todo.clear()
        if self.busy == 0 and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


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
