"""What became of each file of a transfer, packed: the form in which workers report it and the store keeps it.

One record is 37 bytes, little endian: seq u32, outcome u8, size u64, mtime_ns i64, ctime_ns i64, digest u64
(xxh3_64 of the content, 0 = not known). The stat is what the sender read. Only files that are durable at the
destination, and files that will never be, have a record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

RECORD = struct.Struct("<IBQqqQ")
MAX_RECORDS = 20_000  # in one message and one stored batch


class ResultsError(ValueError):
    """The bytes are not a sequence of records."""


class Outcome(IntEnum):
    DELIVERED = 1
    SKIPPED = 2  # the overwrite mode left what was there
    VANISHED = 3  # the source was gone when its turn came
    FAILED = 4


class Record(NamedTuple):
    seq: int
    outcome: int
    size: int = 0
    mtime_ns: int = 0
    ctime_ns: int = 0
    digest: int = 0


def pack(records: Iterable[Record]) -> bytes:
    """Records back to back, in the order given."""
    return b"".join(RECORD.pack(*record) for record in records)


def unpack(data: bytes) -> Iterator[Record]:
    """The records of `data`. ResultsError, before the first, when it does not hold a whole number."""
    count(data)
    return (Record._make(fields) for fields in RECORD.iter_unpack(data))


def count(data: bytes) -> int:
    """How many records `data` holds."""
    if len(data) % RECORD.size:
        raise ResultsError(f"{len(data)} bytes are not a whole number of {RECORD.size}-byte result records")
    return len(data) // RECORD.size
