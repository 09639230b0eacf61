"""What the kernel says about watching: mounts and their types, and limits with the line that raises them."""

from __future__ import annotations

import errno
import io
import os
import select
from collections.abc import Iterable
from typing import NamedTuple

# fmt: off
_NETWORK = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
})
# fmt: on
_INOTIFY = "/proc/sys/fs/inotify"
_MOUNTINFO = "/proc/self/mountinfo"
_MAX_MOUNTINFO = 4 << 20


def is_network(type_: str) -> bool:
    """Do changes made on other hosts, or behind a fuse daemon, go unannounced here?"""
    return type_ in _NETWORK or type_.startswith("fuse.")


class Mount(NamedTuple):
    number: int  # the kernel's id; another mount at the same place has another
    place: str
    type: str


class MountTable:
    """What is mounted where, in the mount namespace of this process; read again when that has changed."""

    def __init__(self) -> None:
        self._poller = select.poll()
        self._file: io.FileIO | None = None
        self._mounts: tuple[Mount, ...] | None = None
        try:
            self._file = open(_MOUNTINFO, "rb", buffering=0)  # noqa: SIM115  held for poll
            self._poller.register(self._file, select.POLLPRI)
        except OSError:
            self._file = None

    def changed(self) -> frozenset[str]:
        """Where something was mounted or unmounted since the last call."""
        if self._file is None or not self._poller.poll(0):
            return frozenset()
        before, self._mounts = self._mounts, read_mounts()
        return frozenset(mount.place for mount in {*(before or ())} ^ {*self._mounts})

    def around(self, path: str) -> tuple[Mount, ...]:
        """The mount that holds a path without links, first, and those below the path. Empty when it cannot
        be told."""
        if self._mounts is None:
            self._mounts = read_mounts()
        holds: Mount | None = None
        below = []
        for mount in self._mounts:
            inside = is_at_or_below(path, mount.place)
            if inside and (holds is None or len(mount.place) >= len(holds.place)):
                holds = mount  # a later mount at the same place hides the earlier
            elif is_at_or_below(mount.place, path):
                below.append(mount)
        return () if holds is None else (holds, *below)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def is_at_or_below(path: str, place: str) -> bool:
    return path == place or path.startswith(place.rstrip("/") + "/")


def read_mounts() -> tuple[Mount, ...]:
    """In the order in which they were made; empty when they cannot be read."""
    try:
        with open(_MOUNTINFO, "rb") as file:
            lines = file.read(_MAX_MOUNTINFO).splitlines()
    except OSError:
        return ()
    return tuple(mount for line in lines if (mount := _parse(line)) is not None)


def network_mount(mounts: Iterable[Mount]) -> Mount | None:
    """The first of them that is on the network."""
    return next((mount for mount in mounts if is_network(mount.type)), None)


def _parse(line: bytes) -> Mount | None:
    fields = line.split(b" ")
    if len(fields) < 10 or b"-" not in fields:
        return None
    place = fields[4]
    for code, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        place = place.replace(code, char)
    return Mount(int(fields[0]), os.fsdecode(place), os.fsdecode(fields[fields.index(b"-") + 1]))


def limit_message(error: OSError) -> str:
    """What to do about ENOSPC or EMFILE from inotify: the exact line to run."""
    if error.errno == errno.EMFILE:
        name, what = "max_user_instances", "no further inotify instance can be made"
    else:
        name, what = "max_user_watches", "not every directory can be watched"
    current = _limit(name)
    wanted = max(current * 2, 1024 if error.errno == errno.EMFILE else 524_288)
    return (
        f"{what}: fs.inotify.{name} is {current}; raise it with"
        f" `sudo sysctl -w fs.inotify.{name}={wanted}` (and in /etc/sysctl.d to keep it)"
    )


def _limit(name: str) -> int:
    try:
        with open(f"{_INOTIFY}/{name}", encoding="ascii") as file:
            return int(file.read(32))
    except (OSError, ValueError):
        return 0
