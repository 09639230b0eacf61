"""Which of the created files are ones that the destination has already, under a path that is gone.

A rename keeps a file's inode, size and modification time; its change time is another. Events are not asked:
a rename is known by what is there before and after, however it was noticed.

Inodes are used again, so that is not proof yet. Modification times to the nanosecond are: no two contents
have the same one by chance. Times that a program set, to the second or the millisecond, may be shared by many
files of one size (the frames of a shot, say); then the file has to be older than its delivery, or its content
has to be the one that was delivered. What is quick to read is compared in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum, auto
from typing import NamedTuple

from agent.model.change import Change, ChangeKind, FileKind, FileStat, Rename
from agent.model.known import Known, Origin
from agent.model.spec import MappingSpec, Overwrite, Publish

QUICK = 1 << 20
"""Bytes up to which a file's content is compared, whatever else speaks for it."""

_COARSE_NS = 1_000_000
"""A modification time that is a multiple of it was set by a program, or by a coarse clock."""


def may_rename(desired: MappingSpec) -> bool:
    """Whether a renaming is what the spec asks for.

    Without `prune` the old name stays at the destination. With `never` and `newer` what is there may be
    somebody else's. A set appears as a whole, or not at all.
    """
    kept = desired.overwrite in (Overwrite.NEVER, Overwrite.NEWER)
    return desired.prune and not kept and desired.publish is not Publish.SET


def created_files(changes: Iterable[Change]) -> list[Change]:
    """Those that may turn out to be renamed ones."""
    return [
        change
        for change in changes
        if change.kind is ChangeKind.CREATED and change.stat.kind is FileKind.FILE and change.stat.inode
    ]


class Candidate(NamedTuple):
    known: Known
    change: Change


def pair(
    created: Iterable[Change], known: Iterable[Known], gone: Callable[[str], bool]
) -> tuple[Candidate, ...]:
    """Created files with the row that each was delivered as; every row is used once.

    `known` are rows of the ledger with the inodes of `created`; `gone` says whether the source has nothing at
    a path any more. Of several names of one file, the one with the same last part is taken first.
    """
    by_inode: dict[int, list[Known]] = {}
    for row in known:
        if row.origin is not Origin.KEPT and row.stat.kind is FileKind.FILE:
            by_inode.setdefault(row.stat.inode, []).append(row)
    alike = (
        Candidate(row, change)
        for change in created
        for row in by_inode.get(change.stat.inode, ())
        if same_file(change.stat, row.stat) and row.path != change.path
    )
    found: dict[str, Candidate] = {}  # by the new path
    used: set[str] = set()
    for one in sorted(alike, key=_preferred):
        if one.change.path not in found and one.known.path not in used and gone(one.known.path):
            found[one.change.path] = one
            used.add(one.known.path)
    return tuple(found.values())


def _preferred(one: Candidate) -> tuple[bool, str, str]:
    """The order in which candidates are taken, however they were found."""
    old, new = one.known.path, one.change.path
    return old.rpartition("/")[2] != new.rpartition("/")[2], new, old


def same_file(now: FileStat, before: FileStat) -> bool:
    """Alike in all that a rename leaves as it is."""
    return now._replace(ctime_ns=0) == before._replace(ctime_ns=0)


class Evidence(Enum):
    ENOUGH = auto()
    CONTENT = auto()  # the content must be like the one that was delivered
    AGE = auto()  # the file must be older than its delivery, or its content like the one delivered
    AGE_ONLY = auto()  # the content that was delivered is not known


def evidence(candidate: Candidate) -> Evidence:
    """What has to be found out before a candidate is believed."""
    known, stat = candidate.known, candidate.change.stat
    if known.digest and stat.size <= QUICK:
        return Evidence.CONTENT
    if stat.mtime_ns % _COARSE_NS:
        return Evidence.ENOUGH
    return Evidence.AGE if known.digest else Evidence.AGE_ONLY


def as_rename(candidate: Candidate) -> Rename:
    return Rename(candidate.known.path, candidate.change)
