"""File operations below the roots of a sandbox, for threads: they block, and may take long.

Every path is walked with descriptors that refuse symbolic links (`confine`). The directory of unfinished
files in a root is neither shown nor touched. Walks end when `stop` is set and, where they only look, when
their time is over.
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from threading import Event

from agent.server import noreplace
from agent.server.confine import STAGING, FileError, open_below, open_component, shown
from agent.server.sandboxes import Place, Roots

MAX_DEPTH = 400
BATCH = 10_000


@dataclass(frozen=True, slots=True)
class Item:
    """What has a name in a directory. `size` is 0 for all but files."""

    name: bytes
    kind: str  # file | directory | link | other
    size: int
    mtime_us: int
    executable: bool


@dataclass(slots=True)
class Usage:
    size: int = 0
    files: int = 0
    directories: int = 0
    complete: bool = True


@dataclass(slots=True)
class Removed:
    files: int = 0
    directories: int = 0


@contextmanager
def _opened(place: Place) -> Iterator[int]:
    fd = open_below(place.base, place.parts, create=False)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _parent(place: Place) -> Iterator[tuple[int, bytes]]:
    """(descriptor of the parent, last name). FileError for a root."""
    if not place.parts:
        raise FileError(f"{place.shown} is a root and stays as it is")
    with _opened(place.parent) as fd:
        yield fd, place.parts[-1]


# --- looking ----------------------------------------------------------------------------------------------


def ls(place: Place, limit: int, after: bytes | None) -> tuple[list[Item], bool]:
    """Up to `limit` items of a directory in the order of their bytes, those after the name `after`; and
    whether there are more. Of a file: the file alone."""
    try:
        with _opened(place) as fd:
            return _list(fd, limit, after, hide=not place.parts)
    except (NotADirectoryError, FileError):
        if not place.parts:
            raise
    with _parent(place) as (fd, name):
        item = _item(fd, name)
        if item.kind == "directory":  # exchanged in the middle
            raise FileError(f"{place.shown} changes while it is read; try again")
        return [item], False


def ls_roots(roots: Roots, limit: int, after: bytes | None) -> tuple[list[Item], bool]:
    """The same of the top of several named roots."""
    names = sorted(root.name[1:] for root in roots.roots)
    found = [name for name in names if after is None or name > after][: limit + 1]
    bases = {root.name[1:]: root.base for root in roots.roots}
    items = [
        Item(name, "directory", 0, os.stat(bases[name]).st_mtime_ns // 1000, executable=False)
        for name in found[:limit]
    ]
    return items, len(found) > limit


def _list(fd: int, limit: int, after: bytes | None, *, hide: bool) -> tuple[list[Item], bool]:
    """Memory is bounded by `limit`, whatever the directory holds."""
    with os.scandir(fd) as listing:
        names = (os.fsencode(entry.name) for entry in listing)
        wanted = (
            name for name in names if not (hide and name == STAGING) and (after is None or name > after)
        )
        found = heapq.nsmallest(limit + 1, wanted)
    items: list[Item] = []
    for name in found[:limit]:
        try:
            items.append(_item(fd, name))
        except FileNotFoundError:
            continue  # removed meanwhile
    return items, len(found) > limit


def _item(directory: int, name: bytes) -> Item:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"), (stat.S_ISLNK, "link"))
    kind = next((text for test, text in kinds if test(found.st_mode)), "other")
    is_file = kind == "file"
    executable = is_file and bool(found.st_mode & stat.S_IXUSR)
    return Item(name, kind, found.st_size if is_file else 0, found.st_mtime_ns // 1000, executable)


def du_roots(roots: Roots, path: bytes, stop: Event, seconds: float) -> Usage:
    """`du` of a path, or of all roots together."""
    place = roots.resolve(path)
    if place is not None:
        return du(place, stop, seconds)
    total, deadline = Usage(), time.monotonic() + seconds
    for root in roots.roots:
        found = du(Place(root.base, (), shown(root.name)), stop, deadline - time.monotonic())
        total.size += found.size
        total.files += found.files
        total.directories += found.directories
        total.complete = total.complete and found.complete
    return total


def du(place: Place, stop: Event, seconds: float) -> Usage:
    """Bytes, files and directories below a path, or of a file; `complete` is False when the time was over
    first or something could not be read."""
    usage = Usage()
    deadline = time.monotonic() + seconds
    try:
        top = open_below(place.base, place.parts, create=False)
    except (NotADirectoryError, FileError):
        with _parent(place) as (fd, name):
            usage.size, usage.files = _item(fd, name).size, 1
            return usage
    levels = [_Level(top, os.scandir(top))]
    try:
        while levels:
            if stop.is_set() or time.monotonic() > deadline:
                usage.complete = False
                return usage
            level = levels[-1]
            child = _count(level, usage, hide=len(levels) == 1 and not place.parts)
            if level.over:
                levels.pop().close()
            elif child is not None and len(levels) < MAX_DEPTH:
                levels.append(_Level(child, os.scandir(child)))
            elif child is not None:
                os.close(child)
                usage.complete = False
    finally:
        for level in levels:
            level.close()
    return usage


@dataclass(slots=True)
class _Level:
    fd: int
    listing: os._ScandirIterator[str]
    over: bool = False

    def close(self) -> None:
        self.listing.close()
        os.close(self.fd)


def _count(level: _Level, usage: Usage, *, hide: bool) -> int | None:
    """Count a batch of what a directory holds, up to the next directory in it; that one's descriptor."""
    batch = 0
    for entry in islice(level.listing, BATCH):
        batch += 1
        if hide and os.fsencode(entry.name) == STAGING:
            continue
        try:
            if not entry.is_dir(follow_symlinks=False):
                found = entry.stat(follow_symlinks=False)
                usage.files += 1
                usage.size += found.st_size if stat.S_ISREG(found.st_mode) else 0
                continue
            usage.directories += 1
            return open_component(os.fsencode(entry.name), level.fd, create=False)
        except (FileNotFoundError, FileError):
            continue  # removed or exchanged meanwhile
        except PermissionError:
            usage.complete = False
    level.over = batch < BATCH
    return None


