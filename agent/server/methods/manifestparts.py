"""`lanesync.fillManifest`: a manifest of more entries than one message holds, filled in several calls."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

from agent.server import mappings as parsing
from agent.server import sources
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.params import Boolean, ManifestId, Object
from agent.server.registry import command
from agent.server.session import Session
from agent.server.store import manifests
from agent.server.store.manifests import Entry
from agent.server.store.scope import Scope

BATCH = 2000  # entries a transaction: others wait no longer than for one


class ManifestParts:
    def __init__(self, core: Core) -> None:
        self._core = core

    @command("lanesync.fillManifest")
    async def fill(
        self,
        session: Session,
        mappings: Object,
        manifestId: ManifestId | None = None,
        complete: Boolean = True,
    ) -> dict[str, Any]:
        """Begin a manifest, or add to it. Entries keep the order in which they come; nothing is looked at."""
        items = await asyncio.to_thread(parsing.parse, None, mappings)
        entries = [item for item in items if isinstance(item, Entry)]
        if len(entries) != len(items):
            raise CommandError(
                "fillManifest takes files with their size or flags, links and empty directories; use "
                "createManifest for sources that are to be looked through"
            )
        run = self._core.database.run
        if manifestId is None:
            reach = self._core.reach.sources(session.user or "", session.path)
            now = self._core.clock.wall_us()
            made = await run(manifests.create, session.owner, now, sources.stored(reach))
            manifestId = made.id
        for at in range(0, len(entries), BATCH):
            await run(_append, manifestId, session.scope, entries[at : at + BATCH])
        if complete:
            await run(_complete, manifestId, session.scope)
        self._core.events.post("manifest", manifestId)
        return {"manifestId": str(manifestId)}


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
