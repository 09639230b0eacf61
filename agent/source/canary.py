"""Proof that file events still arrive: a file of our own is touched now and then, and its event waited for.

The file lies in a directory of the agent's, which the same reader watches, so that the whole way is covered:
the kernel's queue, the reader's thread and its calls. Nothing is ever written into the trees of users.
"""

from __future__ import annotations

import os

import structlog

from agent.source.inotify import EventReader, InotifyEvent, WatchDescriptor

_log = structlog.get_logger(__name__)

_NAME = "canary"


class Canary:
    """Implements the reader's listener. Seconds, on a clock that does not go back."""

    def __init__(self, directory: str, period: float, patience: float) -> None:
        self._directory = directory
        self._period = period
        self._patience = patience
        self._touched_at: float | None = None
        self._next = 0.0
        self._heard = False
        self._watched = False

    def attach(self, reader: EventReader, now: float) -> None:
        """Begin anew with this reader. A canary that cannot be kept is told of in the log; the other signs of
        a dead reader remain."""
        self._watched, self._touched_at, self._next = False, None, now + self._period
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            os.close(os.open(self._path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            self._watched = reader.watch(self._directory, self) is not None
        except OSError as error:
            _log.warning("file events are not proved to arrive", why=str(error))

    def deaf(self, now: float) -> float | None:
        """To be called often. Seconds for which an event has been missing, when that is too long."""
        if not self._watched:
            return None
        if self._touched_at is None:
            if now >= self._next:
                self._touch(now)
        elif self._heard:
            self._touched_at, self._next = None, now + self._period
        elif now - self._touched_at > self._patience:
            return now - self._touched_at
        return None

    @property
    def _path(self) -> str:
        return os.path.join(self._directory, _NAME)

    def _touch(self, now: float) -> None:
        self._heard = False
        try:
            os.utime(self._path)
        except OSError as error:
            _log.warning("file events are not proved to arrive", why=str(error))
            self._next = now + self._period
            return
        self._touched_at = now

    # -- the listener, in the reader's thread

    def on_event(self, event: InotifyEvent) -> None:
        if event.name == os.fsencode(_NAME):
            self._heard = True

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:  # noqa: ARG002  there is only one
        self._watched = False  # somebody removed the directory: nothing follows from silence

    def on_queue_overflow(self) -> None:
        self._heard = True  # the event may be among the lost ones; that some were lost is told by the roots
