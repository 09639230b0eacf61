"""What the kernel says about watching: file system types, and limits with the line that raises them."""

from __future__ import annotations

import errno
import os

# fmt: off
_NETWORK = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs",
    "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs",
})
# fmt: on
_INOTIFY = "/proc/sys/fs/inotify"
_MAX_MOUNTINFO = 4 << 20


def is_network(type_: str) -> bool:
    """Do changes made on other hosts, or behind a fuse daemon, go unannounced here?"""
    return type_ in _NETWORK or type_.startswith("fuse.")


def file_system_type(path: str) -> str:
    """Type of the file system that holds a path, for example `ext4`; empty when it cannot be told."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = file.read(_MAX_MOUNTINFO).splitlines()
    except OSError:
        return ""
    target = os.fsencode(os.path.realpath(path))
    best, found = b"", b""
    for line in lines:
        mount, type_ = _parse(line)
        inside = target == mount or target.startswith(mount.rstrip(b"/") + b"/")
        if inside and len(mount) >= len(best):  # a later mount at the same place hides the earlier
            best, found = mount, type_
    return os.fsdecode(found)


def _parse(line: bytes) -> tuple[bytes, bytes]:
    fields = line.split(b" ")
    if len(fields) < 10 or b"-" not in fields:
        return b"\0", b""
    mount = fields[4]
    for code, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        mount = mount.replace(code, char)
    return mount, fields[fields.index(b"-") + 1]


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
