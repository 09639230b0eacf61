"""`send.*` about destinations and connections."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import sqlite3
from dataclasses import replace
from typing import Any

from agent.jetstream import constants
from agent.server import structures, triggering
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.live import Link
from agent.server.methods import checks
from agent.server.orders import connection_of
from agent.server.params import (
    Boolean,
    Count,
    DestinationId,
    Object,
    Port,
    Priority,
    Rate,
    SenderPort,
    Small,
    Text,
)
from agent.server.registry import command
from agent.server.sending import Sender
from agent.server.session import Session
from agent.server.store import destinations, manifests, objects, transfers
from agent.server.store.destinations import Defaults, Destination
from agent.server.store.scope import Scope

RESOLVE_SECONDS = 2.0
PING_SECONDS = 30.0
MAX_PINGS = 100
_HOST = re.compile(r"[A-Za-z0-9_.:%-]{1,253}")
_DEFAULT_LANES = tuple(constants.DEFAULT_PRIORITY_LANES.items())


class DestinationMethods:
    def __init__(self, core: Core, sender: Sender) -> None:
        self._core = core
        self._sender = sender

    @command("send.createDestination")
    async def create(
        self,
        session: Session,
        destinationAddress: Text,
        sendRateMax: Rate | None = None,
        destinationPort: Port | None = None,
        authenticateDestination: Boolean | None = None,
        destinationPublicKey: Text | None = None,
        relayAddress: Text | None = None,
        relayPort: Port | None = None,
        senderPort: SenderPort | None = None,
        exclusive: Boolean | None = None,
        permanent: Boolean | None = None,
    ) -> dict[str, Any]:
        for host in (destinationAddress, relayAddress):
            if host is not None and _HOST.fullmatch(host) is None:
                raise CommandError(f"{host[:80]!r} is not a host name or address")
        if relayPort is not None and relayAddress is None:
            raise CommandError("relayPort needs a relayAddress")
        public_key, authenticate = checks.destination_key(destinationPublicKey, authenticateDestination)
        wanted = Destination(
            id=0,
            connection_id=0,
            address=destinationAddress,
            port=destinationPort or constants.DEFAULT_API_PORT,
            ip=await self._resolve(destinationAddress),
            sender_port=senderPort or 0,
            permanent=bool(permanent),
            rate_max=checks.unlimited(sendRateMax),
            lanes=_DEFAULT_LANES,
            defaults=Defaults(checkpoint_seconds=self._core.options.checkpoint_seconds),
            owner=session.owner.name,
            owner_token=session.owner.token,
            owner_session=session.owner.session,
            created_us=self._core.clock.wall_us(),
            public_key=public_key,
            authenticate=authenticate,
            relay_address=relayAddress or "",
            relay_port=(relayPort or constants.DEFAULT_RELAY_PORT) if relayAddress else 0,
        )
        wanted = replace(wanted, defaults=replace(wanted.defaults, min_cipher=checks.default_cipher(wanted)))
        made, is_new = await self._core.database.run(
            destinations.create, wanted, exclusive=bool(exclusive), make_permanent=bool(permanent)
        )
        if is_new:
            triggering.destination_created(self._core, made)
            self._core.events.post("destination", made.id)
            return self._structure(made, 0, {})
        return await self.get(session, made.id)

    async def _resolve(self, address: str) -> str | None:
        """Its IP, IPv4 if there is one; None when the name is not known now (it may be later)."""
        try:
            return str(ipaddress.ip_address(address))
        except ValueError:
            pass
        loop = asyncio.get_running_loop()
        lookup = loop.run_in_executor(self._core.io, _look_up, address)
        try:
            return await asyncio.wait_for(lookup, RESOLVE_SECONDS)
        except TimeoutError:
            return None

    def _structure(self, row: Destination, queued: int, data: dict[str, str]) -> dict[str, Any]:
        return structures.destination(row, self._core.live.links.get(row.id, Link()), queued, data)

    @command("send.getDestination")
    async def get(self, session: Session, destinationId: DestinationId) -> dict[str, Any]:
        return self._structure(*await self._core.database.run(_read, destinationId, session.scope))

    @command("send.getDestinations")
    async def get_all(self, session: Session, limit: Count = 0) -> list[dict[str, Any]]:
        found = await self._core.database.run(_read_all, limit, session.scope)
        return [self._structure(*each) for each in found]

    @command("send.deleteDestination")
    async def delete(self, session: Session, destinationId: DestinationId) -> None:
        suspended = await self._core.database.run(_require_no_active, destinationId, session.scope)
        for transfer in suspended:
            await self._sender.stop_transfer(transfer, discard=True)
        await self._sender.settle_discards(destinationId)
        destination, gone = await self._core.database.run(_delete, destinationId, session.scope)
        self._sender.remove_destination(destinationId)
        for transfer in gone:
            self._core.events.post("transfer", transfer.id, transfer)
        self._core.events.post("destination", destinationId, destination)
        triggering.destination_deleted(self._core, destination)

    async def check(self, session: Session, destinationId: int, **_: object) -> None:
        await self._core.database.run(destinations.get, destinationId, session.scope)

    @command("send.setSendRateMax", twin=True, check="check")
    async def set_rate(
        self, session: Session, destinationId: DestinationId, sendRateMax: Rate
    ) -> dict[str, Any]:
        rate = checks.unlimited(sendRateMax)
        changed = await self._apply(
            session.scope,
            destinationId,
            lambda connection: destinations.set_rate(connection, destinationId, rate),
        )
        await self._sender.refresh(changed.connection_id)
        return {"sendRateMax": sendRateMax}

    async def check_lanes(self, session: Session, destinationId: int, priorityLanes: dict[str, Any]) -> None:
        await self._core.database.run(_check_lanes, destinationId, priorityLanes, session.scope)

    @command("send.setPriorityLanes", twin=True, check="check_lanes")
    async def set_lanes(
        self, session: Session, destinationId: DestinationId, priorityLanes: Object
    ) -> dict[str, Any]:
        scope = session.scope

        def change(connection: sqlite3.Connection) -> None:
            lanes = _check_lanes(connection, destinationId, priorityLanes, scope)
            destinations.update(connection, destinationId, lanes=lanes)

        await self._apply(scope, destinationId, change)
        return {"destinationId": str(destinationId)}

    async def _apply(self, scope: Scope, destination_id: int, change: Any) -> Destination:
        """Store a change of a destination and have it act at once."""

        def work(connection: sqlite3.Connection) -> tuple[Destination, destinations.Connection]:
            destinations.get(connection, destination_id, scope)
            change(connection)
            changed = destinations.get(connection, destination_id)
            return changed, connection_of(connection, changed)

        changed, shared = await self._core.database.run(work)
        self._sender.tell(changed, shared, only_known=True)
        self._core.events.post("destination", destination_id)
        return changed

    @command("send.updateTransferDefaults")
    async def update_defaults(
        self,
        session: Session,
        destinationId: DestinationId,
        priority: Priority | None = None,
        transferFlags: Small | None = None,
        checkpointFrequencySeconds: Count | None = None,
        sendRateMax: Rate | None = None,
        priorityLane: Text | None = None,
        overwriteMode: Small | None = None,
        minCipher: Small | None = None,
        fileTimeResolutionMicroseconds: Count | None = None,
    ) -> None:
        checks.transfer_flags(transferFlags)
        checks.overwrite_mode(overwriteMode)
        checks.min_cipher(minCipher, self._core.options.least_cipher)
        given = {
            "priority": priority,
            "flags": transferFlags,
            "checkpoint_seconds": checkpointFrequencySeconds,
            "lane": priorityLane,
            "overwrite": overwriteMode,
            "min_cipher": minCipher,
            "time_resolution_us": fileTimeResolutionMicroseconds,
        }
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if sendRateMax is not None:
            changes["rate_max"] = checks.unlimited(sendRateMax)

        scope = session.scope

        def change(connection: sqlite3.Connection) -> None:
            row = destinations.get(connection, destinationId, scope)
            checks.lane(row, priorityLane)
            destinations.update(connection, destinationId, defaults=replace(row.defaults, **changes))

        await self._apply(scope, destinationId, change)

    @command("send.schedulePing", twin=True, check="check")
    async def ping(self, session: Session, destinationId: DestinationId, pingCount: Count) -> dict[str, Any]:
        if not 1 <= pingCount <= MAX_PINGS:
            raise CommandError(f"pingCount must be from 1 to {MAX_PINGS}")
        destination = await self._core.database.run(destinations.get, destinationId, session.scope)
        for _ in range(pingCount):
            await self._sender.remote(destination, "ping", {}, PING_SECONDS)
            link = self._core.live.link(destinationId)
            link.last_recv_us, link.answering_id = self._core.clock.wall_us(), link.server_id
            self._core.events.post("destination", destinationId)
        return {"destinationId": str(destinationId), "pingCount": pingCount}


def _look_up(address: str) -> str | None:
    try:
        found = socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])


def _read(
    connection: sqlite3.Connection, destination_id: int, scope: Scope
) -> tuple[Destination, int, dict[str, str]]:
    row = destinations.get(connection, destination_id, scope)
    queued = transfers.active_counts(connection).get(row.id, 0)
    return row, queued, objects.user_data(connection, [row.id])[row.id]


def _read_all(
    connection: sqlite3.Connection, limit: int, scope: Scope
) -> list[tuple[Destination, int, dict[str, str]]]:
    rows = destinations.get_all(connection, limit, scope)
    queued, data = (
        transfers.active_counts(connection),
        objects.user_data(connection, [row.id for row in rows]),
    )
    return [(row, queued.get(row.id, 0), data[row.id]) for row in rows]


def _require_no_active(
    connection: sqlite3.Connection, destination_id: int, scope: Scope
) -> list[transfers.Transfer]:
    """The destination's suspended transfers; CommandError while one is active, or of somebody else."""
    destinations.get(connection, destination_id, scope)
    rows = transfers.get_all(connection, destination_id)
    if not all(scope.owns(row) for row in rows):
        raise CommandError(
            f"destination {destination_id} has transfers of others; they or a superuser have to delete those "
            "first"
        )
    active = [row.id for row in rows if row.active]
    if active:
        raise CommandError(
            f"destination {destination_id} has active transfers: {len(active)}, the first is {active[0]}; "
            "suspend and delete them first"
        )
    return [row for row in rows if row.status == "suspended"]


def _delete(
    connection: sqlite3.Connection, destination_id: int, scope: Scope
) -> tuple[Destination, list[transfers.Transfer]]:
    """What went with it."""
    _require_no_active(connection, destination_id, scope)
    destination = destinations.get(connection, destination_id)
    gone = transfers.get_all(connection, destination_id)
    for transfer in gone:
        transfers.delete(connection, transfer.id)
    destinations.delete(connection, destination)
    manifests.purge(connection, 1)
    return destination, gone


def _check_lanes(
    connection: sqlite3.Connection, destination_id: int, mapping: dict[str, Any], scope: Scope
) -> destinations.Lanes:
    destination = destinations.get(connection, destination_id, scope)
    lanes = checks.lanes(mapping)
    checks.lanes_change(destination.lanes, lanes, transfers.active_lanes(connection, destination_id))
    return lanes
