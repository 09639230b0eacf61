"""How a finished file gets its final name: the overwrite modes.

Whatever happens, a name shows either what was there before or the whole new file; but for files that are
written in place, because that was asked for.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, replace
from typing import NamedTuple

import xxhash

from agent.jetstream import constants
from agent.server.confine import NAME_MAX, FileError, shown
from agent.server.results import Outcome

BACKUP_SUFFIX = b".jetbak"
PARTFILE_SUFFIX = b".jetpart"
_LOOKS = (constants.OVERWRITE_NEVER, constants.OVERWRITE_IN_PLACE_NEVER, constants.OVERWRITE_BACKUP)
_IN_PLACE = (constants.OVERWRITE_IN_PLACE_ALWAYS, constants.OVERWRITE_IN_PLACE_SAME_SIZE)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Policy:
    """What a transfer does with content, with files that exist, and with times."""

    overwrite: int = constants.OVERWRITE_ALWAYS
    read: bool = True  # the sender reads its sources; else only zeros come, which never get a name
    write: bool = True  # content is written; else it is checked and forgotten
    write_mtime: bool = True
    only_newer: bool = False
    time_resolution_ns: int = 0
    strict: bool = False  # each file is on storage before it gets its name
    as_set: bool = False  # no file gets its name before all of them are here

    @property
    def publishes(self) -> bool:
        return self.read and self.write

    @property
    def stored_first(self) -> bool:
        """Whether each file is on storage before it gets its name. Also where what is there decides: what a
        power cut left of a file, sent again, would be kept as newer, or as somebody else's, or take the
        place of the real backup."""
        return self.publishes and (self.strict or self.only_newer or self.overwrite in _LOOKS)

    def with_set(self, *, as_set: bool) -> Policy:
        """What has no content of its own to publish is no set."""
        return replace(self, as_set=as_set and self.publishes)

    @property
    def in_place(self) -> bool:
        """Whether files that exist may be written where they are. Not together with "only newer": what was
        begun looks new. Nor in a set, of which nothing shows before all is there."""
        freely = not self.only_newer and not self.as_set
        return self.publishes and freely and self.overwrite in _IN_PLACE


class Staged(NamedTuple):
    """A whole file or link under a temporary name, closed, and the place where it goes."""

    staging: int  # directory descriptor
    temporary: bytes
    directory: int  # directory descriptor
    name: bytes
    mtime_ns: int


def keeps_existing(policy: Policy, directory: int, name: bytes, mtime_ns: int) -> bool:
    """Whether the file that is there is new enough to stay."""
    if not policy.only_newer:
        return False
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_mtime_ns + policy.time_resolution_ns >= mtime_ns


def publish(policy: Policy, file: Staged) -> Outcome:
    """Give the file its name. FileError when a directory has it; OSError as the system gives it."""
    if policy.only_newer and keeps_existing(policy, file.directory, file.name, file.mtime_ns):
        os.unlink(file.temporary, dir_fd=file.staging)
        return Outcome.SKIPPED
    if policy.overwrite in (constants.OVERWRITE_NEVER, constants.OVERWRITE_IN_PLACE_NEVER):
        return _publish_new(file, keep_part=policy.overwrite == constants.OVERWRITE_NEVER)
    if policy.overwrite == constants.OVERWRITE_BACKUP:
        _back_up(file)
    _rename(file, file.name)
    return Outcome.DELIVERED


def _rename(file: Staged, name: bytes) -> None:
    try:
        os.rename(file.temporary, name, src_dir_fd=file.staging, dst_dir_fd=file.directory)
    except (IsADirectoryError, NotADirectoryError) as error:
        raise FileError(f"{shown(name)} is a directory at the destination") from error
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise FileError(
            f"{shown(name)} lies on another file system than the receive root, where nothing can appear at "
            "once; give that file system a receive root of its own"
        ) from error


def _publish_new(file: Staged, *, keep_part: bool) -> Outcome:
    """Never replace. What is there with the same content counts as delivered: it is how a transfer that was
    interrupted just after publishing finds its own file. Else `keep_part` leaves the content beside it."""
    try:
        os.link(
            file.temporary,
            file.name,
            src_dir_fd=file.staging,
            dst_dir_fd=file.directory,
            follow_symlinks=False,
        )
    except FileExistsError:
        if _same_content(file):
            os.unlink(file.temporary, dir_fd=file.staging)
            return Outcome.DELIVERED
        if keep_part and len(file.name) + len(PARTFILE_SUFFIX) <= NAME_MAX:
            _rename(file, file.name + PARTFILE_SUFFIX)
        else:
            os.unlink(file.temporary, dir_fd=file.staging)
        return Outcome.SKIPPED
    os.unlink(file.temporary, dir_fd=file.staging)
    return Outcome.DELIVERED


def _back_up(file: Staged) -> None:
    """Keep what is there under another name, unless it is what we bring: sent twice, it must not take the
    place of the real backup."""
    backup = file.name + BACKUP_SUFFIX
    try:
        found = os.stat(file.name, dir_fd=file.directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        raise FileError(f"{shown(file.name)} is a directory at the destination")
    if len(backup) > NAME_MAX:
        raise FileError(f"{shown(file.name)}: the name is too long for a backup beside it")
    if _same_content(file):
        return
    try:
        os.unlink(backup, dir_fd=file.directory)
    except FileNotFoundError:
        pass  # the first backup
    os.link(
        file.name,
        backup,
        src_dir_fd=file.directory,
        dst_dir_fd=file.directory,
        follow_symlinks=False,
    )


def _same_content(file: Staged) -> bool:
    ours = os.stat(file.temporary, dir_fd=file.staging, follow_symlinks=False)
    return _same_link(file) if stat.S_ISLNK(ours.st_mode) else _same_file(file)


def _same_link(file: Staged) -> bool:
    try:
        there = os.readlink(file.name, dir_fd=file.directory)
    except OSError:
        return False  # not a link, or gone
    return there == os.readlink(file.temporary, dir_fd=file.staging)


def _same_file(file: Staged) -> bool:
    try:
        theirs = os.open(file.name, _READ, dir_fd=file.directory)
    except OSError:
        return False
    ours = os.open(file.temporary, _READ, dir_fd=file.staging)
    try:
        first, second = os.fstat(ours), os.fstat(theirs)
        if not stat.S_ISREG(second.st_mode) or first.st_size != second.st_size:
            return False
        return _digest(ours) == _digest(theirs)
    finally:
        os.close(ours)
        os.close(theirs)


def _digest(fd: int) -> int:
    state = xxhash.xxh3_128()
    while block := os.read(fd, 1 << 20):
        state.update(block)
    return state.intdigest()
