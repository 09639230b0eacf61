"""Which blocks of a file differ from those of an older version, told by digests and without a look at both.

Blocks lie at fixed offsets: what changed in place, was appended or cut off is found; what moved is sent.
A digest is the xxh3_64 of a block under a seed that the sender draws for each attempt at a file, so that
nobody can prepare two blocks that look alike. By chance two differ unseen once in 2^64 comparisons, as with
the checksum of any piece that crosses the wire.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise

import xxhash

from agent.server.data.ranges import Range
from agent.server.data.wire import CHUNK_SIZE, DELTA_BLOCK, MAX_WANTED, WireError

MIN_SIZE = 4 << 20  # of a file, to be compared
DIGEST_SIZE = 8
SUMS_COST = CHUNK_SIZE // (CHUNK_SIZE // DELTA_BLOCK * DIGEST_SIZE)
"""Bytes of content that are compared at the cost of one on the wire."""

_SIZE = struct.Struct(">I")
_SPAN = struct.Struct(">II")

Content = bytes | bytearray | memoryview


def sums(content: Content, seed: int) -> bytes:
    """The digests of the blocks of `content`; the last block may be short."""
    view, digest = memoryview(content), xxhash.xxh3_64_digest
    starts = range(0, len(view), DELTA_BLOCK)
    return b"".join([digest(view[at : at + DELTA_BLOCK], seed) for at in starts])


def encode_sums(content: Content, seed: int) -> bytes:
    """The payload of a SUMS frame."""
    return _SIZE.pack(len(content)) + sums(content, seed)


def decode_sums(payload: Content) -> tuple[int, bytes]:
    """How much content a SUMS frame is about, and its digests. WireError when the two do not fit together."""
    if len(payload) < _SIZE.size:
        raise WireError("a SUMS frame is malformed")
    (size,), digests = _SIZE.unpack_from(payload), bytes(payload[_SIZE.size :])
    if not 0 < size <= CHUNK_SIZE or len(digests) != DIGEST_SIZE * -(-size // DELTA_BLOCK):
        raise WireError("a SUMS frame has not one digest for each block")
    return size, digests


def differing(theirs: bytes, ours: bytes, size: int) -> list[Range]:
    """The ranges of a piece of `size` bytes whose blocks have not the same digest; ours may be fewer. Ranges
    with one equal block between them are joined, and all of them when they are more than MAX_WANTED."""
    if theirs == ours:
        return []
    starts = [
        at * DELTA_BLOCK
        for at in range(-(-size // DELTA_BLOCK))
        if theirs[at * DIGEST_SIZE : (at + 1) * DIGEST_SIZE]
        != ours[at * DIGEST_SIZE : (at + 1) * DIGEST_SIZE]
    ]
    found: list[Range] = []
    for start in starts:
        end = min(size, start + DELTA_BLOCK)
        if found and start - found[-1][1] <= DELTA_BLOCK:
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found if len(found) <= MAX_WANTED else [(found[0][0], found[-1][1])]


def between(wanted: Iterable[Range], size: int) -> list[Range]:
    """What of a piece is not wanted."""
    edges = [0, *(edge for span in wanted for edge in span), size]
    return [(start, end) for start, end in list(pairwise(edges))[::2] if start < end]


def encode_wanted(ranges: Iterable[Range]) -> bytes:
    """The payload of a WANT frame; ranges count from the start of their piece."""
    return b"".join(_SPAN.pack(start, end) for start, end in ranges)


def decode_wanted(payload: Content, size: int) -> list[Range]:
    """ValueError for what is no ascending list of ranges within a piece of that size."""
    if len(payload) % _SPAN.size:
        raise ValueError("a WANT frame is malformed")
    found = [(int(start), int(end)) for start, end in _SPAN.iter_unpack(payload)]
    edges = [edge for span in found for edge in span]
    if any(first >= second for first, second in pairwise(edges)) or (edges and edges[-1] > size):
        raise ValueError("a WANT frame asks for what its piece does not have")
    return found
