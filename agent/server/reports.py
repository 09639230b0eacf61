"""What the sender's reports do to the store, and to the transfer's log. All in the database thread."""

from __future__ import annotations

import base64
import binascii
import sqlite3
from dataclasses import replace

from agent.server import results, states, transferlog
from agent.server.clock import since_request
from agent.server.core import Core
from agent.server.counters import Counters
from agent.server.ipc import Message
from agent.server.store import transfers
from agent.server.store.transfers import Transfer


class Reports:
    def __init__(self, core: Core) -> None:
        self._core = core

    def sending(self, connection: sqlite3.Connection, transfer_id: int) -> None:
        """The first of its content is on the way."""
        transfer = transfers.find(connection, transfer_id)
        if transfer is not None and transfer.active:
            now = self._now(transfer)
            start = now if transfer.start_us is None else transfer.start_us
            transfers.save(connection, replace(transfer, status=states.SENDING, start_us=start))
            self._core.logs.add(transfer, now, "sending")

    def store(self, connection: sqlite3.Connection, transfer_id: int, message: Message) -> None:
        """Results of files, counters. ValueError for a report that cannot be read."""
        transfer = transfers.find(connection, transfer_id)
        if transfer is None:
            return
        try:
            data = base64.b64decode(message.get("results") or "", validate=True)
            results.count(data)
        except (binascii.Error, results.ResultsError) as error:
            raise ValueError(f"results of transfer {transfer_id} cannot be read") from error
        errors = [(int(seq), str(text)) for seq, text in message.get("errors") or ()]
        counters = Counters.parse(message) if "bytesSent" in message else None
        transfers.add_results(connection, transfer_id, data, errors, counters)
        if self._core.logs.wants(transfer) and (data or message.get("op") == "checkpoint"):
            files = transferlog.files(connection, transfer, data, dict(errors))
            told = {} if counters is None else counters.told()
            self._core.logs.add(transfer, self._now(transfer), "checkpoint", files, **told)

    def finish(self, connection: sqlite3.Connection, transfer_id: int, message: Message) -> Transfer | None:
        """The transfer as it ended; None when it was not active any more."""
        self.store(connection, transfer_id, message)
        transfer = transfers.find(connection, transfer_id)
        if transfer is None or not transfer.active:
            return None
        complete = message.get("status") == states.COMPLETE
        now = self._now(transfer)
        ended = replace(
            transfer,
            status=states.COMPLETE if complete else states.ERROR,
            error="" if complete else str(message.get("message") or "the transfer failed"),
            start_us=now if transfer.start_us is None else transfer.start_us,
            end_us=now,
        )
        transfers.save(connection, ended)
        self._core.logs.status(ended, now)
        return ended

    def _now(self, transfer: Transfer) -> int:
        return since_request(transfer.request_us, transfer.request_clock_us, self._core.clock)


def store_progress(connection: sqlite3.Connection, progress: dict[int, Counters]) -> None:
    for transfer_id, counters in progress.items():
        transfers.add_results(connection, transfer_id, b"", [], counters)
