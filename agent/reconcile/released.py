"""What a look at the source finds because the agent itself deleted files there: no change and no deletion.

It holds for as long as the row of the ledger is the version that was released, whatever `release` and
`prune` say by now.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.model.change import Change, ChangeKind, Deletion, FileKind, FileStat
from agent.planning.changes import difference
from agent.reconcile.context import Context


def without_released(
    context: Context,
    names: tuple[str, str],
    sources: Mapping[str, tuple[str, FileStat]],
    rows: Mapping[str, FileStat],
    changes: list[Change],
    deletions: list[Deletion],
    *,
    keep: bool,
) -> tuple[list[Change], list[Deletion]]:
    """Of what was compared for one delivery. With `keep` a file that is there in spite of its mark, because
    the agent ended before it deleted it, is an ordinary one again."""
    store = context.state.released
    changes = [change for change in changes if not _emptied(context, names, change)]
    there = [path for path, known in rows.items() if path in sources and not _differs(sources[path], known)]
    asked = [*(deletion.path for deletion in deletions), *there]
    marked = store.among(*names, asked) if asked else frozenset()
    if not marked:
        return changes, deletions
    if keep and (back := [path for path in there if path in marked]):
        store.unmark(*names, back)
    return changes, [deletion for deletion in deletions if deletion.path not in marked]


def _differs(source: tuple[str, FileStat], known: FileStat) -> bool:
    return bool(difference(source[1], known))


def _emptied(context: Context, names: tuple[str, str], change: Change) -> bool:
    """A directory that is empty at the source, and is at the destination with what was released from it."""
    empty = change.kind is ChangeKind.CREATED and change.stat.kind is FileKind.EMPTY_DIRECTORY
    return empty and context.state.released.any_below(*names, change.path)


def everything_released(context: Context, names: tuple[str, str], prefix: str) -> bool:
    """Whether a source that is empty is so because of us: nothing is missed that was delivered from it."""
    released = context.state.released.count(*names, prefix)
    return released > 0 and released >= context.state.ledger.count(*names, prefix)
