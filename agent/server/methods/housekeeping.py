"""`server.*` for those who run the server: clean-up, event log, licences, addresses, the end."""

# ruff: noqa: ARG002 - every method takes the session and its documented parameters

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import structlog

from agent.server import discovery, licenses
from agent.server.collect import LEAST_INTERVAL, MOST_SECONDS, Collector, Settings
from agent.server.core import Core
from agent.server.discovery import Discovery
from agent.server.errors import CommandError
from agent.server.eventlog import MAX_ENTRIES, EventRecorder
from agent.server.methods import checks
from agent.server.params import Count, Port, Seconds, Small, Text
from agent.server.registry import command
from agent.server.session import Session

_log = structlog.get_logger(__name__)

MOST_WAIT = 3600.0
ANSWER_SECONDS = 0.2  # for the answer of terminate to leave before the end begins


class HousekeepingMethods:
    def __init__(
        self, core: Core, collector: Collector, recorder: EventRecorder, discovered: Discovery
    ) -> None:
        self._core = core
        self._collector = collector
        self._recorder = recorder
        self._discovery = discovered

    @command("server.garbageCollect", twin=True)
    async def collect(self, session: Session) -> dict[str, int]:
        checks.superuser(session, "garbageCollect")
        return (await self._collector.collect()).counts()

    @command("server.getGarbageCollectSettings")
    async def settings(self, session: Session) -> dict[str, int]:
        return _settings(await self._collector.settings())

    @command("server.updateGarbageCollectSettings")
    async def update_settings(
        self, session: Session, intervalSeconds: Small | None = None, timeLimitSeconds: Small | None = None
    ) -> dict[str, int]:
        checks.superuser(session, "updateGarbageCollectSettings")
        settings = await self._collector.settings()
        if intervalSeconds is not None:
            _in_range("intervalSeconds", intervalSeconds, LEAST_INTERVAL)
            settings = replace(settings, interval_seconds=intervalSeconds)
        if timeLimitSeconds is not None:
            _in_range("timeLimitSeconds", timeLimitSeconds, 0)
            settings = replace(settings, time_limit_seconds=timeLimitSeconds)
        await self._collector.change(settings)
        return _settings(settings)

    @command("server.getEventLog")
    async def event_log(self, session: Session, limit: Count = MAX_ENTRIES) -> list[dict[str, Any]]:
        return self._recorder.entries(session.scope, max(1, limit))

    @command("server.getThirdPartyLicenses")
    async def third_party(self, session: Session) -> list[dict[str, str]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._core.io, licenses.third_party)

    @command("server.setLicenseKey", twin=True)
    async def set_license(self, session: Session, licenseKey: Text) -> dict[str, Any]:
        checks.superuser(session, "setLicenseKey")
        return {"licenseRequired": False, "message": "this server needs no licence key; nothing was changed"}

    @command("server.recvDiscoverPacket", twin=True, waits=True)
    async def recv_discover(self, session: Session, timeoutSeconds: Seconds = 30.0) -> dict[str, Any] | None:
        return await self._discovery.received(min(timeoutSeconds, MOST_WAIT))

    @command("server.sendDiscoverPacket", twin=True)
    async def send_discover(self, session: Session, address: Text, port: Port) -> dict[str, Any]:
        return await discovery.ask(address, port)

    @command("server.terminate")
    async def terminate(self, session: Session) -> None:
        checks.superuser(session, "terminate")
        _log.info("told to end", user=session.user)
        asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._core.end, "terminate")


def _settings(settings: Settings) -> dict[str, int]:
    return {
        "intervalSeconds": settings.interval_seconds,
        "timeLimitSeconds": settings.time_limit_seconds,
    }


def _in_range(name: str, value: int, low: int) -> None:
    if not low <= value <= MOST_SECONDS:
        raise CommandError(f"{name} must be {low} to {MOST_SECONDS} seconds")
