"""Carry out a plan through an engine, one function per kind of action.

An attempt is written down before anything is created; when the answer is lost the attempt stays open
without an id, and `collect` finds out by its tag whether it exists.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import structlog

from agent.engines.port import DestinationRequest, Engine, ReceiverCredentials, TransferRequest
from agent.model.change import Change, FileStat
from agent.model.observed import Tag
from agent.model.outcome import NotFoundError, PermanentError
from agent.model.plan import (
    Action,
    CancelTransfer,
    CreateDestination,
    DeleteDestination,
    DeletePaths,
    ForgetPaths,
    Plan,
    RenamePaths,
    ResumeTransfer,
    RetagDestination,
    SetDefaults,
    SetLanes,
    SetSendRate,
    SetTransferPriority,
    SetTransferRate,
    StartTransfer,
    SuspendTransfer,
    TrashPaths,
)
from agent.model.spec import DestinationSpec, Key, Kind
from agent.reconcile.audit import action_done
from agent.reconcile.context import Connected, Context
from agent.reconcile.queue import WHOLE
from agent.reconcile.renames import start_renaming
from agent.reconcile.sending import entries_of, require_able
from agent.reconcile.trash import start_trashing
from agent.specs.secrets import resolve

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Scene:
    """Where a plan is carried out: one destination of one server."""

    context: Context
    connected: Connected
    destination: DestinationSpec

    @property
    def engine(self) -> Engine:
        return self.connected.engine

    def destination_id(self) -> str:
        found = self.context.destination_id(self.destination.name, self.connected)
        if found is None:
            raise NotFoundError(f"Destination/{self.destination.name} does not exist on its server yet")
        return found

    @property
    def key(self) -> Key:
        return Key(Kind.DESTINATION, self.destination.name)


def execute(scene: Scene, plan: Plan) -> None:
    """Every action in order. The first error ends it; what was done stays done, the next plan sees it."""
    for action in plan.actions:
        log.debug("action", action=type(action).__name__, destination=scene.destination.name)
        _VERBS[type(action)](scene, action)
        action_done(scene.context, action)


def _create_destination(scene: Scene, action: CreateDestination) -> None:
    # Tagged as ours at once; tagged as applied only when it is: a crash in between is then repaired.
    tag = scene.context.tag(scene.key)
    found = scene.engine.create_destination(
        DestinationRequest(
            action.address,
            action.port,
            action.send_rate_max,
            replace(tag, spec_digest=""),
            action.route,
        )
    )
    scene.engine.set_lanes(found, action.lanes)
    scene.engine.set_defaults(found, action.defaults)
    scene.engine.tag_destination(found, tag)
    scene.context.set_destination_id(scene.destination.name, scene.connected, found)


def _retag(scene: Scene, action: RetagDestination) -> None:
    scene.engine.tag_destination(action.destination_id, scene.context.tag(scene.key))


def _set_lanes(scene: Scene, action: SetLanes) -> None:
    scene.engine.set_lanes(action.destination_id, action.lanes)


def _set_send_rate(scene: Scene, action: SetSendRate) -> None:
    scene.engine.set_send_rate(action.destination_id, action.send_rate_max)


def _set_defaults(scene: Scene, action: SetDefaults) -> None:
    scene.engine.set_defaults(action.destination_id, action.defaults)


def _delete_destination(scene: Scene, action: DeleteDestination) -> None:
    """What the ledger says was true of this destination, and is not of the one that may follow."""
    state = scene.context.state
    for mapping, destination in state.ledger.deliveries():
        if destination == scene.destination.name:
            for attempt in state.attempts.of(mapping, destination):
                state.attempts.finish(attempt.number, "cancelled", action.reason, scene.context.clock.time())
            state.ledger.drop(mapping, destination)
    for key in scene.context.mappings_of(scene.destination.name):
        scene.context.queue.add(key, hints=WHOLE)
    try:
        scene.engine.delete_destination(action.destination_id)
    except NotFoundError:
        pass  # gone already is what we wanted
    scene.context.set_destination_id(scene.destination.name, scene.connected, None)


def change_digest(changes: Iterable[Change]) -> str:
    """Identity of a change set: which paths in which versions."""
    digest = hashlib.sha256()
    for change in changes:
        digest.update(repr((change.path, *change.stat)).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _start_transfer(scene: Scene, action: StartTransfer) -> None:
    context = scene.context
    mapping = context.desired.mappings.get(action.mapping)
    require_able(scene.connected.capabilities, action.changes, mapping, scene.destination)
    destination_id = scene.destination_id()
    digest = change_digest(action.changes)
    paths: list[tuple[str, str, FileStat | None]] = [(c.path, c.source, c.stat) for c in action.changes]
    attempt = context.state.attempts.open(
        action.mapping,
        action.destination,
        "transfer",
        digest,
        context.desired.revision,
        paths,
        context.clock.time(),
    )
    request = _request(scene, action, destination_id, digest, attempt.number)
    try:
        started = scene.engine.start_transfer(request)
    except PermanentError as error:
        context.state.attempts.finish(attempt.number, "refused", str(error), context.clock.time())
        raise
    context.state.attempts.created(attempt.number, started.id, started.manifest_id)
    log.info(
        "transfer started",
        mapping=action.mapping,
        destination=action.destination,
        transfer=started.id,
        attempt=attempt.number,
        files=len(action.changes),
        bytes=action.total_bytes,
        lane=action.lane,
        revision=context.desired.revision,
    )


def _request(
    scene: Scene, action: StartTransfer, destination_id: str, digest: str, attempt: int
) -> TransferRequest:
    defaults = scene.destination.transfer_defaults
    mapping = scene.context.desired.mappings.get(action.mapping)
    tag: Tag = scene.context.tag(Key(Kind.MAPPING, action.mapping), attempt, digest)
    return TransferRequest(
        destination_id=destination_id,
        entries=entries_of(action.changes, action.preserve_executable, mapping),
        lane=action.lane,
        priority=action.priority,
        send_rate_max=action.send_rate_max,
        overwrite=action.overwrite,
        preserve_mtime=action.preserve_mtime,
        checkpoint_interval=defaults.checkpoint_interval,
        modification_time_tolerance=defaults.modification_time_tolerance,
        timeout=defaults.timeout,
        tag=tag,
        credentials=receiver_credentials(scene),
        durability=defaults.durability,
        as_set=action.as_set,
        marker="" if mapping is None or mapping.marker is None else mapping.marker,
    )


def receiver_credentials(scene: Scene) -> ReceiverCredentials | None:
    """Resolved at each use, so that a changed secret takes effect. PermanentError when it cannot be found."""
    wanted = scene.destination.credentials
    if wanted is None:
        return None
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    password = resolve(wanted.password, os.environ, directory, scene.context.policy)
    return ReceiverCredentials(wanted.user_name, password)


def _resume(scene: Scene, action: ResumeTransfer) -> None:
    scene.engine.resume(action.transfer_id)


def _suspend(scene: Scene, action: SuspendTransfer) -> None:
    scene.engine.suspend(action.transfer_id)


def _cancel(scene: Scene, action: CancelTransfer) -> None:
    scene.engine.cancel(action.transfer_id, action.reason)
    now = scene.context.clock.time()
    for attempt in scene.context.state.attempts.of(action.mapping, action.destination):
        if attempt.transfer_id == action.transfer_id:
            scene.context.state.attempts.finish(attempt.number, "cancelled", action.reason, now)


def _set_priority(scene: Scene, action: SetTransferPriority) -> None:
    scene.engine.set_priority(action.transfer_id, action.lane, action.priority)


def _set_transfer_rate(scene: Scene, action: SetTransferRate) -> None:
    scene.engine.set_transfer_rate(action.transfer_id, action.send_rate_max)


def _delete_paths(scene: Scene, action: DeletePaths) -> None:
    context = scene.context
    paths: list[tuple[str, str, FileStat | None]] = [
        (path, "", None) for path in (*action.files, *action.directories)
    ]
    attempt = context.state.attempts.open(
        action.mapping,
        action.destination,
        "delete",
        hashlib.sha256(repr(paths).encode("utf-8", "surrogateescape")).hexdigest()[:16],
        context.desired.revision,
        paths,
        context.clock.time(),
    )
    deletion = scene.engine.start_deletion(
        scene.destination_id(), action.files, action.directories, receiver_credentials(scene)
    )
    context.state.attempts.created(attempt.number, deletion, "")
    log.info(
        "deletion started",
        mapping=action.mapping,
        destination=action.destination,
        attempt=attempt.number,
        files=len(action.files),
        directories=len(action.directories),
        revision=context.desired.revision,
    )


def _rename_paths(scene: Scene, action: RenamePaths) -> None:
    start_renaming(scene.context, scene.engine, scene.destination_id(), action, receiver_credentials(scene))


def _trash_paths(scene: Scene, action: TrashPaths) -> None:
    start_trashing(scene.context, scene.engine, scene.destination_id(), action, receiver_credentials(scene))


def _forget_paths(scene: Scene, action: ForgetPaths) -> None:
    scene.context.state.ledger.forget(action.mapping, action.destination, action.paths)


_VERBS: dict[type[Action], Callable[[Scene, Any], None]] = {
    CreateDestination: _create_destination,
    RetagDestination: _retag,
    SetLanes: _set_lanes,
    SetSendRate: _set_send_rate,
    SetDefaults: _set_defaults,
    DeleteDestination: _delete_destination,
    StartTransfer: _start_transfer,
    ResumeTransfer: _resume,
    SuspendTransfer: _suspend,
    CancelTransfer: _cancel,
    SetTransferPriority: _set_priority,
    SetTransferRate: _set_transfer_rate,
    DeletePaths: _delete_paths,
    RenamePaths: _rename_paths,
    TrashPaths: _trash_paths,
    ForgetPaths: _forget_paths,
}
