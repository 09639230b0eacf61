"""Reading a source tree: one Listing per directory, top-down, memory flat.

A directory with no included entry appears in its parent's listing as one entry of kind EMPTY_DIRECTORY; every
other directory is named in `subdirectories` and has a Listing of its own. What could not be read says so and
then means nothing: its absence from the listing is no sign that it was deleted.
"""

from __future__ import annotations

import os
import stat as st
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import xxhash

from agent.model.change import FileKind, FileStat
from agent.model.spec import Symlinks
from agent.source.filters import EVERYTHING, Filter
from agent.source.links import LinkError, link_stat

MAX_LINK_DEPTH = 8
"""How many links to directories may lie behind one another on one path."""

EMPTY = FileStat(FileKind.EMPTY_DIRECTORY, 0, 0, 0, 0, False)
"""Nothing but its existence identifies an empty directory."""


class Problem(NamedTuple):
    """A path which is left out, and why: `link leads nowhere`, `fifo`, …"""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Listing:
    """One directory. `directory` is relative to the source root, "" for the root itself.

    A root that is a single file gives one Listing whose only entry has the name "".
    With `error` the rest is empty and the whole subtree has no opinion.
    """

    directory: str
    entries: dict[str, FileStat]
    subdirectories: tuple[str, ...] = ()  # names, sorted; each is listed too
    digest: bytes = b""  # of all of the above, 16 bytes
    problems: tuple[Problem, ...] = ()
    error: OSError | None = None
    unread: int | None = None
    """Of a directory in which nothing changed: how many entries it has, which are not listed."""

    @property
    def is_empty(self) -> bool:
        return not (self.entries or self.unread or self.subdirectories) and self.error is None


class Chain(NamedTuple):
    """A directory and those above it on the path we came by: what a link must not lead back to."""

    device: int
    inode: int
    links: int
    above: Chain | None

    def holds(self, device: int, inode: int) -> bool:
        chain: Chain | None = self
        while chain is not None:
            if chain.device == device and chain.inode == inode:
                return True
            chain = chain.above
        return False


class Seen(NamedTuple):
    """A directory in which nothing changed, without its entries."""

    device: int
    inode: int
    entries: int
    digest: bytes
    subdirectories: tuple[str, ...]  # none of them a link


class Helper(Protocol):
    """Whoever knows of some directories that they need not be read."""

    def share(self, directories: Sequence[str]) -> None: ...

    def unchanged(self, directory: str) -> Seen | None: ...


def scan_tree(
    root: str,
    filter_: Filter = EVERYTHING,
    symlinks: Symlinks = Symlinks.COPY_CONTENTS,
    start: str = "",
    helper: Helper | None = None,
) -> Iterator[Listing]:
    """List the tree below `root`, or only its subtree `start` (relative). Errors are in the listings. What
    `helper` says of a directory is believed."""
    path = os.path.join(root, start) if start else root
    try:
        info = os.stat(path)
    except OSError as error:
        yield Listing(start, {}, error=error)
        return
    if not st.S_ISDIR(info.st_mode):
        yield _single(start, info)
        return
    scanner = Scanner(root, filter_, symlinks)
    for listing, _, _ in descend(scanner, start, chain_above(root, start), helper):
        yield listing


def descend(
    scanner: Scanner, start: str, above: Chain | None, helper: Helper | None = None
) -> Iterator[tuple[Listing, Chain | None, set[str]]]:
    """What Scanner.list() returns, for every directory from `start` down."""
    pending: list[tuple[str, Chain | None, int]] = [(start, above, 0)]
    while pending:
        directory, above, links = pending.pop()
        seen = helper.unchanged(directory) if helper is not None else None
        if seen is None:
            listing, chain, linked = scanner.list(directory, above, links)
        else:
            listing = Listing(directory, {}, seen.subdirectories, seen.digest, unread=seen.entries)
            chain, linked = Chain(seen.device, seen.inode, links, above), set()
        yield listing, chain, linked
        base = directory + "/" if directory else ""
        if helper is not None and not links:
            helper.share([base + name for name in listing.subdirectories if name not in linked])
        pending.extend(
            (base + name, chain, links + (name in linked)) for name in reversed(listing.subdirectories)
        )


