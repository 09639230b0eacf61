"""File content that arrives on one stream, on its way to a final name."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

import xxhash

from agent.server.confine import Directories, FileError, Names, Parts, shown, unwritten
from agent.server.data import delta, delta_receiving, pack, symlink
from agent.server.data.announcing import announced
from agent.server.data.delta_receiving import Comparer
from agent.server.data.directio import DirectIO
from agent.server.data.fullness import is_full, pass_on
from agent.server.data.inplace import make_executable, open_in_place, place_of, require_there, write_zeros
from agent.server.data.naming import Naming
from agent.server.data.newfiles import unlink, write_all, write_new
from agent.server.data.newfolders import NewFolders
from agent.server.data.pack import PackedFile
from agent.server.data.publish import keeps_existing
from agent.server.data.ranges import Range
from agent.server.data.received import MAX_OPEN_FILES, ReceivedFile, ReceivedTransfer
from agent.server.data.staging import Partial
from agent.server.data.strict import StrictBatch, Unnamed
from agent.server.data.syncer import Syncer
from agent.server.data.wire import MAX_SEQ, Header, Json, Kind, Stream, WireError
from agent.server.results import Outcome

_UMASK = os.umask(0o022)
os.umask(_UMASK)

_temporary = itertools.count(1)


class Writer:
    """Handles PACK, FILE, CHUNK, HOLE and END frames of one stream, in its thread."""

    def __init__(self, stream: Stream, directories: Directories, syncer: Syncer, direct: DirectIO) -> None:
        self._stream = stream
        self._directories = directories
        self._syncer = syncer
        self._direct = direct
        self._naming = Naming(directories, syncer)
        self._comparer = Comparer()

    def pack(self, transfer: ReceivedTransfer, header: Header, payload: memoryview) -> None:
        """Publish every file of a pack, and answer with what became of each. OSError when storage is full."""
        if xxhash.xxh3_64_intdigest(payload) != header.digest:
            self._stream.send(Header(Kind.NAK, handle=header.handle, offset=header.offset))
            return
        folders, done = self._naming.folders(transfer), list[tuple[int, Outcome]]()
        try:
            failed = self._unpack(transfer, payload, folders, done)
        finally:
            folders.abandon()
            transfer.outcomes.record_all(done)
        if done:
            answer = b"".join(itertools.starmap(pack.OUTCOME.pack, done))
            self._stream.send(Header(Kind.DONE, handle=header.handle, offset=header.offset), answer)
        self._failed(header.handle, failed)

    def _unpack(
        self,
        transfer: ReceivedTransfer,
        payload: memoryview,
        folders: NewFolders,
        done: list[tuple[int, Outcome]],
    ) -> list[tuple[int, str]]:
        """Publish what is in a pack; fills in what became of each file, and returns what failed."""
        failed: list[tuple[int, str]] = []
        names, batch = Names(transfer.destination), self._naming.batch(transfer)
        for file in pack.decode(payload):
            try:
                outcome = self._small(transfer, names, file, batch, folders)
            except FileError as error:
                failed.append((file.seq, str(error)))
            except OSError as error:
                if batch is not None and is_full(error):
                    batch.give_up()
                pass_on(error)
                failed.append((file.seq, unwritten(file.path, error)))
            else:
                if outcome is not None:
                    done.append((file.seq, outcome))
        held = folders.results() if batch is None else self._naming.finish(transfer, batch)
        for seq, result in held:
            if isinstance(result, Outcome):
                done.append((seq, result))
            else:
                failed.append((seq, result))
        return failed

    def _small(
        self,
        transfer: ReceivedTransfer,
        names: Names,
        file: PackedFile,
        batch: StrictBatch | None,
        folders: NewFolders,
    ) -> Outcome | None:
        """None: the batch, or the new folders, say what becomes of it."""
        directory, name = names.split(file.path)
        if file.seq in transfer.files or file.seq in transfer.partials:
            transfer.drop(file.seq)
        if file.flags & pack.DIRECTORY:
            folders.settle()
            return self._naming.directory(transfer, (*directory, name), file.seq, batch)
        if file.flags & pack.LINK:
            symlink.check_target(directory, name, bytes(file.content))
        if not transfer.policy.write:
            return Outcome.DELIVERED
        if folders.take(directory, name, file):
            return None
        fd = -1
        if not file.flags & pack.LINK:
            fd = self._in_place(transfer, directory, name, len(file.content))
        if fd >= 0:
            try:
                write_all(fd, file.content, 0)
                os.ftruncate(fd, len(file.content))
                self._dress(transfer, fd, file.flags, file.mtime_ns)
                if batch is not None:
                    os.fsync(fd)
            finally:
                os.close(fd)
            self._syncer.published(directory, name)
            return Outcome.DELIVERED
        return self._new(transfer, directory, name, file, batch)

    def _in_place(self, transfer: ReceivedTransfer, directory: Parts, name: bytes, size: int) -> int:
        if not transfer.policy.in_place:
            return -1
        return open_in_place(transfer.policy, self._directories.get(directory), name, size)

    def _dress(self, transfer: ReceivedTransfer, fd: int, flags: int, mtime_ns: int) -> None:
        """Permissions and time of a file whose content is there."""
        if flags & pack.EXECUTABLE:
            make_executable(fd, _UMASK)
        if transfer.policy.write_mtime:
            os.utime(fd, ns=(mtime_ns, mtime_ns))

    def _new(
        self,
        transfer: ReceivedTransfer,
        directory: Parts,
        name: bytes,
        file: PackedFile,
        batch: StrictBatch | None,
    ) -> Outcome | None:
        temporary = b"%d" % next(_temporary)
        unnamed = Unnamed(file.seq, temporary, directory, name, file.mtime_ns)
        try:
            write_new(transfer.policy, transfer.staging.fd, temporary, file)
            if batch is not None:
                batch.hold(unnamed)
                return None
            return self._naming.publish(transfer, unnamed)
        except (OSError, FileError):
            unlink(temporary, transfer.staging.fd)
            raise

    def file(self, transfer: ReceivedTransfer, header: Header, value: Json) -> None:
        """A file that will come in chunks. Every stream that carries some of it announces it."""
        seq, generation = header.seq, header.generation
        if seq >= MAX_SEQ:
            raise WireError(f"seq {seq} is out of range")
        with transfer.lock:
            known = transfer.files.get(seq)
            if known is not None and known.generation >= generation:
                return
            if transfer.dropped.get(seq, -1) >= generation:
                return
            if len(transfer.files) >= MAX_OPEN_FILES:
                raise WireError(f"more than {MAX_OPEN_FILES} files were begun at once")
            file = announced(seq, generation, value)
            try:
                transfer.files[seq] = file
                skipped = self._prepare(transfer, file)
            except (FileError, OSError) as error:
                if is_full(error):
                    del transfer.files[seq]
                pass_on(error)
                transfer.dropped[seq] = generation
                why = str(error) if isinstance(error, FileError) else unwritten(file.path, error)
                failure: list[tuple[int, str]] = [(seq, why)]
            else:
                failure = []
        if known is not None:
            known.close()
            if not known.publishing:
                transfer.unlink(known.name)
        if failure or skipped:
            transfer.drop(seq)
        if failure:
            self._failed(header.handle, failure)
        elif skipped:
            self._done(transfer, header.handle, seq, Outcome.SKIPPED)
        self._answer(header.handle, file)

    def _answer(self, handle: int, file: ReceivedFile) -> None:
        if file.seed is not None:
            self._stream.send(Header(Kind.BASE, 0, file.generation, handle, file.seq, 0, file.base_size))
        for start, end in file.doubted:
            self._stream.send(Header(Kind.NAK, 0, file.generation, handle, file.seq, 0, start, end - start))

    def _prepare(self, transfer: ReceivedTransfer, file: ReceivedFile) -> bool:
        """Open the partial file; True when the destination's file is to stay instead."""
        directory, name = Names(transfer.destination).split(file.path)
        policy = transfer.policy
        if not policy.write:
            file.stored = False
            return False
        if (
            policy.only_newer
            and policy.publishes
            and not policy.as_set
            and keeps_existing(policy, self._directories.get(directory), name, file.mtime_ns)
        ):
            return True
        partial = transfer.partials.pop(file.seq, None) or transfer.staged.take(file.seq)
        keep = (
            partial is not None
            and partial.generation == file.generation
            and partial.identity == file.identity
        )
        if partial is not None and not keep:
            transfer.unlink(partial.name)
        self._begin(transfer, file, partial if keep else None, (directory, name))
        return False

    def _begin(
        self, transfer: ReceivedTransfer, file: ReceivedFile, kept: Partial | None, path: tuple[Parts, bytes]
    ) -> None:
        """A file in the staging directory or in place. What was begun in place goes on only in the same
        file, and only if nobody has written to it since: the sender is asked for the rest again."""
        fd = -1
        if kept is None or kept.place is not None:
            fd = self._in_place(transfer, *path, file.size)
        if kept is not None and kept.place is not None and (fd < 0 or place_of(fd) != kept.place):
            file.doubt(kept)
            kept = None
        if fd >= 0:
            file.open_in_place(fd, kept)
        else:
            file.open(transfer.staging, kept)
            file.direct = self._direct.open(file.name, transfer.staging.fd, file.size)
        if file.seed is not None and transfer.may_look:
            delta_receiving.find(file, self._directories, *path)

    def chunk(self, transfer: ReceivedTransfer, header: Header, payload: memoryview) -> None:
        file = self._current(transfer, header)
        if file is None:
            return
        start, end = header.offset, header.offset + header.length
        if end > file.size:
            raise WireError("a chunk lies beyond the end of its file")
        if xxhash.xxh3_64_intdigest(payload) != header.digest:
            with file.lock:
                file.naks += 1
            self._stream.send(Header(*header[:5], 0, start, header.length)._replace(kind=Kind.NAK))
            return

        def write(fd: int) -> None:
            done = self._direct.write(file.direct, payload, start)
            write_all(fd, payload[done:], start + done)

        if self._write(transfer, header, file, write):
            self._arrived(transfer, header.handle, file, lambda: file.ranges.add(start, end))

    def _write(
        self, transfer: ReceivedTransfer, header: Header, file: ReceivedFile, write: Callable[[int], None]
    ) -> bool:
        """False when the file is closed, or has failed by this."""
        if not file.stored:
            return True
        fd = file.pin()
        if fd < 0:
            return False
        try:
            write(fd)
        except OSError as error:
            pass_on(error)  # what is here of the file is kept
            transfer.drop(file.seq)
            self._failed(header.handle, [(file.seq, file.why(error))])
            return False
        finally:
            file.unpin()
        return True

    def sums(self, transfer: ReceivedTransfer, header: Header, payload: memoryview) -> None:
        """Digests in the place of content: what the older version of the file has is taken from there, the
        rest is asked for."""
        file = self._current(transfer, header)
        if file is None:
            return
        start, (size, theirs) = header.offset, delta.decode_sums(payload)
        if file.seed is None or not file.stored or start + size > file.size:
            raise WireError("a SUMS frame is about what its file does not have")
        wanted: list[Range] = []

        def take(fd: int) -> None:
            wanted.extend(self._comparer.copy(file, fd, start, size, theirs))

        if not self._write(transfer, header, file, take):
            return
        with file.lock:
            file.naks += bool(wanted)
        answer = Header(Kind.WANT, 0, file.generation, header.handle, file.seq, 0, start)
        self._stream.send(answer, delta.encode_wanted(wanted))

        def taken() -> None:
            for low, high in delta.between(wanted, size):
                file.ranges.add(start + low, start + high)

        self._arrived(transfer, header.handle, file, taken)

    def hole(self, transfer: ReceivedTransfer, header: Header) -> None:
        """A range without content. A partial file was made empty, so that there is nothing to write."""
        file = self._current(transfer, header)
        if file is None:
            return
        start, end = header.offset, header.offset + header.digest
        if end > file.size:
            raise WireError("a hole lies beyond the end of its file")
        if file.in_place and not self._write(transfer, header, file, lambda fd: write_zeros(fd, start, end)):
            return
        self._arrived(transfer, header.handle, file, lambda: file.ranges.add(start, end))

    def end(self, transfer: ReceivedTransfer, header: Header) -> None:
        """All was sent, and the source is still what it was."""
        file = self._current(transfer, header)
        if file is None:
            return

        def ended() -> None:
            file.ended = max(file.ended, header.offset)

        self._arrived(transfer, header.handle, file, ended)

    def _current(self, transfer: ReceivedTransfer, header: Header) -> ReceivedFile | None:
        """The file a frame is about; None when it is about an attempt that is over."""
        file = transfer.files.get(header.seq)
        return file if file is not None and file.generation == header.generation else None

    def _arrived(
        self, transfer: ReceivedTransfer, handle: int, file: ReceivedFile, note: Callable[[], None]
    ) -> None:
        """Note progress; whoever makes the file whole publishes it."""
        with file.lock:
            if file.closed or file.publishing:
                return
            note()
            if len(file.ranges) > file.max_ranges:
                raise WireError(f"{shown(file.path)} arrives in more than {file.max_ranges} separate pieces")
            if not file.whole:
                return
            file.publishing = True
        try:
            outcome = self._finish(transfer, file)
        except (OSError, FileError) as error:
            file.publishing = False
            pass_on(error)  # it is whole, and gets its name when there is room
            transfer.drop(file.seq)
            self._failed(handle, [(file.seq, file.why(error))])
            return
        with transfer.lock:
            transfer.files.pop(file.seq, None)
            transfer.dropped[file.seq] = file.generation
        file.close()
        self._done(transfer, handle, file.seq, outcome)

    def _finish(self, transfer: ReceivedTransfer, file: ReceivedFile) -> Outcome:
        if not file.stored:
            return Outcome.DELIVERED
        fd = file.pin()
        try:
            self._dress(transfer, fd, file.flags, file.mtime_ns)
            place = place_of(fd)
        finally:
            file.unpin()
        directory, name = Names(transfer.destination).split(file.path)
        if not file.in_place:
            return self._naming.publish_large(
                transfer, file, Unnamed(file.seq, file.name, directory, name, file.mtime_ns)
            )
        require_there(place, self._directories.get(directory), name)
        self._syncer.published(directory, name)
        return Outcome.DELIVERED

    def _done(self, transfer: ReceivedTransfer, handle: int, seq: int, outcome: Outcome) -> None:
        transfer.outcomes.record(seq, outcome)
        self._stream.send(Header(Kind.DONE, handle=handle), pack.OUTCOME.pack(seq, outcome))

    def _failed(self, handle: int, failed: list[tuple[int, str]]) -> None:
        if failed:
            self._stream.send_json(Header(Kind.FAILED, handle=handle), {"files": failed})
