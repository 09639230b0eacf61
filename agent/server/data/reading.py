"""Source files, read so that a change while reading is noticed."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import NamedTuple

from agent.server.sources import WHOLE, Sources

_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
ATTEMPTS = 5
MAX_EXTENTS = 65_536
_TICK_NS = 10_000_000
_STAMPS = 5  # CLOCK_REALTIME_COARSE, which the time module does not name
_GONE = (errno.ENOENT, errno.ENOTDIR)

Extent = tuple[int, int, bool]  # start, end, is a hole


class Identity(NamedTuple):
    """What tells one state of a source file from another."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class VanishedError(Exception):
    """The source is not there any more."""


class UnreadableError(Exception):
    """The source cannot be sent; the message says why."""


class TooLargeError(Exception):
    """The source has grown too large for a pack."""


def open_source(path: bytes, sources: Sources = WHOLE) -> int:
    """VanishedError or UnreadableError when it cannot be opened as a file."""
    try:
        return sources.open(path, _OPEN)
    except OSError as error:
        if error.errno in _GONE:
            raise VanishedError from error
        raise UnreadableError(f"{_shown(path)}: {os.strerror(error.errno or 0)}") from error


def identify(fd: int, path: bytes) -> Identity:
    """UnreadableError when it is not a regular file."""
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        raise UnreadableError(f"{_shown(path)} is not a regular file")
    return Identity(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def await_tick(identity: Identity) -> None:
    """Let the clock that stamps files move on from the last change of this one: a later change then shows.
    Times of the future are left alone."""
    while 0 <= identity.ctime_ns - time.clock_gettime_ns(_STAMPS) < _TICK_NS:
        time.sleep(0.001)


def read_small(path: bytes, view: memoryview, sources: Sources = WHOLE) -> Identity:
    """Put the content of a file that is shorter than `view` there, all of one state. TooLargeError,
    VanishedError, UnreadableError (also when it keeps changing)."""
    fd = open_source(path, sources)
    try:
        for _ in range(ATTEMPTS):
            before = identify(fd, path)
            size = before.size
            if size >= len(view):
                raise TooLargeError
            await_tick(before)
            got = os.preadv(fd, [view[: size + 1]], 0)  # a byte more: whether it has grown
            if got == size and unchanged(fd, before):
                return before
            if got < size:
                os.pread(fd, 1, got)  # what cut it short: an error of the disk, or a new end
            time.sleep(0.002)
        raise UnreadableError(changed_message(path))
    except OSError as error:
        raise UnreadableError(f"{_shown(path)}: {os.strerror(error.errno or 0)}") from error
    finally:
        os.close(fd)


def read_link(path: bytes, sources: Sources = WHOLE) -> tuple[bytes, Identity]:
    """What a symbolic link says, of one state. VanishedError, also when something else has its name."""
    try:
        fd = sources.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _GONE:
            raise VanishedError from error
        raise UnreadableError(f"{_shown(path)}: {os.strerror(error.errno or 0)}") from error
    try:
        found = os.fstat(fd)
        if not stat.S_ISLNK(found.st_mode):
            raise VanishedError
        target = os.readlink(b"", dir_fd=fd)  # of the very link: what a link says never changes
    finally:
        os.close(fd)
    return target, Identity(len(target), found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def read_into(fd: int, view: memoryview, offset: int, path: bytes) -> int:
    """Fill `view`; returns less than its length at the end of the file. UnreadableError."""
    got = 0
    try:
        while got < len(view) and (count := os.preadv(fd, [view[got:]], offset + got)):
            got += count
    except OSError as error:
        raise UnreadableError(f"{_shown(path)}: {os.strerror(error.errno or 0)}") from error
    return got


def promised(path: bytes, size: int, mtime_us: int | None, sources: Sources = WHOLE) -> Identity:
    """What a source that is not read counts for; one of unknown size (-1) is looked at. VanishedError or
    UnreadableError."""
    if size >= 0:
        return Identity(size, (mtime_us or 0) * 1000, 0, 0)
    fd = open_source(path, sources)
    try:
        return identify(fd, path)
    finally:
        os.close(fd)


def unchanged(fd: int, identity: Identity) -> bool:
    found = os.fstat(fd)
    return identity == (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def changed_message(path: bytes) -> str:
    return f"{_shown(path)} changed while it was sent"


def extents(fd: int, size: int) -> list[Extent]:
    """The file as stretches of content and holes, in order. One stretch where holes cannot be told."""
    found: list[Extent] = []
    at = 0
    blocks = os.fstat(fd).st_blocks * 512
    if blocks >= size:
        return [(0, size, False)] if size else []
    try:
        while at < size and len(found) < MAX_EXTENTS:
            start = _next_data(fd, at, size)
            if start > at:
                found.append((at, start, True))
            at = start
            if at < size:
                end = min(size, os.lseek(fd, at, os.SEEK_HOLE))
                found.append((at, end, False))
                at = end
    except OSError:
        pass  # the file system does not tell: the rest goes as content
    if at < size:
        found.append((at, size, False))
    return found


def _next_data(fd: int, at: int, size: int) -> int:
    try:
        return min(size, os.lseek(fd, at, os.SEEK_DATA))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        raise


def without(found: list[Extent], missing: list[tuple[int, int]]) -> list[Extent]:
    """The parts of the extents that are missing at the receiver."""
    return [
        (max(start, low), min(end, high), hole)
        for start, end, hole in found
        for low, high in missing
        if max(start, low) < min(end, high)
    ]


def _shown(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
