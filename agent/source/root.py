"""One source root: armed, missing, degraded or polled, and what its consumers must hear of that."""

from __future__ import annotations

import errno
import os
import stat as st
from collections.abc import Callable
from dataclasses import dataclass

from agent.model.condition import Reason
from agent.model.spec import Symlinks
from agent.source import mounts
from agent.source.inotify import EventReader
from agent.source.settle import Touch
from agent.source.subscription import Subscription, WatchState
from agent.source.tree import TreeWatch


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds."""

    check: float = 1.0  # how often missing roots, the reader and degraded states are looked at
    identity: float = 10.0  # how often a healthy root is compared with what was armed
    poll: float = 30.0  # whole scans where watching does not tell everything
    degraded: float = 60.0  # how long a passed disturbance stays visible
    rearm: float = 1.0  # at most one new arming in this time


Touching = Callable[[Subscription, float], bool]
Notify = Callable[["Root", Touching | None], None]


class Root:
    """`touched`, `overflowed`, `root_lost` and `failed` come from the reader's thread; the rest is called
    under the watcher's maintenance lock."""

    def __init__(self, path: str, timing: Timing, file_system: str, notify: Notify) -> None:
        self.path = path
        self.subscriptions: tuple[Subscription, ...] = ()
        self._timing = timing
        self._network = file_system if mounts.is_network(file_system) else ""
        self._notify = notify
        self._tree: TreeWatch | None = None
        self._identity: tuple[int, int] | None = None
        self._missing = ""
        self._limit: OSError | None = None
        self._lost: tuple[Reason, str] | None = None
        self._disturbed: tuple[Reason, str] | None = None
        self._disturbed_until = 0.0
        self._rearm = False
        self._next_arm = self._next_identity = self._next_poll = 0.0
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
        self._next_identity = now + self._timing.identity
        if self._next_poll <= now:
            self._next_poll = now + self._timing.poll
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

    def _refused(self, error: OSError) -> None:
        if error.errno in (errno.ENOSPC, errno.EMFILE):
            self._limit = error
            return
        self._missing = error.strerror or str(error)
        self._identity = None
        self.close()

    def close(self) -> None:
        """Also ends an arming that is under way in another thread."""
        tree, self._tree = self._tree, None
        if tree is not None:
            tree.close()

    def care(self, reader: EventReader | None, reader_error: OSError | None, now: float) -> None:
        """Arm again what needs it, poll what is polled."""
        if now >= self._next_identity or self._missing:
            self._next_identity = now + self._timing.identity
            self._rearm = self._rearm or self._replaced()
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
        polled = bool(self._network or self._limit)
        if polled and not self._missing and now >= self._next_poll:
            self._next_poll = now + self._timing.poll
            if self._limit is not None:
                self.arm(reader, reader_error, now)
            self._tell_whole()

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

    def reader_died(self, now: float) -> None:
        self._disturb(Reason.WATCHER_DIED, "the reader of file events ended; it was started again", now)
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
        if self._missing:
            text = f"the source {self.path} cannot be watched ({self._missing}); waiting for it to appear"
            return WatchState(Reason.SOURCE_SUSPECT, text)
        every = f"scanning every {self._timing.poll:.0f} s instead"
        if self._limit is not None:
            return WatchState(Reason.WATCH_LIMIT, f"{mounts.limit_message(self._limit)}; {every}")
        if self._network:
            text = f"{self.path} is on {self._network}, where changes made elsewhere are not announced"
            return WatchState(Reason.POLLING, f"{text}; also {every.removesuffix(' instead')}")
        if self._disturbed is not None and now < self._disturbed_until:
            return WatchState(*self._disturbed)
        return WatchState()

    def news(self, now: float) -> WatchState | None:
        """The state, when it is another than at the last call."""
        state = self.state(now)
        if state == self._told:
            return None
        self._told = state
        return state
