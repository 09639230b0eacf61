"""The digest of a file's content, as transfer servers tell it of what they delivered."""

from __future__ import annotations

import os

import xxhash

_BLOCK = 1 << 20


def content_digest(path: str, size: int) -> str | None:
    """xxh3_64 as 16 hexadecimal digits. None when the file cannot be read or is not of this size."""
    state, seen = xxhash.xxh3_64(), 0
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    try:
        while block := os.read(descriptor, _BLOCK):
            seen += len(block)
            if seen > size:
                return None
            state.update(block)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return f"{state.intdigest():016x}" if seen == size else None