def _single(start: str, info: os.stat_result) -> Listing:
    if not st.S_ISREG(info.st_mode):
        return Listing(start, {}, problems=(Problem(start, special(info.st_mode)),))
    return Listing(start, {"": file_stat(info)}, digest=_digest({"": file_stat(info)}, ()))


def chain_above(root: str, start: str) -> Chain | None:
    """The directories from the root down to, not including, `start`."""
    chain: Chain | None = None
    path = root
    for part in start.split("/") if start else ():
        try:
            info = os.stat(path)
        except OSError:
            return chain
        chain = Chain(info.st_dev, info.st_ino, 0, chain)
        path = path + "/" + part
    return chain


class Scanner:
    """One pass over one tree."""

    def __init__(self, root: str, filter_: Filter, symlinks: Symlinks) -> None:
        self._root = root
        self._filter = filter_
        self._links = symlinks

    def list(self, directory: str, above: Chain | None, links: int) -> tuple[Listing, Chain | None, set[str]]:
        """The listing, the chain to hand to its subdirectories, and which of those are links."""
        path = self.absolute(directory)
        try:
            info = os.stat(path)
            chain = Chain(info.st_dev, info.st_ino, links, above)
            read = _Reading(self._filter, self._links, chain, directory + "/" if directory else "")
            with os.scandir(path) as found:
                read.entries_of(found)
            names = self._subdirectories(read)
        except OSError as error:
            return Listing(directory, {}, error=error), None, set()
        digest = _digest(read.entries, names)
        return Listing(directory, read.entries, names, digest, tuple(read.problems)), chain, read.linked

    def _subdirectories(self, read: _Reading) -> tuple[str, ...]:
        """Names of the directories to list; empty ones become entries, excluded ones neither."""
        names = []
        for name in read.folders:
            path = read.base + name
            if self._filter.prunes(path):
                continue
            if self.has_content(path):
                names.append(name)
            elif self._filter.includes(path, True):
                read.entries[name] = EMPTY
        return tuple(sorted(names))

    def has_content(self, directory: str) -> bool:
        """Does a directory hold an included file or a subdirectory that counts? Unreadable ones do: their
        listing tells. Usually the first entry decides."""
        base = directory + "/" if directory else ""
        try:
            with os.scandir(self.absolute(directory)) as found:
                return any(self._counts(entry, base) for entry in found)
        except OSError:
            return True

    def absolute(self, path: str) -> str:
        return self._root + "/" + path if path else self._root

    def _counts(self, entry: os.DirEntry[str], base: str) -> bool:
        path = base + entry.name
        if entry.is_symlink():
            if self._links is Symlinks.PRESERVE:
                return self._filter.includes(path, False)
            if self._links is Symlinks.IGNORE or self._filter.leads_out(path):
                return False
        if entry.is_dir():
            return not self._filter.prunes(path)
        return entry.is_file() and self._filter.includes(path, False)


