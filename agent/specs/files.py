"""Finds and reads spec files, bounded in number and size. Nothing here raises for bad input."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

MAX_FILE = 2**20
MAX_TOTAL = 64 * 2**20
MAX_FILES = 20_000
MAX_DEPTH = 32
SUFFIXES = (".yaml", ".yml")

Report = Callable[[str, str], None]
"""Called with (file, message) for what cannot be read."""


@dataclass(frozen=True, slots=True)
class SpecFile:
    name: str  # as the user would type it
    data: bytes


def read_files(paths: Sequence[str], report: Report) -> Iterator[SpecFile]:
    """Every spec file of `paths` (files of any name, and directories recursively), once each, by name."""
    seen: set[str] = set()
    total = 0
    for path in paths:
        for name in _find(path, report):
            real = os.path.realpath(name)
            if real in seen:
                continue
            seen.add(real)
            if len(seen) > MAX_FILES:
                report(path, f"more than {MAX_FILES:,} spec files; split the set")
                return
            data = _read(name, report)
            if data is None:
                continue
            total += len(data)
            if total > MAX_TOTAL:
                report(path, f"the specs are larger than {MAX_TOTAL // 2**20} MiB together; split the set")
                return
            yield SpecFile(name, data)


def _find(path: str, report: Report) -> Iterator[str]:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        report(path, _reason(error))
        return
    if stat.S_ISDIR(mode):
        yield from _walk(path, os.path.realpath(path), report, 0)
    else:
        yield path


def _walk(directory: str, root: str, report: Report, depth: int) -> Iterator[str]:
    """Spec files below `directory`. Hidden names are skipped; symbolic links must not lead out of `root`."""
    if depth > MAX_DEPTH:
        report(directory, f"directories are nested more than {MAX_DEPTH} deep; nothing below is read")
        return
    try:
        with os.scandir(directory) as entries:
            children = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        report(directory, _reason(error))
        return
    for entry in children:
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, root, report, depth + 1)
        elif entry.is_symlink() and not _inside(entry.path, root):
            if entry.name.endswith(SUFFIXES) or os.path.isdir(entry.path):
                report(entry.path, f"is a symbolic link that leads out of {root}; it is not read")
        elif entry.name.endswith(SUFFIXES) and not os.path.isdir(entry.path):
            yield entry.path


def _inside(path: str, root: str) -> bool:
    real = os.path.realpath(path)
    return real == root or real.startswith(root.rstrip("/") + "/")


def _read(name: str, report: Report) -> bytes | None:
    too_large = f"is larger than {MAX_FILE // 2**20} MiB, the most a spec file may have; split it"
    try:
        # O_NONBLOCK: a FIFO must not hold us up
        with open(os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                report(name, "is not a regular file")
                return None
            if status.st_size > MAX_FILE:
                report(name, too_large)
                return None
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        report(name, _reason(error))
        return None
    if len(data) > MAX_FILE:
        report(name, too_large)
        return None
    return data


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file or directory"
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    return "is not a valid file name"
