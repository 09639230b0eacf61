"""New files and links of a pack, written whole under a name that nobody knows yet."""

from __future__ import annotations

import os

from agent.server.data import pack, symlink
from agent.server.data.pack import PackedFile
from agent.server.data.publish import Policy

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

WRITE_SIZE = 256 * 1024
"""Larger writes make the kernel take large blocks for its page cache, which cost several times as much when
they have to be found, or fetched back from a host, first."""


def write_all(fd: int, data: bytes | memoryview, offset: int) -> None:
    view, written = memoryview(data), 0
    while written < len(view):
        written += os.pwrite(fd, view[written : written + WRITE_SIZE], offset + written)


def write_new(policy: Policy, directory: int, name: bytes, file: PackedFile) -> None:
    """FileExistsError when the name is taken. After another OSError a part of it may be there."""
    if file.flags & pack.LINK:
        symlink.make(bytes(file.content), directory, name, file.mtime_ns if policy.write_mtime else None)
        return
    mode = 0o777 if file.flags & pack.EXECUTABLE else 0o666
    fd = os.open(name, _CREATE, mode, dir_fd=directory)
    try:
        if file.content and os.write(fd, file.content) < len(file.content):
            write_all(fd, file.content, 0)  # it says what is wrong
        if policy.write_mtime:
            os.utime(fd, ns=(file.mtime_ns, file.mtime_ns))
    finally:
        os.close(fd)


def unlink(name: bytes, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        pass  # it has its final name, or its directory is gone
