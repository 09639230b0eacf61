"""When a file was made: what stat(2) of Python does not tell, and statx(2) does."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache
from typing import Any

_AT_FDCWD = -100
_STATX_BTIME = 0x800
_SIZE = 256
_MASK, _SECONDS, _NANOSECONDS = 0, 80, 88  # offsets in struct statx; stx_btime follows stx_atime


def birth_time(path: str) -> float | None:
    """Unix seconds; None when the file system, the kernel or the C library does not tell."""
    call = _statx()
    buffer = ctypes.create_string_buffer(_SIZE)
    if call is None or call(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, buffer) != 0:
        return None
    raw = buffer.raw
    if not int.from_bytes(raw[_MASK : _MASK + 4], sys.byteorder) & _STATX_BTIME:
        return None
    seconds = int.from_bytes(raw[_SECONDS : _SECONDS + 8], sys.byteorder, signed=True)
    nanoseconds = int.from_bytes(raw[_NANOSECONDS : _NANOSECONDS + 4], sys.byteorder)
    return seconds + nanoseconds / 1e9


@cache
def _statx() -> Any:
    try:
        return ctypes.CDLL(None, use_errno=True).statx
    except (OSError, AttributeError):
        return None
