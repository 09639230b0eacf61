"""Which of a mapping's deletions are carried out, with which directories, and what must wait for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from agent.model.change import Change, ChangeSet, Deletion, FileKind, Rename
from agent.model.paths import destination_prefixes
from agent.model.plan import Action, DeletePaths, RenamePaths, TrashPaths
from agent.model.spec import TRASH, MappingSpec
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
) -> tuple[tuple[str, ...], tuple[Deletion, ...], tuple[str, ...]]:
    """(ledger entries of directories that are merely not empty any more, what is really gone, directories of
    which nobody knows before what is under way below them has ended)."""
    present = still_present if callable(still_present) else still_present.__contains__
    growing, unsure = _above(change.path for change in changes.changes), _above(changes.waiting)
    waiting = frozenset(changes.waiting)
    forget: list[str] = []
    gone: list[Deletion] = []
    undecided: list[str] = []
    for deletion in changes.deletions:
        if deletion.path in waiting or suppressed(deletion.path, changes.suspects):
            continue
        grown = deletion.path in growing or present(deletion.path)
        if deletion.kind is FileKind.EMPTY_DIRECTORY and grown:
            forget.append(deletion.path)
        elif deletion.kind is FileKind.EMPTY_DIRECTORY and deletion.path in unsure:
            undecided.append(deletion.path)
        else:
            gone.append(deletion)
    return tuple(forget), tuple(gone), tuple(undecided)


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


def without_conflicting(
    renames: tuple[Rename, ...], deletions: tuple[Deletion, ...], waiting: tuple[str, ...]
) -> tuple[Rename, ...]:
    """The renames that can be carried out as things are: nothing is deleted or under way where they go.
    The others are sent and deleted like anything else."""
    olds = tuple(Deletion(rename.old, FileKind.FILE) for rename in renames)
    free, _ = without_conflicts(tuple(rename.change for rename in renames), (*deletions, *olds), waiting)
    paths = {change.path for change in free}
    busy = frozenset(waiting)
    return tuple(r for r in renames if r.change.path in paths and r.old not in busy)


def rename_actions(
    mapping: str, destination: str, renames: tuple[Rename, ...], emptied: Callable[[str], bool]
) -> list[Action]:
    """In batches; each tries to remove every directory that it may be the last to leave."""
    actions: list[Action] = []
    for piece in batches(renames, lambda rename: (rename.old, rename.change.path, rename.change.source)):
        left = {above for rename in piece for above in ancestors(rename.old) if emptied(above)}
        actions.append(RenamePaths(mapping, destination, piece, deepest_first(left)))
    return actions


def trash_path(path: str, now: float, number: int = 1) -> str:
    """Where a deleted file goes: below a directory of the day (UTC), with its whole path. Days that have the
    same file twice are numbered."""
    day = time.strftime("%Y-%m-%d", time.gmtime(now)) + (f".{number}" if number > 1 else "")
    return f"/{TRASH}/{day}{path}"


def trash_actions(
    mapping: str,
    destination: str,
    deletions: tuple[Deletion, ...],
    empty: tuple[str, ...],
    now: float,
) -> list[Action]:
    """Like `delete_actions`, with files moved out of the way; nothing is lost with an empty directory.

    A directory is deleted with the batch that may be the last to leave it.
    """
    files = [d.path for d in deletions if d.kind is not FileKind.EMPTY_DIRECTORY]
    bare = tuple(d for d in deletions if d.kind is FileKind.EMPTY_DIRECTORY)
    left = set(empty)
    actions: list[Action] = []
    for piece in batches(files, lambda path: (path, trash_path(path, now))):
        directories = {above for path in piece for above in ancestors(path) if above in left}
        moves = tuple((path, trash_path(path, now)) for path in piece)
        actions.append(TrashPaths(mapping, destination, moves, deepest_first(directories)))
    return actions + delete_actions(mapping, destination, bare, () if files else empty)


def deepest_first(directories: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(directories, key=lambda directory: (-directory.count("/"), directory)))


def delete_actions(
    mapping: str, destination: str, deletions: tuple[Deletion, ...], empty: tuple[str, ...]
) -> list[Action]:
    """Files in their order, then directories deepest first: a directory never goes before its files."""
    files = [(d.path, FileKind.FILE) for d in deletions if d.kind is not FileKind.EMPTY_DIRECTORY]
    directories = {d.path for d in deletions if d.kind is FileKind.EMPTY_DIRECTORY} | set(empty)
    entries = files + [(directory, FileKind.EMPTY_DIRECTORY) for directory in deepest_first(directories)]
    return [
        DeletePaths(
            mapping,
            destination,
            tuple(path for path, kind in piece if kind is FileKind.FILE),
            tuple(path for path, kind in piece if kind is FileKind.EMPTY_DIRECTORY),
        )
        for piece in batches(entries, lambda entry: entry[:1])
    ]
