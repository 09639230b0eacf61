"""Deleting a source file that was delivered: that very version, by the descriptor of its directory.

No symbolic link below the root is followed. A read lease proves that nobody has the file open for writing and
keeps writers waiting until it is gone; on file systems without leases the comparison right before it decides.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat as st
from collections.abc import Iterator
from contextlib import contextmanager

import xxhash

from agent.model.change import FileStat
from agent.source.scan import file_stat

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_BLOCK = 1 << 20

LINKED = "a symbolic link leads there"
NOT_ALLOWED = "the agent's user may not delete there"


class StaysError(Exception):
    """The file was not deleted; the text says why."""


@contextmanager
def directory_of(root: str, relative: str) -> Iterator[tuple[int, str]]:
    """(descriptor of the directory, name) of a file below `root`, or of a root that is a file. StaysError."""
    top, path = (root, relative) if relative else os.path.split(root)
    *above, name = path.split("/")
    fd = -1
    try:
        fd = os.open(top, _DIRECTORY)
        for part in above:
            below = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd, name
    except OSError as error:
        linked = error.errno in (errno.ELOOP, errno.ENOTDIR)
        raise StaysError(LINKED if linked else error.strerror or str(error)) from error
    finally:
        if fd >= 0:
            os.close(fd)


def place_of(directory: int) -> str:
    """Where an open directory lies, whatever led there."""
    return os.readlink(f"/proc/self/fd/{directory}")


def may_delete_in(directory: int) -> bool:
    return os.access(f"/proc/self/fd/{directory}", os.W_OK | os.X_OK)


def is_plain(directory: int, name: str) -> bool:
    """Whether it is a regular file, and no link to one."""
    try:
        return st.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except OSError:
        return False


def remove(directory: int, name: str, version: FileStat, digest: str = "") -> None:
    """Delete it if it is of this version; with `digest` (xxh3_64 as hex), and of this content. StaysError."""
    try:
        fd = os.open(name, _FILE, dir_fd=directory)
    except OSError as error:
        raise StaysError(LINKED if error.errno == errno.ELOOP else error.strerror or str(error)) from error
    try:
        if not _lease(fd):
            raise StaysError("somebody has it open for writing")
        if digest and _digest(fd) != digest:
            raise StaysError("its content is not what was delivered")
        opened, named = os.fstat(fd), os.stat(name, dir_fd=directory, follow_symlinks=False)
        same = st.S_ISREG(named.st_mode) and named.st_dev == opened.st_dev
        if not same or file_stat(opened) != version or file_stat(named) != version:
            raise StaysError("it was changed since it was delivered")
        os.unlink(name, dir_fd=directory)
    except OSError as error:
        raise StaysError(error.strerror or str(error)) from error
    finally:
        os.close(fd)


def _lease(fd: int) -> bool:
    """False when the file is open for writing somewhere. It ends with the descriptor."""
    try:
        # Who wants to write meanwhile is told of to us by a signal: one that does nothing.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EBUSY)
    return True


def _digest(fd: int) -> str:
    state = xxhash.xxh3_64()
    while block := os.read(fd, _BLOCK):
        state.update(block)
    return state.hexdigest()
