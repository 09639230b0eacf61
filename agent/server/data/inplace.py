"""Files that are written where they are, instead of being replaced by a new one.

A crash in the middle leaves a mixture of old and new content under the name, until the transfer goes on; that
is the price of the mode. Only regular files that exist are written in place, never through a symbolic link.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from agent.jetstream import constants
from agent.server.confine import FileError, shown
from agent.server.data.publish import Policy

_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_SPECIAL = stat.S_ISUID | stat.S_ISGID
_ZEROS = bytes(256 * 1024)


class Place(NamedTuple):
    """Which file it is, whatever names it has, and when it was last written."""

    device: int
    inode: int
    mtime_ns: int


def open_in_place(policy: Policy, directory: int, name: bytes, size: int) -> int:
    """A descriptor for reading and writing; -1 when the file is to be replaced (or made) instead. `policy`
    is one that allows it."""
    try:
        fd = os.open(name, _OPEN, dir_fd=directory)
    except OSError:
        return -1  # there is none, or none that can be written: the other way says what is wrong, if anything
    found = os.fstat(fd)
    same = policy.overwrite == constants.OVERWRITE_IN_PLACE_ALWAYS or found.st_size in (0, size)
    if stat.S_ISREG(found.st_mode) and same:
        if found.st_mode & _SPECIAL:  # of the program that was there; a kernel leaves them to the powerful
            os.fchmod(fd, stat.S_IMODE(found.st_mode) & ~_SPECIAL)
        return fd
    os.close(fd)
    return -1


def place_of(fd: int) -> Place:
    found = os.fstat(fd)
    return Place(found.st_dev, found.st_ino, found.st_mtime_ns)


def require_there(place: Place, directory: int, name: bytes) -> None:
    """FileError when the name is another file's by now."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        found = None
    if found is None or place[:2] != (found.st_dev, found.st_ino):
        raise FileError(
            f"{shown(name)} was moved or replaced at the destination while it was written in place"
        )


def make_executable(fd: int, umask: int) -> None:
    """For whoever may, by the process's habits; its other permissions stay."""
    os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) | 0o111 & ~umask)


def write_zeros(fd: int, start: int, end: int) -> None:
    """Make a range read as zeros. What is a hole stays one."""
    while start < end:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
            stop = min(end, os.lseek(fd, start, os.SEEK_HOLE))
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            stop = end  # the file system does not tell
        while start < stop:
            start += os.pwrite(fd, memoryview(_ZEROS)[: stop - start], start)
