"""The change set: what a source tree holds that its destination does not have yet, and vice versa."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class FileKind(StrEnum):
    FILE = "file"
    EMPTY_DIRECTORY = "directory"
    SYMLINK = "symlink"


class FileStat(NamedTuple):
    """What identifies a version of a file: read by one lstat/stat. Times are nanoseconds.

    ctime is what makes A -> B -> A visible: it cannot be set back by a program.
    """

    kind: FileKind
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    executable: bool


class ChangeKind(StrEnum):
    CREATED = "create"
    MODIFIED = "update"


@dataclass(frozen=True, slots=True)
class Change:
    """One path to send. `path` is the full destination path ("/paris/dailies/a.mov"), `source` absolute."""

    kind: ChangeKind
    path: str
    source: str
    stat: FileStat
    reason: str = ""  # "not in ledger", "size differs", "modified", …


@dataclass(frozen=True, slots=True)
class Rename:
    """A file that the destination has under its old path: `change` would send it again, under the new one."""

    old: str
    change: Change


@dataclass(frozen=True, slots=True)
class Deletion:
    """A path which the ledger says we delivered and which the source no longer has."""

    path: str
    kind: FileKind


class SuspectReason(StrEnum):
    """Why a source root is not believed when it says that files are gone."""

    MISSING = "missing"
    EMPTIED = "emptied"
    OTHER_DEVICE = "on another device"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Suspect:
    """Deletes below `path` (a destination path; whole root or subtree) are suppressed."""

    path: str
    source: str
    reason: SuspectReason
    detail: str = ""


class NameTrouble(StrEnum):
    COLLISION = "collision"  # one name for the destination, or for people
    NOT_POSSIBLE = "not possible"  # the destination cannot hold it


@dataclass(frozen=True, slots=True)
class NameProblem:
    """A path that cannot be told apart from `other` where case or Unicode form do not count, or that the
    destination cannot hold. Left out, nothing is sent to it or below it; else it is only told."""

    trouble: NameTrouble
    path: str
    other: str = ""
    detail: str = ""
    left_out: bool = False

    @property
    def text(self) -> str:
        if self.trouble is NameTrouble.COLLISION:
            return f"{self.path} and {self.other} differ only in {self.detail}"
        return f"{self.path} {self.detail}"


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """Source compared with the ledger of one mapping at one destination.

    `partial` is true when only dirty paths were looked at; then `deletions` covers only those.
    `waiting` holds paths that differ but must wait (still being written, or in flight).
    """

    changes: tuple[Change, ...] = ()
    deletions: tuple[Deletion, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    waiting: tuple[str, ...] = ()
    partial: bool = False
    names: tuple[NameProblem, ...] = ()  # in the directories that were looked at
    unfinished: bool = False  # a part of a whole look: deletions are decided when all has been looked at

    @property
    def total_bytes(self) -> int:
        return sum(change.stat.size for change in self.changes)
