"""watchdog's inotify reader, used one level below its Observer.

The Observer has one thread per root, holds every event behind an unmatched rename-out back for half a second,
reports a rename-in and a file still being written alike, and does not say that a watch limit was reached. Its
reader has none of that: one thread serves any number of roots and hands over the kernel's flags as they are.
"""

from __future__ import annotations

import os
from functools import reduce
from operator import or_

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

__all__ = ["MASK", "EventReader", "InotifyEvent", "Listener", "WatchDescriptor"]

IN_UNMOUNT = 0x2000

MASK = Mask(
    reduce(
        or_,
        (
            InotifyConstants.IN_CREATE,
            InotifyConstants.IN_MODIFY,
            InotifyConstants.IN_ATTRIB,
            InotifyConstants.IN_CLOSE_WRITE,
            InotifyConstants.IN_MOVED_FROM,
            InotifyConstants.IN_MOVED_TO,
            InotifyConstants.IN_DELETE,
            InotifyConstants.IN_DELETE_SELF,
            InotifyConstants.IN_MOVE_SELF,
            InotifyConstants.IN_ONLYDIR,
        ),
    )
)

Listener = WatchCallback


class EventReader(InotifyFD):
    """One inotify instance and the thread that reads it. Listeners are called from that thread."""

    def watch(self, path: str, listener: Listener) -> WatchDescriptor | None:
        """Watch one directory (not below it); None when it may not be read. Watching twice is harmless.

        OSError: ENOSPC when the watch limit is reached, ENOENT or ENOTDIR when it is no directory.
        """
        with self._lock:
            found = self._get_or_create_watch(os.fsencode(path), MASK)
            if found.wd == -1:  # refused by permissions
                self._watch_for_wd.pop(found.wd, None)
                return None
            found.callbacks[CallbackId(id(listener))] = listener
            return found.wd

    def unwatch(self, descriptors: list[WatchDescriptor], listener: Listener) -> None:
        """Stop telling a listener; unknown descriptors are harmless."""
        number = CallbackId(id(listener))
        with self._lock:
            known = [
                wd
                for wd in descriptors
                if wd in self._watch_for_wd and number in self._watch_for_wd[wd].callbacks
            ]
        self.remove_callbacks([(wd, number) for wd in known])
