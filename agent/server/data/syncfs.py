"""All that was written to a file system, on storage."""

from __future__ import annotations

import ctypes
import os

FEW_FILES = 16
"""So many are synced one by one; for more, one sync of the file system costs less."""

_libc = ctypes.CDLL(None, use_errno=True)


def sync_file_system(root: bytes) -> None:
    """Have on storage all that was written to the file system of a directory. OSError when some was not."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(fd)
