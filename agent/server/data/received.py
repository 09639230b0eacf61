"""What the receiver knows of one transfer while it lives."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from agent.server.confine import FileError, unwritten
from agent.server.data.inplace import place_of
from agent.server.data.outcomes import Memory, Outcomes
from agent.server.data.publish import Policy
from agent.server.data.ranges import Range, RangeSet
from agent.server.data.sets import StagedSet, finish, was_published
from agent.server.data.staging import Partial, Staging, new_name

if TYPE_CHECKING:
    from agent.server.data.sessions import Session

MAX_OPEN_FILES = 1024  # of a transfer; senders have fewer on their way
MAX_RANGES = 512  # of a file; what is sent in order has a few for each stream
MAX_COMPARED = 8192  # of one that is compared with an older version: what is wanted of it comes later
MAX_DOUBTED = 3  # pieces of one file that are asked for again; senders give up at more than five

Identity = tuple[int, int, int, int]


class ReceivedFile:
    """A file that arrives in chunks. `lock` guards all of it."""

    def __init__(self, seq: int, generation: int, identity: Identity, path: bytes, flags: int) -> None:
        self.lock = threading.Lock()
        self.seq = seq
        self.generation = generation
        self.identity = identity
        self.path = path
        self.flags = flags
        self.mtime_ns = 0
        self.fd = -1
        self.direct = -1  # another descriptor of it, for direct I/O
        self.name = new_name(seq)
        self.ranges = RangeSet()
        self.naks = 0
        self.ended = -1  # how many of our NAKs the sender had answered when it said that all is sent
        self.closed = False
        self.pins = 0
        self.publishing = False
        self.stored = True  # else its content is only checked
        self.in_place = False
        self.seed: int | None = None  # of block digests, where the sender asks for an older version
        self.base = -1  # descriptor of that
        self.base_size = 0
        self.doubted: list[Range] = []  # what an earlier session wrote and somebody may have changed since

    @property
    def size(self) -> int:
        return self.identity[0]

    @property
    def max_ranges(self) -> int:
        return MAX_RANGES if self.seed is None else MAX_COMPARED

    @property
    def whole(self) -> bool:
        return self.ended == self.naks and self.ranges.covers(0, self.size)

    def open(self, staging: Staging, kept: Partial | None) -> None:
        """Make a new partial file, or go on with `kept`. FileNotFoundError when that is gone."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
        if kept is None:
            flags |= os.O_CREAT | os.O_EXCL
        else:
            self.name = kept.name
        self.fd = os.open(self.name, flags, 0o666, dir_fd=staging.fd)
        if kept is not None:
            self._keep(kept)
        os.ftruncate(self.fd, self.size)

    def open_in_place(self, fd: int, kept: Partial | None) -> None:
        """Take over the descriptor of a file that exists, to go on with `kept`."""
        self.fd, self.in_place = fd, True
        if kept is not None:
            self._keep(kept)
        os.ftruncate(fd, self.size)

    def doubt(self, kept: Partial) -> None:
        """What `kept` says is here cannot be relied on: to be asked for again, in a few pieces."""
        self.doubted = list(kept.ranges)
        if len(self.doubted) > MAX_DOUBTED:
            self.doubted = [(kept.ranges[0][0], kept.ranges[-1][1])]
        self.naks += len(self.doubted)

    def _keep(self, kept: Partial) -> None:
        for start, end in kept.ranges:
            self.ranges.add(start, min(end, self.size))

    def sync_in_place(self) -> None:
        """Others are found by their names in the staging directory."""
        if not self.in_place or (fd := self.pin()) < 0:
            return
        try:
            os.fsync(fd)
        finally:
            self.unpin()

    def why(self, error: OSError | FileError) -> str:
        """What to tell of a file that cannot be written."""
        text = str(error) if isinstance(error, FileError) else unwritten(self.path, error)
        if not self.in_place:
            return text
        return f"{text}; it was being written in place and is not whole: send it again"

    def pin(self) -> int:
        """The descriptor, kept open until `unpin`; -1 when the file is closed."""
        with self.lock:
            if self.closed:
                return -1
            self.pins += 1
            return self.fd

    def unpin(self) -> None:
        with self.lock:
            self.pins -= 1
            self._close_unpinned()

    def close(self) -> None:
        """Close as soon as nobody has it pinned."""
        with self.lock:
            self.closed = True
            self._close_unpinned()

    def _close_unpinned(self) -> None:
        if self.closed and self.pins == 0 and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            for other in (self.direct, self.base):
                if other >= 0:
                    os.close(other)
            self.direct = self.base = -1


