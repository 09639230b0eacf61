"""`server.*` about the limits of the whole server."""

from __future__ import annotations

from typing import Any

from agent.server.bandwidth import Bandwidth
from agent.server.methods import checks
from agent.server.params import Boolean, Rate
from agent.server.registry import command
from agent.server.session import Session


class BandwidthMethods:
    def __init__(self, bandwidth: Bandwidth) -> None:
        self._bandwidth = bandwidth

    @command("server.updateBandwidthLimits")
    async def update(
        self,
        session: Session,
        incomingRateLimit: Rate | None = None,
        outgoingRateLimit: Rate | None = None,
        borrowIncomingRate: Boolean | None = None,
        borrowOutgoingRate: Boolean | None = None,
    ) -> dict[str, Any]:
        """-1 lifts a limit."""
        checks.superuser(session, "updateBandwidthLimits")
        given = {
            "incoming": incomingRateLimit,
            "outgoing": outgoingRateLimit,
            "borrow_incoming": borrowIncomingRate,
            "borrow_outgoing": borrowOutgoingRate,
        }
        changes: dict[str, Any] = {
            field: checks.unlimited(value) if isinstance(value, float) else value
            for field, value in given.items()
            if value is not None
        }
        await self._bandwidth.update(changes)
        return self._bandwidth.structure()
