"""Where unfinished files of one transfer live: `<receive root>/.lanesync/<uid>/`.

The journal there names the partial files whose content up to the noted ranges is on storage. Whatever else
lies in the directory when a transfer is opened is debris of a crash and is removed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
import time
from dataclasses import asdict, dataclass

from agent.server.confine import STAGING, FileError, open_below, open_component
from agent.server.data.inplace import Place
from agent.server.data.ranges import Range

JOURNAL = b"journal"
_JOURNAL_NEW = b"journal.new"
KEPT = (b"set", b"set.published")  # of sets.py, which sees to them
_MAX_JOURNAL = 16 << 20
ABANDONED_SECONDS = 48 * 3600
_ATTEMPTS = 10
FOLDER_SUFFIX = b".new"
_FOLDER = re.compile(rb"[0-9]+\.new")
_NAME = re.compile(r"[0-9]{1,10}\.[0-9a-f]{16}\.part")


@dataclass(frozen=True, slots=True)
class Partial:
    """A partial file: which source it is of (size, mtime, ctime, inode as the sender saw them) and what of
    it is here. `place`: it is not in the staging directory but is that file, which is written in place."""

    seq: int
    generation: int
    identity: tuple[int, int, int, int]
    ranges: tuple[Range, ...]
    name: bytes
    place: Place | None = None


def new_name(seq: int) -> bytes:
    """A name that no partial file had before. What an older journal says of a file that was published or
    dropped since must never be taken for its successor: that one begins empty."""
    return b"%d.%s.part" % (seq, secrets.token_hex(8).encode())


class Staging:
    """The directory of one transfer, held open."""

    def __init__(self, root: bytes, uid: str) -> None:
        self._root = root
        self._name = os.fsencode(uid)
        self.fd = self._open()

    def _open(self) -> int:
        root = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for _ in range(_ATTEMPTS):  # another transfer that ends removes the parent when it is empty
                parent = open_component(STAGING, root, create=True, mode=0o700)
                try:
                    return open_component(self._name, parent, create=True, mode=0o700)
                except FileNotFoundError:
                    continue
                finally:
                    os.close(parent)
            raise FileNotFoundError(f"{STAGING.decode()} in the receive root keeps being removed")
        finally:
            os.close(root)

    def recover(self) -> list[Partial]:
        """What a crash left that is of use; the rest is removed."""
        partials = self._read_journal()
        wanted = {partial.name for partial in partials} | {JOURNAL, *KEPT}
        self._clear(wanted)
        present = {os.fsencode(name) for name in os.listdir(self.fd)}
        return [partial for partial in partials if partial.place is not None or partial.name in present]

    def _read_journal(self) -> list[Partial]:
        try:
            fd = os.open(JOURNAL, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.fd)
        except OSError:
            return []
        with os.fdopen(fd, "rb") as file:
            data = file.read(_MAX_JOURNAL)
        try:
            return [
                Partial(
                    int(entry["seq"]),
                    int(entry["generation"]),
                    (*map(int, entry["identity"]),),  # type: ignore[arg-type]
                    tuple((int(start), int(end)) for start, end in entry["ranges"]),
                    _checked_name(entry["name"]),
                    None if entry.get("place") is None else Place(*map(int, entry["place"])),
                )
                for entry in json.loads(data)
            ]
        except (ValueError, KeyError, TypeError):
            return []  # damaged: the files start over, nothing is lost but time

    def write_journal(self, partials: list[Partial]) -> None:
        """Durable when it returns. The partial files were synced before."""
        entries = [asdict(partial) | {"name": partial.name.decode("ascii")} for partial in partials]
        data = json.dumps(entries).encode("ascii")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(_JOURNAL_NEW, flags, 0o600, dir_fd=self.fd)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(_JOURNAL_NEW, JOURNAL, src_dir_fd=self.fd, dst_dir_fd=self.fd)
        os.fsync(self.fd)

    def remove(self) -> None:
        """Remove the directory and, when it was the last, the parent. Closes the descriptor."""
        if self.fd < 0:
            return
        try:
            self._clear(set())
        finally:
            self.close()
        remove_directory(self._root, self._name)

    def _clear(self, wanted: set[bytes]) -> None:
        """Remove all files but those, and directories that did not get their names; one that somebody else
        put there stays."""
        for name in map(os.fsencode, os.listdir(self.fd)):
            if name in wanted:
                continue
            try:
                os.unlink(name, dir_fd=self.fd)
            except IsADirectoryError:
                if _FOLDER.fullmatch(name):
                    remove_folder(name, self.fd)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def remove_folder(name: bytes, parent: int) -> None:
    """Remove a directory that holds nothing but files; another one stays."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return  # it has its name by now
    try:
        for each in os.listdir(fd):
            os.unlink(each, dir_fd=fd)
        os.rmdir(name, dir_fd=parent)
    except (IsADirectoryError, FileNotFoundError):
        return  # none of ours, or somebody else clears up
    finally:
        os.close(fd)


def _checked_name(name: str) -> bytes:
    """ValueError when it is none that `new_name` makes."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not the name of a partial file")
    return name.encode("ascii")


def remove_directory(root: bytes, name: bytes) -> None:
    """Remove an empty staging directory, and the parent with the last one."""
    try:
        top = open_below(root, (), create=False)
    except OSError:
        return  # the root is gone
    try:
        parent = open_component(STAGING, top, create=False)
        try:
            os.rmdir(name, dir_fd=parent)
        finally:
            os.close(parent)
        os.rmdir(STAGING, dir_fd=top)
    except (OSError, FileError):
        pass  # not empty: in use
    finally:
        os.close(top)


def discard(root: bytes, uid: str) -> None:
    """Remove what is left of a transfer that will not go on; not what a set still has to publish."""
    try:
        fd = open_below(root, (STAGING, os.fsencode(uid)), create=False)
    except (FileNotFoundError, FileError):
        return  # nothing of ours is left
    publishing = KEPT[0] in {os.fsencode(name) for name in os.listdir(fd)}
    os.close(fd)
    if not publishing:
        Staging(root, uid).remove()


def remove_abandoned(root: bytes, active: set[str], now: float | None = None) -> None:
    """Remove the staging of transfers that nobody came back for. FileError or OSError when the directory of
    unfinished files is none of ours."""
    oldest = (time.time() if now is None else now) - ABANDONED_SECONDS
    try:
        top = open_below(root, (STAGING,), create=False)
    except FileNotFoundError:
        return  # nothing unfinished
    try:
        for uid in set(os.listdir(top)) - active:
            try:
                found = os.stat(uid, dir_fd=top, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode) and found.st_mtime < oldest:
                    discard(root, uid)
            except (OSError, FileError):
                continue  # it ended meanwhile, or cannot be removed: others can
    finally:
        os.close(top)
