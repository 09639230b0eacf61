"""Names that a peer chooses, kept below a root.

A path is walked component by component with descriptors, and no component may be a symbolic link: so
neither `..`, nor an absolute path, nor a link planted before or during a transfer leads outside.
"""

from __future__ import annotations

import errno
import os
import time
from collections import OrderedDict

STAGING = b".lanesync"
"""Directory in the receive root for unfinished files; no path of a sender may enter it."""

TRASH = b".lanesync-trash"
"""Directory at the top of what a user reaches for what was taken out of the way; no listing shows it."""

NAME_MAX = 255
PATH_MAX = 4096
CACHED_DIRECTORIES = 256
TRUSTED_SECONDS = 0.5
"""How long a descriptor is used before its path is walked anew: directories may be moved by their users."""

_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_NAMES = (b"", b".", b"..")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Parts = tuple[bytes, ...]


class FileError(Exception):
    """One file cannot be written (or deleted); the message is for the sender's user. Others go on."""


def shown(path: bytes) -> str:
    """A path for a message."""
    return path.decode("utf-8", "backslashreplace")


def reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def unwritten(path: bytes, error: OSError) -> str:
    """Why something cannot be written, and what helps."""
    helps = (
        "; let the user that the receiving server runs as write there" if error.errno in _FORBIDDEN else ""
    )
    return f"{shown(path)}: {reason(error)} at the destination{helps}"


def split(path: bytes) -> Parts:
    """The components of a path below the receive root. FileError for one that names something else."""
    if b"\0" in path or len(path) > PATH_MAX:
        raise FileError("the path holds a NUL byte or is longer than 4096 bytes")
    parts = tuple(part for part in path.split(b"/") if part)
    for part in parts:
        if part in (b".", b".."):
            raise FileError(f"{shown(path)}: '.' and '..' are not accepted in a path")
        if len(part) > NAME_MAX:
            raise FileError(f"{shown(path)}: a name is longer than {NAME_MAX} bytes")
    if parts and parts[0] == STAGING:
        raise FileError(f"{shown(path)}: {STAGING.decode()} at the root is reserved for unfinished files")
    return parts


class Names:
    """`split` of many paths below one directory, remembering the directories. For one thread."""

    def __init__(self, top: bytes) -> None:
        self._top = top
        self._known: dict[bytes, Parts] = {}

    def split(self, path: bytes) -> tuple[Parts, bytes]:
        """(directory, name) of a file. FileError for a path that is not below the root."""
        folder, _, name = path.rpartition(b"/")
        parts = self._known.get(folder)
        if parts is None:
            split(folder)
            parts = split(self._top + b"/" + folder)
            if len(self._known) >= CACHED_DIRECTORIES:
                self._known.clear()
            self._known[folder] = parts
        if name in _NO_NAMES or len(name) > NAME_MAX or b"\0" in name or len(path) > PATH_MAX:
            split(path)
            raise FileError(f"{shown(path)}: a file needs a name")
        if not parts and name == STAGING:
            split(name)
        return parts, name


def open_component(name: bytes, parent: int, *, create: bool, mode: int = 0o777) -> int:
    """A descriptor of the directory `name` in `parent`. FileError when something else has that name."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise FileError(f"{shown(name)} is a symbolic link or not a directory") from error
        raise
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:
        pass  # another stream made it
    return open_component(name, parent, create=False)


def open_below(root: bytes, parts: Parts, *, create: bool) -> int:
    """A descriptor of the directory `parts` below the root, made with its ancestors when `create`. FileError,
    or OSError as the system gives it."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in parts:
        try:
            child = open_component(part, fd, create=create)
        finally:
            os.close(fd)
        fd = child
    return fd


class Directories:
    """Descriptors of directories below the root, with a small cache. For one thread."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._cache: OrderedDict[Parts, tuple[int, float]] = OrderedDict()

    def get(self, parts: Parts, *, create: bool = True) -> int:
        """Descriptor of a directory, made with its ancestors when `create`. It belongs to the cache: use it
        before the next call. FileError, or OSError as the system gives it."""
        found = self._cache.get(parts)
        now = time.monotonic()
        if found is not None:
            if now < found[1]:
                self._cache.move_to_end(parts)
                return found[0]
            self.forget(parts)
        fd = open_below(self._root, parts, create=create)
        self._cache[parts] = (fd, now + TRUSTED_SECONDS)
        if len(self._cache) > CACHED_DIRECTORIES:
            _, (old, _) = self._cache.popitem(last=False)
            os.close(old)
        return fd

    def forget(self, parts: Parts) -> None:
        found = self._cache.pop(parts, None)
        if found is not None:
            os.close(found[0])

    def clear(self) -> None:
        while self._cache:
            os.close(self._cache.popitem()[1][0])
