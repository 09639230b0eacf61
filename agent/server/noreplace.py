"""Renaming that never takes the place of anything."""

from __future__ import annotations

import ctypes
import errno
import os

_RENAME_NOREPLACE = 1
_NO_SUCH_CALL = (errno.EINVAL, errno.ENOSYS)
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)

_libc = ctypes.CDLL(None, use_errno=True)


def rename(old: int, old_name: bytes, new: int, new_name: bytes) -> None:
    """Rename between two open directories. FileExistsError when the new name is taken; OSError as the system
    gives it."""
    if _libc.renameat2(old, old_name, new, new_name, ctypes.c_uint(_RENAME_NOREPLACE)) == 0:
        return
    code = ctypes.get_errno()
    if code not in _NO_SUCH_CALL:
        raise OSError(code, os.strerror(code))
    without_kernel(old, old_name, new, new_name)


def without_kernel(old: int, old_name: bytes, new: int, new_name: bytes) -> None:
    """On a file system that cannot refuse to replace: a second name is made, which fails where there is one
    already, and the first is taken away. Where there are no hard links (directories, some network file
    systems), all that is left is to look first."""
    try:
        os.link(old_name, new_name, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
    else:
        os.unlink(old_name, dir_fd=old)
        return
    try:
        os.stat(new_name, dir_fd=new, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(old_name, new_name, src_dir_fd=old, dst_dir_fd=new)
        return
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
