"""Where the sources of a manifest are read: in the whole file system, or below a user's roots.

Below roots a path is virtual, and a symbolic link is followed as long as it stays below the root it lies in.
What is allowed is asked of the kernel each time something is opened, not once when the manifest is made.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from agent.server.beneath import open_beneath
from agent.server.confine import STAGING, FileError
from agent.server.sandboxes import Roots, roots_from_json


class Item(Protocol):
    """What a directory holds; an `os.DirEntry` is one."""

    @property
    def name(self) -> str: ...
    @property
    def path(self) -> str: ...
    def is_symlink(self) -> bool: ...
    def is_dir(self) -> bool: ...
    def stat(self) -> os.stat_result: ...


class Sources(Protocol):
    """All raise OSError as the system does; PermissionError for what leads outside."""

    def open(self, path: bytes, flags: int) -> int: ...
    def stat(self, path: str, *, follow: bool = True) -> os.stat_result: ...
    def scan(self, path: str) -> AbstractContextManager[Iterator[Item]]: ...


class WholeSystem:
    """Whatever the server's process can read."""

    def open(self, path: bytes, flags: int) -> int:
        return os.open(path, flags)

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result:
        return os.stat(path, follow_symlinks=follow)

    def scan(self, path: str) -> AbstractContextManager[Iterator[Item]]:
        return os.scandir(path)


class Confined:
    """What lies below somebody's roots."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots

    def open(self, path: bytes, flags: int) -> int:
        try:
            base, below = self._roots.source(path)
            return open_beneath(base, below, flags)
        except FileError as error:
            raise PermissionError(errno.EACCES, str(error), path) from None

    def stat(self, path: str, *, follow: bool = True) -> os.stat_result:
        fd = self.open(os.fsencode(path), os.O_PATH | (0 if follow else os.O_NOFOLLOW))
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    @contextmanager
    def scan(self, path: str) -> Iterator[Iterator[Item]]:
        fd = self.open(os.fsencode(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(fd) as listing:
                yield self._items(listing, path.rstrip("/"))
        finally:
            os.close(fd)

    def _items(self, listing: Iterator[os.DirEntry[str]], folder: str) -> Iterator[Item]:
        for entry in listing:
            if os.fsencode(entry.name) != STAGING or not self._is_staging(f"{folder}/{entry.name}"):
                yield _ConfinedItem(self, entry, f"{folder}/{entry.name}")

    def _is_staging(self, path: str) -> bool:
        try:
            self._roots.source(os.fsencode(path))
        except FileError:
            return True
        return False


class _ConfinedItem:
    def __init__(self, sources: Confined, entry: os.DirEntry[str], path: str) -> None:
        self._sources = sources
        self._entry = entry
        self.path = path

    @property
    def name(self) -> str:
        return self._entry.name

    def is_symlink(self) -> bool:
        return self._entry.is_symlink()

    def is_dir(self) -> bool:
        if not self._entry.is_symlink():
            return self._entry.is_dir(follow_symlinks=False)
        return stat.S_ISDIR(self.stat().st_mode)

    def stat(self) -> os.stat_result:
        if not self._entry.is_symlink():
            return self._entry.stat(follow_symlinks=False)
        return self._sources.stat(self.path)


WHOLE: Sources = WholeSystem()


def of_roots(roots: Roots | None) -> Sources:
    return WHOLE if roots is None else Confined(roots)


def stored(roots: Roots | None) -> str | None:
    """As a manifest keeps it: what was allowed when it was made holds for it."""
    return None if roots is None else json.dumps(roots.as_json())


def of_stored(text: str | None) -> Sources:
    return WHOLE if text is None else Confined(roots_from_json(json.loads(text)))
