"""`send.*` about transfers: creating and asking. What changes running ones is in `control`."""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass, field, replace
from typing import Any

from agent.jetstream import constants
from agent.server import results, states, structures
from agent.server.core import Core
from agent.server.errors import CommandError
from agent.server.mappings import normalise
from agent.server.methods import checks
from agent.server.orders import Order, order_for
from agent.server.params import (
    Boolean,
    Count,
    DestinationId,
    ManifestId,
    ObjectId,
    Path,
    Priority,
    Rate,
    Seconds,
    Small,
    Text,
    TransferId,
    UserData,
)
from agent.server.registry import command
from agent.server.sending import Sender
from agent.server.session import Session
from agent.server.store import destinations, manifests, objects, owned, tokens, transfers
from agent.server.store.destinations import Destination
from agent.server.store.manifests import Manifest
from agent.server.store.scope import Owner, Scope
from agent.server.store.transfers import Transfer

MAX_FLAGS = 2_000_000
TransferData = tuple[Transfer, dict[str, str]]


@dataclass(frozen=True, slots=True)
class _Request:
    """A checked createTransfer; None = the destination's default."""

    destination_id: int
    manifest_id: int
    path: str
    priority: int | None
    flags: int | None
    checkpoint: int | None
    rate: float | None
    lane: str | None
    overwrite: int | None
    cipher: int | None
    resolution: int | None
    timeout: float
    user_data: dict[str, str]
    log: bool
    user: str | None
    password: str | None = field(repr=False)
    token: str | None = field(repr=False)


class TransferMethods:
    def __init__(self, core: Core, sender: Sender) -> None:
        self._core = core
        self._sender = sender

    @command("send.createTransfer")
    async def create(
        self,
        session: Session,
        destinationId: DestinationId,
        manifestId: ManifestId,
        destinationPath: Path | None = None,
        userName: Text | None = None,
        password: Text | None = None,
        priority: Priority | None = None,
        transferFlags: Small | None = None,
        checkpointFrequencySeconds: Count | None = None,
        sendRateMax: Rate | None = None,
        priorityLane: Text | None = None,
        overwriteMode: Small | None = None,
        minCipher: Small | None = None,
        fileTimeResolutionMicroseconds: Count | None = None,
        timeoutSeconds: Seconds | None = None,
        userData: UserData | None = None,
        token: Text | None = None,
        transferLog: Boolean = False,
    ) -> dict[str, Any]:
        checks.credentials(userName, password, token)
        checks.transfer_log(transferLog, self._core.options.log_transfer_dir)
        checks.transfer_flags(transferFlags)
        checks.overwrite_mode(overwriteMode)
        least = self._core.options.least_cipher
        checks.min_cipher(minCipher, least)
        request = _Request(
            destinationId,
            manifestId,
            normalise(destinationPath or ""),
            priority,
            transferFlags,
            checkpointFrequencySeconds,
            sendRateMax,
            priorityLane,
            overwriteMode,
            minCipher,
            fileTimeResolutionMicroseconds,
            timeoutSeconds or 0.0,
            userData or {},
            transferLog,
            userName,
            password,
            token,
        )
        order = await self._core.database.run(
            self._create, session.scope, session.owner, session.shared, request
        )
        self._sender.start(order)
        self._core.events.post("transfer", order.transfer.id)
        return self._structure(order.transfer, request.user_data) | {"queueTime": None}  # as it began

    def _create(
        self,
        connection: sqlite3.Connection,
        scope: Scope,
        owner: Owner,
        shared: str | None,
        request: _Request,
    ) -> Order:
        destination = destinations.get(connection, request.destination_id, scope)
        manifest = manifests.get(connection, request.manifest_id, scope)
        early = _first(request.flags, destination.defaults.flags) & constants.TRANSFER_FLAG_EARLY
        if manifest.processing and early and manifest.id in self._core.walks:
            files, size = manifests.so_far(connection, manifest.id)
            manifest = replace(manifest, total_files=files, total_size=size)
        else:
            _require_complete(manifest)
        checks.lane(destination, request.lane)
        wanted = self._wanted(destination, manifest, owner, request)
        checks.confidential(destination, wanted.min_cipher, wanted.password, wanted.token)
        if shared is not None:
            tokens.count_download(connection, shared, wanted.request_us)
        made = transfers.create(connection, wanted)
        objects.set_user_data(connection, made.id, request.user_data)
        self._core.logs.created(made)
        return order_for(connection, made)

    def _wanted(
        self, destination: Destination, manifest: Manifest, owner: Owner, request: _Request
    ) -> Transfer:
        """The transfer as it is to be stored, defaults filled in."""
        defaults, now = destination.defaults, self._core.clock.wall_us()
        return Transfer(
            id=0,
            uid=uuid.uuid4().hex,
            destination_id=destination.id,
            manifest_id=manifest.id,
            status=states.PENDING,
            owner=owner.name,
            owner_token=owner.token,
            owner_session=owner.session,
            destination_path=request.path,
            lane=request.lane or destination.default_lane,
            priority=_first(request.priority, defaults.priority),
            rate_max=defaults.rate_max if request.rate is None else checks.unlimited(request.rate),
            flags=_first(request.flags, defaults.flags),
            overwrite=_first(request.overwrite, defaults.overwrite),
            checkpoint_seconds=_first(request.checkpoint, defaults.checkpoint_seconds),
            time_resolution_us=_first(request.resolution, defaults.time_resolution_us),
            timeout_seconds=request.timeout,
            min_cipher=max(self._core.options.least_cipher, _first(request.cipher, defaults.min_cipher)),
            transfer_log=request.log,
            user_name=request.user,
            password=self._core.seal.seal(request.password),
            token=self._core.seal.seal(request.token),
            total_files=manifest.total_files or 0,
            total_size=manifest.total_size or 0,
            request_us=now,
            request_clock_us=self._core.clock.steady_us(),
            queue_us=now,
        )

    def _structure(self, row: Transfer, data: dict[str, str]) -> dict[str, Any]:
        return structures.transfer(row, self._core.live.counters(row), self._core.clock, data)

    @command("send.getTransfer")
    async def get(
        self, session: Session, transferId: TransferId, getCompleteFlags: Boolean | None = None
    ) -> dict[str, Any]:
        structure = self._structure(*await self._core.database.run(_read, transferId, session.scope))
        if getCompleteFlags:
            structure["completeFlags"] = await self._core.database.run(_complete_flags, transferId)
        return structure

    @command("send.getTransfers")
    async def get_all(
        self,
        session: Session,
        destinationId: DestinationId | None = None,
        before: TransferId | None = None,
        after: TransferId | None = None,
        limit: Count | None = None,
    ) -> list[dict[str, Any]]:
        found = await self._core.database.run(_read_all, destinationId, before, after, limit, session.scope)
        return [self._structure(row, data) for row, data in found]

    @command("send.waitForTransfer", waits=True)
    async def wait(self, session: Session, transferId: TransferId) -> dict[str, Any]:
        async with self._core.events.watching("transfer", transferId) as changed:
            while True:
                row, data = await self._core.database.run(_read, transferId, session.scope)
                if not row.active:
                    return self._structure(row, data)
                changed.clear()
                await changed.wait()

    @command("send.updateObjectUserData")
    async def set_user_data(
        self, session: Session, objId: ObjectId, key: Text, value: Text | None = None
    ) -> None:
        data = {key: value or ""}
        kind, found = await self._core.database.run(_set_user_data, objId, data, session.scope)
        if kind != "token":  # those have no events
            self._core.events.post(kind, found)

    @command("send.deleteObjectUserData")
    async def delete_user_data(self, session: Session, objId: ObjectId, key: Text) -> None:
        await self._core.database.run(_delete_user_data, objId, key, session.scope)


