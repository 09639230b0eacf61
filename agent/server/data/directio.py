"""Large files, written around the page cache (`O_DIRECT`) where the device is fast.

Taking memory for the page cache and copying into it costs a receiver more than all else it does with a large
file, and what is written so has to be synced later. Only file systems that tell the kernel their alignment
(statx(2), `STATX_DIOALIGN`) are written so: ext4, xfs and others on a device of this machine, but not tmpfs
or a file server. The ends of a file, and pieces that are not aligned, go through the page cache, which the
kernel keeps in step.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
import time

ALIGNMENT = 4096
LEAST_SIZE = 16 << 20  # of a file
LEAST_PIECE = 256 << 10

SLOW = 256 << 20  # bytes a second; through the page cache, a slower device at least takes bursts
JUDGED = 128 << 20  # bytes by which a device is judged
REST_SECONDS = 600.0  # before a slow one is judged again

_AT_EMPTY_PATH = 0x1000
_STATX_DIOALIGN = 0x2000
_SIZE, _DIO_MEM_ALIGN = 256, 152  # of struct statx; the alignment of offsets follows that of memory
_libc = ctypes.CDLL(None, use_errno=True)


class Pace:
    """How fast a device takes what is written to it: bytes over the time in which at least one write is under
    way. What is under way when it is judged counts as written. For one thread at a time; times are monotonic
    seconds."""

    def __init__(self) -> None:
        self._writing = 0  # bytes under way
        self._since = 0.0
        self._seconds = 0.0
        self._bytes = 0
        self._rests_until = float("-inf")

    def slow(self, now: float) -> bool:
        return now < self._rests_until

    def begin(self, size: int, now: float) -> None:
        if not self._writing:
            self._since = now
        self._writing += size

    def end(self, size: int, now: float) -> None:
        self._seconds += now - self._since
        self._since = now
        self._writing -= size
        self._bytes += size
        if self._bytes >= JUDGED:
            if self._bytes + self._writing < SLOW * self._seconds:
                self._rests_until = now + REST_SECONDS
            self._seconds, self._bytes = 0.0, 0


class DirectIO:
    """What is written so below one root. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pace = Pace()

    def open(self, name: bytes, directory: int, size: int) -> int:
        """A second descriptor of a new file, for `write`; -1 when it is not to be written so."""
        if size < LEAST_SIZE or self._pace.slow(time.monotonic()):
            return -1
        try:
            fd = os.open(name, os.O_WRONLY | os.O_DIRECT | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except OSError:
            return -1
        if not 0 < alignment(fd) <= ALIGNMENT:
            os.close(fd)
            return -1
        return fd

    def write(self, fd: int, data: memoryview, offset: int) -> int:
        """Write the beginning of `data`, whose memory is aligned, to a descriptor of `open` or to none.
        Returns how much: the rest is to go through the page cache. OSError when storage is full or fails."""
        size = len(data)
        if fd < 0 or size < LEAST_PIECE or (offset | size) % ALIGNMENT or self._pace.slow(time.monotonic()):
            return 0
        with self._lock:
            self._pace.begin(size, time.monotonic())
        written = 0
        try:
            while written < size and written % ALIGNMENT == 0:
                written += os.pwrite(fd, data[written:], offset + written)
        except OSError as error:
            if error.errno != errno.EINVAL:  # that is: not for this memory, or not here
                raise
        finally:
            with self._lock:
                self._pace.end(size, time.monotonic())
        return written


def alignment(fd: int) -> int:
    """Of memory and offsets for direct I/O on a file, in bytes; 0 where there is none, or nobody tells."""
    found = ctypes.create_string_buffer(_SIZE)
    try:
        failed = _libc.statx(fd, b"", _AT_EMPTY_PATH, _STATX_DIOALIGN, found)
    except AttributeError:
        return 0  # a C library without statx
    mask = struct.unpack_from("=I", found)[0]
    if failed or not mask & _STATX_DIOALIGN:
        return 0
    memory, offsets = struct.unpack_from("=II", found, _DIO_MEM_ALIGN)
    return max(memory, offsets) if offsets else 0
