"""One source root: armed, missing, degraded or polled, and what its consumers must hear of that."""

from __future__ import annotations

import errno
import os
import stat as st
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from agent.model.condition import Reason
from agent.model.spec import Symlinks
from agent.model.units import format_duration
from agent.source import mounts
from agent.source.appearing import Appearing
from agent.source.inotify import EventReader
from agent.source.mounts import Mount, MountTable, is_at_or_below
from agent.source.settle import Touch
from agent.source.subscription import Subscription, WatchState
from agent.source.tree import TreeWatch


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds."""

    check: float = 1.0  # how often missing roots, the reader and degraded states are looked at
    identity: float = 10.0  # how often a healthy root is compared with what was armed
    poll: float = 60.0  # whole scans where watching does not tell everything; more often if the interval is
    degraded: float = 60.0  # how long a passed disturbance stays visible
    rearm: float = 1.0  # at most one new arming in this time
    canary: float = 30.0  # between proofs that events arrive
    patience: float = 30.0  # for one such proof


Touching = Callable[[Subscription, float], bool]
Notify = Callable[["Root", Touching | None], None]


class Root:
    """`touched`, `overflowed`, `root_lost` and `failed` come from the reader's thread; the rest is called
    under the watcher's maintenance lock."""

    def __init__(self, path: str, timing: Timing, mount_table: MountTable, notify: Notify) -> None:
        self.path = path
        self.subscriptions: tuple[Subscription, ...] = ()
        self._timing = timing
        self._table = mount_table
        self._real = path  # without links, when it was armed
        self._mounts: tuple[Mount, ...] = ()
        self._network: Mount | None = None  # the one of them that is on the network
        self._notify = notify
        self._tree: TreeWatch | None = None
        self._appearing: Appearing | None = None
        self._identity: tuple[int, int] | None = None
        self._missing = ""
        self._limit: OSError | None = None
        self._lost: tuple[Reason, str] | None = None
        self._disturbed: tuple[Reason, str] | None = None
        self._disturbed_until = 0.0
        self._rearm = False
        self._next_arm = self._next_poll = 0.0
        self._told = WatchState()

    # -- consumers

    def add(self, subscription: Subscription) -> bool:
        """True when more must be watched than before."""
        others = self.subscriptions
        self.subscriptions = (*others, subscription)
        return not any(
            other.filter == subscription.filter and other.symlinks == subscription.symlinks
            for other in others
        )

    def remove(self, subscription: Subscription) -> bool:
        """True when it was the last."""
        self.subscriptions = tuple(s for s in self.subscriptions if s is not subscription)
        return not self.subscriptions

    # -- arming

    def arm(self, reader: EventReader | None, reader_error: OSError | None, now: float) -> None:
        """Watch the tree as it is now, before letting go of what was watched."""
        self._rearm = False
        self._next_arm = now + self._timing.rearm
        if self._next_poll <= now:
            self._next_poll = now + self._poll
        self._real = os.path.realpath(self.path)
        self._mounts = self._table.around(self._real)
        self._network = mounts.network_mount(self._mounts)
        old, self._tree = self._tree, None
        self._identity, self._limit = None, reader_error
        try:
            self._identity = self._identify()
            self._missing = ""
            if reader is not None:
                tree = TreeWatch(self.path, reader, self, self._prunes, self._follows)
                self._tree = tree
                tree.arm()
                self._limit = tree.limit
        except OSError as error:
            self._refused(error)
        if old is not None:
            old.close()
        self._await(reader)

    def _await(self, reader: EventReader | None) -> None:
        """A root that is missing is looked for the moment that a directory above it says something."""
        if self._appearing is not None and not self._missing:
            self._appearing.close()
            self._appearing = None
        if self._missing and reader is not None:
            if self._appearing is None or self._appearing.reader is not reader:
                self._appearing = Appearing(self.path, reader, self._look_soon)
            self._appearing.arm()

    def _look_soon(self) -> None:
        self._notify(self, None)

    def _refused(self, error: OSError) -> None:
        if error.errno in (errno.ENOSPC, errno.EMFILE):
            self._limit = error
            return
        self._missing = error.strerror or str(error)
        self._identity = None
        self._close_tree()

    def close(self) -> None:
        """Also ends an arming that is under way in another thread."""
        appearing, self._appearing = self._appearing, None
        if appearing is not None:
            appearing.close()
        self._close_tree()

    def _close_tree(self) -> None:
        tree, self._tree = self._tree, None
        if tree is not None:
            tree.close()

    def settled(self, now: float) -> bool:
        """Nothing is to be done for it before it asks, or is compared with what was armed."""
        passing = self._disturbed is not None and now < self._disturbed_until
        return not (self._missing or self._rearm or self._lost or self._polled or passing)

    def well(self, now: float) -> bool:
        """The same root as the one armed, watched whole, and its consumers know."""
        tree = self._tree
        whole = tree is not None and tree.limit is None and self._told.reason is None
        return whole and self.settled(now) and not self._replaced()

    def care(
        self, reader: EventReader | None, reader_error: OSError | None, now: float, *, compare: bool
    ) -> None:
        """Arm again what needs it, poll what is polled. With `compare`, look whether it is still the root
        that was armed."""
        if compare or self._missing:
            self._rearm = self._rearm or self._replaced()
        if self._missing:
            self._await(reader)  # perhaps one directory further down by now
        if self._lost is not None:
            self._disturb(*self._lost, now)
            self._lost = None
        if self._rearm and now >= self._next_arm:
            gone = bool(self._missing)
            self.arm(reader, reader_error, now)
            if not (gone and self._missing):
                self._tell_whole()  # also once when it went, so that somebody says so
        if self._tree is not None and self._limit is None:
            self._limit = self._tree.limit  # reached by directories that came later
        if self._polled and not self._missing and now >= self._next_poll:
            self._next_poll = now + self._poll
            if self._limit is not None:
                self.arm(reader, reader_error, now)
            self._tell_whole()

    @property
    def _polled(self) -> bool:
        return self._limit is not None or self._network is not None

    @property
    def _poll(self) -> float:
        """Seconds between whole scans, where they are needed: the shortest interval asked for, within
        bounds."""
        return min([self._timing.poll, *(subscription.interval for subscription in self.subscriptions)])

    def is_near(self, places: Iterable[str]) -> bool:
        """One of them is the root, or lies above or below it. (What a link on the way to it leads through is
        found by comparing.)"""
        return any(
            is_at_or_below(path, place) or is_at_or_below(place, path)
            for place in places
            for path in (self.path, self._real)
        )

    def mounts_changed(self) -> None:
        """Something was mounted or unmounted near: arm anew if it was here, and tell of it."""
        if self._table.around(os.path.realpath(self.path)) != self._mounts:
            self._rearm, self._next_arm = True, 0.0

    def _replaced(self) -> bool:
        """Is the root another one than the one armed: gone, come, renamed over or mounted over?"""
        try:
            return self._identify() != self._identity
        except OSError:
            return self._identity is not None

    def _identify(self) -> tuple[int, int]:
        """Of the directory that is watched: the root, or the one that holds a root which is a file."""
        info = os.stat(self.path)
        if not st.S_ISDIR(info.st_mode):
            info = os.stat(os.path.dirname(self.path))
        return info.st_dev, info.st_ino

    def _prunes(self, path: str) -> bool:
        return all(subscription.filter.prunes(path) for subscription in self.subscriptions)

    @property
    def _follows(self) -> bool:
        return any(s.symlinks is Symlinks.COPY_CONTENTS for s in self.subscriptions)

    # -- what happened

    def reader_died(self, why: str, now: float) -> None:
        text = f"{why}; it was started again and the tree is scanned"
        self._disturb(Reason.WATCHER_DIED, text, now)
        self._rearm = True
        self._next_arm = now

    def touched(self, path: str, touch: Touch) -> None:
        self._notify(self, lambda subscription, now: subscription.touch(path, touch, now))

    def overflowed(self) -> None:
        message = (
            "file events came faster than they could be read and some were lost; the tree is scanned instead"
            " (`sudo sysctl -w fs.inotify.max_queued_events=131072` makes room for more)"
        )
        self._lost = (Reason.QUEUE_OVERFLOW, message)
        self.root_lost()

    def limited(self) -> None:
        self._notify(self, None)

    def failed(self, error: Exception) -> None:
        message = f"an event could not be followed ({error}); the tree is scanned instead"
        self._lost = (Reason.WATCHER_DIED, message)
        self.root_lost()

    def root_lost(self) -> None:
        self._rearm = True
        self._notify(self, None)

    def _tell_whole(self) -> None:
        def whole(subscription: Subscription, _: float) -> bool:
            subscription.touch_whole()
            return True

        self._notify(self, whole)

    # -- how it is

    def _disturb(self, reason: Reason, message: str, now: float) -> None:
        self._disturbed = (reason, message)
        self._disturbed_until = now + self._timing.degraded

    def state(self, now: float) -> WatchState:
        reason, message = self._worst(now)
        directories = self._tree.watches if self._tree is not None else 0
        return WatchState(reason, message, directories, self._poll if self._polled else None)

    def _worst(self, now: float) -> tuple[Reason | None, str]:
        if self._missing:
            text = f"the source {self.path} cannot be watched ({self._missing}); waiting for it to appear"
            return Reason.SOURCE_SUSPECT, text
        every = f"scanning every {format_duration(self._poll)}"
        if self._limit is not None:
            return Reason.WATCH_LIMIT, f"{mounts.limit_message(self._limit)}; {every} instead"
        if self._network is not None:
            where = self.path if self._network is self._mounts[0] else self._network.place
            text = f"{where} is on {self._network.type}, where changes made by other hosts are not announced"
            return Reason.NETWORK_FILE_SYSTEM, f"{text}; also {every}"
        if self._disturbed is not None and now < self._disturbed_until:
            return self._disturbed
        return None, ""

    def news(self, now: float) -> WatchState | None:
        """The state, when it is another than at the last call."""
        state = self.state(now)
        if state == self._told:
            return None
        self._told = state
        return state
