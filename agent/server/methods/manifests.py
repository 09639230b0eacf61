"""`send.*` about manifests."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import structlog

from agent.jetstream import constants
from agent.server import mappings as parsing
from agent.server import sources, structures
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.mappings import Root
from agent.server.params import Count, ManifestId, Object, Small
from agent.server.registry import command
from agent.server.rpc import encode
from agent.server.sandboxes import Roots
from agent.server.sending import Sender
from agent.server.session import Session
from agent.server.sources import Sources
from agent.server.store import manifests, objects
from agent.server.store.manifests import Entry, Manifest
from agent.server.store.scope import Owner, Scope
from agent.server.traversal import Traversal, TraversalError

_log = structlog.get_logger(__name__)

BATCH = 2000  # entries a transaction: others wait no longer than for one
PAGE = 500  # files of an answer that are read at once
ENVELOPE = 1024  # bytes of an answer around its files
INLINE = 64  # up to so many explicit entries are stored within the call
PURGE_ROWS = 20_000
STOP_SECONDS = 1.0
RETRY_SECONDS = 1.0
_SYMLINKS = (constants.SYMLINKS_COPY_CONTENTS, constants.SYMLINKS_IGNORE)


class _DeletedError(Exception):
    """The manifest was deleted while its sources were walked."""


class ManifestMethods:
    def __init__(self, core: Core, sender: Sender) -> None:
        self._core = core
        self._sender = sender
        self._stop = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    @command("send.createManifest")
    async def create(
        self,
        session: Session,
        fileMappings: Object | None = None,
        mappings: Object | None = None,
        symlinkOptions: Small | None = None,
    ) -> dict[str, Any]:
        if symlinkOptions not in (None, *_SYMLINKS):
            raise CommandError(
                f"symlinkOptions {symlinkOptions} is unknown; use 0 (SYMLINKS_COPY_CONTENTS) or 1 "
                "(SYMLINKS_IGNORE)"
            )
        if len(mappings or fileMappings or ()) > INLINE:
            items = await asyncio.to_thread(parsing.parse, fileMappings, mappings)
        else:
            items = parsing.parse(fileMappings, mappings)
        follow = symlinkOptions != constants.SYMLINKS_IGNORE
        roots = [item for item in items if isinstance(item, Root)]
        reach = self._core.reach.sources(session.user or "", session.path)
        if roots:
            await asyncio.get_running_loop().run_in_executor(
                self._core.io, _require_sources, roots, follow, sources.of_roots(reach)
            )
        owner, now = session.owner, self._core.clock.wall_us()
        if not roots and len(items) <= INLINE:
            entries = [item for item in items if isinstance(item, Entry)]
            made = await self._core.database.run(_create_whole, owner, now, entries, reach)
            self._core.events.post("manifest", made.id)
        else:
            made = await self._core.database.run(manifests.create, owner, now, sources.stored(reach))
            self._core.walks.add(made.id)
            self._fill(made.id, items, Traversal(follow, sources=sources.of_roots(reach)))
        return structures.manifest(made, {})

    def _fill(self, manifest_id: int, items: list[Entry | Root], traversal: Traversal) -> None:
        """Walk the sources in a thread, and tell who waits."""

        async def work() -> None:
            loop = asyncio.get_running_loop()

            def grown() -> None:
                loop.call_soon_threadsafe(self._sender.grown, manifest_id)

            problem = await loop.run_in_executor(
                self._core.io, self._store_all, manifest_id, items, traversal, grown
            )
            if problem is not None:
                await self._record_failure(manifest_id, problem)
            self._core.walks.discard(manifest_id)
            self._sender.grown(manifest_id)
            self._core.events.post("manifest", manifest_id)

        task = asyncio.create_task(work(), name=f"manifest {manifest_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _record_failure(self, manifest_id: int, problem: str) -> None:
        """Store it, however long the store itself fails: somebody may wait for the manifest."""
        while True:
            try:
                await self._core.database.run(manifests.fail, manifest_id, problem)
            except sqlite3.Error:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    def _store_all(
        self,
        manifest_id: int,
        items: list[Entry | Root],
        traversal: Traversal,
        grown: Callable[[], None],
    ) -> str | None:
        """Walk and store; returns what went wrong, if anything. `grown` is called after each part."""
        database = self._core.database
        count = size = 0
        try:
            for batch in _batches(parsing.distinct(items, _entries(items, traversal))):
                if self._stop.is_set():
                    return None  # the next launch says that it was interrupted
                size += sum(max(0, entry.size) for entry in batch)
                database.submit(_append, manifest_id, count, size, batch).result()
                count += len(batch)
                grown()
            database.submit(manifests.finish, manifest_id, count, size, traversal.notes.text()).result()
        except _DeletedError:
            return "the manifest was deleted"
        except (TraversalError, CommandError) as error:
            return str(error)
        except (OSError, sqlite3.Error, UnicodeError) as error:
            _log.exception("manifest failed", manifest=str(manifest_id))
            return f"the manifest could not be made: {error}"
        return None

    @command("send.getManifest")
    async def get(self, session: Session, manifestId: ManifestId) -> dict[str, Any]:
        return _shown(session, *await self._core.database.run(_read, manifestId, session.scope))

    @command("send.getManifests")
    async def get_all(
        self,
        session: Session,
        before: ManifestId | None = None,
        after: ManifestId | None = None,
        limit: Count | None = None,
    ) -> list[dict[str, Any]]:
        found = await self._core.database.run(_read_all, before, after, limit, session.scope)
        return [_shown(session, row, data) for row, data in found]

    @command("send.getManifestFiles")
    async def get_files(
        self, session: Session, manifestId: ManifestId, limit: Count | None = None
    ) -> dict[str, Any]:
        total = await self._core.database.run(_files_of, manifestId, session.scope)
        wanted = min(limit or total, total)
        found: list[dict[str, Any]] = []
        room = constants.MAX_MESSAGE_BYTES - ENVELOPE
        while len(found) < wanted:
            count = min(PAGE, wanted - len(found))
            entries = await self._core.database.run(_page, manifestId, len(found), count)
            if not entries:
                break  # deleted meanwhile
            if session.shared is not None:  # where the files lie is nothing to whom they are shared with
                entries = [entry._replace(src="") for entry in entries]
            part = structures.file_mappings(entries)
            room = _require_room(len(found), part, room, total)
            found += part
        return {"manifestId": str(manifestId), "fileMappings": found}

    @command("send.waitForManifest", waits=True)
    async def wait(self, session: Session, manifestId: ManifestId) -> dict[str, Any]:
        async with self._core.events.watching("manifest", manifestId) as changed:
            while True:
                row, data = await self._core.database.run(_read, manifestId, session.scope)
                if not row.processing:
                    return _shown(session, row, data)
                changed.clear()
                await changed.wait()

    @command("send.deleteManifest")
    async def delete(self, session: Session, manifestId: ManifestId) -> None:
        gone = await self._core.database.run(manifests.delete, manifestId, session.scope)
        self._core.events.post("manifest", manifestId, gone)
        await self.purge(rounds=1)

    async def purge(self, rounds: int) -> None:
        """Remove files of deleted manifests that nothing uses, a bounded part at a time."""
        while rounds > 0 and await self._core.database.run(manifests.purge, PURGE_ROWS):
            rounds -= 1

    async def stop(self) -> None:
        """Have walks end; one that hangs in a file system is left behind."""
        self._stop.set()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_SECONDS)


def _require_sources(roots: list[Root], follow: bool, allowed: Sources) -> None:
    """CommandError for one that does not exist; a link to nowhere does not when links are followed."""
    for root in roots:
        try:
            allowed.stat(root.src, follow=follow)
        except OSError as error:
            raise CommandError(
                f"createManifest: source {root.src!r} of {root.dest!r}: {error.strerror}"
            ) from None


def _create_whole(
    connection: sqlite3.Connection, owner: Owner, now_us: int, entries: list[Entry], reach: Roots | None
) -> Manifest:
    """Create, fill and complete in one transaction; what is answered is the manifest as it began."""
    made = manifests.create(connection, owner, now_us, sources.stored(reach))
    manifests.add_files(connection, made.id, 0, entries)
    total = sum(max(0, entry.size) for entry in entries)
    manifests.finish(connection, made.id, len(entries), total, "")
    return made


def _entries(items: Iterable[Entry | Root], traversal: Traversal) -> Iterator[Entry]:
    for item in items:
        if isinstance(item, Entry):
            yield item
        else:
            yield from traversal.entries(item)


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    while batch := list(islice(entries, BATCH)):
        yield batch


def _append(
    connection: sqlite3.Connection, manifest_id: int, first: int, size: int, batch: list[Entry]
) -> None:
    """`size`: of all entries so far, with these."""
    row = connection.execute("SELECT deleted FROM manifests WHERE id=?", (manifest_id,)).fetchone()
    if row is None or row[0]:
        raise _DeletedError
    manifests.add_files(connection, manifest_id, first, batch)
    manifests.count(connection, manifest_id, first + len(batch), size)


def _read(connection: sqlite3.Connection, manifest_id: int, scope: Scope) -> tuple[Manifest, dict[str, str]]:
    row = manifests.get(connection, manifest_id, scope)
    return _told(row), objects.user_data(connection, [row.id])[row.id]


def _read_all(
    connection: sqlite3.Connection, before: int | None, after: int | None, limit: int | None, scope: Scope
) -> list[tuple[Manifest, dict[str, str]]]:
    rows = manifests.get_all(connection, before, after, limit, scope)
    data = objects.user_data(connection, [row.id for row in rows])
    return [(_told(row), data[row.id]) for row in rows]


def _shown(session: Session, row: Manifest, data: dict[str, str]) -> dict[str, Any]:
    """The structure. What was left out, and where it lies, is nothing to whom the manifest is shared with."""
    if session.shared is not None and row.error:
        row = replace(row, error="")
    return structures.manifest(row, data)


def _told(row: Manifest) -> Manifest:
    """While pending the totals and the message are null; afterwards the message is text."""
    return row if row.processing else replace(row, error=row.error or "")


def _files_of(connection: sqlite3.Connection, manifest_id: int, scope: Scope) -> int:
    """How many there are. CommandError while that is not known."""
    row = manifests.get(connection, manifest_id, scope)
    if row.processing:
        raise CommandError(f"manifest {manifest_id} is not complete yet; wait for it with waitForManifest")
    return row.total_files or 0


def _page(connection: sqlite3.Connection, manifest_id: int, first: int, count: int) -> list[Entry]:
    return [entry for _, entry in manifests.files(connection, manifest_id, first - 1, count)]


def _require_room(told: int, part: list[dict[str, Any]], room: int, total: int) -> int:
    """The room that is left in the answer after `part`. CommandError that says how many fit, if it does
    not."""
    left = room - len(encode(part))
    if left >= 0:
        return left
    room -= len("[]")
    for mapping in part:
        room -= len(encode(mapping))
        if room < 0:
            break
        told += 1
    raise CommandError(
        f"the files of this manifest ({total}) do not fit a message of {constants.MAX_MESSAGE_BYTES} bytes; "
        f"ask for fewer, for example limit={told}"
    )
