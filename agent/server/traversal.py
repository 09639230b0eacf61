"""Walking the sources of a manifest, with flat memory: entries come as they are found, in no order.

Symbolic links are followed (their contents are copied) or ignored. What cannot be sent is left out and
noted: links that lead nowhere or back up, sockets, pipes, devices. What cannot be read is an error.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from agent.server.mappings import Root
from agent.server.sources import WHOLE, Item, Sources
from agent.server.store.manifests import KIND_EMPTY_DIRECTORY, KIND_FILE, Entry

MAX_DEPTH = 400
_WILD = frozenset("*?[")

Identity = tuple[int, int]  # device and inode


class TraversalError(Exception):
    """A source that is missing or cannot be read; the message names it."""


@dataclass(slots=True)
class Notes:
    """What was left out: how many, and the first."""

    count: int = 0
    first: str = ""

    def add(self, path: str, why: str) -> None:
        self.count += 1
        self.first = self.first or f"{path}: {why}"

    def text(self) -> str:
        if not self.count:
            return ""
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        return f"left out: {self.first}{more}"


@dataclass(slots=True)
class _Pending:
    dest: str
    src: str
    ancestors: tuple[Identity, ...] = ()


@dataclass(slots=True)
class Traversal:
    """`entries` walks one root after the other; `notes` says afterwards what was left out."""

    follow_links: bool
    notes: Notes = field(default_factory=Notes)
    sources: Sources = WHOLE

    def entries(self, root: Root) -> Iterator[Entry]:
        """TraversalError when the root is missing or a directory cannot be read."""
        try:
            found = self.sources.stat(root.src, follow=self.follow_links)
        except OSError as error:
            raise TraversalError(f"{root.src}: {error.strerror}") from error
        if stat.S_ISDIR(found.st_mode):
            yield from self._walk(root)
        elif stat.S_ISREG(found.st_mode):
            yield _file(root.dest, root.src, found, root)
        else:
            self.notes.add(root.src, _kind(found.st_mode))

    def _walk(self, root: Root) -> Iterator[Entry]:
        pending = [_Pending(root.dest.rstrip("/"), root.src.rstrip("/") or "/")]
        while pending:
            directory = pending.pop()
            empty = True
            ancestors = self._enter(directory)
            if ancestors is None:
                continue
            with self._scan(directory.src) as listing:
                for item in listing:
                    empty = False
                    entry = self._entry(item, directory, ancestors, root, pending)
                    if entry is not None:
                        yield entry
            if empty and not root.include:
                yield Entry(directory.dest or "/", directory.src, KIND_EMPTY_DIRECTORY, 0, executable=False)

    def _enter(self, directory: _Pending) -> tuple[Identity, ...] | None:
        """The directory's chain of identities; None when it is its own ancestor or too deep."""
        try:
            found = self.sources.stat(directory.src)
        except OSError as error:
            raise TraversalError(f"{directory.src}: {error.strerror}") from error
        identity = (found.st_dev, found.st_ino)
        if identity in directory.ancestors:
            self.notes.add(directory.src, "a symbolic link that leads back up")
            return None
        if len(directory.ancestors) >= MAX_DEPTH:
            self.notes.add(directory.src, f"more than {MAX_DEPTH} directories deep")
            return None
        return (*directory.ancestors, identity)

    @contextmanager
    def _scan(self, path: str) -> Iterator[Iterator[Item]]:
        with ExitStack() as stack:
            try:
                listing = stack.enter_context(self.sources.scan(path))
            except OSError as error:
                raise TraversalError(f"{path}: {error.strerror}") from error
            yield listing

    def _entry(
        self,
        item: Item,
        directory: _Pending,
        ancestors: tuple[Identity, ...],
        root: Root,
        pending: list[_Pending],
    ) -> Entry | None:
        """The entry of one item of `directory`, if it has one; a directory is put on `pending`."""
        if root.exclude and _matches(root.exclude, item.name, _relative(item, root)):
            return None
        if not self.follow_links and item.is_symlink():
            return None
        try:
            if item.is_dir():
                pending.append(_Pending(f"{directory.dest}/{item.name}", item.path, ancestors))
                return None
            if root.exclude and _has_ending(root.exclude, item.name):
                return None
            found = item.stat()
        except FileNotFoundError:
            if item.is_symlink():
                self.notes.add(item.path, "a symbolic link that leads nowhere")
            return None
        except OSError as error:
            self.notes.add(item.path, error.strerror or "cannot be read")
            return None
        if root.include and not (
            _matches(root.include, item.name, _relative(item, root)) or _has_ending(root.include, item.name)
        ):
            return None
        if not stat.S_ISREG(found.st_mode):
            self.notes.add(item.path, _kind(found.st_mode))
            return None
        return _file(f"{directory.dest}/{item.name}", item.path, found, root)


def _relative(item: Item, root: Root) -> str:
    return item.path[len(root.src.rstrip("/")) + 1 :]


def _matches(patterns: tuple[str, ...], name: str, relative: str) -> bool:
    """A pattern matches a whole name, or the path below the root (where `*` also spans `/`)."""
    return any(
        fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase("/" + relative, pattern)
        for pattern in patterns
    )


def _has_ending(patterns: tuple[str, ...], name: str) -> bool:
    """`.png` chooses files by the end of their names."""
    return any(
        pattern.startswith(".") and not _WILD.intersection(pattern) and name.endswith(pattern)
        for pattern in patterns
    )


def _file(dest: str, src: str, found: os.stat_result, root: Root) -> Entry:
    executable = root.executable or bool(found.st_mode & stat.S_IXUSR)
    return Entry(dest, src, KIND_FILE, found.st_size, executable, found.st_mtime_ns // 1000)


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISLNK, "symbolic link"), (stat.S_ISSOCK, "socket"), (stat.S_ISFIFO, "named pipe"))
    name = next((text for test, text in kinds if test(mode)), "device")
    return f"a {name} cannot be sent"
