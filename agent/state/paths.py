"""How paths and file versions are kept in rows: bytes, split into directory and name."""

from __future__ import annotations

import os
from typing import Any

from agent.model.change import FileKind, FileStat

_KINDS = (FileKind.FILE, FileKind.EMPTY_DIRECTORY, FileKind.SYMLINK)

StatRow = tuple[int, int, int, int, int, int]
STAT_COLUMNS = "kind, size, mtime_ns, ctime_ns, inode, executable"

_SIGNED = 1 << 63
_MASK = (1 << 64) - 1


def split(path: str) -> tuple[bytes, bytes]:
    """`/a/b` -> (b"/a", b"b"); `/a` -> (b"/", b"a"); `/` -> (b"", b""): the root is nobody's child."""
    raw = os.fsencode(path)
    if raw == b"/":
        return b"", b""
    parent, _, name = raw.rpartition(b"/")
    return parent or b"/", name


def join(parent: bytes, name: bytes) -> str:
    if not parent:
        return "/"
    return os.fsdecode(parent + name if parent == b"/" else parent + b"/" + name)


def below(directory: str) -> tuple[bytes, bytes]:
    """Half-open byte range [low, high) which holds every path strictly below a directory."""
    raw = os.fsencode(directory)
    base = b"" if raw == b"/" else raw
    return base + b"/", base + b"0"  # "0" is the byte after "/"


def signed(inode: int) -> int:
    """SQLite integers are signed; inode numbers of some file systems use all 64 bits."""
    return (inode + _SIGNED & _MASK) - _SIGNED


def stat_row(stat: FileStat) -> StatRow:
    return (
        _KINDS.index(stat.kind),
        stat.size,
        stat.mtime_ns,
        stat.ctime_ns,
        signed(stat.inode),
        int(stat.executable),
    )


def to_stat(row: tuple[Any, ...]) -> FileStat:
    kind, size, mtime_ns, ctime_ns, inode, executable = row
    return FileStat(_KINDS[kind], size, mtime_ns, ctime_ns, inode & _MASK, bool(executable))
