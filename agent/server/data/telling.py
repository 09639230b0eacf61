"""What the control process hears of transfers. Called with the lock of the transfer's link."""

from __future__ import annotations

import base64
from collections.abc import Callable

from agent.server.data.outgoing import Transfer
from agent.server.ipc import Message
from agent.server.results import MAX_RECORDS, RECORD


class Telling:
    def __init__(self, report: Callable[[Message], None]) -> None:
        self._report = report

    def results(self, transfer: Transfer, records: bytes | bytearray) -> None:
        """At least one message: the counters are to be stored even when no file is through."""
        size = MAX_RECORDS * RECORD.size
        errors, transfer.errors = transfer.errors, []
        for at in range(0, max(len(records), 1), size):
            self._report(
                {
                    "op": "checkpoint",
                    "id": transfer.order.id,
                    "results": base64.b64encode(records[at : at + size]).decode("ascii"),
                    "errors": errors[:MAX_RECORDS],
                    **transfer.counters.told(),
                }
            )
            errors = errors[MAX_RECORDS:]

    def settled(self, transfer: Transfer) -> None:
        if transfer.settled or transfer.errors:
            self.results(transfer, transfer.settled)
            transfer.settled = bytearray()

    def finished(self, transfer: Transfer, error: str) -> None:
        self._report(
            {
                "op": "finished",
                "id": transfer.order.id,
                "status": "error" if error else "complete",
                "message": error,
                "results": "",
                "errors": [],
                **transfer.counters.told(),
            }
        )


def first_failure(transfer: Transfer) -> str:
    """Why a transfer of which all else is over has failed; empty when it has not."""
    if not transfer.failed:
        return ""
    more = f" (and {transfer.failed - 1} more files)" if transfer.failed > 1 else ""
    text = f"{transfer.first_error}{more}"
    return text if not transfer.order.as_set or transfer.set_published else f"nothing was published: {text}"
