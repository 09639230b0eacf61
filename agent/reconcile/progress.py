"""How far the transfers on their way are, asked of the servers when somebody looks.

A reconcile leaves the state of its moment on the board; bars that move are not worth reconciling for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from agent.model.condition import Condition, Reason
from agent.model.observed import ObservedTransfer
from agent.model.outcome import LaneSyncError
from agent.model.spec import Kind
from agent.model.units import format_size
from agent.reconcile.context import Context
from agent.reconcile.status import ObjectStatus

MAX_ASKED = 50
"""Most transfers that one look asks about; the others show what was known last."""

Document = dict[str, Any]


def transfer_document(transfer: ObservedTransfer) -> Document:
    return {
        "id": transfer.id,
        "state": str(transfer.state),
        "lane": transfer.lane,
        "priority": transfer.priority,
        "doneBytes": transfer.done_bytes,
        "totalBytes": transfer.total_bytes,
        "doneFiles": transfer.done_files,
        "totalFiles": transfer.total_files,
    }


def progress_text(delivery: Document) -> str:
    """One delivery's transfers in words."""
    transfers = delivery["transfers"]
    if delivery["deletionsInFlight"] and not transfers:
        return f"deleting at {delivery['destination']}"
    done = sum(t["doneBytes"] for t in transfers)
    total = sum(t["totalBytes"] for t in transfers)
    share = f", {min(1.0, done / total):.0%}" if total else ""
    count = delivery["filesInFlight"]
    noun = "file" if count == 1 else "files"
    return f"{count} {noun} ({format_size(total)}) on their way to {delivery['destination']}{share}"


def refreshed(context: Context, statuses: Iterable[ObjectStatus]) -> list[ObjectStatus]:
    """The statuses, with what the servers say now of the first MAX_ASKED transfers."""
    left = MAX_ASKED
    found = []
    for status in statuses:
        moving = status.key.kind is Kind.MAPPING and _transferring(status)
        if moving and left > 0:
            deliveries = [_asked(context, delivery, left) for delivery in status.detail["deliveries"]]
            left -= sum(len(delivery["transfers"]) for delivery in deliveries)
            status = _with(status, deliveries)  # noqa: PLW2901
        found.append(status)
    return found


def _transferring(status: ObjectStatus) -> bool:
    return any(c.reason is Reason.TRANSFERRING for c in status.conditions)


def _asked(context: Context, delivery: Document, limit: int) -> Document:
    destination = context.desired.destinations.get(delivery["destination"])
    connected = context.connected(destination.server) if destination is not None else None
    if connected is None:
        return delivery
    now = []
    for number, transfer in enumerate(delivery["transfers"]):
        try:
            fresh = connected.engine.transfer(transfer["id"]) if number < limit else None
        except LaneSyncError:
            return delivery
        now.append(transfer if fresh is None or not fresh.total_files else transfer_document(fresh))
    return {**delivery, "transfers": now}


def _with(status: ObjectStatus, deliveries: list[Document]) -> ObjectStatus:
    moving = [delivery for delivery in deliveries if delivery["filesInFlight"]]
    text = "; ".join(progress_text(delivery) for delivery in moving)

    def said(condition: Condition) -> Condition:
        told = condition.reason is Reason.TRANSFERRING and text
        return replace(condition, message=text) if told else condition

    return replace(
        status,
        conditions=tuple(said(condition) for condition in status.conditions),
        detail={**status.detail, "deliveries": deliveries},
    )
