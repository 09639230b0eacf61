"""`publish: set`: nothing of a transfer has its name before all of it is here, whole and on storage.

Until then the files of a set lie in the transfer's staging directory. To publish it, the receiver syncs
them, writes a journal of what goes where, and renames in the order of the manifest; the last one, the marker
where there is one, after everything before it is on storage. With the journal there is no way back: whatever
interrupts the renames, `finish` goes on with them before anything else is done below that root.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import stat
import threading
from collections.abc import Iterable
from dataclasses import asdict
from typing import NamedTuple

import structlog
import xxhash

from agent.server.confine import (
    STAGING,
    Directories,
    FileError,
    Parts,
    open_below,
    reason,
    shown,
    unwritten,
)
from agent.server.data.publish import Policy, Staged, publish
from agent.server.data.staging import Partial
from agent.server.data.syncfs import sync_file_system

_log = structlog.get_logger(__name__)

JOURNAL = b"set"
PUBLISHED = b"set.published"  # left by `finish` for a sender that comes back
_NEW = b"set.new"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_LATER = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Trouble that passes, or that a person has to end: the renames wait for it. All else is about one file."""

MAX_PARTIALS = 20_000  # large files of a set that are taken up again after a crash

Failures = list[tuple[int, str]]


class IncompleteError(Exception):
    """Sender and receiver do not mean the same set."""


class Member(NamedTuple):
    """A file or link under its temporary name, or a directory that is to be made (no temporary name)."""

    seq: int
    temporary: bytes
    directory: Parts
    name: bytes
    mtime_ns: int
    partial: Partial | None = None  # of a large file: what a journal says of it until it has its name


class StagedSet:
    """What is here of one transfer. For any thread."""

    def __init__(self, *, published: bool = False) -> None:
        self._lock = threading.Lock()
        self._members: dict[int, Member] = {}
        self._folders: dict[Parts, Parts] = {}  # each directory once
        self.publishing = threading.Lock()
        self.published = published  # and nothing has come since
        self.journaled = False

    def hold(self, member: Member, staging: int) -> None:
        """Take it in; an earlier version of the same file goes."""
        with self._lock:
            folder = self._folders.setdefault(member.directory, member.directory)
            member = member._replace(directory=folder)
            before = self._members.get(member.seq)
            self._members[member.seq] = member
            self.published = False
        if before is not None and before.temporary not in (b"", member.temporary):
            _unlink(before.temporary, staging)

    def take(self, seq: int) -> Partial | None:
        """Give a large file back: a sender that does not know of it begins it again."""
        with self._lock:
            member = self._members.get(seq)
            if member is None or member.partial is None:
                return None
            return self._members.pop(seq).partial

    def holds(self, seq: int) -> bool:
        return seq in self._members

    def partials(self) -> list[Partial]:
        """As many as a journal, and an answer to a sender, has room for; others are sent again."""
        with self._lock:
            found = (member.partial for member in self._members.values() if member.partial is not None)
            return list(itertools.islice(found, MAX_PARTIALS))

    def publish(self, root: bytes, staging: int, policy: Policy, count: int) -> Failures:
        """Give all their names, durably; in a thread of which there is one for the root. Returns what is in
        the way: then nothing was published, unless it came up in the middle. IncompleteError when not
        `count` files are here. OSError when storage fails: call again to go on, or `go_on`."""
        staging = os.dup(staging)  # whatever becomes of the transfer meanwhile
        try:
            with self.publishing:
                return self._publish(root, staging, policy, count)
        finally:
            os.close(staging)

    def _publish(self, root: bytes, staging: int, policy: Policy, count: int) -> Failures:
        with self._lock:
            if self.published and not self._members:
                return []
            members = [self._members[seq] for seq in sorted(self._members)]
        if len(members) != count:
            raise IncompleteError(f"{count} files were sent, {len(members)} are here")
        if not self.journaled:
            sync_file_system(root)
            if failures := _in_the_way(root, members):
                return failures
            _write_journal(staging, policy, members)
            self.journaled = True
        failures = _roll_forward(root, staging, policy, members)
        sync_file_system(root)
        _remove_journal(staging)
        with self._lock:
            for member in members:
                if self._members.get(member.seq) is member:
                    del self._members[member.seq]
            self.journaled, self.published = False, not self._members
        return failures

    def go_on(self, root: bytes, uid: str) -> None:
        """Finish renames that storage has interrupted. OSError when that cannot be yet."""
        if not self.journaled or not self.publishing.acquire(blocking=False):
            return
        try:
            published = finish(root, os.fsencode(uid))
            with self._lock:
                self._members.clear()
                self.journaled, self.published = False, published
        finally:
            self.publishing.release()


def go_on_below(root: bytes, staged: Iterable[tuple[tuple[bytes, str], StagedSet]]) -> None:
    """Finish what storage has interrupted below a root, before anything else is written there. OSError."""
    for (path, uid), one in staged:
        if path == root:
            one.go_on(root, uid)


def interrupted(root: bytes) -> bool:
    """Whether the renames of a set were."""
    try:
        return any(_has_journal(root, name) for name in _stagings(root))
    except OSError:
        return False  # whoever uses the root finds out


def _has_journal(root: bytes, name: bytes) -> bool:
    return os.path.lexists(b"/".join((root, STAGING, name, JOURNAL)))


def _stagings(root: bytes) -> list[bytes]:
    try:
        top = open_below(root, (STAGING,), create=False)
    except (FileNotFoundError, FileError):
        return []  # nothing unfinished is there
    try:
        return [os.fsencode(name) for name in os.listdir(top)]
    finally:
        os.close(top)


def finish_all(root: bytes) -> None:
    """Finish every set whose renames were interrupted. OSError when one cannot be now."""
    for name in _stagings(root):
        finish(root, name)


