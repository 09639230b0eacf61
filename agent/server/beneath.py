"""Opening what lies below a directory and nothing else, symbolic links included.

Sources of a manifest may be symbolic links that are to be followed. The kernel resolves such a path in one
step and refuses what leaves the directory (`openat2` with RESOLVE_BENEATH), so that a link that is exchanged
in the middle leads nowhere else. Where the kernel cannot do that, links are not followed at all.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform

from agent.server.confine import open_below

_OPENAT2 = 437
_NO_MAGIC_LINKS = 0x02
_BENEATH = 0x08
_ATTEMPTS = 16
_OUTSIDE = (errno.EXDEV, errno.ELOOP)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_libc = ctypes.CDLL(None, use_errno=True)


def open_beneath(base: bytes, path: bytes, flags: int) -> int:
    """A descriptor of `path` (relative) below the directory `base`, following links that stay below it.
    OSError as the system gives it; PermissionError for a path that leads outside."""
    directory = os.open(base, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _available:
            return _resolve(directory, path or b".", flags)
        return _walk(base, path, flags)
    finally:
        os.close(directory)


def _resolve(directory: int, path: bytes, flags: int) -> int:
    for _ in range(_ATTEMPTS):
        fd = _openat2(directory, path, flags | os.O_CLOEXEC)
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code != errno.EAGAIN:  # something below was renamed while the kernel looked
            break
    if code in _OUTSIDE:
        raise PermissionError(errno.EACCES, "it leads outside of the sandbox", path)
    raise OSError(code, os.strerror(code), path)


def _openat2(directory: int, path: bytes, flags: int) -> int:
    how = _How(flags, 0, _BENEATH | _NO_MAGIC_LINKS)
    return int(
        _libc.syscall(
            ctypes.c_long(_OPENAT2),
            ctypes.c_int(directory),
            ctypes.c_char_p(path),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
    )


def _walk(base: bytes, path: bytes, flags: int) -> int:
    """Without help of the kernel: no component may be a link."""
    parts = tuple(part for part in path.split(b"/") if part)
    if b".." in parts or b"." in parts:
        raise PermissionError(errno.EACCES, "it leads outside of the sandbox", path)
    parent = open_below(base, parts[:-1], create=False)
    try:
        name = parts[-1] if parts else b"."
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    finally:
        os.close(parent)


def _probe() -> bool:
    if platform.system() != "Linux":
        return False
    here = os.open(b"/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = _openat2(here, b".", os.O_PATH | os.O_CLOEXEC)
    finally:
        os.close(here)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


_available = _probe()