def _require_complete(manifest: Manifest) -> None:
    if manifest.processing:
        raise CommandError(f"manifest {manifest.id} is not complete yet; wait for it with waitForManifest")
    if manifest.status != manifests.COMPLETE:
        raise CommandError(f"manifest {manifest.id} failed: {manifest.error}")


def _first(value: int | None, default: int) -> int:
    return default if value is None else value


def _read(connection: sqlite3.Connection, transfer_id: int, scope: Scope) -> TransferData:
    row = transfers.get(connection, transfer_id, scope)
    return row, objects.user_data(connection, [row.id])[row.id]


def _read_all(
    connection: sqlite3.Connection,
    destination_id: int | None,
    before: int | None,
    after: int | None,
    limit: int | None,
    scope: Scope,
) -> list[TransferData]:
    if destination_id is not None:
        destinations.get(connection, destination_id, scope)
    rows = transfers.get_all(connection, destination_id, before, after, limit, scope)
    data = objects.user_data(connection, [row.id for row in rows])
    return [(row, data[row.id]) for row in rows]


def _complete_flags(connection: sqlite3.Connection, transfer_id: int) -> list[bool]:
    """One flag per manifest entry, in its order: whether the file is final and durable at the destination
    (or was left as it is by the overwrite mode)."""
    row = transfers.get(connection, transfer_id)
    if row.total_files > MAX_FLAGS:
        raise CommandError(
            f"the transfer has {row.total_files} files, flags are given for at most {MAX_FLAGS}"
        )
    flags = [False] * row.total_files
    done = (results.Outcome.DELIVERED, results.Outcome.SKIPPED)
    first = 0
    while found := transfers.batches(connection, transfer_id, first, 10):
        first = found[-1][0] + 1
        for _, data in found:
            for record in results.unpack(data):
                if record.seq < row.total_files:
                    flags[record.seq] = record.outcome in done
    return flags


def _set_user_data(
    connection: sqlite3.Connection, object_id: int | str, data: dict[str, str], scope: Scope
) -> tuple[str, int]:
    """Kind and id of what was changed."""
    found = _object(connection, object_id, scope)
    kind = owned.require(connection, found, scope)
    objects.set_user_data(connection, found, data)
    return kind, found


def _delete_user_data(connection: sqlite3.Connection, object_id: int | str, key: str, scope: Scope) -> None:
    found = _object(connection, object_id, scope)
    owned.require(connection, found, scope)
    objects.delete_user_data(connection, found, key)


def _object(connection: sqlite3.Connection, object_id: int | str, scope: Scope) -> int:
    """The id of an object that may be changed; a token is named by itself."""
    if isinstance(object_id, int):
        return object_id
    return tokens.get(connection, object_id, None, scope).id
