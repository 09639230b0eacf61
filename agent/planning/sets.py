"""`publish: set`: one set at a time, whole, and deletions after it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from agent.model.change import Change, ChangeSet, Deletion
from agent.planning.safety import ancestors


def postponed(changes: ChangeSet) -> ChangeSet:
    """While a set is on its way, or something is being deleted: all that differs waits for its end."""
    later = (*(change.path for change in changes.changes), *(gone.path for gone in changes.deletions))
    waiting = tuple(dict.fromkeys((*changes.waiting, *later)))
    return replace(changes, changes=(), deletions=(), waiting=waiting)


def in_turn(
    sendable: tuple[Change, ...], blocked: tuple[str, ...], deletions: tuple[Deletion, ...]
) -> tuple[tuple[Change, ...], tuple[Deletion, ...], tuple[str, ...]]:
    """(what is sent now, what is deleted now, paths that have to wait). Deletions wait until the set is
    published, but for those that make room for some of it (`blocked`): then the whole set waits for them."""
    if blocked:
        making_room = _in_the_way(blocked)
        now = tuple(gone for gone in deletions if making_room(gone.path))
        kept = {gone.path for gone in now}
        later = tuple(gone.path for gone in deletions if gone.path not in kept)
        return (), now, (*(change.path for change in sendable), *later)
    if sendable:
        return sendable, (), tuple(gone.path for gone in deletions)
    return (), deletions, ()


def _in_the_way(blocked: tuple[str, ...]) -> Callable[[str], bool]:
    """Whether a path is, is above, or is below one of those that are blocked."""
    paths = frozenset(blocked)
    above = frozenset(directory for path in blocked for directory in ancestors(path))
    return lambda path: path in paths or path in above or not paths.isdisjoint(ancestors(path))
