"""`durability: strict`: what arrived is on storage before it gets its name, and the name right after.

The new files of a pack are taken together: one sync for all of their contents and for the directories that
were made for them, then the renames, then one sync of each directory that has a new name in it. Only then
does the sender hear of them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from agent.server.confine import Directories, FileError, Parts, unwritten
from agent.server.data.fullness import pass_on
from agent.server.data.syncfs import FEW_FILES, sync_file_system
from agent.server.results import Outcome


class Unnamed(NamedTuple):
    """A whole file or link under its temporary name."""

    seq: int
    temporary: bytes
    directory: Parts
    name: bytes
    mtime_ns: int


Publish = Callable[[Unnamed], Outcome]


class StrictBatch:
    """Of one pack, or one large file. For one thread."""

    def __init__(self, root: bytes, staging: int, directories: Directories) -> None:
        self._root = root
        self._staging = staging
        self._directories = directories
        self._files: list[Unnamed] = []
        self._touched: set[Parts] = set()

    def hold(self, file: Unnamed) -> None:
        """FileError or OSError when there can be no such directory."""
        self._directories.get(file.directory)
        self._files.append(file)

    def changed(self, directory: Parts) -> None:
        """A directory was made, or a file in it written in place."""
        self._touched |= set(_with_ancestors(directory))

    def give_up(self) -> None:
        """Remove what has no name yet: it comes again."""
        for file in self._files:
            with suppress(OSError):
                os.unlink(file.temporary, dir_fd=self._staging)

    def finish(self, publish: Publish) -> Iterator[tuple[int, Outcome | str]]:
        """Give each file its name, durably: its outcome, or what went wrong. OSError when storage does not
        take what it was given: then nothing that has a name by this was told."""
        made = {part for file in self._files for part in _with_ancestors(file.directory)}
        self._sync_contents(made)
        told: list[tuple[int, Outcome | str]] = []
        for file in self._files:
            try:
                told.append((file.seq, publish(file)))
                self._touched.add(file.directory)
            except FileError as error:
                told.append((file.seq, str(error)))
            except OSError as error:
                pass_on(error)
                told.append((file.seq, unwritten(file.name, error)))
        self._sync_directories(self._touched)
        yield from told

    def _sync_contents(self, made: set[Parts]) -> None:
        if len(self._files) > FEW_FILES:
            sync_file_system(self._root)
            return
        for file in self._files:
            _sync(file.temporary, self._staging)
        self._sync_directories(made)

    def _sync_directories(self, directories: Iterable[Parts]) -> None:
        for parts in sorted(directories, key=len, reverse=True):
            os.fsync(self._directories.get(parts))


def _with_ancestors(directory: Parts) -> list[Parts]:
    return [directory[:depth] for depth in range(len(directory) + 1)]


def _sync(name: bytes, directory: int) -> None:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        return  # a link is all in its directory
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
