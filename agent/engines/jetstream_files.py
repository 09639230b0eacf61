"""The files of a JetStream server's host through its documented file operations: list, make, move, remove.

The documents name the methods and not what they answer. What is understood is what the bundled server
answers; any other form is told, never guessed at.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from agent.engines.jetstream_session import Session, agent_errors
from agent.model.change import FileKind
from agent.model.observed import FarFile
from agent.model.outcome import NotFoundError, PermanentError
from agent.model.paths import join, parent

FILE, DIRECTORY, LINK, OTHER = "file", "directory", "link", "other"
MAX_DEPTH = 200
HIDDEN = frozenset((b".lanesync", b".lanesync-trash"))  # at the top
_KINDS = {FILE: FileKind.FILE, LINK: FileKind.SYMLINK}


class Item(NamedTuple):
    name: bytes
    kind: str
    size: int
    mtime_ns: int
    executable: bool


@dataclass(frozen=True, slots=True)
class Files:
    """Each call blocks until the server has answered. NotFoundError for what is absent, PermanentError for
    what is refused, UnreachableError when nobody answers."""

    session: Session

    def make(self, directory: str) -> None:
        """With its parents; harmless when it is there."""
        self._call("mkdirAsync", directory)

    def move(self, old: str, new: str) -> None:
        self._call("mvAsync", old, new)

    def remove(self, path: str) -> None:
        self._call("rmAsync", path)

    def find(self, path: str) -> Item | None:
        """What has that path; None when nothing has."""
        name = os.fsencode(path.rpartition("/")[2])
        try:
            items = self.items(parent(path), [name], onwards=False)
            return next((item for item in items if item.name == name), None)
        except NotFoundError:
            self._check_root()
            return None

    def _check_root(self) -> None:
        """PermanentError when nothing at all is there: what is not mounted has not been emptied."""
        try:
            next(self.items("/"), None)
        except NotFoundError as error:
            raise PermanentError(f"the control server's own directory is missing: {error}") from error

    def items(self, directory: str, wanted: Iterable[bytes] = (), *, onwards: bool = True) -> Iterator[Item]:
        """What is in a directory, in the byte order of the names: at least those that are wanted and, if
        `onwards`, all that follow them."""
        names, after = sorted(wanted), b""
        while True:
            more = {"after": os.fsdecode(after)} if after else {}
            items, following = _page(self._call("lsAsync", directory, **more), directory, after)
            yield from items
            if following is None:
                return
            names = [name for name in names if name > following]
            if not names and not onwards:
                return
            after = max(following, names[0][:-1]) if names else following

    def below(self, directory: str, after: bytes) -> Iterator[FarFile]:
        """Files, links and empty directories at or below a directory that follow the path `after`, in byte
        order of their paths; nothing when it is absent."""
        path = "/" + directory.strip("/")
        if path == "/":
            resume = after.removeprefix(b"/")
            yield from self._below("/", resume, 0)
            return
        found = self.find(path)
        if found is None:
            return
        top = os.fsencode(path)
        if found.kind != DIRECTORY:
            if top > after and found.kind in _KINDS:
                yield _far(path, found)
            return
        inside = top + b"/"
        if after > inside and not after.startswith(inside):
            return
        resume = after[len(inside) :] if after.startswith(inside) else b""
        if next(self.items(path), None) is None:
            if top > after:
                yield _empty(path, found)
            return
        yield from self._below(path, resume, 0)

    def _below(self, directory: str, resume: bytes, depth: int) -> Iterator[FarFile]:
        """`resume`: the part of `after` below the directory. The contents of a directory follow names such as
        `a.b` when it is called `a`: until then it waits."""
        if depth > MAX_DEPTH:
            raise PermanentError(f"{directory}: more than {MAX_DEPTH} directories deep")
        waiting: list[bytes] = []
        try:
            for item in self.items(directory, _wanted(resume)):
                if directory == "/" and item.name in HIDDEN:
                    continue
                while waiting and waiting[0] < item.name:
                    yield from self._inside(directory, heapq.heappop(waiting), resume, depth)
                path = join(directory, os.fsdecode(item.name))
                key = item.name + b"/"
                if item.kind != DIRECTORY:
                    if item.name > resume and item.kind in _KINDS:
                        yield _far(path, item)
                elif key > resume or resume.startswith(key):
                    if not self._is_empty(path):
                        heapq.heappush(waiting, key)
                    elif item.name > resume:
                        yield _empty(path, item)
        except NotFoundError:
            self._check_root()
            return  # removed meanwhile
        while waiting:
            yield from self._inside(directory, heapq.heappop(waiting), resume, depth)

    def _inside(self, directory: str, key: bytes, resume: bytes, depth: int) -> Iterator[FarFile]:
        rest = resume[len(key) :] if resume.startswith(key) else b""
        yield from self._below(join(directory, os.fsdecode(key[:-1])), rest, depth + 1)

    def _is_empty(self, path: str) -> bool:
        try:
            return next(self.items(path), None) is None
        except NotFoundError:
            return False  # removed meanwhile: it is not told at all

    def _call(self, method: str, *arguments: str, **named: str) -> Any:
        api = self.session.api()
        try:
            with agent_errors():
                request = getattr(api.server, method)(*arguments, **named)
                return api.server.getRequestResult(request)
        except PermanentError as error:
            if "no such file" in str(error).lower():  # a server whose errors carry no code
                raise NotFoundError(str(error)) from error
            raise


def _wanted(resume: bytes) -> list[bytes]:
    """The names that come before `resume` and whose contents may follow it: the first part of it, and names
    such as `a` where that part is `a.b`."""
    first = resume.partition(b"/")[0]
    return [first[:at] for at in range(1, len(first)) if first[at] < b"/"[0]] + [first] if first else []


def _far(path: str, item: Item) -> FarFile:
    return FarFile(path, _KINDS[item.kind], item.size, item.mtime_ns, executable=item.executable)


def _empty(path: str, item: Item) -> FarFile:
    return FarFile(path, FileKind.EMPTY_DIRECTORY, 0, item.mtime_ns)


def _page(answer: Any, directory: str, after: bytes) -> tuple[list[Item], bytes | None]:
    """PermanentError for an answer of another form, and for one that does not go on after `after`."""
    try:
        items = [_item(entry) for entry in answer["entries"]]
        following = None if answer.get("next") is None else os.fsencode(answer["next"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PermanentError(
            f"the control server lists {directory} in a form that is not known here ({error!r})"
        ) from error
    if following is None and not after:
        items.sort()
    names = [after, *(item.name for item in items)]
    if any(second <= first for first, second in pairwise(names)) or (
        following is not None and (not items or following != items[-1].name)
    ):
        raise PermanentError(f"the control server lists {directory} in an order that does not go on")
    return items, following


def _item(entry: Any) -> Item:
    """KeyError, TypeError or ValueError for one of another form."""
    name, kind = os.fsencode(entry["name"]), str(entry["type"])
    if not name or b"/" in name or name in (b".", b"..") or kind not in (FILE, DIRECTORY, LINK, OTHER):
        raise ValueError(entry)
    mtime_ns = int(entry.get("modificationTime") or 0) * 1000
    return Item(name, kind, int(entry.get("size") or 0), mtime_ns, entry.get("executable") is True)
