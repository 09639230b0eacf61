"""Many small files in one frame.

Payload: for each file an index record, big endian (seq u32, flags u8, path length u16, content length u32,
mtime_ns i64), its path and its content, back to back; the frame's digest covers them all. The path is
relative to the transfer's destination path, in bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from agent.server.data.wire import PACK_FILE_SIZE, PACK_FILES, USUAL_PAYLOAD, WireError

RECORD = struct.Struct(">IBHIq")
EXECUTABLE = 1
DIRECTORY = 2
LINK = 4  # the content is what a symbolic link says

OUTCOME = struct.Struct(">IB")
"""What the receiver answers for each file of a pack: seq and outcome."""


class PackedFile(NamedTuple):
    seq: int
    flags: int
    path: bytes
    mtime_ns: int
    content: bytes | memoryview


class Packing:
    """A pack that is being made, in memory that is used for one after the other. For one thread."""

    def __init__(self, usual: int = USUAL_PAYLOAD) -> None:
        """`usual`: bytes that few packs exceed."""
        self._buffer = bytearray(usual + PACK_FILE_SIZE)
        self._size = 0

    def begin(self) -> None:
        self._size = 0

    def room(self, path: bytes) -> memoryview:
        """Where the content of the file `path` goes: room for the largest, and a byte more."""
        start = self._size + RECORD.size + len(path)
        end = start + PACK_FILE_SIZE + 1
        if end > len(self._buffer):
            self._buffer = self._buffer[: self._size] + bytes(end)  # views of the old one may be about
        return memoryview(self._buffer)[start:end]

    def add(self, seq: int, flags: int, path: bytes, mtime_ns: int, length: int) -> None:
        """A file whose content is in its `room`."""
        start = self._size
        named = start + RECORD.size
        filled = named + len(path)
        RECORD.pack_into(self._buffer, start, seq, flags, len(path), length, mtime_ns)
        self._buffer[named:filled] = path
        self._size = filled + length

    def payload(self) -> memoryview:
        """All of it, until the next one is begun."""
        return memoryview(self._buffer)[: self._size]


def encode(files: list[PackedFile]) -> bytes:
    """A pack of what is in memory."""
    packing = Packing()
    for seq, flags, path, mtime_ns, content in files:
        packing.room(path)[: len(content)] = content
        packing.add(seq, flags, path, mtime_ns, len(content))
    return bytes(packing.payload())


def decode(payload: memoryview) -> Iterator[PackedFile]:
    """The files of a pack; contents are views into `payload`. WireError when the lengths do not add up."""
    start, size, count = 0, len(payload), 0
    while start < size:
        count += 1
        named = start + RECORD.size
        if named > size or count > PACK_FILES:
            raise WireError("a pack is malformed")
        seq, flags, path_length, length, mtime_ns = RECORD.unpack_from(payload, start)
        filled = named + path_length
        start = filled + length
        if start > size:
            raise WireError("a pack is malformed")
        yield PackedFile(seq, flags, payload[named:filled].tobytes(), mtime_ns, payload[filled:start])
