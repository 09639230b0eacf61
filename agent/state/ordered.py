"""The ledger in the byte order of full paths, as a listing of the destination comes: bounded memory.

Rows are kept by directory. What lies in `/a-b` comes before what lies in `/a`, for `-` sorts before `/`: so
directories are taken in the order of `path/`, and the children of those that are open are merged.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from agent.model.known import Known, Origin
from agent.state.connection import Database
from agent.state.paths import STAT_COLUMNS, below, to_stat

_PAGE = 2000
_PREFIXES = 500  # of one statement


class Ordered:
    def __init__(self, db: Database) -> None:
        self._db = db

    def rows(
        self, mapping: str, destination: str, prefix: str, after: str = "", until: str | None = None
    ) -> Iterator[Known]:
        """Rows at or below `prefix` that sort behind `after`, up to and with `until`; rows may change
        meanwhile."""
        row = self._db.row(
            "SELECT id FROM deliveries WHERE mapping=? AND destination=?", (mapping, destination)
        )
        if row is None:
            return
        delivery, start, top = int(row[0]), os.fsencode(after), os.fsencode(prefix)
        found = merged(
            by_key(self._directories(delivery, top, start)),
            lambda number, path: self._children(number, path, start, top),
        )
        last = None if until is None else os.fsencode(until)
        for path, known in found:
            if last is not None and path > last:
                return
            yield known

    def _directories(self, delivery: int, top: bytes, after: bytes) -> Iterator[tuple[int, bytes]]:
        """In the order of their paths: those that may hold something at or below `top` and behind `after`."""
        low, high = below(os.fsdecode(top))
        own = top.rpartition(b"/")[0] or b"/"  # of `top`, should it be a single file
        begun = {after[:end] for end in range(1, len(after) + 1)} | {own, top}
        above = [path for path in begun if path in (own, top) or low <= path < high]
        yield from sorted(self._named(delivery, above), key=lambda found: found[1])
        at = max(low, after)
        while True:
            rows = self._db.rows(
                "SELECT id, path FROM directories WHERE delivery=? AND path>? AND path<? AND files>0"
                " ORDER BY path LIMIT ?",
                (delivery, at, high, _PAGE),
            )
            yield from ((int(number), bytes(path)) for number, path in rows if path not in begun)
            if len(rows) < _PAGE:
                return
            at = rows[-1][1]

    def _named(self, delivery: int, paths: list[bytes]) -> Iterator[tuple[int, bytes]]:
        for start in range(0, len(paths), _PREFIXES):
            some = paths[start : start + _PREFIXES]
            marks = ",".join("?" * len(some))
            yield from self._db.rows(
                f"SELECT id, path FROM directories WHERE delivery=? AND files>0 AND path IN ({marks})",  # noqa: S608
                (delivery, *some),
            )

    def _children(
        self, directory: int, path: bytes, after: bytes, top: bytes
    ) -> Iterator[tuple[bytes, Known]]:
        """With their full paths, in the order of their names."""
        base = path if path.endswith(b"/") else path + b"/"
        if base < after and not after.startswith(base):
            return
        name = after[len(base) :] if after.startswith(base) else b""
        inside = base.startswith(top.rstrip(b"/") + b"/")
        while True:
            rows = self._db.rows(
                f"SELECT name, digest, origin, delivered_at, {STAT_COLUMNS} FROM ledger"  # noqa: S608
                " WHERE directory=? AND name>? ORDER BY name LIMIT ?",
                (directory, name, _PAGE),
            )
            for found, digest, origin, at, *stat in rows:
                full = base + found
                if inside or full == top:
                    yield full, Known(os.fsdecode(full), to_stat(tuple(stat)), digest, Origin(origin), at)
            if len(rows) < _PAGE:
                return
            name = rows[-1][0]


def by_key(directories: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Directories in the order of `path`, put into the order of `path/`.

    One waits only for those whose path continues its own with a byte before `/`, so few ever wait.
    """
    waiting: list[tuple[int, bytes]] = []
    for number, path in directories:
        while waiting and _key(waiting[-1][1]) < path:
            yield waiting.pop()
        waiting.append((number, path))
    while waiting:
        yield waiting.pop()


Children = Callable[[int, bytes], Iterator[tuple[bytes, Known]]]


def merged(directories: Iterable[tuple[int, bytes]], children: Children) -> Iterator[tuple[bytes, Known]]:
    """All children of directories that come in the order of `path/`, in the order of full paths."""
    open_: list[tuple[bytes, int, Known, Iterator[tuple[bytes, Known]]]] = []

    def push(number: int, rest: Iterator[tuple[bytes, Known]]) -> None:
        for path, known in rest:
            heapq.heappush(open_, (path, number, known, rest))
            return

    for number, path in chain(directories, [(0, b"\xff")]):
        while open_ and open_[0][0] < _key(path):
            first, owner, known, rest = heapq.heappop(open_)
            yield first, known
            push(owner, rest)
        push(number, children(number, path) if number else iter(()))


def _key(path: bytes) -> bytes:
    return path if path.endswith(b"/") else path + b"/"
