"""Which of a mapping's deletions are carried out, with which directories, and what must wait for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agent.model.change import Change, ChangeSet, Deletion, FileKind
from agent.model.paths import destination_prefixes
from agent.model.plan import Action, DeletePaths
from agent.model.spec import MappingSpec
from agent.planning.batches import batches
from agent.planning.safety import ancestors, removable_directories, suppressed

StillPresent = Callable[[str], bool] | frozenset[str]
"""Which directories (destination paths) the source still has."""


def mapping_roots(desired: MappingSpec) -> tuple[str, ...]:
    """Destination paths of the mapping's entries, and the path which they all lie below.

    An entry's own directory stays when it is emptied. That of an entry which has left the spec lies below
    `destinationPath`, and goes; so does what lies below a `destinationPath` of the past.
    """
    return (*destination_prefixes(desired), desired.destination_path, "/")


def candidates(
    changes: ChangeSet, still_present: StillPresent
) -> tuple[tuple[str, ...], tuple[Deletion, ...]]:
    """(ledger entries of directories that are merely not empty any more, what is really gone)."""
    present = still_present if callable(still_present) else still_present.__contains__
    growing = _above(change.path for change in changes.changes) | _above(changes.waiting)
    waiting = frozenset(changes.waiting)
    forget: list[str] = []
    gone: list[Deletion] = []
    for deletion in changes.deletions:
        if deletion.path in waiting or suppressed(deletion.path, changes.suspects):
            continue
        grown = deletion.path in growing or present(deletion.path)
        if deletion.kind is FileKind.EMPTY_DIRECTORY and grown:
            forget.append(deletion.path)
        else:
            gone.append(deletion)
    return tuple(forget), tuple(gone)


def _above(paths: Iterable[str]) -> frozenset[str]:
    return frozenset(directory for path in paths for directory in ancestors(path))


def emptied(
    desired: MappingSpec, changes: ChangeSet, deletions: tuple[Deletion, ...], still_present: StillPresent
) -> tuple[str, ...]:
    """Emptied directories, without those that something is about to be delivered into or as."""
    kept = _above(change.path for change in changes.changes) | _above(changes.waiting)
    kept |= {c.path for c in changes.changes if c.stat.kind is FileKind.EMPTY_DIRECTORY}
    found = removable_directories(deletions, mapping_roots(desired), still_present)
    return tuple(directory for directory in found if directory not in kept)


def without_conflicts(
    changes: tuple[Change, ...], deletions: tuple[Deletion, ...], waiting: tuple[str, ...]
) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """(what can be sent now, paths that must wait for a deletion or for what is in flight).

    Where a file took the place of a directory, or the other way round, the old one must be gone before the
    new one can be published.
    """
    if not deletions and not waiting:
        return changes, ()
    same = {deletion.path for deletion in deletions}
    files = {deletion.path for deletion in deletions if deletion.kind is not FileKind.EMPTY_DIRECTORY} | set(
        waiting
    )
    directories = _above((*same, *waiting))
    sendable: list[Change] = []
    blocked: list[str] = []
    for change in changes:
        replaced = change.path in same or (
            change.stat.kind is not FileKind.EMPTY_DIRECTORY and change.path in directories
        )
        if replaced or any(above in files for above in ancestors(change.path)):
            blocked.append(change.path)
        else:
            sendable.append(change)
    return tuple(sendable), tuple(blocked)


def delete_actions(
    mapping: str, destination: str, deletions: tuple[Deletion, ...], empty: tuple[str, ...]
) -> list[Action]:
    """Files in their order, then directories deepest first: a directory never goes before its files."""
    files = [(d.path, FileKind.FILE) for d in deletions if d.kind is not FileKind.EMPTY_DIRECTORY]
    directories = {d.path for d in deletions if d.kind is FileKind.EMPTY_DIRECTORY} | set(empty)
    deepest_first = sorted(directories, key=lambda directory: (-directory.count("/"), directory))
    entries = files + [(directory, FileKind.EMPTY_DIRECTORY) for directory in deepest_first]
    return [
        DeletePaths(
            mapping,
            destination,
            tuple(path for path, kind in piece if kind is FileKind.FILE),
            tuple(path for path, kind in piece if kind is FileKind.EMPTY_DIRECTORY),
        )
        for piece in batches(entries, lambda entry: entry[:1])
    ]
