"""The event log behind `getEventLog`: what happened since the launch, the latest so many.

It is kept in memory: what has to survive is in the store, and `serverStarted` says where the log begins. An
entry is the structure of the object as it was then, with `_event` and `_timestamp`; states that follow each
other faster than they are looked at collapse into the latest.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog

from agent.server import structures
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.store import manifests, objects, owned, transfers
from agent.server.store.scope import Owned, Scope

_log = structlog.get_logger(__name__)

MAX_ENTRIES = 2000
LOOK = 1000  # changes looked at in one go
PAUSE_SECONDS = 0.1  # from a change to the look at it
IDLE_SECONDS = 3600.0
Structure = dict[str, Any]
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Entry:
    """`row`: whose it is; None = it concerns the server, and everybody may know."""

    event: str
    time_us: int
    fields: Structure
    row: Owned | None = None

    def told(self) -> Structure:
        return {**self.fields, "_event": self.event, "_timestamp": self.time_us}


@dataclass(frozen=True, slots=True)
class _Known:
    """What was told of an object last."""

    state: str
    row: Owned


class EventRecorder:
    """Event loop only."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._entries: deque[Entry] = deque(maxlen=MAX_ENTRIES)
        self._known: OrderedDict[Key, _Known] = OrderedDict()

    def add(self, event: str, fields: Structure, row: Owned | None = None) -> None:
        self._entries.append(Entry(event, self._core.clock.wall_us(), fields, row))

    def entries(self, scope: Scope, limit: int) -> list[Structure]:
        """The latest `limit` that the caller may see, oldest first."""
        seen = [entry.told() for entry in self._entries if entry.row is None or scope.sees(entry.row)]
        return seen[-limit:]

    async def serve(self) -> None:
        """Note every change of state, for ever; cancel to stop."""
        self.add("serverStarted", {"serverId": self._core.server_id, "serverUid": self._core.server_uid})
        after = 0
        while True:
            found: dict[str, Any] = await self._core.events.wait(after, IDLE_SECONDS, LOOK)
            after = int(found["next"])
            await asyncio.sleep(PAUSE_SECONDS)  # first: who did it is at work, and has more to ask
            keys = [(str(event["kind"]), int(event["id"])) for event in found["events"]]
            try:
                await self._note([key for key in keys if key[0] in _READERS])
            except sqlite3.Error:
                _log.exception("event log incomplete")  # the next change of an object is noted again

    async def _note(self, keys: Iterable[Key]) -> None:
        known = {key: self._known[key].state if key in self._known else "" for key in keys}
        if not known:
            return
        for key, found in (await self._core.database.run(_changes, self._core, known)).items():
            kind, object_id = key
            last = self._known.pop(key, None)
            if found is not None:
                state, fields, row = found
                self._known[key] = _Known(state, row)
                self.add(f"{kind}Updated", fields, row)
            elif last is not None:
                self.add(f"{kind}Deleted", {f"{kind}Id": str(object_id)}, last.row)
        while len(self._known) > MAX_ENTRIES:
            self._known.popitem(last=False)


Change = tuple[str, Structure, Owned] | None


def _changes(connection: sqlite3.Connection, core: Core, known: dict[Key, str]) -> dict[Key, Change]:
    """(state, structure, whose) of what is in another state than it is known in; None for what is gone."""
    found: dict[Key, Change] = {}
    for (kind, object_id), state in known.items():
        row = owned.find(connection, kind, object_id)
        now = None if row is None else _READERS[kind](connection, core, object_id, state)
        if row is None or now is None:
            found[kind, object_id] = None
        elif now[1] is not None:
            found[kind, object_id] = (now[0], now[1], row)
    return found


Read = tuple[str, Structure | None] | None
"""The state, and the structure if that is another one; None for what is gone."""


def _transfer(connection: sqlite3.Connection, core: Core, object_id: int, known: str) -> Read:
    row = transfers.find(connection, object_id)
    if row is None:
        return None
    state = f"{row.status} {row.error}"
    if state == known:
        return state, None
    data = objects.user_data(connection, [row.id])[row.id]
    return state, structures.transfer(row, core.live.counters(row), core.clock, data)


def _manifest(connection: sqlite3.Connection, _core: Core, object_id: int, known: str) -> Read:
    try:
        row = manifests.get(connection, object_id)
    except CommandError:
        return None
    state = f"{row.status} {row.error}"
    if state == known:
        return state, None
    return state, structures.manifest(row, objects.user_data(connection, [row.id])[row.id])


_READERS = {"transfer": _transfer, "manifest": _manifest}
