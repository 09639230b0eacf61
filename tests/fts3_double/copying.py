"""One copy between two storages: checks, transfer, checks again, and cleaning up."""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .outcomes import (
    ENDS_DIFFER,
    EXISTS,
    SIZES_DIFFER,
    TIMED_OUT,
    USER_AND,
    Outcome,
    checks,
    failure,
    missing_value,
    split_checksum,
)
from .storage import BLOCK, Storage, StorageError, plain_sum

ABORTED = Outcome("TRANSFER [125] Operation canceled", recoverable=False)
BASE_TIMEOUT, SECONDS_A_MB = 600.0, 2.0
GRACE_SECONDS = 60.0


@dataclass(frozen=True)
class Task:
    """What to copy, and how. `leftover`: what lies at the destination is an earlier try of this very copy."""

    source: str
    destination: str
    overwrite: bool
    mode: str
    checksum: str
    strict: bool = False
    cleanup: bool = True
    leftover: bool = False
    report: bool = False
    timeout: float = 0.0
    rate: float = 0.0
    corrupt: bool = False


class _StoppedError(Exception):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


def copy(task: Task, source: Storage, destination: Storage, abort: threading.Event) -> Outcome:
    """Copy a file; every failure comes back as an outcome."""
    started = time.monotonic()
    try:
        size, source_sum = _look_at_source(task, source)
        if not task.strict:
            found = _clear_destination(task, destination)
            if found is not None:
                return found
        size = _transfer(task, source, destination, abort, size)
    except _StoppedError as stopped:
        return stopped.outcome
    try:
        _look_at_destination(task, destination, size, source_sum)
    except _StoppedError as stopped:
        _clean(task, destination)
        return stopped.outcome
    return Outcome("", size, max(time.monotonic() - started, 1e-6))


def _look_at_source(task: Task, source: Storage) -> tuple[int, str]:
    """Size and checksum of the source; the checksum only if the mode wants it."""
    if task.strict:
        return -1, ""
    algorithm, value = split_checksum(task.checksum)
    wanted = checks(task.mode, value)
    with _side("SOURCE"):
        found_source = source.stat(task.source)
        if found_source.folder:
            raise StorageError(errno.EISDIR, os.strerror(errno.EISDIR))
        found = source.checksum(task.source, algorithm) if wanted & {"source", "ends"} else ""
    if "source" in wanted and value and plain_sum(value) != found:
        raise _StoppedError(Outcome(USER_AND.format("source")))
    return found_source.size, found


def _clear_destination(task: Task, destination: Storage) -> Outcome | None:
    """Make room at the destination, or the outcome when something is in the way."""
    with _side("DESTINATION"):
        there = destination.find(task.destination)
        if there is not None and there.folder:
            raise StorageError(errno.EISDIR, os.strerror(errno.EISDIR))
        if there is not None:
            if not task.overwrite and not task.leftover:
                existing = _existing(task, destination) if task.report else None
                return Outcome(EXISTS, existing=existing)
            destination.delete(task.destination)
        else:
            destination.make_parents(task.destination)
    return None


def _existing(task: Task, destination: Storage) -> dict[str, Any]:
    algorithm, _ = split_checksum(task.checksum)
    return {
        "file_size": destination.stat(task.destination).size,
        "checksum_type": algorithm.upper(),
        "checksum_value": destination.checksum(task.destination, algorithm),
        "file_on_tape": False,
        "file_on_disk": True,
    }


def _transfer(task: Task, source: Storage, destination: Storage, abort: threading.Event, size: int) -> int:
    """Move the bytes; a broken copy is removed unless cleaning up is off."""
    megabytes = max(size, 0) / 1e6
    limit = (task.timeout or BASE_TIMEOUT + SECONDS_A_MB * megabytes) + GRACE_SECONDS
    try:
        with _side("TRANSFER"), source.read(task.source) as answer:
            length = int(answer.headers.get("Content-Length") or 0)
            blocks = _blocks(task, answer, length, abort, time.monotonic() + limit)
            destination.write(task.destination, blocks, length)
    except _StoppedError:
        _clean(task, destination)
        raise
    return length


def _blocks(task: Task, answer: Any, length: int, abort: threading.Event, end: float) -> Iterator[bytes]:
    left, first = length, True
    while left:
        block = answer.read(min(BLOCK if not task.rate else 16384, left))
        if not block:
            raise _StoppedError(failure("TRANSFER", errno.ECONNRESET))
        if abort.is_set():
            raise _StoppedError(ABORTED)
        if time.monotonic() > end:
            raise _StoppedError(Outcome(TIMED_OUT))
        if task.corrupt and first:
            block = bytes([block[0] ^ 0xFF]) + block[1:]
        first = False
        left -= len(block)
        yield block
        if task.rate and abort.wait(len(block) / task.rate):
            raise _StoppedError(ABORTED)


def _look_at_destination(task: Task, destination: Storage, size: int, source_sum: str) -> None:
    if task.strict:
        return
    algorithm, value = split_checksum(task.checksum)
    wanted = checks(task.mode, value)
    with _side("DESTINATION"):
        if destination.stat(task.destination).size != size:
            raise _StoppedError(Outcome(SIZES_DIFFER))
    if reason := missing_value(task.mode, value):
        raise _StoppedError(Outcome(reason))
    if not wanted & {"target", "ends"}:
        return
    with _side("DESTINATION"):
        found = destination.checksum(task.destination, algorithm)
    if "target" in wanted and plain_sum(value) != found:
        raise _StoppedError(Outcome(USER_AND.format("destination")))
    if "ends" in wanted and source_sum and source_sum != found:
        raise _StoppedError(Outcome(ENDS_DIFFER))


def _clean(task: Task, destination: Storage) -> None:
    if task.cleanup:
        with contextlib.suppress(StorageError):
            destination.delete(task.destination)


@contextlib.contextmanager
def _side(side: str) -> Iterator[None]:
    """Errors of a storage become the end of the copy, told with the side they came from."""
    try:
        yield
    except StorageError as error:
        raise _StoppedError(Outcome(f"{side} [{error.number}] {error.text}")) from None


def digest(algorithm: str, blocks: Iterator[bytes]) -> str:
    """A `Digest` header's value: adler32 in hex, md5 in base64. KeyError for other algorithms."""
    if algorithm == "adler32":
        value = 1
        for block in blocks:
            value = zlib.adler32(block, value)
        return f"{value:08x}"
    if algorithm == "md5":
        md5 = hashlib.md5(usedforsecurity=False)
        for block in blocks:
            md5.update(block)
        return base64.b64encode(md5.digest()).decode()
    raise KeyError(algorithm)
