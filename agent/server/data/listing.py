"""What is at the destination, told page by page in the byte order of full paths.

A page begins after the path at which the last one ended, and needs nothing else of it. Memory is bounded,
whatever the directories hold: of each directory on the way only the names that come next are kept, and the
directory is read again for those that follow. Symbolic links are told, never followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from json.encoder import encode_basestring_ascii

import xxhash

from agent.server.confine import (
    STAGING,
    TRASH,
    FileError,
    Parts,
    open_below,
    open_component,
    reason,
    shown,
)
from agent.server.data.leftovers import Leftovers, Names
from agent.server.sandboxes import Roots

FILE, DIRECTORY, LINK, OTHER = "file", "directory", "link", "other"
PAGE_ROWS = 20_000
PAGE_BYTES = 4 << 20  # as JSON
NAMES_KEPT = 200_000  # of all directories on the way …
LEAST_NAMES = 256  # … but so many of each
MAX_DEPTH = 400
_ROW_BYTES = 90  # of a row as JSON, beside the path
_BLOCK = 1 << 20
_CHECK_EVERY = 4096
_HIDDEN = frozenset((STAGING, TRASH))
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

Row = tuple[str, str, int, int, bool, str]
"""path, kind, size, mtime in ns, executable, digest (xxh3_64 of the content, or of what a link says, which is
told unasked)."""


class StoppedError(Exception):
    """Nobody waits for the page any more."""


@dataclass(frozen=True, slots=True)
class Wish:
    """`after`: full path. `over` says that the page has had its time, `stopped` that nobody waits for it."""

    directory: bytes
    after: bytes
    checksum: bool
    rows: int
    over: Callable[[], bool]
    stopped: Callable[[], bool]


@dataclass(slots=True)
class _Level:
    """An open directory. A key is the name of an entry; of a directory there is a second one with "/", under
    which its contents are told, so that keys sort as full paths do."""

    fd: int
    prefix: bytes  # full path, with "/"
    resume: bytes  # the part of `after` that lies below; empty when all of it comes later
    hidden: frozenset[bytes]
    keys: list[bytes] = field(default_factory=list)  # that come next, the last one first
    last: bytes = b""  # of those that were kept
    more: bool = True  # the directory holds keys after `last`
    mtime_ns: int = -1  # of the directory when it was read

    def read(self, most: int, stopped: Callable[[], bool]) -> None:
        """Keep the next keys."""
        self.mtime_ns = os.fstat(self.fd).st_mtime_ns
        found: list[bytes] = []
        end: bytes | None = None  # what follows it is not among the next ones
        with os.scandir(self.fd) as listing:
            for key in self._wanted(listing, stopped):
                if end is None or key < end:
                    found.append(key)
                    if len(found) > 2 * most:
                        found.sort()
                        del found[most + 1 :]
                        end = found[-1]
        found.sort()
        self.more = len(found) > most
        del found[most:]
        if found:
            self.last = found[-1]
        found.reverse()
        self.keys = found

    def recall(self, leftovers: Leftovers) -> None:
        """What the page before has read of it."""
        names = leftovers.take(self.fd, self.resume, self.hidden) if self.resume else None
        if names is not None:
            self.keys, self.last, self.more, self.mtime_ns = names

    def leave(self, leftovers: Leftovers, following: bytes, inside: bytes) -> None:
        """Keep it for the page after the path `following`, which lies in `inside` if in any directory."""
        keys = [*self.keys, inside] if inside else self.keys
        resume = following[len(self.prefix) :]
        leftovers.put(self.fd, resume, self.hidden, Names(keys, self.last, self.more, self.mtime_ns))

    def _wanted(self, listing: Iterator[os.DirEntry[str]], stopped: Callable[[], bool]) -> Iterator[bytes]:
        for number, entry in enumerate(listing):
            if number % _CHECK_EVERY == 0 and stopped():
                raise StoppedError
            name = os.fsencode(entry.name)
            if name in self.hidden:
                continue
            if self.lies_ahead(name):
                yield name
            if entry.is_dir(follow_symlinks=False) and self.lies_ahead(name + b"/"):
                yield name + b"/"

    def lies_ahead(self, key: bytes) -> bool:
        if self.last:
            return key > self.last
        return key > self.resume or (key.endswith(b"/") and self.resume.startswith(key))


class Listing:
    """One page. For one thread."""

    def __init__(self, wish: Wish, leftovers: Leftovers) -> None:
        self._wish = wish
        self._leftovers = leftovers
        self._levels: list[_Level] = []
        self._bytes = 0
        self.rows: list[Row] = []
        self.next: bytes | None = None

    def walk(self, roots: Roots) -> None:
        """FileError for a directory that cannot be listed, and whenever what is there cannot be told:
        nothing is to be taken for gone that was not looked at."""
        try:
            for level in _tops(roots, self._wish.directory):
                self._levels = [level]
                self._begin(level)
                self._descend()
                if self.next is not None:
                    self._leave(self.next)
                    return
        except OSError as error:
            where = shown(self._levels[-1].prefix) if self._levels else shown(self._wish.directory)
            raise FileError(f"{where} cannot be listed at the destination: {reason(error)}") from error
        finally:
            for level in self._levels:
                os.close(level.fd)

    def _begin(self, level: _Level) -> None:
        """Leave out what the page begins after."""
        after = self._wish.after
        if after.startswith(level.prefix):
            level.resume = after[len(level.prefix) :]
        elif after > level.prefix:
            level.keys, level.more = [], False
        level.keys = [key for key in level.keys if level.lies_ahead(key)]
        if level.more:
            level.recall(self._leftovers)

    def _leave(self, following: bytes) -> None:
        for level, child in zip_longest(self._levels, self._levels[1:]):
            inside = b"" if child is None else child.prefix[len(level.prefix) :]
            level.leave(self._leftovers, following, inside)

    def _descend(self) -> None:
        while self._levels:
            level = self._levels[-1]
            if not level.keys:
                if not level.more:
                    os.close(self._levels.pop().fd)
                    continue
                kept = sum(len(each.keys) for each in self._levels)
                level.read(max(LEAST_NAMES, NAMES_KEPT - kept), self._wish.stopped)
                continue
            key = level.keys.pop()
            if key.endswith(b"/"):
                self._enter(level, key)
            elif self._tell(level, key) and self._full():
                self.next = level.prefix + key
                return

    def _full(self) -> bool:
        return len(self.rows) >= self._wish.rows or self._bytes >= PAGE_BYTES or self._wish.over()

    def _enter(self, level: _Level, key: bytes) -> None:
        if len(self._levels) >= MAX_DEPTH:
            raise FileError(f"{shown(level.prefix + key)}: more than {MAX_DEPTH} directories deep")
        try:
            fd = open_component(key[:-1], level.fd, create=False)
        except (FileNotFoundError, FileError):
            return  # removed or exchanged meanwhile
        resume = level.resume[len(key) :] if level.resume.startswith(key) else b""
        child = _Level(fd, level.prefix + key, resume, frozenset())
        self._levels.append(child)
        child.recall(self._leftovers)

    def _tell(self, level: _Level, name: bytes) -> bool:
        """Whether there was something to be told."""
        if self._wish.stopped():
            raise StoppedError
        try:
            row = self._row(level, name)
        except FileNotFoundError:
            return False  # removed meanwhile
        if row is None:
            return False
        self.rows.append(row)
        self._bytes += len(encode_basestring_ascii(row[0])) + _ROW_BYTES
        return True

    def _row(self, level: _Level, name: bytes) -> Row | None:
        found = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
        path, mtime = os.fsdecode(level.prefix + name), found.st_mtime_ns
        if stat.S_ISDIR(found.st_mode):
            return (path, DIRECTORY, 0, mtime, False, "") if _is_empty(level.fd, name) else None
        if stat.S_ISLNK(found.st_mode):
            target = os.readlink(name, dir_fd=level.fd)
            return path, LINK, len(target), mtime, False, xxhash.xxh3_64_hexdigest(target)
        if not stat.S_ISREG(found.st_mode):
            return path, OTHER, 0, mtime, False, ""
        digest = ""
        if self._wish.checksum:
            found, digest = _digest(level.fd, name, found, self._wish.stopped)
        executable = bool(found.st_mode & stat.S_IXUSR)
        return path, FILE, found.st_size, found.st_mtime_ns, executable, digest


def _is_empty(parent: int, name: bytes) -> bool:
    try:
        fd = open_component(name, parent, create=False)
    except FileError:
        return False  # exchanged meanwhile
    try:
        with os.scandir(fd) as listing:
            return next(listing, None) is None
    finally:
        os.close(fd)


def _digest(
    parent: int, name: bytes, found: os.stat_result, stopped: Callable[[], bool]
) -> tuple[os.stat_result, str]:
    """What the file was when it was read, and the digest of its content; none when it was changed meanwhile
    or cannot be read."""
    try:
        fd = os.open(name, _READ, dir_fd=parent)
    except FileNotFoundError:
        raise
    except OSError:
        return found, ""
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            return found, ""
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        state, left = xxhash.xxh3_64(), before.st_size
        while left > 0 and (block := os.read(fd, min(_BLOCK, left))):
            state.update(block)
            left -= len(block)
            if stopped():
                raise StoppedError
        after = os.fstat(fd)
    except OSError:
        return found, ""
    finally:
        os.close(fd)
    same = (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
    return after, state.hexdigest() if same else ""


def _tops(roots: Roots, directory: bytes) -> Iterator[_Level]:
    """Where to begin; nothing when the directory is absent."""
    place = roots.resolve(directory)
    if place is None:
        for root in sorted(roots.roots, key=lambda root: root.name + b"/"):
            yield _whole(root.base, (), root.name + b"/")
        return
    path = b"/" + b"/".join(part for part in directory.split(b"/") if part)
    if not place.parts:
        yield _whole(place.base, (), path.rstrip(b"/") + b"/")
        return
    os.close(open_below(place.base, (), create=False))  # a root that is missing is not an empty one
    prefix, _, name = path.rpartition(b"/")
    try:
        if not name:
            yield _whole(place.base, place.parts, b"/")
            return
        fd = open_below(place.base, place.parts[:-1], create=False)
    except FileNotFoundError:
        return
    yield _Level(fd, prefix + b"/", b"", frozenset(), keys=[name + b"/", name], more=False)


def _whole(base: bytes, parts: Parts, prefix: bytes) -> _Level:
    return _Level(open_below(base, parts, create=False), prefix, b"", _HIDDEN)