def finish_roots(roots: Iterable[bytes]) -> None:
    """The same for several roots; what fails is tried again when the root is used."""
    for root in roots:
        try:
            finish_all(root)
        except OSError as error:
            _log.warning("a set is not published yet", root=os.fsdecode(root), error=reason(error))


def finish(root: bytes, uid: bytes) -> bool:
    """Go on with the renames of one transfer, if it has a journal; whether all of it is published by this.
    OSError when it cannot be done now."""
    try:
        staging = open_below(root, (STAGING, uid), create=False)
    except (FileNotFoundError, FileError):
        return False
    try:
        found = _read_journal(staging)
        if found is None:
            return False
        policy, members = found
        _log.info(
            "publishing a set goes on", root=os.fsdecode(root), uid=os.fsdecode(uid), files=len(members)
        )
        failures = _roll_forward(root, staging, policy, members)
        for _, why in failures:
            _log.error("not published with its set", root=os.fsdecode(root), reason=why)
        sync_file_system(root)
        if not failures:
            os.close(os.open(PUBLISHED, _CREATE, 0o600, dir_fd=staging))
            os.fsync(staging)
        _remove_journal(staging)
        return not failures
    finally:
        os.close(staging)


def was_published(staging: int) -> bool:
    """Whether `finish` published the set of this directory."""
    try:
        os.stat(PUBLISHED, dir_fd=staging, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


# --- the renames


def _in_the_way(root: bytes, members: Iterable[Member]) -> Failures:
    """What no file can be published over, or into."""
    directories, failures = Directories(root), Failures()
    try:
        for member in members:
            try:
                _require_free(directories, member)
            except FileError as error:
                failures.append((member.seq, str(error)))
    finally:
        directories.clear()
    return failures


def _require_free(directories: Directories, member: Member) -> None:
    try:
        directory = directories.get(member.directory, create=False)
        found = os.stat(member.name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode) and member.temporary:
        raise FileError(f"{shown(member.name)} is a directory at the destination")
    if not stat.S_ISDIR(found.st_mode) and not member.temporary:
        raise FileError(f"{shown(member.name)} is a symbolic link or not a directory")


def _roll_forward(root: bytes, staging: int, policy: Policy, members: list[Member]) -> Failures:
    """Rename what still has a temporary name, the last one after all others are on storage; it is held back
    when one of them failed."""
    directories, failures = Directories(root), Failures()
    try:
        for member in members[:-1]:
            if (why := _try_to_place(directories, staging, policy, member)) is not None:
                failures.append((member.seq, why))
        for member in members[-1:]:
            if failures:
                failures.append((member.seq, f"{shown(member.name)} is held back: others of its set failed"))
                break
            if len(members) > 1:
                sync_file_system(root)
            if (why := _try_to_place(directories, staging, policy, member)) is not None:
                failures.append((member.seq, why))
    finally:
        directories.clear()
    return failures


def _try_to_place(directories: Directories, staging: int, policy: Policy, member: Member) -> str | None:
    try:
        _place(directories, staging, policy, member)
    except FileError as error:
        return str(error)
    except OSError as error:
        if error.errno in _LATER:
            raise
        return unwritten(member.name, error)
    return None


def _place(directories: Directories, staging: int, policy: Policy, member: Member) -> None:
    if not member.temporary:
        directories.get((*member.directory, member.name))
        return
    try:
        os.stat(member.temporary, dir_fd=staging, follow_symlinks=False)
    except FileNotFoundError:
        return  # it has its name
    directory = directories.get(member.directory)
    try:
        publish(policy, Staged(staging, member.temporary, directory, member.name, member.mtime_ns))
    except FileNotFoundError:  # the directory was removed since it was opened
        directories.forget(member.directory)
        directory = directories.get(member.directory)
        publish(policy, Staged(staging, member.temporary, directory, member.name, member.mtime_ns))


# --- the journal: fields that end with NUL, first the policy as JSON, then five of each member; a digest


def _write_journal(staging: int, policy: Policy, members: list[Member]) -> None:
    """Durable when it returns."""
    fields = [json.dumps(asdict(policy)).encode("ascii")]
    for member in members:
        path = b"/".join(member.directory)
        fields += [b"%d" % member.seq, member.temporary, path, member.name, b"%d" % member.mtime_ns]
    data = b"\0".join(fields)
    fd = os.open(_NEW, _CREATE, 0o600, dir_fd=staging)
    with os.fdopen(fd, "wb") as file:
        file.write(data + b"\0" + xxhash.xxh3_128_digest(data).hex().encode())
        file.flush()
        os.fsync(file.fileno())
    os.rename(_NEW, JOURNAL, src_dir_fd=staging, dst_dir_fd=staging)
    os.fsync(staging)


def _read_journal(staging: int) -> tuple[Policy, list[Member]] | None:
    """None when there is none. What can only be damage of the storage is put aside."""
    try:
        fd = os.open(JOURNAL, _READ, dir_fd=staging)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        data, _, digest = file.read().rpartition(b"\0")
    if xxhash.xxh3_128_digest(data).hex().encode() != digest:
        _log.error("the journal of a set is damaged; the set is sent again")
        _remove_journal(staging)
        return None
    first, *fields = data.split(b"\0")
    parts = iter(fields)
    members = [
        Member(int(seq), temporary, tuple(path.split(b"/")) if path else (), name, int(mtime_ns))
        for seq, temporary, path, name, mtime_ns in zip(parts, parts, parts, parts, parts, strict=True)
    ]
    return Policy(**json.loads(first)), members


def _remove_journal(staging: int) -> None:
    _unlink(JOURNAL, staging)
    os.fsync(staging)


def _unlink(name: bytes, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass  # gone already, as it should be
