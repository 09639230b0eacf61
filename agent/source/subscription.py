"""One consumer of a source root's changes: its filter, its settle rule, and what it has not been told yet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.model.condition import Reason
from agent.model.spec import Symlinks, Trigger
from agent.source.filters import Filter
from agent.source.settle import Settle, Touch

ANNOUNCED = 1.0
"""Seconds after which a consumer hears that there is something which is not ready yet."""

MAX_PENDING = 50_000
"""More single paths than this at once are told as `whole`: a scan is cheaper, and memory stays bounded."""


@dataclass(frozen=True, slots=True)
class Dirty:
    """Hints, relative to the root: paths to look at, subtrees to scan, or the whole tree.

    With `whole` the others are empty. "" is the root itself. With nothing at all, files are being written for
    ANNOUNCED already: there is nothing to look at yet, only something to say.
    """

    paths: tuple[str, ...] = ()
    subtrees: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class WatchState:
    """How well a root is watched. `reason` None = every change is told at once."""

    reason: Reason | None = None
    message: str = ""
    directories: int = field(default=0, compare=False)  # that are watched
    poll: float | None = field(default=None, compare=False)  # seconds between scans, where that is needed


class Subscription:
    """Made by Watcher.subscribe. The watcher's lock guards it."""

    def __init__(
        self,
        root: str,
        callback: Callable[[str, Dirty], None],
        filter_: Filter,
        symlinks: Symlinks,
        trigger: Trigger,
    ) -> None:
        self.root = root
        self.callback = callback
        self.filter = filter_
        self.symlinks = symlinks
        self.interval = math.inf if trigger.interval is None else trigger.interval
        self._settle = Settle(trigger.ready, trigger.settle, trigger.max_wait)
        self._subtrees: set[str] = set()
        self._empty: set[str] = set()  # directories whose only news is that they are empty
        self._whole = False
        self._announce_at: float | None = None  # inf: it was

    def touch(self, path: str, touch: Touch, now: float) -> bool:
        """False when the path is none of this consumer's."""
        if touch is Touch.DIRECTORY:
            if self.filter.prunes(path):
                return False
            self._subtrees.add(path)
        elif not (self.filter.includes(path, False) or self.filter.includes(path, True)):
            return False
        if not self._whole:
            self._settle.on_event(path, touch, now)
            self._fill(path, touch)
            if len(self._settle) > MAX_PENDING:
                self.touch_whole()
            elif self._announce_at is None and self._settle.waits:
                self._announce_at = now + ANNOUNCED
        return True

    def _fill(self, path: str, touch: Touch) -> None:
        """What is in a new directory speaks for itself: scanning the directory because it was empty a moment
        ago would find files that are still being written."""
        if touch is Touch.EMPTY:
            self._empty.add(path)
        if self._empty:
            parent = path.rpartition("/")[0]
            if parent in self._empty:
                self._empty.discard(parent)
                self._settle.discard(parent)

    def touch_whole(self) -> None:
        self._settle.clear()
        self._subtrees.clear()
        self._empty.clear()
        self._whole = True

    def take(self, now: float) -> Dirty | None:
        """What is ready to be told, once."""
        if self._whole:
            self._whole = False
            return Dirty(whole=True)
        ready = self._settle.due(now)
        if not self._settle.waits:
            self._announce_at = None
        if not ready:
            return self._announcement(now)
        subtrees = tuple(path for path in ready if path in self._subtrees)
        self._subtrees.difference_update(subtrees)
        self._empty.difference_update(ready)
        if "" in subtrees:
            return Dirty(whole=True)
        single = tuple(path for path in ready if path not in subtrees) if subtrees else ready
        return Dirty(single, subtrees)

    def _announcement(self, now: float) -> Dirty | None:
        """Once, until nothing waits any more."""
        if self._announce_at is None or now < self._announce_at:
            return None
        self._announce_at = math.inf
        return Dirty()

    def next_due(self) -> float | None:
        if self._whole:
            return float("-inf")
        due = self._settle.next_due()
        return due if due is None or self._announce_at is None else min(due, self._announce_at)

    def waiting(self) -> tuple[str, ...]:
        return self._settle.waiting()

    def overdue(self, now: float) -> tuple[str, ...]:
        return self._settle.overdue(now)
