"""Directories that are not there yet get their name with the files that a pack has for them.

The files are written below the staging directory, each under its own name, and the directory is renamed to
its place once they are whole: one rename instead of as many as there are files. What is in the way by then
is respected: the files go into it one by one.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable

from agent.server import noreplace
from agent.server.confine import Directories, FileError, Parts, unwritten
from agent.server.data.fullness import pass_on
from agent.server.data.newfiles import unlink, write_new
from agent.server.data.pack import PackedFile
from agent.server.data.received import ReceivedTransfer
from agent.server.data.staging import FOLDER_SUFFIX, remove_folder
from agent.server.data.strict import Unnamed
from agent.server.data.syncer import Syncer
from agent.server.results import Outcome

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ACL = "system.posix_acl_default"

_numbers = itertools.count(1)

Name = Callable[[Unnamed, int], Outcome]
"""Gives a file its name by the overwrite mode; the descriptor is of the directory that it lies in."""


class _Folder:
    """One that was begun."""

    def __init__(self, staging: int, parts: Parts) -> None:
        self.parts = parts
        self.files: list[Unnamed] = []  # whole
        self.sound = True  # nothing else lies in it
        self.temporary = b"%d" % next(_numbers) + FOLDER_SUFFIX
        os.mkdir(self.temporary, 0o777, dir_fd=staging)
        self.fd = os.open(self.temporary, _OPEN, dir_fd=staging)


class NewFolders:
    """Of one pack. For one thread."""

    def __init__(
        self, transfer: ReceivedTransfer, directories: Directories, syncer: Syncer, name: Name
    ) -> None:
        policy = transfer.policy
        self._useful = policy.publishes and not policy.as_set and not policy.stored_first
        self._policy = policy
        self._staging = transfer.staging.fd
        self._directories = directories
        self._syncer = syncer
        self._name = name
        self._folder: _Folder | None = None
        self._results: list[tuple[int, Outcome | str]] = []

    def take(self, directory: Parts, name: bytes, file: PackedFile) -> bool:
        """Write a file whose directory is new; its outcome comes with the `results`. False: it is for the
        directory that is there. FileError or OSError when it cannot be written."""
        folder = self._folder
        if folder is None or folder.parts != directory:
            self.settle()
            folder = self._folder = self._begin(directory)
        if folder is None:
            return False
        try:
            write_new(self._policy, folder.fd, name, file)
        except FileExistsError:  # twice in one pack, or the same to this file system
            self.settle()
            return False
        except OSError:
            folder.sound = False
            unlink(name, folder.fd)
            raise
        folder.files.append(Unnamed(file.seq, name, directory, name, file.mtime_ns))
        return True

    def results(self) -> list[tuple[int, Outcome | str]]:
        """What became of all files that were taken: nothing is pending after this."""
        self.settle()
        return self._results

    def settle(self) -> None:
        """Give the directory that was begun its name."""
        folder, self._folder = self._folder, None
        if folder is None:
            return
        try:
            if folder.sound and self._place(folder):
                for file in folder.files:
                    self._syncer.published(file.directory, file.name)
                self._results += [(file.seq, Outcome.DELIVERED) for file in folder.files]
            else:
                try:
                    self._results += [(file.seq, self._one(folder, file)) for file in folder.files]
                finally:
                    self._remove(folder)
        finally:
            os.close(folder.fd)

    def abandon(self) -> None:
        """Remove what has no name yet: the pack ends early, and comes again."""
        folder, self._folder = self._folder, None
        if folder is not None:
            os.close(folder.fd)
            self._remove(folder)

    def _begin(self, directory: Parts) -> _Folder | None:
        """None when it is there, or has to be made in its place because it inherits something there."""
        if not self._useful or not directory:
            return None
        try:
            self._directories.get(directory, create=False)
        except FileNotFoundError:
            parent = self._directories.get(directory[:-1])
            if not (_bequeaths(parent) or _bequeaths(self._staging)):
                return _Folder(self._staging, directory)
        return None

    def _place(self, folder: _Folder) -> bool:
        """False when that cannot be: something has the name by now, or it is another file system."""
        for _ in range(2):
            parent = self._directories.get(folder.parts[:-1])
            try:
                noreplace.rename(self._staging, folder.temporary, parent, folder.parts[-1])
            except FileNotFoundError:  # the parent was removed since it was opened
                self._directories.forget(folder.parts[:-1])
            except OSError:
                return False
            else:
                return True
        return False

    def _one(self, folder: _Folder, file: Unnamed) -> Outcome | str:
        try:
            return self._name(file, folder.fd)
        except FileError as error:
            return str(error)
        except OSError as error:
            pass_on(error)
            return unwritten(b"/".join((*file.directory, file.name)), error)

    def _remove(self, folder: _Folder) -> None:
        try:
            remove_folder(folder.temporary, self._staging)
        except OSError:
            pass  # goes with the staging directory


def _bequeaths(directory: int) -> bool:
    """Whether what is made in a directory gets its group or its access list from it."""
    if os.fstat(directory).st_mode & stat.S_ISGID:
        return True
    try:
        return bool(os.getxattr(directory, _ACL))
    except OSError:
        return False  # it has none, or the file system knows none