class _Reading:
    """What one directory turned out to hold, while it is read."""

    __slots__ = ("_chain", "_filter", "_links", "base", "entries", "folders", "linked", "problems")

    def __init__(self, filter_: Filter, links: Symlinks, chain: Chain, base: str) -> None:
        self._filter = filter_
        self._links = links
        self._chain = chain
        self.base = base
        self.entries: dict[str, FileStat] = {}
        self.folders: list[str] = []
        self.linked: set[str] = set()
        self.problems: list[Problem] = []

    def entries_of(self, found: Iterable[os.DirEntry[str]]) -> None:
        # The inner loop of every scan: a million files are a million turns.
        includes = None if self._filter.only_defaults else self._filter.includes
        entries, base = self.entries, self.base
        for entry in found:
            name = entry.name
            if entry.is_file(follow_symlinks=False):
                if includes is not None and not includes(base + name, False):
                    continue
                try:
                    info = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if st.S_ISREG(info.st_mode):
                    entries[name] = file_stat(info)
            elif entry.is_dir(follow_symlinks=False):
                self.folders.append(name)
            elif entry.is_symlink():
                if self._links is Symlinks.COPY_CONTENTS:
                    self._link(entry)
                elif self._links is Symlinks.PRESERVE and self._filter.includes(base + name, False):
                    self._kept_link(entry)
            elif self._filter.includes(base + name, False):
                self._special(entry)

    def _special(self, entry: os.DirEntry[str]) -> None:
        try:
            mode = entry.stat(follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        self.problems.append(Problem(self.base + entry.name, special(mode)))

    def _kept_link(self, entry: os.DirEntry[str]) -> None:
        try:
            self.entries[entry.name] = link_stat(entry.path, self.base.count("/"))
        except LinkError as error:
            self.problems.append(Problem(self.base + entry.name, str(error)))
        except OSError:
            return  # gone, or something else has its name: the next look tells

    def _link(self, entry: os.DirEntry[str]) -> None:
        path = self.base + entry.name
        if self._filter.leads_out(path):
            if self._filter.includes(path, False):
                self.problems.append(Problem(path, "link leads out of what the policy allows"))
            return
        try:
            info = os.stat(entry.path)
        except OSError as error:
            if self._filter.includes(path, False):
                self.problems.append(Problem(path, f"link leads nowhere: {error.strerror}"))
            return
        if st.S_ISDIR(info.st_mode):
            self._linked_directory(entry.name, info)
        elif self._filter.includes(path, False):
            if st.S_ISREG(info.st_mode):
                self.entries[entry.name] = file_stat(info)
            else:
                self.problems.append(Problem(path, special(info.st_mode)))

    def _linked_directory(self, name: str, info: os.stat_result) -> None:
        path = self.base + name
        if self._filter.prunes(path):
            return
        if self._chain.holds(info.st_dev, info.st_ino):
            self.problems.append(Problem(path, "link leads back to a directory above it"))
        elif self._chain.links >= MAX_LINK_DEPTH:
            self.problems.append(Problem(path, f"more than {MAX_LINK_DEPTH} links behind one another"))
        else:
            self.folders.append(name)
            self.linked.add(name)


def file_stat(info: os.stat_result) -> FileStat:
    mode = info.st_mode
    return _new(
        FileStat,
        (_FILE, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino, mode & 0o111 != 0),
    )


_new = tuple.__new__  # FileStat(...) takes three times as long
_FILE = FileKind.FILE
_EMPTY = FileKind.EMPTY_DIRECTORY


def _digest(entries: dict[str, FileStat], subdirectories: Iterable[str]) -> bytes:
    """16 bytes over sorted names and versions; a name holds no slash, so slashes end fields."""
    parts = [
        f"{name}/{size}/{mtime}/{ctime}/{inode}/{executable:d}"
        if kind is _FILE
        else f"{name}/"
        if kind is _EMPTY
        else f"{name}/link/{size}/{mtime}/{ctime}/{inode}"
        for name, (kind, size, mtime, ctime, inode, executable) in entries.items()
    ]
    parts.sort()
    text = "/".join(parts) + "//" + "/".join(subdirectories)
    return xxhash.xxh3_128_digest(os.fsencode(text))


_SPECIAL = {st.S_IFIFO: "fifo", st.S_IFSOCK: "socket", st.S_IFCHR: "device", st.S_IFBLK: "device"}


def special(mode: int) -> str:
    return f"{_SPECIAL.get(st.S_IFMT(mode), 'special file')}: only files and directories are sent"
