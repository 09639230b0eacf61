"""The server's limits of all that it sends and receives, and what one direction lends the other."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass, fields
from typing import Any

from agent.jetstream.constants import RATE_UNLIMITED
from agent.lanes.borrowing import Side, allowances
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.live import Flow
from agent.server.options import ServeOptions
from agent.server.receiving import Receiver
from agent.server.sending import Sender
from agent.server.store import meta

KEY = "bandwidth"
HELD_SECONDS = 1.0
"""For so long after a direction wanted more than it was allowed nothing of it is lent: then its rate over the
last second tells what it needs."""


@dataclass(frozen=True, slots=True)
class Limits:
    """kbit/s; None = no limit."""

    incoming: float | None = None
    outgoing: float | None = None
    borrow_incoming: bool = False  # sending may use what receiving leaves
    borrow_outgoing: bool = False  # receiving may use what sending leaves


_FIXED = {
    "incoming": ("incoming_rate_limit", "incomingRateLimit"),
    "outgoing": ("outgoing_rate_limit", "outgoingRateLimit"),
    "borrow_incoming": ("borrow_incoming_rate", "borrowIncomingRate"),
    "borrow_outgoing": ("borrow_outgoing_rate", "borrowOutgoingRate"),
}
"""Field -> option of the command line, parameter of the API."""


def fixed(options: ServeOptions) -> dict[str, Any]:
    """What the command line has settled for the life of the process."""
    given = {field: getattr(options, option) for field, (option, _) in _FIXED.items()}
    return {
        field: None if value == RATE_UNLIMITED else value
        for field, value in given.items()
        if value is not None and value is not False
    }


class Bandwidth:
    """Event loop only."""

    def __init__(self, core: Core, sender: Sender, receiver: Receiver) -> None:
        self._core = core
        self._sender = sender
        self._receiver = receiver
        self._fixed = fixed(core.options)
        self._held = {"sending": 0.0, "receiving": 0.0}
        self.limits = Limits(**self._fixed)
        sender.measured = receiver.measured = self._settle

    async def load(self) -> None:
        """What was set by the API at an earlier launch, and is not fixed now."""
        stored = await self._core.database.run(meta.get, KEY)
        known = {each.name for each in fields(Limits)}
        found = {} if stored is None else json.loads(stored)
        self.limits = Limits(**{key: found[key] for key in known & found.keys()} | self._fixed)
        self._settle()

    async def update(self, changes: dict[str, Any]) -> None:
        """Acts at once and outlasts restarts. CommandError for what the command line has fixed."""
        for field in changes:
            option, parameter = _FIXED[field]
            if field in self._fixed:
                raise CommandError(
                    f"{parameter} was fixed by --{option.replace('_', '-')} when the server was started; "
                    "start it without that option to change the limit here"
                )

        def store(connection: sqlite3.Connection) -> None:
            stored = meta.get(connection, KEY)
            known = {} if stored is None else json.loads(stored)
            meta.put(connection, KEY, json.dumps(known | changes))

        await self._core.database.run(store)
        self.limits = Limits(**asdict(self.limits) | changes)
        self._settle()

    def structure(self) -> dict[str, Any]:
        """`bandwidthLimits` of the server information; the fields are ours."""
        told: dict[str, Any] = {
            parameter: getattr(self.limits, field) for field, (_, parameter) in _FIXED.items()
        }
        return told | {
            "fixed": sorted(_FIXED[field][1] for field in self._fixed),
            "incomingRateAllowed": self._receiver.allowed,
            "outgoingRateAllowed": self._sender.allowed,
            "incomingRate": self._core.live.receiving.rate,
            "outgoingRate": self._core.live.sending.rate,
        }

    def _settle(self) -> None:
        """Tell the workers what they may have now; the one that may have less hears of it first."""
        limits, live, now = self.limits, self._core.live, self._core.clock.steady_us() / 1e6
        incoming, outgoing = allowances(
            Side(limits.incoming, live.receiving.rate, self._short("receiving", now), limits.borrow_outgoing),
            Side(limits.outgoing, live.sending.rate, self._short("sending", now), limits.borrow_incoming),
        )
        less = outgoing is not None and (self._sender.allowed or 0.0) > outgoing
        if less:
            self._sender.limit(outgoing)
        self._receiver.limit(incoming)
        self._sender.limit(outgoing)

    def _short(self, direction: str, now: float) -> bool:
        flow: Flow = getattr(self._core.live, direction)
        if flow.short:
            self._held[direction] = now + HELD_SECONDS
        return now < self._held[direction]
