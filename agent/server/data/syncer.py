"""Durability at the receiver: syncs for many transfers at once, in a thread of its own.

Few published files are synced one by one with their directories; many with one `syncfs`. A checkpoint is
answered when all that was published before it was asked for is on storage and the journal names the partial
files. A failed sync is not repeated, because the kernel has dropped what it could not write: the sender is
made to send again all since the last good checkpoint.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.server.confine import Directories, FileError, Parts
from agent.server.data.received import ReceivedTransfer
from agent.server.data.syncfs import FEW_FILES, sync_file_system

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_OUR_TROUBLE = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Why a file could not be opened, though it may be what was published."""


@dataclass(frozen=True, slots=True)
class Job:
    transfer: ReceivedTransfer | None
    done: Callable[[OSError | None], None]


@dataclass(slots=True)
class _Dirty:
    files: list[tuple[Parts, bytes | None]] = field(default_factory=list)
    many: bool = False


class Syncer:
    def __init__(self, root: bytes) -> None:
        self._root = root
        self._wake = threading.Condition()
        self._jobs: list[Job] = []
        self._dirty = _Dirty()
        self._stopped = False
        threading.Thread(target=self._run, name="syncer", daemon=True).start()

    def published(self, directory: Parts, name: bytes | None) -> None:
        """Note a file that got its name, or (None) a directory whose entries changed."""
        dirty = self._dirty
        if dirty.many:
            return
        with self._wake:
            dirty = self._dirty
            dirty.files.append((directory, name))
            dirty.many = len(dirty.files) > FEW_FILES

    def submit(self, job: Job) -> None:
        with self._wake:
            self._jobs.append(job)
            self._wake.notify()

    def stop(self) -> None:
        """End the thread once all that was submitted is done; nothing may be submitted any more."""
        with self._wake:
            self._stopped = True
            self._wake.notify()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._jobs:
                    if self._stopped:
                        return
                    self._wake.wait()
                jobs, self._jobs = self._jobs, []
                dirty, self._dirty = self._dirty, _Dirty()
            error = None
            try:
                self._sync(jobs, dirty)
            except OSError as failure:
                error = failure
            for job in jobs:
                job.done(error)

    def _sync(self, jobs: list[Job], dirty: _Dirty) -> None:
        transfers = {id(job.transfer): job.transfer for job in jobs if job.transfer is not None}
        partials = [(transfer, transfer.snapshot()) for transfer in transfers.values()]
        unfinished = sum(len(found) for _, found in partials)
        if dirty.many or unfinished > FEW_FILES:
            sync_file_system(self._root)
        else:
            self._sync_each(dirty.files)
            for transfer, found in partials:
                for partial in found:
                    _sync_partial(transfer, partial.name)
        for transfer, found in partials:
            transfer.sync_in_place()
            if (found or transfer.journaled) and transfer.staging.fd >= 0:
                transfer.staging.write_journal(found)
                transfer.journaled = bool(found)

    def _sync_each(self, files: list[tuple[Parts, bytes | None]]) -> None:
        directories = Directories(self._root)
        try:
            seen: set[Parts] = set()
            for parts, name in files:
                if name is not None:
                    _sync_file(directories, parts, name)
                for depth in range(len(parts) + 1):
                    seen.add(parts[:depth])
            for parts in seen:
                try:
                    os.fsync(directories.get(parts, create=False))
                except (FileNotFoundError, FileError):
                    continue  # removed since, by us or by its users
        finally:
            directories.clear()


def _sync_partial(transfer: ReceivedTransfer, name: bytes) -> None:
    try:
        fd = os.open(name, _READ, dir_fd=transfer.staging.fd)
    except OSError:
        return  # published or dropped since
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_file(directories: Directories, parts: Parts, name: bytes) -> None:
    try:
        fd = os.open(name, _READ, dir_fd=directories.get(parts, create=False))
    except FileError:
        return
    except OSError as error:
        if error.errno in _OUR_TROUBLE:
            raise
        return  # removed or taken over since
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):  # others cannot be synced, and are not what was published
            os.fsync(fd)
    finally:
        os.close(fd)
