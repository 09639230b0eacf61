"""The watches of one source root: arming directories, and what a kernel event means for which path."""

from __future__ import annotations

import errno
import os
import stat as st
import threading
from collections.abc import Callable
from typing import Protocol

from agent.source.inotify import IN_UNMOUNT, EventReader, InotifyEvent, WatchDescriptor
from agent.source.scan import MAX_LINK_DEPTH, Chain, chain_above
from agent.source.settle import Touch

_LIST_LIMIT = 1000
"""More files than this in a directory that appeared are one hint, not one each."""


class TreeEvents(Protocol):
    """Who is told. Called from the reader's thread; must not block."""

    def touched(self, path: str, touch: Touch) -> None:
        """`path` is relative to the root; "" is the root itself."""

    def overflowed(self) -> None: ...
    def root_lost(self) -> None: ...
    def limited(self) -> None:
        """The kernel refused a watch; see TreeWatch.limit."""

    def failed(self, error: Exception) -> None:
        """Something went wrong here: what is watched can no longer be relied on."""


class TreeWatch:
    """Implements the reader's listener. Thread-safe: arming and events may run at once."""

    def __init__(
        self,
        root: str,
        reader: EventReader,
        events: TreeEvents,
        prunes: Callable[[str], bool],
        follow_links: bool,
    ) -> None:
        self._root = root
        self._reader = reader
        self._events = events
        self._prunes = prunes
        self._follow = follow_links
        self._lock = threading.Lock()
        self._paths: dict[WatchDescriptor, tuple[str, ...]] = {}  # several: reached through links too
        self._watched: dict[str, WatchDescriptor] = {}
        self._only_name: bytes | None = None  # the root is this single file of the watched directory
        self._closed = False
        self.limit: OSError | None = None
        """Set when the kernel refused further watches; what is below the refused ones goes unseen."""

    # -- arming

    def arm(self) -> None:
        """Watch the whole tree as it is now. OSError when the root itself cannot be watched."""
        info = os.stat(self._root)
        if st.S_ISDIR(info.st_mode):
            self._arm_below("", [])
            if "" not in self._watched:
                raise PermissionError(errno.EACCES, "the source root cannot be read", self._root)
        else:
            directory, name = os.path.split(self._root)
            self._only_name = os.fsencode(name)
            if not self._watch(directory, ""):
                raise PermissionError(errno.EACCES, "the directory of the source cannot be read", directory)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            descriptors = list(self._paths)
            self._paths.clear()
            self._watched.clear()
        self._reader.unwatch(descriptors, self)

    @property
    def watches(self) -> int:
        """How many directories are watched; one that is reached in several ways counts once."""
        return len(self._paths)

    def _arm_below(self, start: str, seen: list[str]) -> None:
        """Watch `start` and all directories below; what is there is added to `seen`: files, and
        empty directories with a slash at the end.

        Each directory is watched before it is read, so nothing appears in it unnoticed.
        """
        pending: list[tuple[str, Chain | None]] = [(start, chain_above(self._root, start))]
        while pending and not self._closed:
            directory, above = pending.pop()
            absolute = self._root + "/" + directory if directory else self._root
            try:
                info = os.stat(absolute)
                if not self._watch(absolute, directory):
                    continue
                chain = Chain(info.st_dev, info.st_ino, 0 if above is None else above.links, above)
                pending.extend(self._read(absolute, directory, chain, seen))
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    self.limit = error
                    self._events.limited()
                    return
                if not directory and not start:
                    raise

    def _read(
        self, absolute: str, directory: str, chain: Chain, seen: list[str]
    ) -> list[tuple[str, Chain | None]]:
        base = directory + "/" if directory else ""
        found: list[tuple[str, Chain | None]] = []
        empty = True
        with os.scandir(absolute) as entries:
            for entry in entries:
                path = base + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if not self._prunes(path):
                        found.append((path, chain))
                elif self._follow and entry.is_symlink() and entry.is_dir():
                    info = entry.stat()
                    loops = chain.holds(info.st_dev, info.st_ino) or chain.links >= MAX_LINK_DEPTH
                    if not loops and not self._prunes(path):
                        found.append((path, chain._replace(links=chain.links + 1)))
                elif len(seen) <= _LIST_LIMIT:
                    seen.append(path)
                empty = False
        if empty:
            seen.append(directory + "/")
        return found

    def _watch(self, absolute: str, directory: str) -> bool:
        with self._lock:
            if self._closed:
                return False
            wd = self._reader.watch(absolute, self)
            if wd is None:
                return False
            known = self._paths.get(wd, ())
            if directory not in known:
                self._paths[wd] = (*known, directory)
            self._watched[directory] = wd
            return True

    def _disarm_below(self, directory: str) -> None:
        """A directory left the tree: what it holds is no longer ours, wherever it is now."""
        prefix = directory + "/"
        gone: list[WatchDescriptor] = []
        with self._lock:
            for path in [p for p in self._watched if p == directory or p.startswith(prefix)]:
                wd = self._watched.pop(path)
                left = tuple(other for other in self._paths.pop(wd, ()) if other != path)
                if left:
                    self._paths[wd] = left
                else:
                    gone.append(wd)
        self._reader.unwatch(gone, self)

    # -- the listener: called by the reader's thread, which must survive whatever happens here

    def on_event(self, event: InotifyEvent) -> None:
        try:
            with self._lock:
                directories = self._paths.get(event.wd, ())
            for directory in directories:
                self._handle(event, directory)
        except Exception as error:  # noqa: BLE001
            self._events.failed(error)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        with self._lock:
            paths = self._paths.pop(wd, ())
            for path in paths:
                if self._watched.get(path) == wd:
                    del self._watched[path]
        if "" in paths and not self._closed:
            self._events.root_lost()

    def on_queue_overflow(self) -> None:
        self._events.overflowed()

    def _handle(self, event: InotifyEvent, directory: str) -> None:
        if event.is_delete_self or event.is_move_self or event.mask & IN_UNMOUNT:
            whole = not directory or event.mask & IN_UNMOUNT  # what was beneath a mount inside shows again
            if whole and self._only_name is None:
                self._events.root_lost()
            return
        if self._only_name is not None:
            if event.name == self._only_name:
                self._file(event, "")
            return
        name = os.fsdecode(event.name)
        path = directory + "/" + name if directory and name else directory or name
        if event.is_directory:
            self._directory(event, path)
        elif name:
            self._file(event, path)

    def _directory(self, event: InotifyEvent, path: str) -> None:
        if self._prunes(path):
            return
        if event.is_create:
            self._appeared(path)
        elif event.is_moved_to:
            self._disarm_below(path)
            self._arm_below(path, [])
            self._events.touched(path, Touch.DIRECTORY)
        elif event.is_moved_from or event.is_delete:
            self._disarm_below(path)
            self._events.touched(path, Touch.DIRECTORY)
        elif event.is_attrib and path and path not in self._watched:
            self._appeared(path)  # it may have become readable

    def _appeared(self, path: str) -> None:
        """A new directory: what it got before it was watched is found now, and may still be being written."""
        seen: list[str] = []
        self._arm_below(path, seen)
        if len(seen) > _LIST_LIMIT:
            self._events.touched(path, Touch.DIRECTORY)
            return
        for found in seen:
            if found.endswith("/"):
                self._events.touched(found[:-1], Touch.EMPTY)
            else:
                self._events.touched(found, Touch.WRITTEN)

    def _file(self, event: InotifyEvent, path: str) -> None:
        if event.is_close_write:
            self._events.touched(path, Touch.CLOSED)
        elif event.is_moved_to:
            self._came(path)
        elif event.is_delete or event.is_moved_from:
            self._left(path)
        elif event.is_create:
            self._came(path, created=True)
        elif event.is_modify or event.is_attrib:
            self._events.touched(path, Touch.WRITTEN)

    def _came(self, path: str, created: bool = False) -> None:
        """A name appeared. A link is whole from the start; a file that was opened to be made gets closed."""
        absolute = self._root + "/" + path if path else self._root
        try:
            info = os.lstat(absolute)
        except OSError:
            self._events.touched(path, Touch.DELETED)
            return
        if self._follow and st.S_ISLNK(info.st_mode) and os.path.isdir(absolute) and path:
            self._linked(path)
            return
        whole = not created or info.st_nlink > 1 or not st.S_ISREG(info.st_mode)
        self._events.touched(path, Touch.MOVED_IN if whole else Touch.WRITTEN)

    def _linked(self, path: str) -> None:
        """A link to a directory appeared; the scan decides about loops, here it is enough not to hang."""
        info = os.stat(self._root + "/" + path)
        chain = chain_above(self._root, path)
        if not self._prunes(path) and (chain is None or not chain.holds(info.st_dev, info.st_ino)):
            self._arm_below(path, [])
        self._events.touched(path, Touch.DIRECTORY)

    def _left(self, path: str) -> None:
        """A name vanished: a file, or a link to a directory that was watched through it."""
        if path in self._watched and self._only_name is None:
            self._disarm_below(path)
            self._events.touched(path, Touch.DIRECTORY)
        else:
            self._events.touched(path, Touch.DELETED)
