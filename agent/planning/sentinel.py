"""`ready: {sentinel: NAME}`: what a file of that name makes ready, and what waits for it. Pure.

A file is ready when one of the directories above it, up to the source's root, holds a sentinel whose last
change is not before the file's own: what was written after the sentinel waits until that is renewed, with
`touch`. The times are those of the inode (ctime), which nobody can set back and no copy carries over. The
sentinel itself goes last: when nothing below its directory is left to deliver.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.model.change import Change, FileKind, FileStat
from agent.model.paths import is_below, parent
from agent.planning.safety import ancestors
from agent.planning.words import count

NAMED = 10_000
"""So many waiting files are known by name; the rest is only counted."""


def covered(stat: FileStat, newest: int | None) -> bool:
    """Whether a file is ready, `newest` being the ctime in ns of the newest sentinel above it."""
    return newest is not None and stat.ctime_ns <= newest


def last_of_all(
    changes: Iterable[Change], unfinished: Iterable[str], name: str
) -> tuple[list[Change], list[str]]:
    """Changes without the sentinels that must wait, and those sentinels' paths. A sentinel waits while
    anything else at or below its directory is to be sent or among `unfinished` (destination paths)."""
    changes = list(changes)
    sentinels = {
        c.path for c in changes if c.stat.kind is FileKind.FILE and posixpath.basename(c.path) == name
    }
    if not sentinels:
        return changes, []
    busy: set[str] = set()
    for path in [*(c.path for c in changes), *unfinished]:
        # A sentinel that has to be sent holds up those above it, not itself.
        place = parent(path)
        if path not in sentinels:
            busy.add(place)
        if place != "/":
            busy.update((*ancestors(place), "/"))
    held = sorted(path for path in sentinels if parent(path) in busy)
    waiting = set(held)
    return [change for change in changes if change.path not in waiting], held


@dataclass(slots=True)
class Unsealed:
    """What waits for a sentinel at one delivery, as of the last looks: source path -> ctime in ns."""

    paths: dict[str, int] = field(default_factory=dict)
    more: int = 0  # beyond NAMED

    def add(self, source: str, ctime_ns: int) -> None:
        if source in self.paths or len(self.paths) < NAMED:
            self.paths[source] = ctime_ns
        else:
            self.more += 1

    def learn(self, found: Unsealed, looked: Iterable[str] | None) -> None:
        """Take over what a look at these source paths, and all below them, found; None = at everything."""
        if looked is None:
            self.paths, self.more = dict(found.paths), found.more
            return
        for top in looked:
            for path in [path for path in self.paths if is_below(path, top)]:
                del self.paths[path]
        for path, ctime in found.paths.items():
            self.add(path, ctime)
        self.more += found.more

    @property
    def count(self) -> int:
        return len(self.paths) + self.more

    @property
    def oldest(self) -> float:
        """Unix seconds of the first change that waits; there is one."""
        return min(self.paths.values()) / 1e9

    def text(self, name: str) -> str:
        """`312 files wait for .done in /cards/A001 (and 2 more directories)`."""
        places = sorted({posixpath.dirname(path) for path in self.paths})
        wait = "waits" if self.count == 1 else "wait"
        more = f" (and {count(len(places) - 1, 'more directory', 'more directories')})" if places[1:] else ""
        return f"{count(self.count, 'file')} {wait} for {name} in {places[0]}{more}"
