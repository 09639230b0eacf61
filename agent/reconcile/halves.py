"""A rename is two events, and a look at what one of them named may come between them.

What a partial look finds gone is not deleted at once: for a moment it may be the first half of a rename.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.model.change import ChangeSet, FileKind
from agent.model.spec import MappingSpec
from agent.planning.renames import may_rename
from agent.reconcile.context import Connected

LINGER = 0.3
"""Seconds without further news after which what is gone is gone."""

_AT_MOST = 3.0


@dataclass(slots=True)
class Halves:
    """Of one delivery. Times are monotonic seconds."""

    _count: int = 0
    _first: float = 0.0
    _last: float = 0.0

    def wait(self, spec: MappingSpec, connected: Connected, changes: ChangeSet, now: float) -> bool:
        """Whether the deletions of this change set are to be looked at again before they are decided."""
        gone = sum(deletion.kind is FileKind.FILE for deletion in changes.deletions)
        if not (gone and changes.partial and connected.capabilities.rename and may_rename(spec)):
            self._count = 0
            return False
        if gone > self._count:
            self._first = self._first if self._count else now
            self._count, self._last = gone, now
        waits = now - self._last < LINGER and now - self._first < _AT_MOST
        if not waits:
            self._count = 0
        return waits
