"""`lanesync.*`: what this server can do beyond the JetStream documents."""

from __future__ import annotations

import sqlite3
from functools import partial
from typing import Any

from agent.server import results
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.events import Key
from agent.server.params import Cursor, DestinationId, Names, Seconds, TransferId
from agent.server.registry import command
from agent.server.results import Outcome, Record
from agent.server.session import Session
from agent.server.store import destinations, manifests, transfers
from agent.server.store.owned import visible
from agent.server.store.scope import EVERYTHING, Owned, Scope
from agent.server.store.transfers import Transfer
from agent.server.structures import join_destination

MAX_WAIT_SECONDS = 300.0
MAX_EVENTS = 10_000
PAGE_BYTES = 8 * 1024 * 1024
_OFFSET_BITS = 20  # cursor = batch << 20 | records of that batch already told
_NAMES = {outcome.value: outcome.name.lower() for outcome in Outcome}


class ExtensionMethods:
    def __init__(self, core: Core) -> None:
        self._core = core

    @command("lanesync.waitEvents", waits=True)
    async def wait_events(
        self,
        session: Session,
        after: Cursor = 0,
        timeoutSeconds: Seconds = 30.0,
        limit: Cursor = 1000,
        kinds: Names | None = None,
    ) -> dict[str, Any]:
        timeout = min(timeoutSeconds, MAX_WAIT_SECONDS)
        see = None if session.scope == EVERYTHING else partial(self._visible, session)
        wanted = None if kinds is None else frozenset(kinds)
        return await self._core.events.wait(after, timeout, max(1, min(limit, MAX_EVENTS)), see, wanted)

    async def _visible(self, session: Session, events: dict[Key, Owned | None]) -> set[Key]:
        return await self._core.database.run(visible, events, session.scope)

    @command("lanesync.getTransferResults")
    async def get_results(
        self, session: Session, transferId: TransferId, after: Cursor = 0, limit: Cursor = 20_000
    ) -> dict[str, Any]:
        return await self._core.database.run(
            _results, session.scope, transferId, after, max(1, min(limit, 20_000))
        )

    @command("lanesync.getLaneBytes")
    async def get_lane_bytes(self, session: Session, destinationId: DestinationId) -> dict[str, Any]:
        """Counted since the sender started; no lanes before it first told."""
        await self._core.database.run(destinations.get, destinationId, session.scope)
        return {"lanes": self._core.live.lanes.get(destinationId, {})}


def _results(
    connection: sqlite3.Connection, scope: Scope, transfer_id: int, after: int, limit: int
) -> dict[str, Any]:
    """One page of per-file results; `next` is where to go on, and stays when there are no more yet."""
    transfer = transfers.get(connection, transfer_id, scope)
    batch, offset = after >> _OFFSET_BITS, after & ((1 << _OFFSET_BITS) - 1)
    found = transfers.batches(connection, transfer_id, batch, 1)
    page: list[Record] = []
    if found:
        batch, data = found[0]
        records = results.count(data)
        if offset > records:
            raise CommandError(f"{after} is not a cursor of transfer {transfer_id}; start again with after=0")
        end = min(records, offset + limit)
        size = results.RECORD.size
        page = list(results.unpack(data[offset * size : end * size]))
        page, files = _files(connection, transfer, page)
        end = offset + len(page)
        after = (batch + 1) << _OFFSET_BITS if end == records else batch << _OFFSET_BITS | end
        return {"files": files, "next": after}
    return {"files": [], "next": after}


def _files(
    connection: sqlite3.Connection, transfer: Transfer, page: list[Record]
) -> tuple[list[Record], list[dict[str, Any]]]:
    """The records told, as many as fit a message, with their paths and messages."""
    paths = manifests.paths(connection, transfer.manifest_id, [record.seq for record in page])
    failed = [record.seq for record in page if record.outcome == Outcome.FAILED]
    messages = transfers.errors(connection, transfer.id, failed)
    files: list[dict[str, Any]] = []
    size = 0
    for record in page:
        path = join_destination(transfer.destination_path, paths.get(record.seq, ""))
        message = messages.get(record.seq, "")
        size += 6 * (len(path) + len(message)) + 200
        if size > PAGE_BYTES and files:
            break
        files.append(
            {
                "path": path,
                "outcome": _NAMES.get(record.outcome, "failed"),
                "size": record.size,
                "mtimeNs": record.mtime_ns,
                "ctimeNs": record.ctime_ns,
                "digest": f"{record.digest:016x}" if record.digest else "",
                "error": message,
            }
        )
    return page[: len(files)], files
