"""The older version of a large file that arrives, from which its new one takes the blocks that are the same.

A block is read once: what is compared is what is written. So the older version may change, shrink or vanish
meanwhile; what is not found in it is asked for.
"""

from __future__ import annotations

import os
import stat

from agent.server.confine import Directories, FileError, Parts
from agent.server.data import delta
from agent.server.data.newfiles import write_all
from agent.server.data.ranges import Range
from agent.server.data.received import ReceivedFile
from agent.server.data.wire import CHUNK_SIZE

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def find(file: ReceivedFile, directories: Directories, directory: Parts, name: bytes) -> None:
    """Open what has the file's name, if it can be compared. No directory is made by this."""
    if file.in_place:
        file.base, file.base_size = os.dup(file.fd), file.size
        return
    try:
        fd = os.open(name, _READ, dir_fd=directories.get(directory, create=False))
    except (OSError, FileError):
        return  # there is none, or none that may be read: all is sent
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        return
    file.base, file.base_size = fd, found.st_size
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)


class Comparer:
    """Of one stream, in its thread."""

    def __init__(self) -> None:
        self._buffer = memoryview(b"")

    def copy(self, file: ReceivedFile, fd: int, start: int, size: int, theirs: bytes) -> list[Range]:
        """Write the blocks of a piece that are the same to `fd`; returns the ranges that differ, from the
        piece's start. OSError when they cannot be written."""
        ours = self._read(file, start, size)
        wanted = delta.differing(theirs, delta.sums(ours, file.seed or 0), size)
        if not file.in_place:  # else they are there
            for low, high in delta.between(wanted, size):
                write_all(fd, ours[low:high], start + low)
        return wanted

    def _read(self, file: ReceivedFile, start: int, size: int) -> memoryview:
        """What the older version has there: less than asked for at its end, or where it cannot be read."""
        if not self._buffer:
            self._buffer = memoryview(bytearray(CHUNK_SIZE))
        got = 0
        try:
            while got < size and (
                count := os.preadv(file.base, [self._buffer[got:size]], start + got) if file.base >= 0 else 0
            ):
                got += count
        except OSError:
            pass  # it is damaged there: what was not read is asked for
        return self._buffer[:got]
