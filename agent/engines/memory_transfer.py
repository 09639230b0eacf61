"""One transfer of the engine in memory: what is left of it, and what its sources say when they are read."""

from __future__ import annotations

import os
import stat as modes
from dataclasses import dataclass, field, replace

from agent.engines.port import Entry
from agent.model.observed import FileOutcome, FileResult, ObservedTransfer, TransferState
from agent.model.spec import Overwrite


@dataclass(slots=True)
class MemoryTransfer:
    """A transfer and what is left of it."""

    seen: ObservedTransfer
    todo: list[Entry]
    overwrite: Overwrite
    results: list[FileResult] = field(default_factory=list)
    partial: int = 0  # bytes of the first of `todo` that are over


class Directory(FileResult):
    """An empty directory in a destination's tree."""

    __slots__ = ()


def publish(entry: Entry, overwrite: Overwrite, tree: dict[str, FileResult], failing: set[str]) -> FileResult:
    """Read a source and put it in the destination's tree, as far as the overwrite mode allows; what is
    `failing` fails."""
    if entry.path in failing:
        return FileResult(entry.path, FileOutcome.FAILED, error="it is to fail")
    result, there = read(entry), tree.get(entry.path)
    if result.outcome is not FileOutcome.DELIVERED:
        return result
    newer = there is None or result.mtime_ns > there.mtime_ns
    if (overwrite is Overwrite.NEVER and there is not None) or (overwrite is Overwrite.NEWER and not newer):
        return replace(result, outcome=FileOutcome.SKIPPED)
    tree[entry.path] = result
    return result


def read(entry: Entry) -> FileResult:
    """Look at a source as a sender would."""
    try:
        found = os.stat(entry.source)
    except FileNotFoundError:
        if entry.is_directory:
            return Directory(entry.path, FileOutcome.DELIVERED)
        return FileResult(entry.path, FileOutcome.VANISHED)
    except OSError as error:
        return FileResult(entry.path, FileOutcome.FAILED, error=str(error.strerror))
    if not entry.is_directory and not modes.S_ISREG(found.st_mode):
        return FileResult(entry.path, FileOutcome.FAILED, error="not a regular file")
    times = (found.st_mtime_ns, found.st_ctime_ns)
    if entry.is_directory:
        return Directory(entry.path, FileOutcome.DELIVERED, 0, *times)
    return FileResult(entry.path, FileOutcome.DELIVERED, found.st_size, *times)


def progress(transfer: MemoryTransfer) -> ObservedTransfer:
    failed = [result for result in transfer.results if result.outcome is FileOutcome.FAILED]
    state, error = transfer.seen.state, ""
    if not transfer.todo:
        state = TransferState.ERROR if failed else TransferState.COMPLETE
        error = f"{failed[0].path}: {failed[0].error}" if failed else ""
    left = sum(entry.size for entry in transfer.todo) - transfer.partial
    return replace(
        transfer.seen,
        state=state,
        error=error,
        done_bytes=transfer.seen.total_bytes - left,
        done_files=len(transfer.results),
    )
