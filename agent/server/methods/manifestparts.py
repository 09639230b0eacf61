"""Manifests of entries that need no look: `lanesync.fillManifest` in several calls, where one message does
not hold them, and `lanesync.sendEntries` together with the transfer that sends them."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

from agent.server import mappings as parsing
from agent.server import sources
from agent.server.core import Core
from agent.server.errors import CommandError, RpcError
from agent.server.methods.transfers import TransferMethods
from agent.server.params import Boolean, ManifestId, Object, UserData
from agent.server.registry import Registry, command
from agent.server.session import Session
from agent.server.store import manifests, objects
from agent.server.store.manifests import Entry
from agent.server.store.scope import EVERYTHING, Owner, Scope

BATCH = 2000  # entries a transaction: others wait no longer than for one
INLINE = 64  # up to so many entries are parsed at once


class ManifestParts:
    def __init__(self, core: Core, transfers: TransferMethods) -> None:
        self._core = core
        self._transfers = transfers
        self._registry = Registry()
        self._registry.add_all(transfers)

    @command("lanesync.fillManifest")
    async def fill(
        self,
        session: Session,
        mappings: Object,
        manifestId: ManifestId | None = None,
        complete: Boolean = True,
    ) -> dict[str, Any]:
        """Begin a manifest, or add to it. Entries keep the order in which they come; nothing is looked at."""
        entries = await _parse("fillManifest", mappings)
        if manifestId is None:
            manifestId = await self._begin(session, entries[:BATCH], {}, complete=False)
            entries = entries[BATCH:]
        await self._add(session, manifestId, entries, complete=complete)
        return {"manifestId": str(manifestId)}

    @command("lanesync.sendEntries")
    async def send(
        self, session: Session, mappings: Object, transfer: Object, userData: UserData | None = None
    ) -> dict[str, Any]:
        """A manifest of these entries with this user data, and a transfer of it. `transfer`: what
        createTransfer takes, without the manifest. If there is to be no transfer there is no manifest."""
        if "manifestId" in transfer:
            raise CommandError("sendEntries makes the manifest: leave manifestId out of transfer")
        try:
            given = self._registry.find("send.createTransfer").bind({**transfer, "manifestId": "1"})
        except RpcError as error:
            raise CommandError(f"sendEntries: {error}") from None
        entries = await _parse("sendEntries", mappings)
        few = len(entries) <= BATCH
        made = await self._begin(session, entries[:BATCH], userData or {}, complete=few)
        try:
            if not few:
                await self._add(session, made, entries[BATCH:], complete=True)
            return await self._transfers.create(session, **{**given, "manifestId": made})
        except Exception:
            gone = await self._core.database.run(manifests.delete, made, EVERYTHING)
            self._core.events.post("manifest", made, gone)
            raise

    async def _begin(
        self, session: Session, entries: list[Entry], data: dict[str, str], *, complete: bool
    ) -> int:
        reach = self._core.reach.sources(session.user or "", session.path)
        now, roots = self._core.clock.wall_us(), sources.stored(reach)
        made = await self._core.database.run(_create, session.owner, now, roots, entries, data, complete)
        self._core.events.post("manifest", made)
        return made

    async def _add(self, session: Session, manifest_id: int, entries: list[Entry], *, complete: bool) -> None:
        run = self._core.database.run
        for at in range(0, len(entries), BATCH):
            await run(_append, manifest_id, session.scope, entries[at : at + BATCH])
        if complete:
            await run(_complete, manifest_id, session.scope)
        self._core.events.post("manifest", manifest_id)


async def _parse(method: str, mappings: dict[str, Any]) -> list[Entry]:
    if len(mappings) > INLINE:
        items = await asyncio.to_thread(parsing.parse, None, mappings)
    else:
        items = parsing.parse(None, mappings)
    entries = [item for item in items if isinstance(item, Entry)]
    if len(entries) != len(items):
        raise CommandError(
            f"{method} takes files with their size or flags, links and empty directories; use createManifest "
            "for sources that are to be looked through"
        )
    return entries


def _create(
    connection: sqlite3.Connection,
    owner: Owner,
    now_us: int,
    roots: str | None,
    entries: list[Entry],
    data: dict[str, str],
    complete: bool,
) -> int:
    made = manifests.create(connection, owner, now_us, roots)
    manifests.add_files(connection, made.id, 0, entries)
    objects.set_user_data(connection, made.id, data)
    if complete:
        _complete(connection, made.id, EVERYTHING)
    return made.id


def _append(connection: sqlite3.Connection, manifest_id: int, scope: Scope, batch: list[Entry]) -> None:
    _require_open(connection, manifest_id, scope)
    (first,) = connection.execute(
        "SELECT coalesce(max(seq) + 1, 0) FROM manifest_files WHERE manifest_id=?", (manifest_id,)
    ).fetchone()
    manifests.add_files(connection, manifest_id, first, batch)


def _complete(connection: sqlite3.Connection, manifest_id: int, scope: Scope) -> None:
    """It fails when two of its entries have one destination path."""
    _require_open(connection, manifest_id, scope)
    count, distinct, size = connection.execute(
        "SELECT count(*), count(DISTINCT dest), coalesce(sum(max(size, 0)), 0) FROM manifest_files"
        " WHERE manifest_id=?",
        (manifest_id,),
    ).fetchone()
    if distinct < count:
        manifests.fail(connection, manifest_id, "two of its sources have the same destination path")
    else:
        manifests.finish(connection, manifest_id, count, size, "")


def _require_open(connection: sqlite3.Connection, manifest_id: int, scope: Scope) -> None:
    if not manifests.get(connection, manifest_id, scope).processing:
        raise CommandError(f"manifest {manifest_id} is complete: nothing can be added to it")
