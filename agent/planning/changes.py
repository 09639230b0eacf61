"""Source compared with the ledger: what to send, what is gone, what must wait."""

from __future__ import annotations

from collections.abc import Mapping

from agent.model.change import Change, ChangeKind, Deletion, FileKind, FileStat


def compare(
    paths_in_source: Mapping[str, tuple[str, FileStat]],
    ledger: Mapping[str, FileStat],
    in_flight: Mapping[str, FileStat | None],
) -> tuple[list[Change], list[Deletion], list[str]]:
    """One directory's worth (or any other set of paths) of a mapping at one destination.

    `paths_in_source` maps destination paths to (source path, stat); `in_flight` maps them to the version
    that is being sent, or None while the path is being deleted there. Returns changes, deletions and the
    paths which differ but must wait until what is in flight on them has ended. A file that took the place of
    an empty directory, or the other way round, is both a change and a deletion of what was there.
    """
    changes: list[Change] = []
    deletions: list[Deletion] = []
    waiting: list[str] = []
    for path, (source, stat) in paths_in_source.items():
        if path in in_flight:
            flying = in_flight[path]
            if flying is None or difference(stat, flying):
                waiting.append(path)
            continue
        known = ledger.get(path)
        if known is None:
            changes.append(Change(ChangeKind.CREATED, path, source, stat, "not in ledger"))
        elif known != stat and (reason := difference(stat, known)):
            changes.append(Change(ChangeKind.MODIFIED, path, source, stat, reason))
            if stat.kind is not known.kind:
                deletions.append(Deletion(path, known.kind))
    waiting += [path for path in in_flight if path not in paths_in_source]
    deletions += [
        Deletion(path, stat.kind)
        for path, stat in ledger.items()
        if path not in paths_in_source and path not in in_flight
    ]
    return changes, deletions, waiting


def difference(now: FileStat, before: FileStat) -> str:
    """Why `now` is another version than `before`; empty when it is the same.

    A changed ctime alone counts: content that was changed and changed back, with its mtime restored, looks
    just like that. Zero stands for unknown: without a ctime only kind, size and mtime are compared.
    """
    if now.kind is not before.kind:
        return f"was a {before.kind}, is a {now.kind}"
    if now.kind is FileKind.EMPTY_DIRECTORY:
        return ""
    complete = before.ctime_ns != 0
    reasons = (
        (now.size != before.size, "size differs"),
        (now.mtime_ns != before.mtime_ns, "modified"),
        (complete and now.executable != before.executable, "executable bit differs"),
        (complete and before.inode not in (0, now.inode), "replaced by another file"),
        (complete and now.ctime_ns != before.ctime_ns, "changed since it was read"),
    )
    return next((reason for differs, reason in reasons if differs), "")
