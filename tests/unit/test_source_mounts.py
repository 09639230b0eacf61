"""What is known about file systems and limits."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agent.source import mounts


@pytest.mark.parametrize("name", ["nfs4", "cifs", "fuse.sshfs", "9p", "virtiofs"])
def test_file_systems_that_others_change_are_network(name: str) -> None:
    """Their changes made elsewhere are not announced."""
    assert mounts.is_network(name)


@pytest.mark.parametrize("name", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuseblk", ""])
def test_local_file_systems_are_not(name: str) -> None:
    """The kernel announces every change, also through a local fuse block device."""
    assert not mounts.is_network(name)


def test_the_innermost_mount_decides(tmp_path: Path) -> None:
    """A path is on the file system mounted nearest above it."""
    table = mounts.MountTable()
    assert table.around("/proc/self")[0].type == "proc"
    assert table.around(str(tmp_path))[0].type not in ("", "proc")
    assert table.around(str(tmp_path / "missing")) == table.around(str(tmp_path))
    assert "/proc" in [mount.place for mount in table.around("/")[1:]]
    assert not table.changed()
    table.close()


@pytest.mark.parametrize(
    ("number", "name"), [(errno.ENOSPC, "max_user_watches"), (errno.EMFILE, "max_user_instances")]
)
def test_a_limit_comes_with_the_line_that_raises_it(number: int, name: str) -> None:
    """The value asked for is above the present one."""
    present = int(Path(f"/proc/sys/fs/inotify/{name}").read_text())
    message = mounts.limit_message(OSError(number, "limit"))
    assert f"fs.inotify.{name} is {present}" in message
    wanted = message.split(f"sudo sysctl -w fs.inotify.{name}=")[1].split("`")[0]
    assert int(wanted) > present
