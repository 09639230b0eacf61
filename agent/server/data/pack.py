"""Many small files in one frame.

Payload: for each file an index record, big endian (seq u32, flags u8, path length u16, content length u32,
mtime_ns i64), its path and its content, back to back; the frame's digest covers them all. The path is
relative to the transfer's destination path, in bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from agent.server.data.wire import PACK_FILES, WireError

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


def encode(files: list[PackedFile]) -> bytes:
    parts: list[bytes | memoryview] = []
    for seq, flags, path, mtime_ns, content in files:
        parts += (RECORD.pack(seq, flags, len(path), len(content), mtime_ns), path, content)
    return b"".join(parts)


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
