"""A source root that is not there yet: the nearest directory above it that is there says when it comes."""

from __future__ import annotations

import os
from collections.abc import Callable

from agent.source.inotify import EventReader, InotifyEvent, WatchDescriptor


class Appearing:
    """Implements the reader's listener. `look` is called when it is time to look again: perhaps too often,
    and perhaps only one directory further down."""

    def __init__(self, path: str, reader: EventReader, look: Callable[[], None]) -> None:
        self._path = path
        self.reader = reader
        self._look = look
        self._awaited = b""
        self._above = ""
        self._wd: WatchDescriptor | None = None

    def arm(self) -> None:
        """Watch the nearest directory that there is now. What cannot be watched is not: others look, too."""
        above, awaited = self._nearest()
        if (above, awaited) == (self._above, self._awaited) and self._wd is not None:
            return
        self.close()
        self._above, self._awaited = above, awaited
        try:
            self._wd = self.reader.watch(above, self)
        except OSError:
            self._wd = None
        if os.path.lexists(os.path.join(above, os.fsdecode(awaited))):
            self._look()  # it came in between

    def close(self) -> None:
        wd, self._wd = self._wd, None
        if wd is not None:
            self.reader.unwatch([wd], self)

    def _nearest(self) -> tuple[str, bytes]:
        """An existing directory, and the name in it that is missing."""
        above, name = os.path.split(self._path)
        while not os.path.isdir(above) and above != os.path.dirname(above):
            above, name = os.path.split(above)
        return above, os.fsencode(name)

    # -- the listener, in the reader's thread

    def on_event(self, event: InotifyEvent) -> None:
        if event.name == self._awaited or event.is_delete_self or event.is_move_self:
            self._look()

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:  # noqa: ARG002  there is only one
        self._wd = None
        self._look()

    def on_queue_overflow(self) -> None:
        self._look()