class ReceivedTransfer:
    """`lock` guards `files`, `dropped` and `partials`."""

    def __init__(self, uid: str, root: bytes, memory: Memory | None = None) -> None:
        self.uid = uid
        self.root = root
        self.lock = threading.Lock()
        self.policy = Policy()
        self.destination = b""
        self.may_look = False  # whether its sender may learn what is there
        self.total_size = 0
        self.session: Session | None = None
        self.handle = 0  # in that session
        self.idle_since = 0.0
        finish(root, os.fsencode(uid))
        self.staging = Staging(root, uid)
        self.staged = StagedSet(published=was_published(self.staging.fd))
        self.files: dict[int, ReceivedFile] = {}
        self.dropped: dict[int, int] = {}  # seq -> generation that failed or was skipped here
        self.partials = {partial.seq: partial for partial in self.staging.recover()}
        self.journaled = bool(self.partials)
        self.outcomes = Outcomes(memory or Memory())

    def revive(self) -> None:
        """Make it usable for a new session, after the end of an earlier one or of the transfer itself."""
        if self.staging.fd < 0:
            finish(self.root, os.fsencode(self.uid))
            self.staging = Staging(self.root, self.uid)
            self.partials = {partial.seq: partial for partial in self.staging.recover()}
            self.journaled = bool(self.partials)
        self.dropped.clear()

    @property
    def unfinished(self) -> bool:
        """Whether there are partial files that a journal should name, with or without a session."""
        return self.staging.fd >= 0 and bool(self.files or self.partials or self.staged.partials())

    def snapshot(self) -> list[Partial]:
        """The partial files and what of them is written now."""
        with self.lock:
            files = list(self.files.values())
            found = [partial for seq, partial in self.partials.items() if seq not in self.files]
        found += self.staged.partials()
        for file in files:
            with file.lock:
                if file.stored and not file.closed and not file.publishing:
                    ranges = tuple(file.ranges.largest(MAX_RANGES))
                    place = place_of(file.fd) if file.in_place else None
                    found.append(Partial(file.seq, file.generation, file.identity, ranges, file.name, place))
        return found

    def sync_in_place(self) -> None:
        """Have on storage what a snapshot said of files that are written in place."""
        with self.lock:
            files = list(self.files.values())
        for file in files:
            file.sync_in_place()

    def drop(self, seq: int) -> None:
        """Remove what there is of a partial file."""
        with self.lock:
            file = self.files.pop(seq, None)
            known = self.partials.pop(seq, None)
        if file is not None:
            self.dropped[seq] = file.generation
            file.close()
        for found in (file, known):
            if found is not None:
                self.unlink(found.name)

    def unlink(self, name: bytes) -> None:
        """Remove a partial file by its name."""
        try:
            os.unlink(name, dir_fd=self.staging.fd)
        except FileNotFoundError:
            pass  # published meanwhile

    def close_files(self) -> None:
        """Keep what was written, close the descriptors."""
        for partial in self.snapshot():
            if self.staged.holds(partial.seq) and partial.seq not in self.files:
                continue  # whole already
            with self.lock:
                file = self.files.pop(partial.seq, None)
                self.partials[partial.seq] = partial
            if file is not None:
                file.sync_in_place()
                file.close()
        with self.lock:
            self.files = {seq: file for seq, file in self.files.items() if file.stored}
