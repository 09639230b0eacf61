"""Deletions that wait: with `deletions.grace` a path is deleted when it has been gone for that long."""

from __future__ import annotations

import time
from collections.abc import Mapping

from agent.model.change import Deletion
from agent.model.plan import Later
from agent.planning.words import count


def due_at(since: float, grace: float, now: float) -> float:
    """When a path that is gone since then may be deleted (Unix seconds). A clock that was set back makes it
    later, never earlier."""
    return min(since, now) + grace


def split(
    names: tuple[str, str],
    deletions: tuple[Deletion, ...],
    replaced: frozenset[str],
    since: Mapping[str, float],
    grace: float,
    now: float,
) -> tuple[tuple[Deletion, ...], Later | None]:
    """(what is deleted now, what waits). `names` are mapping and destination. A path without a tombstone is
    gone since now; one that is to hold something else (`replaced`) is not gone."""
    if grace <= 0:
        return deletions, None
    due: list[Deletion] = []
    waiting: list[Deletion] = []
    times: list[float] = []
    for deletion in deletions:
        at = due_at(since.get(deletion.path, now), grace, now)
        if at <= now or deletion.path in replaced:
            due.append(deletion)
        else:
            waiting.append(deletion)
            times.append(at)
    if not waiting:
        return tuple(due), None
    return tuple(due), Later(*names, tuple(waiting), min(times), max(times))


def later_text(later: Later) -> str:
    """`12 deletions wait until 2026-11-29 10:00 UTC`"""
    waiting = len(later.deletions)
    until = _minute(later.due)
    if waiting > 1 and _minute(later.last) != until:
        until = f"between {until} and {_minute(later.last)}"
    else:
        until = f"until {until}"
    return f"{count(waiting, 'deletion')} {'waits' if waiting == 1 else 'wait'} {until}"


def _minute(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at))