# --- changing ---------------------------------------------------------------------------------------------


def mkdir(place: Place) -> None:
    """Make a directory and its parents; harmless when it is there."""
    fd = open_below(place.base, place.parts, create=True)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    if place.parts:
        with _opened(place.parent) as parent:
            os.fsync(parent)


def mv(source: Place, target: Place) -> None:
    """Give something another name or place in one step. Nothing is ever replaced: FileError when the new
    name is taken, or lies on another file system."""
    if source.base == target.base and target.parts[: len(source.parts)] == source.parts:
        raise FileError(
            f"{source.shown} cannot be moved to {target.shown}, which is the same or lies below it"
        )
    with _parent(source) as (old, old_name), _parent(target) as (new, new_name):
        try:
            noreplace.rename(old, old_name, new, new_name)
        except FileExistsError:
            raise FileError(f"{target.shown} exists; remove it first, or choose another name") from None
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            raise FileError(
                f"{source.shown} and {target.shown} lie on different file systems; send the files instead"
            ) from error
        os.fsync(old)
        os.fsync(new)


def rm(place: Place, stop: Event, *, recursive: bool) -> Removed:
    """Remove a file or link; a directory, with all that is in it, only when `recursive`."""
    removed = Removed()
    with _parent(place) as (fd, name):
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=fd)
            removed.files = 1
        elif not recursive:
            raise FileError(f"{place.shown} is a directory; remove it with recursive=True")
        else:
            _remove_tree(fd, name, removed, stop)
        os.fsync(fd)
    return removed


@dataclass(slots=True)
class _Emptied:
    """A directory on its way out: what was read of it and not removed yet."""

    fd: int
    name: bytes
    parent: int
    names: list[bytes] = field(default_factory=list)
    empty: bool = False


def _remove_tree(parent: int, name: bytes, removed: Removed, stop: Event) -> None:
    """Depth first, with a descriptor for each directory on the way: links are removed, never followed."""
    levels = [_Emptied(open_component(name, parent, create=False), name, parent)]
    try:
        while levels:
            if stop.is_set():
                raise FileError("the server is ending; what is left stays, remove it again later")
            level = levels[-1]
            child = _remove_files(level, removed)
            if child is not None:
                if len(levels) >= MAX_DEPTH:
                    os.close(child.fd)
                    raise FileError(
                        f"{shown(child.name)}: more than {MAX_DEPTH} directories deep; remove parts"
                    )
                levels.append(child)
            elif level.empty:
                os.rmdir(level.name, dir_fd=level.parent)
                removed.directories += 1
                os.close(levels.pop().fd)
    finally:
        for level in levels:
            os.close(level.fd)


def _remove_files(level: _Emptied, removed: Removed) -> _Emptied | None:
    """Remove a batch of files; returns the first directory that is met."""
    if not level.names:
        with os.scandir(level.fd) as listing:
            level.names = [os.fsencode(entry.name) for entry in islice(listing, BATCH)]
        level.empty = not level.names
    while level.names:
        name = level.names.pop()
        try:
            if stat.S_ISDIR(os.stat(name, dir_fd=level.fd, follow_symlinks=False).st_mode):
                return _Emptied(open_component(name, level.fd, create=False), name, level.fd)
            os.unlink(name, dir_fd=level.fd)
            removed.files += 1
        except FileNotFoundError:
            continue  # somebody else was faster
    return None
