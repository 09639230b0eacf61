"""Logs of single transfers: what was asked for, what became of each file, checkpoints, and how it ended.

One file of JSON lines per transfer that asks for it, in the folder of `--log-transfer-dir`. A thread of its
own writes them; when it does not keep up, or the folder cannot be written, lines are lost and the log says
so, but no transfer waits or fails by that.
"""

from __future__ import annotations

import json
import os
import queue
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from agent.server import results, states
from agent.server.errors import StartError
from agent.server.results import Outcome
from agent.server.store import manifests
from agent.server.store.transfers import Transfer
from agent.server.structures import join_destination

_log = structlog.get_logger(__name__)

MAX_BYTES = 256 << 20
"""Of one log; beyond it only what happens to the transfer as a whole is written."""

MAX_WAITING = 16  # reports that the writer has not come to
STOP_SECONDS = 1.0
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_OUTCOMES = {outcome.value: outcome.name.lower() for outcome in Outcome}

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Batch:
    name: str
    lines: list[Line]
    large: bool = field(default=False)  # left out when the log is full


def prepare(folder: Path) -> None:
    """StartError when logs cannot be written there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"--log-transfer-dir {folder} cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StartError(f"--log-transfer-dir {folder} cannot be written by this user; choose another folder")


def files(
    connection: sqlite3.Connection, transfer: Transfer, records: bytes, errors: dict[int, str]
) -> list[Line]:
    """A line for each file that a report is about."""
    found = list(results.unpack(records))
    paths = manifests.paths(connection, transfer.manifest_id, [record.seq for record in found])
    lines: list[Line] = []
    for record in found:
        line: Line = {
            "event": "file",
            "path": join_destination(transfer.destination_path, paths.get(record.seq, "")),
            "outcome": _OUTCOMES.get(record.outcome, "failed"),
            "size": record.size,
        }
        if record.seq in errors:
            line["error"] = errors[record.seq]
        lines.append(line)
    return lines


class TransferLogs:
    """Any thread may add; nothing blocks."""

    def __init__(self, folder: Path | None) -> None:
        """None: no transfer has a log."""
        self._folder = folder
        self._waiting: queue.Queue[_Batch | None] = queue.Queue(MAX_WAITING)
        self._lost: set[str] = set()  # logs that miss lines since they were written last
        self._failing = False
        self._thread: threading.Thread | None = None
        if folder is not None:
            self._thread = threading.Thread(
                target=self._run, args=(folder,), name="transfer logs", daemon=True
            )
            self._thread.start()

    def wants(self, transfer: Transfer) -> bool:
        return self._folder is not None and transfer.transfer_log

    def add(
        self, transfer: Transfer, time_us: int, event: str, before: list[Line] | None = None, **facts: object
    ) -> None:
        """Log an event, and the lines that led to it."""
        if not self.wants(transfer):
            return
        lines = [*(before or ()), {"event": event, **facts}]
        name = f"transfer-{transfer.id}-{transfer.uid[:8]}.jsonl"
        stamped = [{"time": time_us, "transferId": str(transfer.id), **line} for line in lines]
        try:
            self._waiting.put_nowait(_Batch(name, stamped, large=before is not None))
        except queue.Full:
            self._lost.add(name)

    def created(self, transfer: Transfer) -> None:
        facts: Line = {
            "destinationId": str(transfer.destination_id),
            "manifestId": str(transfer.manifest_id),
            "destinationPath": transfer.destination_path,
            "totalFiles": transfer.total_files,
            "totalBytes": transfer.total_size,
            "transferFlags": transfer.flags,
            "overwriteMode": transfer.overwrite,
            "owner": transfer.owner,
        }
        self.add(transfer, transfer.request_us, "created", **facts)

    def status(self, transfer: Transfer, time_us: int) -> None:
        """It was suspended or resumed, or it is over."""
        over = transfer.status in (states.COMPLETE, states.ERROR)
        facts: Line = {"status": transfer.status, "errorMessage": transfer.error}
        facts |= transfer.counters.told()
        self.add(transfer, time_us, "ended" if over else transfer.status, **facts)

    def stop(self) -> None:
        """Write what waits, for a moment."""
        if self._thread is None:
            return
        try:
            self._waiting.put(None, timeout=STOP_SECONDS)
        except queue.Full:
            return
        self._thread.join(STOP_SECONDS)

    def _run(self, folder: Path) -> None:
        while (batch := self._waiting.get()) is not None:
            try:
                self._write(folder, batch)
                self._failing = False
            except OSError as error:
                self._lost.add(batch.name)
                if not self._failing:
                    _log.warning("transfer log not written", file=batch.name, error=str(error))
                self._failing = True

    def _write(self, folder: Path, batch: _Batch) -> None:
        lines = batch.lines
        if batch.name in self._lost:
            stamp = {"time": lines[0]["time"], "transferId": lines[0]["transferId"]}
            lines = [{**stamp, "event": "lost", "why": "lines before this one could not be written"}, *lines]
        data = b"".join(json.dumps(line).encode("ascii") + b"\n" for line in lines)
        fd = os.open(folder / batch.name, _FLAGS, 0o600)
        try:
            if batch.large and os.fstat(fd).st_size + len(data) > MAX_BYTES:
                self._lost.add(batch.name)
                return
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
        finally:
            os.close(fd)
        self._lost.discard(batch.name)
