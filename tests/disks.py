"""File systems of their own for tests: small ones that fill up, and ones whose power is cut. They need root,
and are seen by the test alone."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import shutil
import signal
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_CLONE_NEWNS = 0x20000
_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN
_FIBMAP = 1
_WITHOUT_LOG = 2  # nothing is written any more, not even the journal that is in memory
_DONE, _SKIPPED, _FAILED = 0, 77, 1


class NotHereError(Exception):
    """What a test needs cannot be had on this machine."""


def on_own_disks(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test in a process and mount namespace of its own: whatever becomes of it, nothing that it
    mounted stays."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        if os.getuid() != 0:
            pytest.skip("mounting needs root")
        pid = os.fork()
        if pid == 0:
            os._exit(_child(test, args, kwargs))
        try:
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        if status == _SKIPPED:
            pytest.skip("no mounting here")
        assert status == _DONE, "the test failed in its own process; see what it printed"

    return run


def _child(test: Callable[..., None], args: Any, kwargs: Any) -> int:
    try:
        _own_mounts()
        test(*args, **kwargs)
    except NotHereError:
        return _SKIPPED
    except BaseException:
        print(traceback.format_exc(), flush=True)
        return _FAILED
    return _DONE


def _own_mounts() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS):
        raise NotHereError(os.strerror(ctypes.get_errno()))
    _call("mount", "--make-rprivate", "/")


def _call(*command: str | Path) -> None:
    if shutil.which(str(command[0])) is None:
        raise NotHereError(f"needs {command[0]}")
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotHereError(f"{command}: {done.stderr}")


class Disk:
    """An ext4 file system in a file, mounted at `place`."""

    def __init__(self, image: Path, place: Path, mebibytes: int) -> None:
        self.image, self.place = image, place
        place.mkdir(exist_ok=True)
        with image.open("wb") as file:
            file.truncate(mebibytes << 20)
        _call("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        self._mounted = False
        self.mount()

    def mount(self) -> None:
        _call("mount", "-o", "loop", self.image, self.place)
        self._mounted = True

    def commit(self) -> None:
        """What any other program causes with a sync of its own: names go to storage, contents may not."""
        fd = os.open(self.place / "other", os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.write(fd, b"x")
            os.fsync(fd)
        finally:
            os.close(fd)

    def cut_power(self) -> None:
        """From now on nothing reaches the image: what was only in memory is lost."""
        fd = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _WITHOUT_LOG.to_bytes(4, "little"))
        finally:
            os.close(fd)

    def unmount(self) -> None:
        subprocess.run(["umount", self.place], check=True)

    def back_after_cut(self) -> None:
        """Start again from the image, as a machine does: its journal is replayed."""
        self.unmount()
        self.mount()

    def lose(self, path: Path) -> Callable[[], None]:
        """Read only from now on, and from the middle of a file on nothing can be read: the system reports
        errors of the device. Returns what makes all of it readable again."""
        self.sync()
        places = _blocks(path)
        self.unmount()
        _call("mount", "-o", "loop,ro,noload", self.image, self.place)
        with self.image.open("r+b") as image:
            image.seek(sorted(places)[len(places) // 2] * _block_size(self.image))
            at, lost = image.tell(), image.read()
            image.truncate(at)

        def back() -> None:
            with self.image.open("r+b") as image:
                image.seek(at)
                image.write(lost)

        return back

    def clear(self) -> None:
        """Remove everything, for good."""
        for path in self.place.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.sync()

    def sync(self) -> None:
        subprocess.run(["sync", "--file-system", self.place], check=True)

    @property
    def free(self) -> int:
        found = os.statvfs(self.place)
        return found.f_bavail * found.f_frsize


def _block_size(image: Path) -> int:
    """Of an ext4 file system, from its superblock."""
    with image.open("rb") as file:
        file.seek(1024 + 24)
        return 1024 << int.from_bytes(file.read(4), "little")


def _blocks(path: Path) -> list[int]:
    """Where a file lies on its device, block by block."""
    with path.open("rb") as file:
        count = -(-os.fstat(file.fileno()).st_size // os.fstatvfs(file.fileno()).f_bsize)
        asked = (fcntl.ioctl(file, _FIBMAP, number.to_bytes(4, "little")) for number in range(count))
        return [int.from_bytes(found, "little") for found in asked]
