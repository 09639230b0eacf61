"""Looking at single paths of a source tree, as a scan would see them: what a hint of change asks for."""

from __future__ import annotations

import os
import stat as st
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from agent.model.change import FileStat
from agent.model.spec import Symlinks
from agent.source.filters import EVERYTHING, Filter
from agent.source.links import LinkError, link_stat
from agent.source.scan import EMPTY, Scanner, file_stat


class Found(NamedTuple):
    """What there is at one path: a version (a file or an empty directory), a directory to be scanned,
    nothing that counts (`absent`), or an error, which means that nothing is known."""

    path: str
    stat: FileStat | None = None
    is_directory: bool = False
    error: OSError | None = None

    @property
    def absent(self) -> bool:
        return self.stat is None and not self.is_directory and self.error is None


def scan_paths(
    root: str,
    paths: Iterable[str],
    filter_: Filter = EVERYTHING,
    symlinks: Symlinks = Symlinks.COPY_CONTENTS,
) -> Iterator[Found]:
    """Look at single paths (relative to the root), as scan_tree would see them.

    For a directory with content call scan_tree with `start`. When a path is absent and its directory holds
    nothing any more, that directory follows as an empty one.
    """
    scanner = Scanner(root, filter_, symlinks)
    emptied: set[str] = set()
    for path in paths:
        found = _look(scanner, root, path, filter_, symlinks)
        yield found
        parent = path.rpartition("/")[0]
        if found.absent and parent and parent not in emptied:
            emptied.add(parent)
            above = _look(scanner, root, parent, filter_, symlinks)
            if above.stat == EMPTY:
                yield above


def _look(scanner: Scanner, root: str, path: str, filter_: Filter, symlinks: Symlinks) -> Found:
    full = root + "/" + path if path else root
    try:
        if symlinks is Symlinks.PRESERVE and path and st.S_ISLNK(os.lstat(full).st_mode):
            return _link(root, path, filter_)
        info = os.stat(full)
        if symlinks is not Symlinks.COPY_CONTENTS and _through_link(root, path):
            return Found(path)
        if path and filter_.leads_out(path):
            return Found(path)
    except (FileNotFoundError, NotADirectoryError):
        return _absent(root, path)
    except OSError as error:
        return Found(path, error=error)
    if st.S_ISDIR(info.st_mode):
        return _directory(scanner, path, filter_)
    counts = st.S_ISREG(info.st_mode) and filter_.includes(path, False)
    return Found(path, file_stat(info) if counts else None)


def _link(root: str, path: str, filter_: Filter) -> Found:
    if not filter_.includes(path, False) or _through_link(root, path.rpartition("/")[0]):
        return Found(path)
    try:
        return Found(path, link_stat(root + "/" + path, path.count("/")))
    except LinkError:
        return Found(path)  # a scan says why it does not count


def _directory(scanner: Scanner, path: str, filter_: Filter) -> Found:
    if filter_.prunes(path):
        return Found(path)
    if scanner.has_content(path) or not path:
        return Found(path, is_directory=True)
    return Found(path, EMPTY if filter_.includes(path, True) else None)


def _absent(root: str, path: str) -> Found:
    """A path is only gone when its root is still there: an unmounted root says nothing."""
    try:
        os.stat(root)
    except OSError as error:
        return Found(path, error=error)
    return Found(path)


def _through_link(root: str, path: str) -> bool:
    full = root
    for part in path.split("/") if path else ():
        full = full + "/" + part
        if st.S_ISLNK(os.lstat(full).st_mode):
            return True
    return False


class RootState(NamedTuple):
    """A source root as the safety rules want to know it."""

    exists: bool
    readable: bool
    is_file: bool = False
    device: int = 0
    inode: int = 0
    error: OSError | None = None


def look_at_root(root: str) -> RootState:
    """`exists` is false only when the path is surely not there; other errors make it unreadable."""
    try:
        info = os.stat(root)
        if st.S_ISDIR(info.st_mode):
            os.scandir(root).close()
    except (FileNotFoundError, NotADirectoryError) as error:
        return RootState(False, False, error=error)
    except OSError as error:
        return RootState(True, False, error=error)
    readable = st.S_ISDIR(info.st_mode) or os.access(root, os.R_OK)
    return RootState(True, readable, st.S_ISREG(info.st_mode), info.st_dev, info.st_ino)
