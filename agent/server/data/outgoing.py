"""What the sender knows of one transfer: what is to be sent, what is on its way, what became final.

No I/O here but paging of the manifest. The link that owns the transfer guards it with its lock.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

from agent.server.counters import BLOCK_SIZE, blocks
from agent.server.data.manifest import Entry, Manifest
from agent.server.data.order import Order
from agent.server.data.reading import ATTEMPTS, changed_message
from agent.server.data.wire import CHUNK_SIZE, DISCARD, FINAL, MAX_GENERATION, PACK_FILE_SIZE, PACK_FILES
from agent.server.data.work import (
    ENTRY_COST,
    KnownPartial,
    LargeFile,
    OpenWork,
    PackWork,
    RecheckWork,
    Work,
    known_partials,
)
from agent.server.results import RECORD, Outcome, Record

UNKNOWN_SIZE = 64 * 1024  # what an entry of unknown size counts for in a pack
MAX_OPEN = 256  # large files sent and not yet confirmed

_attempts = itertools.count(1)


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
        matched = before.bytes_matched
        sent = max(before.bytes_sent, done.bytes - matched)
        self.counters = replace(before, bytes_sent=sent, bytes_done=done.bytes, files_done=done.files)
        self.on_the_way = sent + matched - done.bytes - before.blocks_resent * BLOCK_SIZE
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
        self.rechecks = 0
        self.approved = not order.as_set  # of a set: its sources are what was sent
        self.set_published = False
        self._generations: dict[int, int] = {}  # of large files that a set may need again

    # --- what to do next --------------------------------------------------------------------------------

    def claim(self, limit: int) -> tuple[Work, int] | None:
        """The next piece of work of about `limit` bytes, and the bytes to account for. None when there is
        nothing to do just now."""
        for file in self.files.values():
            if file.ready:
                work = file.claim(limit)
                self.reading += 1
                file.busy += 1
                return work, work.cost
        if not self.queue:
            self._turn_page()
        if self._waits_for_recheck():
            self.reading += 1
            return RecheckWork(), 0
        if not self.queue or len(self.files) >= MAX_OPEN:
            return None
        self.reading += 1
        small = min(limit, PACK_FILE_SIZE)
        if self.queue[0].size > small and self.queue[0].kind == 0:
            return OpenWork(self.queue.popleft()), 0
        return self._claim_pack(small, limit)

    def _turn_page(self) -> None:
        """A manifest that came to nothing makes the transfer fail, once all that it has was sent."""
        self.queue.extend(self.manifest.page())
        if self.manifest.exhausted and self.manifest.trouble:
            self.failed += 1
            self.first_error = self.first_error or self.manifest.trouble
            self.manifest.trouble = ""
            if self.order.as_set:
                self._give_up()

    def _claim_pack(self, small: int, limit: int) -> tuple[Work, int]:
        """Entries from the front of the queue, at least one."""
        queue, entries, total, folder = self.queue, list[Entry](), 0, None
        while queue and len(entries) < PACK_FILES:
            entry = queue[0]
            size = entry.size if entry.size >= 0 else min(UNKNOWN_SIZE, limit)
            if (entry.size > small and entry.kind == 0) or (entries and total + size > limit):
                break
            if total * 4 > limit:
                folder = folder or _folder(entries[-1])
                if _folder(entry) != folder:
                    break  # a new directory is published faster as a whole
            entries.append(queue.popleft())
            total += size + ENTRY_COST
            if total >= limit:
                break
        return PackWork(entries), total

    @property
    def unconfirmed(self) -> bool:
        """Whether there is something that a checkpoint would make durable, or tell."""
        return self.opened and bool(self.published or self.settled or self.files or self.sent)

    def has_work(self) -> bool:
        """Whether `claim` would give something."""
        if not self.opened or self.stopping:
            return False
        if any(file.ready for file in self.files.values()):
            return True
        if self._waits_for_recheck():
            return True
        return len(self.files) < MAX_OPEN and (bool(self.queue) or self.manifest.has_more)

    def _waits_for_recheck(self) -> bool:
        return not (self.approved or self.failed) and self._all_sent()

    def all_final(self) -> bool:
        """Nothing is to be sent, on its way, or being read."""
        return self._all_sent() and (self.approved or self.failed > 0)

    def _all_sent(self) -> bool:
        return self.nothing_left and not self.reading and not self.files and not self.sent

    @property
    def nothing_left(self) -> bool:
        """Whether all was taken to be sent, or is being sent."""
        left = any(not file.all_claimed for file in self.files.values())
        return self.opened and not self.queue and not left and self.manifest.exhausted

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
            if self.order.as_set:
                self._generations[seq] = file.generation
            record = Record(seq, outcome, *file.identity[:3], file.digest.value(file.identity.size))
        if record.outcome != outcome:
            record = record._replace(outcome=outcome)
        self.published += RECORD.pack(*record)
        self.counters.files_done += 1
        self.counters.bytes_done += record.size

    def vanished(self, entry: Entry) -> None:
        """The source is not there. The transfer ends in an error by that, unless it was told to skip it."""
        self.settled += RECORD.pack(*Record(entry.seq, Outcome.VANISHED))
        if self.order.as_set:
            self._note_failure(entry.seq, f"{_shown(entry)} is gone; the set is made anew")
        elif self.order.skips_vanished:
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
        if self.covered is not None and self.order.as_set:
            self.covered = self._without(self.covered, {seq})
        self.settled += RECORD.pack(*Record(seq, Outcome.FAILED))
        self._note_failure(seq, message)

    def _note_failure(self, seq: int, message: str) -> None:
        self.errors.append((seq, message[:2000]))
        self.failed += 1
        self.first_error = self.first_error or message
        if self.order.as_set:
            self._give_up()

    def _give_up(self) -> None:
        """A set that cannot be whole is not published: the rest need not be sent."""
        self.queue.clear()
        self.sent.clear()
        self.manifest.exhausted = True
        for file in self.files.values():
            file.close()
        self.files.clear()

    def rechecked(self, changed: list[Entry], gone: list[Entry]) -> None:
        """What the sources of a set turned out to be, now that all of it is at the receiver."""
        again = {entry.seq for entry in changed}
        self.published = self._without(self.published, again | {entry.seq for entry in gone})
        for entry in gone:
            self.vanished(entry)
        self.rechecks += 1
        if self.rechecks >= ATTEMPTS:
            for entry in changed:
                self.fail(entry.seq, changed_message(entry.src))
        elif not self.failed:
            self.approved = not changed
            self.queue.extendleft(reversed(changed))

    def _without(self, records: bytearray, seqs: set[int]) -> bytearray:
        """What the receiver has of these files does not count any more."""
        kept = bytearray()
        for fields in RECORD.iter_unpack(records):
            record = Record._make(fields)
            if record.seq in seqs:
                self.counters.files_done -= 1
                self.counters.bytes_done -= record.size
            else:
                kept += RECORD.pack(*fields)
        return kept

    def next_generation(self, seq: int) -> int:
        """Of a large file that is sent again because it changed after it had arrived; 0 for others."""
        before = self._generations.pop(seq, 0)
        return before % MAX_GENERATION + 1 if before else 0

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
        piece = start // CHUNK_SIZE
        file.damaged[piece] += 1
        if file.damaged[piece] > ATTEMPTS:
            self.fail(seq, _damaged(file.entry))
        else:
            if file.seed is None:
                file.todo.append((start, start + size, False))
            else:
                file.wanted.append((start, start + size))  # not to be compared
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
        self.uncover()
        self.checkpointing = None
        for file in self.files.values():
            file.busy = 0
            file.announced.clear()

    def uncover(self) -> None:
        """What a checkpoint covered is not durable, or not what was asked for."""
        if self.covered is not None:
            self.published[:0] = self.covered
            self.covered = None

    def last_word(self) -> int:
        """The flags of the last checkpoint: a set of which a file failed is given up."""
        return DISCARD if self.order.as_set and self.failed else FINAL

    def resume(
        self,
        runs: Iterable[tuple[int, int, int]],
        partials: object,
        same: bool,
        published: bool = False,
    ) -> None:
        """The receiver has opened the transfer and says what it has. `same`: its memory goes back to the
        last session; else what it published since the last checkpoint is sent again, unless it is a set
        that was `published` as a whole, and all of it is known here."""
        self.partials = known_partials(partials)
        complete = published and self.approved and self.order.as_set and not self.failed
        self.approved = complete or not self.order.as_set
        if complete:
            pass  # `published` is what was sent, all of it
        elif same:
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
            if file.comparing is None:  # else what was compared would count as sent
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


def _folder(entry: Entry) -> bytes:
    return entry.dest.rpartition(b"/")[0]


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
