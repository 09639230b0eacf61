"""The sending half of one stream: takes what the scheduler grants, reads it, sends it. A thread each."""

from __future__ import annotations

import os
import time
from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import structlog
import xxhash

from agent.lanes.scheduler import Grant
from agent.lanes.shares import Wait
from agent.server.data import delta, delta_sending, pack, reading
from agent.server.data.digesting import ContentDigest, worth_it
from agent.server.data.manifest import KIND_DIRECTORY, KIND_LINK, Entry
from agent.server.data.order import too_old
from agent.server.data.outgoing import Transfer
from agent.server.data.ranges import RangeSet
from agent.server.data.reading import Extent, Identity, TooLargeError, UnreadableError, VanishedError
from agent.server.data.rechecking import recheck
from agent.server.data.wire import (
    CHUNK_SIZE,
    MAX_GENERATION,
    PACK_FILE_SIZE,
    USUAL_PAYLOAD,
    Header,
    Kind,
    Stream,
)
from agent.server.data.work import ChunkWork, LargeFile, OpenWork, PackWork, RecheckWork, Work
from agent.server.results import Outcome, Record

if TYPE_CHECKING:
    from agent.server.data.link import Link
    from agent.server.data.session import Session

_log = structlog.get_logger(__name__)

MAX_WAIT = 0.5  # seconds between looks at the clock when a wake-up is far off
_ZEROS = bytes(CHUNK_SIZE)

Payload = bytes | bytearray | memoryview


class Source(NamedTuple):
    """A file that goes in chunks, as it was found."""

    fd: int  # -1 when it is not read
    identity: Identity
    extents: list[Extent]


