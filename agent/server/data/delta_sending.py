"""A large file of which the receiver has an older version, as its sender sees it.

Digests of its blocks are sent in the place of its content, a piece at a time; the receiver answers each with
what of the piece it wants. Answers are not waited for, but only so many pieces are unanswered at a time.
Where most of what was compared differs, the next stretch is sent as it is, and a longer one each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.server.data.delta import MIN_SIZE, SUMS_COST, decode_wanted
from agent.server.data.reading import Identity
from agent.server.data.wire import CHUNK_SIZE, DELTA, DELTA_BLOCK, SEALED, Header

if TYPE_CHECKING:
    from agent.server.data.outgoing import Transfer
    from agent.server.data.work import LargeFile

TRIAL = 16 << 20  # bytes that are compared before it is decided whether that pays
SKIP = 64 << 20  # bytes that are sent as they are when it does not, for the first time
MAX_SKIP = 16 << 30
MAX_UNANSWERED = 64  # pieces: what a long line has on its way, and the gaps a receiver has to remember


def worth_asking(features: frozenset[str], identity: Identity, *, sealed: bool) -> bool:
    """Whether to ask the receiver for an older version. Digests are believed only when they are sealed."""
    return sealed and {DELTA, SEALED} <= features and identity.size >= MIN_SIZE


class Comparing:
    """What is known of an older version of `base_size` bytes. Guarded by the link's lock."""

    def __init__(self, base_size: int) -> None:
        self._base_size = base_size
        self._unanswered: dict[int, int] = {}  # start -> end of pieces
        self._compared = self._differing = 0  # bytes, of the trial under way
        self._plain = 0  # bytes still to be sent as they are
        self._skip = SKIP

    @property
    def full(self) -> bool:
        """Whether answers are to be waited for."""
        return len(self._unanswered) >= MAX_UNANSWERED

    def claim(self, start: int, end: int, limit: int) -> int:
        """Up to where the range is compared, for about `limit` bytes on the wire; `start`: not at all."""
        if start >= self._base_size or self._plain > 0:
            return start
        blocks = max(1, limit * SUMS_COST // DELTA_BLOCK)
        stop = min(end, start + min(CHUNK_SIZE, blocks * DELTA_BLOCK))
        self._unanswered[start] = stop
        return stop

    def sent_plain(self, size: int) -> None:
        self._plain = max(0, self._plain - size)

    def answered(self, start: int) -> int:
        """The size of the piece that is answered. KeyError when there is none."""
        return self._unanswered.pop(start) - start

    def found(self, size: int, differing: int) -> None:
        """So much of a piece differs."""
        self._compared += size
        self._differing += differing
        if self._compared < TRIAL:
            return
        if 2 * self._differing > self._compared:
            self._plain, self._skip = self._skip, min(MAX_SKIP, 2 * self._skip)
        else:
            self._skip = SKIP
        self._compared = self._differing = 0


def based(transfer: Transfer, header: Header) -> None:
    """The receiver has an older version of as many bytes as `offset` says, or none."""
    file = _current(transfer, header)
    if file is not None and file.parked:
        file.parked = False
        file.comparing = Comparing(header.offset) if header.offset else None


def wanted(transfer: Transfer, header: Header, payload: memoryview) -> None:
    """What of a piece differs. KeyError or ValueError for an answer that nobody asked for."""
    file = _current(transfer, header)
    if file is None or file.comparing is None:
        return
    start, size = header.offset, file.comparing.answered(header.offset)
    ranges = decode_wanted(payload, size)
    differing = sum(high - low for low, high in ranges)
    file.comparing.found(size, differing)
    file.naks += bool(ranges)
    file.wanted.extend((start + low, start + high) for low, high in ranges)
    file.left -= size - differing
    transfer.counters.bytes_matched += size - differing


def _current(transfer: Transfer, header: Header) -> LargeFile | None:
    """The file an answer is about; None when that attempt is over."""
    file = transfer.files.get(header.seq)
    return None if file is None or file.over or file.generation != header.generation else file
