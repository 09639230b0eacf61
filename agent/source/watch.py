"""Watching any number of source roots with three threads.

One reads the kernel's queue, one waits for due times and tells the consumers, and one looks after the
watches: arming may take long, and telling must not wait for it.

Everything told is a hint; a consumer arms first and scans then. Whatever may have been missed (a full kernel
queue, a watch limit, a reader that died, a root that was replaced, a network file system) becomes
`Dirty(whole=True)` and a WatchState that says why and what to do.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable

import structlog

from agent.model.spec import Symlinks, Trigger
from agent.planning.pace import COMPARE_SHARE, stretched
from agent.source.canary import Canary
from agent.source.filters import EVERYTHING, Filter
from agent.source.inotify import EventReader
from agent.source.mounts import MountTable
from agent.source.root import Root, Timing
from agent.source.subscription import Dirty, Subscription, WatchState

__all__ = ["Dirty", "Subscription", "WatchState", "Watcher"]

_log = structlog.get_logger(__name__)

JOIN_SECONDS = 5.0
IDLE_SECONDS = 30.0
"""A thread without work looks up at least so often: so idle is told from stuck."""

GATHER_SECONDS = 0.005
"""So long after a telling there is no other: of thousands of files that come at once many are told together,
while a single one is told at once."""


def _ignore_state(root: str, state: WatchState) -> None:
    """Default for consumers that ask with `state` instead."""


def _first_due(subscriptions: Iterable[Subscription]) -> float:
    """When the first of them has something to tell."""
    dues = (subscription.next_due() for subscription in subscriptions)
    return min((due for due in dues if due is not None), default=math.inf)


class Watcher:
    """Thread-safe. Callbacks come from the watcher's own threads, never a caller's, and should be quick.

    `canary` is a directory of the agent's own; in it a file is touched now and then, to prove that events
    arrive."""

    def __init__(
        self,
        *,
        on_state: Callable[[str, WatchState], None] = _ignore_state,
        timing: Timing | None = None,
        clock: Callable[[], float] = time.monotonic,
        canary: str = "",
        mount_table: MountTable | None = None,
        make_reader: Callable[[], EventReader] = EventReader,
    ) -> None:
        self._on_state = on_state
        self._timing = timing or Timing()
        self._clock = clock
        self._mounts = mount_table or MountTable()
        self._canary = Canary(canary, self._timing.canary, self._timing.patience) if canary else None
        self._make_reader = make_reader
        self._reader: EventReader | None = None
        self._reader_error: OSError | None = None
        self._changed = threading.Condition(threading.RLock())
        self._maintenance = threading.RLock()  # held while arming; taken before `_changed`, never after
        self._roots: dict[str, Root] = {}
        self._active: set[Subscription] = set()
        self._restless: set[Root] = set()  # asked to be looked after, or need it often
        self._next_round = 0.0  # when all are looked after
        self._care_soon = threading.Event()
        self._wakes_at = -math.inf  # when the thread that tells looks up by itself; it is awake until it says
        self._stopping = False
        self._threads: tuple[threading.Thread, ...] = ()

    # -- for consumers

    def start(self) -> None:
        """Idempotent; `subscribe` does it too."""
        with self._maintenance:
            if self._threads:
                return
            self._open_reader()
            self._threads = (
                threading.Thread(target=self._tell_loop, name="watch-tell", daemon=True),
                threading.Thread(target=self._care_loop, name="watch-care", daemon=True),
            )
            for thread in self._threads:
                thread.start()

    def stop(self) -> None:
        """No callback runs after this returns, unless a callback called it. Idempotent."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
            roots = list(self._roots.values())
        self._care_soon.set()
        for root in roots:
            root.close()  # ends an arming that is under way
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        with self._maintenance:
            self._close_reader()
            self._mounts.close()

    def subscribe(
        self,
        root: str,
        callback: Callable[[str, Dirty], None],
        *,
        filter_: Filter = EVERYTHING,
        symlinks: Symlinks = Symlinks.COPY_CONTENTS,
        trigger: Trigger = Trigger(),  # noqa: B008  frozen
    ) -> Subscription:
        """Returns when the root is armed, so that a scan after it misses nothing; a root that cannot be
        watched yet is no error: see `state`."""
        self.start()
        subscription = Subscription(root, callback, filter_, symlinks, trigger)
        with self._maintenance:
            found = self._roots.get(root)
            if found is None:
                found = Root(root, self._timing, self._mounts, self._notify)
                with self._changed:
                    self._roots[root] = found
            wider = found.add(subscription)
            if wider:
                found.arm(self._reader, self._reader_error, self._clock())
        self._notify(found, None)  # tells its state, from the caring thread: a consumer may hold locks here
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Its callback is not called any more, except by a call that is running now."""
        with self._maintenance, self._changed:
            self._active.discard(subscription)
            found = self._roots.get(subscription.root)
            if found is not None and found.remove(subscription):
                found.close()
                del self._roots[subscription.root]
                self._restless.discard(found)

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        """Those that everything depends on; the reader is replaced when it dies."""
        return self._threads

    def state(self, root: str) -> WatchState:
        found = self._roots.get(root)
        return WatchState() if found is None else found.state(self._clock())

    def waiting(self, subscription: Subscription) -> tuple[str, ...]:
        """Paths that changed and are not ready yet."""
        with self._changed:
            return subscription.waiting()

    def overdue(self, subscription: Subscription) -> tuple[str, ...]:
        """Paths that have kept changing for longer than the trigger's `max_wait`."""
        with self._changed:
            return subscription.overdue(self._clock())

    # -- from roots, in the reader's thread

    def _notify(self, root: Root, touch: Callable[[Subscription, float], bool] | None) -> None:
        """Touch every subscription; without `touch` the root asks to be looked after."""
        with self._changed:
            if touch is None:
                self._restless.add(root)
                self._care_soon.set()
                return
            now = self._clock()
            touched = [subscription for subscription in root.subscriptions if touch(subscription, now)]
            self._active.update(touched)
            if _first_due(touched) < self._wakes_at:
                self._wakes_at = -math.inf  # to wake somebody takes long: once is enough
                self._changed.notify()

    # -- telling

    def _tell_loop(self) -> None:
        while True:
            with self._changed:
                if not self._stopping:
                    self._rest()
                if self._stopping:
                    return
                told = self._collect()
            if told:
                self._tell(told)
                time.sleep(GATHER_SECONDS)

    def _rest(self) -> None:
        """Until something is due."""
        self._wakes_at = _first_due(self._active)
        self._changed.wait(min(IDLE_SECONDS, max(0.0, self._wakes_at - self._clock())))
        self._wakes_at = -math.inf

    def _collect(self) -> list[tuple[Subscription, Dirty]]:
        now = self._clock()
        told = []
        for subscription in tuple(self._active):
            dirty = subscription.take(now)
            if dirty is not None:
                told.append((subscription, dirty))
            if subscription.next_due() is None:
                self._active.discard(subscription)
        return told

    def _tell(self, told: list[tuple[Subscription, Dirty]]) -> None:
        for subscription, dirty in told:
            try:
                subscription.callback(subscription.root, dirty)
            except Exception:  # noqa: BLE001
                _log.exception("a consumer of file changes failed", root=subscription.root)

    # -- looking after the watches

    def _care_loop(self) -> None:
        while True:
            self._care_soon.wait(self._timing.check)
            self._care_soon.clear()
            if self._stopping:
                return
            self._care(self._clock())

    def _care(self, now: float) -> None:
        """Look after the reader, after every root that needs it, and now and then after all."""
        with self._maintenance:
            died = self._reader_trouble(now)
            if died or self._reader is None:
                self._close_reader()
                self._open_reader()
            mounted = self._mounts.changed()
            everybody = now >= self._next_round
            with self._changed:
                asked = [root for root in self._restless if self._roots.get(root.path) is root]
                everyone = list(self._roots.values()) if everybody or mounted or died else []
                self._restless.clear()
            near = {root for root in everyone if root.is_near(mounted)} if mounted else set()
            unwell = self._unwell(everyone, now) if everybody else asked
            roots = everyone if died else [*{*unwell, *near}]
            for root in roots:
                if self._stopping:
                    return
                if died:
                    root.reader_died(died, now)
                if root in near:
                    root.mounts_changed()
                self._care_for(root, everybody, now)
        for root in roots:
            self._tell_state(root)

    def _unwell(self, roots: list[Root], now: float) -> list[Root]:
        """Compares all with what was armed; the more there are, the later it is done again."""
        begun = time.thread_time()
        found = [root for root in roots if not root.well(now)]
        cost = (time.thread_time() - begun) / max(1, len(roots))
        self._next_round = now + stretched(self._timing.identity, len(roots), cost, COMPARE_SHARE)
        return found

    def _care_for(self, root: Root, compare: bool, now: float) -> None:
        try:
            root.care(self._reader, self._reader_error, now, compare=compare)
        except Exception:  # noqa: BLE001
            _log.exception("looking after a source root failed", root=root.path)
        if not root.settled(now):
            with self._changed:
                self._restless.add(root)

    def _reader_trouble(self, now: float) -> str:
        """Why the reader must be replaced; empty when it does its work."""
        if self._reader is None:
            return ""
        if not self._reader.is_alive():
            return "the reader of file events ended"
        silent = self._canary.deaf(now) if self._canary is not None else None
        return f"no file event has arrived for {silent:.0f} s" if silent is not None else ""

    def _tell_state(self, root: Root) -> None:
        with self._changed:
            state = root.news(self._clock())
        if state is None:
            return
        try:
            self._on_state(root.path, state)
        except Exception:  # noqa: BLE001
            _log.exception("a consumer of watch states failed", root=root.path)

    def _open_reader(self) -> None:
        try:
            self._reader = self._make_reader()
        except OSError as error:
            self._reader_error = error
            return
        self._reader_error = None
        self._reader.name = "inotify"
        self._reader.start()
        if self._canary is not None:
            self._canary.attach(self._reader, self._clock())

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.stop()
            if self._reader.is_alive():
                self._reader.join(JOIN_SECONDS)  # one that hangs in a call of the kernel is left behind
            self._reader = None
