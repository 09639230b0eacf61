"""What the sender knows of one transfer: what is to be sent, what is on its way, what became final.

No I/O here but paging of the manifest. The link that owns the transfer guards it with its lock.
"""

from __future__ import annotations

import itertools
import os
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from agent.server.counters import BLOCK_SIZE, blocks
from agent.server.data.digesting import ContentDigest
from agent.server.data.manifest import Entry, Manifest
from agent.server.data.order import Order
from agent.server.data.reading import ATTEMPTS, Extent, Identity
from agent.server.data.wire import CHUNK_SIZE, PACK_FILE_SIZE, PACK_FILES
from agent.server.results import RECORD, Outcome, Record

UNKNOWN_SIZE = 64 * 1024  # what an entry of unknown size counts for in a pack
ENTRY_COST = 64  # bytes on the wire beside the content
MAX_OPEN = 256  # large files sent and not yet confirmed

_attempts = itertools.count(1)


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


Work = PackWork | OpenWork | ChunkWork


@dataclass(frozen=True, slots=True)
class KnownPartial:
    """What the receiver said it has of a file."""

    generation: int
    identity: Identity
    ranges: list[tuple[int, int]]


class Transfer:
    def __init__(self, order: Order, handle: int, manifest: Manifest) -> None:
        self.order = order
        self.handle = handle
        self.flow = order.id
        self.manifest = manifest
        self.opened = False
        self.queue: deque[Entry] = deque()
        self.files: dict[int, LargeFile] = {}
        self.reading = 0  # pieces of work that threads have in hand
        self.sent: dict[int, tuple[Entry, Record]] = {}  # in packs, not yet answered
        self.packs: dict[int, list[int]] = {}
        self.partials: dict[int, KnownPartial] = {}
        self.published = bytearray()  # records, final at the receiver, not yet durable
        self.covered: bytearray | None = None  # those that the checkpoint under way covers
        self.settled = bytearray()  # records that need nobody's storage: vanished, failed
        self.errors: list[tuple[int, str]] = []
        self.failed = manifest.totals.failed
        self.first_error = ""
        done = manifest.totals
        before = order.counters
        sent = max(before.bytes_sent, done.bytes)
        self.counters = replace(before, bytes_sent=sent, bytes_done=done.bytes, files_done=done.files)
        self.on_the_way = sent - done.bytes - before.blocks_resent * BLOCK_SIZE
        """Bytes that an earlier worker sent of files that are not final: what is not there is sent again."""
        self.unsent: dict[int, int] = {}  # bytes of files that were under way when the session was lost
        self.told: tuple[int, ...] = ()
        self.last_checkpoint = 0.0
        self.stopping = False
        self.discard = False
        self.closing = 0  # streams that were told CLOSE
        self.closed = 0  # and have answered
        self.begun = False  # "sending" was reported
        self.checkpointing: int | None = None  # the flags of the checkpoint under way
        self.epoch = ""  # of the receiver that has `published`
        self.disconnected_since: float | None = None

    # --- what to do next --------------------------------------------------------------------------------

    def claim(self, limit: int) -> tuple[Work, int] | None:
        """The next piece of work of about `limit` bytes, and the bytes to account for. None when there is
        nothing to do just now."""
        for file in self.files.values():
            if file.todo and not file.changed:
                return self._claim_chunk(file, limit)
        if not self.queue:
            self.queue.extend(self.manifest.page())
        if not self.queue or len(self.files) >= MAX_OPEN:
            return None
        self.reading += 1
        small = min(limit, PACK_FILE_SIZE)
        if self.queue[0].size > small and self.queue[0].kind == 0:
            return OpenWork(self.queue.popleft()), 0
        entries: list[Entry] = []
        total = 0
        while self.queue and len(entries) < PACK_FILES:
            entry = self.queue[0]
            size = max(0, min(UNKNOWN_SIZE, limit) if entry.size < 0 else entry.size)
            if (entry.size > small and entry.kind == 0) or (entries and total + size > limit):
                break
            entries.append(self.queue.popleft())
            total += size + ENTRY_COST
            if total >= limit:
                break
        return PackWork(entries), total

    def _claim_chunk(self, file: LargeFile, limit: int) -> tuple[Work, int]:
        start, end, hole = file.todo.popleft()
        if not hole:
            stop = min(end, start + max(1, min(limit, CHUNK_SIZE)))
            if stop < end:
                file.todo.appendleft((stop, end, False))
            end = stop
        self.reading += 1
        file.busy += 1
        return ChunkWork(file, start, end, hole), ENTRY_COST if hole else end - start

    def has_work(self) -> bool:
        """Whether `claim` would give something."""
        if not self.opened or self.stopping:
            return False
        if any(file.todo and not file.changed for file in self.files.values()):
            return True
        return len(self.files) < MAX_OPEN and (bool(self.queue) or not self.manifest.exhausted)

    def all_final(self) -> bool:
        """Nothing is to be sent, on its way, or being read."""
        return (
            self.opened
            and not self.reading
            and not self.queue
            and not self.files
            and not self.sent
            and self.manifest.exhausted
        )

    # --- what became of it ------------------------------------------------------------------------------

    def new_pack(self, items: list[tuple[Entry, Record]]) -> int:
        """Note a pack that is about to be sent; returns its number."""
        number = next(_attempts)
        for entry, record in items:
            self.sent[entry.seq] = (entry, record)
        self.packs[number] = [entry.seq for entry, _ in items]
        return number

    def done(self, seq: int, outcome: int) -> None:
        """The receiver gave a file its name, or kept what it had."""
        found = self.sent.pop(seq, None)
        if found is not None:
            record = found[1]
        else:
            file = self.files.pop(seq, None)
            if file is None:
                return
            file.close()
            record = Record(seq, outcome, *file.identity[:3], file.digest.value(file.identity.size))
        self.published += RECORD.pack(*record._replace(outcome=outcome))
        self.counters.files_done += 1
        self.counters.bytes_done += record.size

    def vanished(self, entry: Entry) -> None:
        """The source is not there. The transfer ends in an error by that, unless it was told to skip it."""
        self.settled += RECORD.pack(*Record(entry.seq, Outcome.VANISHED))
        if self.order.skips_vanished:
            self.counters.files_done += 1
        else:
            what = "put it there and create the transfer again"
            self._note_failure(entry.seq, f"{_shown(entry)} does not exist; {what}")

    def fail(self, seq: int, message: str) -> None:
        """A file failed for good; others go on."""
        self.sent.pop(seq, None)
        file = self.files.pop(seq, None)
        if file is not None:
            file.close()
        self.settled += RECORD.pack(*Record(seq, Outcome.FAILED))
        self._note_failure(seq, message)

    def _note_failure(self, seq: int, message: str) -> None:
        self.errors.append((seq, message[:2000]))
        self.failed += 1
        self.first_error = self.first_error or message

    def retry(self, entry: Entry, message: str) -> None:
        """Send an entry again, a bounded number of times."""
        entry.attempts += 1
        if entry.attempts >= ATTEMPTS:
            self.fail(entry.seq, message)
        else:
            self.queue.appendleft(entry)

    def chunk_damaged(self, seq: int, generation: int, start: int, size: int) -> None:
        """ValueError for a piece that the file does not have."""
        file = self.files.get(seq)
        if file is None or file.generation != generation or file.over:
            return
        size = min(size, file.identity.size - start)
        if size <= 0:
            raise ValueError("a piece beyond the end of its file")
        file.naks += 1
        if file.naks > ATTEMPTS:
            self.fail(seq, _damaged(file.entry))
        else:
            file.todo.append((start, start + size, False))
            file.left += size
            self.lost(size)

    def pack_damaged(self, number: int) -> None:
        for seq in self.packs.pop(number, ()):
            found = self.sent.pop(seq, None)
            if found is not None:
                self.lost(found[1].size)
                self.retry(found[0], _damaged(found[0]))

    def lost(self, size: int) -> None:
        """So many bytes of content are presumed lost, and sent again."""
        self.counters.blocks_resent += blocks(max(0, size))

    # --- sessions ---------------------------------------------------------------------------------------

    def session_lost(self) -> None:
        """Threads are gone; what was on its way is sorted out when the receiver answers again."""
        self.opened = False
        self.reading = 0
        self.closing = self.closed = 0
        if self.covered is not None:
            self.published[:0] = self.covered
            self.covered = None
        self.checkpointing = None
        for file in self.files.values():
            file.busy = 0
            file.announced.clear()

    def resume(self, runs: Iterable[tuple[int, int, int]], partials: object, same: bool) -> None:
        """The receiver has opened the transfer and says what it has. `same`: its memory goes back to the
        last session; else what it published since the last checkpoint is sent again."""
        self.partials = _known(partials)
        if same:
            for seq, outcome in _within(runs, [*self.sent, *self.files]):
                self.done(seq, outcome)
        else:
            self._send_again(self.published)
            self.published = bytearray()
        partial = sum(end - start for known in self.partials.values() for start, end in known.ranges)
        self.lost(self.on_the_way - partial)
        self.on_the_way = 0
        for entry, record in sorted(self.sent.values(), key=lambda item: item[0].seq, reverse=True):
            self.lost(record.size)
            self.queue.appendleft(entry)
        self.sent.clear()
        self.packs.clear()
        for seq, file in self.files.items():
            self.unsent[seq] = file.left
            self.queue.appendleft(file.entry)
            file.close()
        self.files.clear()
        self.opened = True

    def _send_again(self, records: bytearray) -> None:
        found = [Record._make(fields) for fields in RECORD.iter_unpack(records)]
        for record in found:
            self.counters.files_done -= 1
            self.counters.bytes_done -= record.size
            self.lost(record.size)
        self.queue.extendleft(reversed(self.manifest.fetch(record.seq for record in found)))


def _damaged(entry: Entry) -> str:
    return f"{_shown(entry)} arrives damaged again and again; check network and memory of both machines"


def _shown(entry: Entry) -> str:
    return entry.src.decode("utf-8", "backslashreplace")


def _within(runs: Iterable[tuple[int, int, int]], seqs: list[int]) -> list[tuple[int, int]]:
    """(seq, outcome) of those numbers that lie in a run."""
    ordered = sorted(runs)
    firsts = [run[0] for run in ordered]
    found = []
    for seq in seqs:
        at = bisect_right(firsts, seq) - 1
        if at >= 0 and seq < ordered[at][0] + ordered[at][1]:
            found.append((seq, ordered[at][2]))
    return found


def _known(partials: object) -> dict[int, KnownPartial]:
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