class Pump:
    def __init__(self, link: Link, session: Session, stream: Stream) -> None:
        self._link = link
        self._session = session
        self._stream = stream
        self._buffer = bytearray(session.piece)

    @cached_property
    def _packing(self) -> pack.Packing:
        """Made when it is needed: a session may have many of us."""
        return pack.Packing(min(2 * self._session.piece, USUAL_PAYLOAD))

    def run(self) -> None:
        """Until the session ends. Errors of the socket end the session; errors of files end only them."""
        try:
            while not self._session.over:
                self._step()
        except OSError as error:
            self._link.broken(self._session, f"the connection was lost: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001 - a defect must not leave a transfer hanging in silence
            _log.exception("sending failed")
            self._link.broken(self._session, f"internal error: {error!r}")

    def _step(self) -> None:
        link = self._link
        with link.changed:
            outbox = self._session.outboxes[self._stream.number]
            frame = outbox.popleft() if outbox else None
            picked = self._pick() if frame is None else None
        if frame is not None:
            self._stream.send(*frame)
        elif picked is not None:
            self._carry_out(*picked)

    def _pick(self) -> tuple[Transfer, Work] | None:
        """Under the lock: what the scheduler says, or wait for a change."""
        link = self._link
        if self._session.over:
            return None
        if self._stream.number >= self._session.used:
            link.resting.wait(MAX_WAIT)
            return None
        now = time.monotonic()
        step = link.scheduler.next(now)
        if not isinstance(step, Grant):
            link.portion.leave()
            self._wait(step.until, now)
            return None
        taken = link.portion.take(min(step.max_bytes, self._session.piece), now)
        if isinstance(taken, Wait):
            self._wait(taken.until, now)
            return None
        transfer = link.transfers.get(step.flow)
        claimed = None if transfer is None or not transfer.opened else transfer.claim(taken)
        work, size = (None, 0) if claimed is None else claimed
        link.portion.used(taken, size, now)
        if transfer is None or work is None:
            link.settle_flow(step.flow)
            return None
        link.scheduler.sent(step.flow, size, now, work.turn if isinstance(work, ChunkWork) else 0)
        return transfer, work

    def _wait(self, until: float | None, now: float) -> None:
        wait = MAX_WAIT if until is None else min(MAX_WAIT, max(0.0, until - now))
        self._link.changed.wait(wait)

    def _carry_out(self, transfer: Transfer, work: Work) -> None:
        try:
            if isinstance(work, PackWork):
                self._send_pack(transfer, work.entries)
            elif isinstance(work, OpenWork):
                self._open(transfer, work.entry)
            elif isinstance(work, RecheckWork):
                recheck(self._link, transfer)
            else:
                self._send_chunk(transfer, work)
        finally:
            with self._link.changed:
                transfer.reading -= 1
                self._link.progressed(transfer)

    # --- small files ------------------------------------------------------------------------------------

    def _send_pack(self, transfer: Transfer, entries: list[Entry]) -> None:
        self._packing.begin()
        items: list[tuple[Entry, Record]] = []
        later: list[Entry] = []
        total = 0
        for at, entry in enumerate(entries):
            if total > CHUNK_SIZE:
                later = entries[at:]
                break
            record = self._read(transfer, entry)
            if record is not None:
                items.append((entry, record))
                total += record.size
        with self._link.changed:
            transfer.queue.extendleft(reversed(later))
            if not items:
                return
            number = transfer.new_pack(items)
            self._link.begun(transfer)
        payload = self._packing.payload()
        header = Header(
            Kind.PACK, handle=transfer.handle, offset=number, digest=xxhash.xxh3_64_intdigest(payload)
        )
        self._send(transfer, header, payload, total)

    def _send(self, transfer: Transfer, header: Header, payload: Payload = b"", content: int = 0) -> None:
        """Send a frame that carries `content` bytes of the transfer's files, or is about one of them."""
        self._stream.send(header, payload)
        with self._link.changed:
            transfer.counters.bytes_sent += content
            transfer.counters.packets_sent += 1

    def _read(self, transfer: Transfer, entry: Entry) -> Record | None:
        """Put one file into the pack; None when it does not go there (what then, is noted)."""
        seq, path = entry.seq, entry.dest
        if entry.kind == KIND_DIRECTORY:
            self._packing.add(seq, pack.DIRECTORY, path, 0, 0)
            return Record(seq, 0)
        view = self._packing.room(path)
        flags = pack.EXECUTABLE if entry.executable else 0
        try:
            if entry.kind == KIND_LINK:
                identity = self._read_link(transfer, entry, view)
                flags = pack.LINK
            elif transfer.order.reads:
                identity = reading.read_small(entry.src, view, transfer.manifest.sources)
            else:
                identity = _zeros(transfer, entry, view)
        except TooLargeError:
            self._open(transfer, entry)
            return None
        except VanishedError:
            with self._link.changed:
                transfer.vanished(entry)
            return None
        except UnreadableError as error:
            with self._link.changed:
                transfer.fail(entry.seq, str(error))
            return None
        size, mtime_ns, ctime_ns, _ = identity
        self._packing.add(seq, flags, path, _mtime(entry, mtime_ns), size)
        digest = xxhash.xxh3_64_intdigest(view[:size])
        return Record(seq, Outcome.DELIVERED, size, mtime_ns, ctime_ns, digest)

    def _read_link(self, transfer: Transfer, entry: Entry, view: memoryview) -> Identity:
        """What a symbolic link says. UnreadableError, also for a receiver that makes none."""
        if "links" not in self._session.features:
            raise UnreadableError(f"{os.fsdecode(entry.dest)}: {too_old('symlinks: preserve')}")
        content, identity = reading.read_link(entry.src, transfer.manifest.sources)
        view[: len(content)] = content
        return identity

    # --- large files ------------------------------------------------------------------------------------

    def _open(self, transfer: Transfer, entry: Entry, generation: int = 0) -> None:
        """Begin a file that goes in chunks, whatever its size has become."""
        try:
            source = _opened(transfer, entry) if transfer.order.reads else _promised(transfer, entry)
        except VanishedError:
            with self._link.changed:
                transfer.vanished(entry)
            return
        except UnreadableError as error:
            with self._link.changed:
                transfer.fail(entry.seq, str(error))
            return
        with self._link.changed:
            file = begin(transfer, entry, source, generation or transfer.next_generation(entry.seq))
            transfer.files[entry.seq] = file
            self._link.begun(transfer)
            empty = not file.todo
            file.busy += empty
            if not empty and transfer.order.reads and self._asks(source.identity):
                file.ask()
        if empty:
            self._put_down(transfer, file)
        elif file.seed is not None:
            self._announce(transfer, file)

    def _asks(self, identity: Identity) -> bool:
        return delta_sending.worth_asking(self._session.features, identity, sealed=self._stream.sealed)

    def _send_chunk(self, transfer: Transfer, work: ChunkWork) -> None:
        file = work.file
        try:
            if not self._transmit(transfer, work):
                file.changed = True
                file.digest.give_up()
        except UnreadableError as error:
            file.digest.give_up()
            with self._link.changed:
                transfer.fail(file.entry.seq, str(error))
        except OSError:
            file.digest.give_up()
            raise
        self._put_down(transfer, file)

    def _transmit(self, transfer: Transfer, work: ChunkWork) -> bool:
        """Send one chunk or hole; False when the source has become shorter."""
        file, size = work.file, work.end - work.start
        header = Header(Kind.CHUNK, 0, file.generation, transfer.handle, file.entry.seq, 0, work.start, 0)
        if work.hole:
            self._announce(transfer, file)
            self._send(transfer, header._replace(kind=Kind.HOLE, digest=size))
            file.digest.add_hole(work.start, work.end)
            return True
        if size > len(self._buffer):
            self._buffer = bytearray(CHUNK_SIZE)
        view = memoryview(self._buffer if transfer.order.reads else _ZEROS)[:size]
        if transfer.order.reads and reading.read_into(file.fd, view, work.start, file.entry.src) != size:
            return False
        counted = work.again or file.digest.offer(work.start, view)
        if not counted and self._session.wide:  # others wait for its turn, and this stream may be slow
            file.digest.add(work.start, view)
            counted = True
        self._announce(transfer, file)
        if work.compare:
            self._send(transfer, header._replace(kind=Kind.SUMS), delta.encode_sums(view, file.seed or 0))
        else:
            self._send(transfer, header._replace(digest=xxhash.xxh3_64_intdigest(view)), view, size)
        if not counted:
            file.digest.add(work.start, view)
        if not work.compare:
            with self._link.changed:
                file.left -= size
                file.sent += size
        return True

    def _announce(self, transfer: Transfer, file: LargeFile) -> None:
        if self._stream.number in file.announced:
            return
        file.announced.add(self._stream.number)
        entry = file.entry
        self._stream.send_json(
            Header(Kind.FILE, generation=file.generation, handle=transfer.handle, seq=entry.seq),
            {
                "path": os.fsdecode(entry.dest),
                "identity": file.identity,
                "flags": pack.EXECUTABLE if entry.executable else 0,
                "mtimeNs": _mtime(entry, file.identity.mtime_ns),
            }
            | ({} if file.seed is None else {"seed": file.seed}),
        )
        with self._link.changed:
            transfer.counters.packets_sent += 1

    def _put_down(self, transfer: Transfer, file: LargeFile) -> None:
        """A chunk is through. Whoever has the last one says that all was sent, once for every round of
        chunks that had to be sent again."""
        while True:
            with self._link.changed:
                if file.changed:
                    file.forget_todo()
                naks = file.naks
                last = file.busy == 1 and file.all_claimed and not file.over
                if not last or not (file.changed or file.answered != naks):
                    file.busy -= 1
                    if file.over:
                        file.close()
                    return
            self._finish(transfer, file, naks)

    def _finish(self, transfer: Transfer, file: LargeFile, naks: int) -> None:
        entry = file.entry
        if not file.changed and (not transfer.order.reads or reading.unchanged(file.fd, file.identity)):
            self._announce(transfer, file)
            self._send(transfer, Header(Kind.END, 0, file.generation, transfer.handle, entry.seq, 0, naks))
            file.answered = naks
            return
        with self._link.changed:
            file.over = True
            transfer.files.pop(entry.seq, None)
            entry.attempts += 1
            transfer.lost(file.sent)
            if entry.attempts >= reading.ATTEMPTS:
                transfer.fail(entry.seq, reading.changed_message(entry.src))
                return
        self._open(transfer, entry, file.generation % MAX_GENERATION + 1)


def _opened(transfer: Transfer, entry: Entry) -> Source:
    """VanishedError, or UnreadableError when it is not a regular file."""
    fd = reading.open_source(entry.src, transfer.manifest.sources)
    try:
        identity = reading.identify(fd, entry.src)
    except UnreadableError:
        os.close(fd)
        raise
    reading.await_tick(identity)
    return Source(fd, identity, reading.extents(fd, identity.size))


def _promised(transfer: Transfer, entry: Entry) -> Source:
    """A source that is not read."""
    identity = reading.promised(entry.src, entry.size, entry.mtime_us, transfer.manifest.sources)
    return Source(-1, identity, [(0, identity.size, False)] if identity.size else [])


def begin(transfer: Transfer, entry: Entry, source: Source, generation: int) -> LargeFile:
    """What of an opened file is to be sent. `generation` 0: go on with what the receiver has of it, if that
    is of the same source."""
    stretches = source.extents
    known = transfer.order.reads and worth_it(stretches)
    partial = transfer.partials.pop(entry.seq, None)
    unsent = transfer.unsent.pop(entry.seq, None)
    if partial is not None and generation == 0 and partial.identity == source.identity:
        generation = partial.generation
        missing = RangeSet(partial.ranges).missing(0, source.identity.size)
        stretches = reading.without(stretches, missing)
        known = False  # what is there already is not read again
    elif partial is not None and generation == 0:
        generation = partial.generation % MAX_GENERATION + 1
    digest = ContentDigest(known=known)
    file = LargeFile(entry, source.fd, source.identity, max(1, generation), deque(stretches), digest=digest)
    if unsent is not None:
        transfer.lost(file.left - unsent)
    return file


def _zeros(transfer: Transfer, entry: Entry, view: memoryview) -> Identity:
    """In the place of a small file's content. TooLargeError and others as for one that is read."""
    identity = reading.promised(entry.src, entry.size, entry.mtime_us, transfer.manifest.sources)
    if identity.size > PACK_FILE_SIZE:
        raise TooLargeError
    view[: identity.size] = _ZEROS[: identity.size]
    return identity


def _mtime(entry: Entry, mtime_ns: int) -> int:
    return mtime_ns if entry.mtime_us is None else entry.mtime_us * 1000
