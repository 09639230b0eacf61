"""Garbage collection as documented: at an interval, of what is old enough, never of what is used."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields

import structlog

from agent.server.core import Core
from agent.server.store import destinations, manifests, meta, requests, tokens, transfers

_log = structlog.get_logger(__name__)

REQUEST_AGE_US = 3600 * 1_000_000
MAX_A_RUN = 10_000
TOKENS_SECONDS = 3600.0  # expired tokens go within two hours, whatever the interval
LEAST_INTERVAL, MOST_SECONDS = 60, 2**31 - 1
RETRY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Documented: hourly, of what is 48 hours old. Survive restarts."""

    interval_seconds: int = 3600
    time_limit_seconds: int = 48 * 3600


@dataclass(frozen=True, slots=True)
class Collected:
    """Ids of what was removed."""

    transfers: list[int]
    manifests: list[int]
    destinations: list[int]
    tokens: list[int] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        return {kind.name: len(getattr(self, kind.name)) for kind in fields(self)}


DEFAULTS = Settings()


def load(connection: sqlite3.Connection) -> Settings:
    interval = meta.get(connection, "collectInterval")
    limit = meta.get(connection, "collectTimeLimit")
    return Settings(
        DEFAULTS.interval_seconds if interval is None else int(interval),
        DEFAULTS.time_limit_seconds if limit is None else int(limit),
    )


def store(connection: sqlite3.Connection, settings: Settings) -> None:
    meta.put(connection, "collectInterval", str(settings.interval_seconds))
    meta.put(connection, "collectTimeLimit", str(settings.time_limit_seconds))


def collect(connection: sqlite3.Connection, now_us: int, settings: Settings = DEFAULTS) -> Collected:
    """Remove, all after the time limit: transfers that ended; manifests, counted from their creation, unless
    a transfer or a shared token uses them; destinations without transfers unless permanent. Expired tokens
    at once, request records after an hour. Transfers of permanent destinations are collected too: what is
    kept is the destination."""
    limit = now_us - settings.time_limit_seconds * 1_000_000
    requests.expire(connection, now_us - REQUEST_AGE_US)
    expired = tokens.expire(connection, now_us)
    ended = _ids(
        connection,
        "SELECT id FROM transfers WHERE status IN ('complete', 'error') AND end_us <= ? LIMIT ?",
        limit,
    )
    for transfer_id in ended:
        transfers.delete(connection, transfer_id)
    unused = _ids(
        connection,
        "SELECT id FROM manifests WHERE deleted=0 AND status<>'pending' AND created_us <= ? AND NOT EXISTS"
        " (SELECT 1 FROM transfers WHERE manifest_id=manifests.id) AND NOT EXISTS"
        " (SELECT 1 FROM tokens WHERE manifest_id=manifests.id) LIMIT ?",
        limit,
    )
    for manifest_id in unused:
        manifests.delete(connection, manifest_id)
    idle = _ids(
        connection,
        "SELECT id FROM destinations WHERE permanent=0 AND created_us <= ? AND NOT EXISTS"
        " (SELECT 1 FROM transfers WHERE destination_id=destinations.id) LIMIT ?",
        limit,
    )
    for destination_id in idle:
        destinations.delete(connection, destinations.get(connection, destination_id))
    return Collected(ended, unused, idle, expired)


def _ids(connection: sqlite3.Connection, query: str, limit_us: int) -> list[int]:
    return [int(found) for (found,) in connection.execute(query, (limit_us, MAX_A_RUN))]


class Collector:
    """When to collect. `forget_destination` and `purge` are told of what is gone."""

    def __init__(
        self,
        core: Core,
        forget_destination: Callable[[int], None],
        purge: Callable[[], Awaitable[None]],
    ) -> None:
        self._core = core
        self._forget_destination = forget_destination
        self._purge = purge
        self._changed = asyncio.Event()
        self._one = asyncio.Lock()

    async def settings(self) -> Settings:
        return await self._core.database.run(load)

    async def change(self, settings: Settings) -> None:
        """Takes effect at once: the next run comes an interval from now."""
        await self._core.database.run(store, settings)
        self._changed.set()

    async def serve(self) -> None:
        """For ever; cancel to stop."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                if loop.time() >= due:
                    await self.collect()
                    due = loop.time() + (await self.settings()).interval_seconds
                else:
                    await self._core.database.run(tokens.expire, self._core.clock.wall_us())
            except sqlite3.Error:
                _log.exception("collecting garbage failed; it is tried again")
                due = loop.time() + RETRY_SECONDS
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), min(due - loop.time(), TOKENS_SECONDS))
                due = loop.time() + (await self.settings()).interval_seconds
            except TimeoutError:
                continue

    async def collect(self) -> Collected:
        """Once, now."""
        async with self._one:
            settings = await self.settings()
            removed = await self._core.database.run(collect, self._core.clock.wall_us(), settings)
            for destination_id in removed.destinations:
                self._forget_destination(destination_id)
            if any(removed.counts().values()):
                _log.info("collected", **removed.counts())
            await self._purge()
            return removed
