"""A mapping at one destination: which transfers to start, resume, change or suspend, and what to delete."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from agent.model.change import Change, ChangeSet, Deletion, FileKind, Rename
from agent.model.observed import ObservedTransfer, TransferState
from agent.model.plan import (
    Action,
    CancelTransfer,
    ForgetPaths,
    Plan,
    ResumeTransfer,
    SetTransferPriority,
    SetTransferRate,
    StartTransfer,
    SuspendTransfer,
)
from agent.model.spec import DestinationSpec, Lane, MappingSpec, OnRemove, Publish
from agent.planning.batches import batches
from agent.planning.effective import Effective, effective, same_rate, share_rate
from agent.planning.ownership import alive, owned_by_mapping
from agent.planning.pruning import (
    StillPresent,
    candidates,
    delete_actions,
    emptied,
    rename_actions,
    trash_actions,
    without_conflicting,
    without_conflicts,
)
from agent.planning.safety import ancestors, hold, removable_directories
from agent.planning.sets import in_turn, postponed
from agent.planning.tombstones import split


def plan_mapping(
    desired: MappingSpec,
    destination: DestinationSpec,
    lanes: tuple[Lane, ...],
    changes: ChangeSet,
    transfers: tuple[ObservedTransfer, ...],
    ledger_count: int,
    approved: frozenset[str],
    suspended: bool,
    *,
    agent: str | None = None,
    still_present: StillPresent = frozenset(),
    recent_deletions: int = 0,
    retry: bool = False,
    finish_running: bool = False,
    renames: tuple[Rename, ...] = (),
    undecided: bool = False,
    gone_since: Mapping[str, float] = MappingProxyType({}),
    now: float = 0.0,
    can_rename: bool = True,
) -> Plan:
    """Everything that brings this mapping forward at this destination.

    `transfers` are the mapping's at this destination (`agent`, where given, leaves out those of other
    agents), `ledger_count` is how many paths the ledger holds of it, `approved` the digests of held
    deletions that a person let through. `still_present` says which directories (destination paths) the
    source still has; `recent_deletions` is how many were carried out a short while ago without approval;
    `renames` are those of the changes that the destination has under another path; `undecided` leaves
    deletions for later, for they may be renames; `gone_since` holds the tombstones, `now` is in Unix
    seconds; without `can_rename` nothing can go to the trash; `retry` marks the transfers as repeating
    what could not be sent before. Suspended, by whatever intent, nothing happens but that running
    transfers are suspended, unless they are to finish.
    """
    ours = tuple(t for t in owned_by_mapping(transfers, desired.name, agent) if alive(t))
    if suspended or desired.suspend or destination.suspend:
        actions_of_pause = () if finish_running else _suspensions(desired, destination, ours)
        return Plan(actions_of_pause, (), changes.suspects, changes.waiting)
    as_set = desired.publish is Publish.SET
    if as_set and (ours or changes.waiting):
        changes = postponed(changes)
    outdated, gone, unsure = candidates(changes, still_present)
    renamed = desired.prune and not as_set  # a name of its own would show before its set
    moved = without_conflicting(renames, _but(gone, renames), changes.waiting) if renamed else ()
    olds = tuple(Deletion(rename.old, FileKind.FILE) for rename in moved)
    prune = desired.prune and (can_rename or not desired.deletions.trash)
    every = _but(gone, moved) if prune else ()
    replaced = frozenset(change.path for change in changes.changes) if every else frozenset()
    deletions, later = split(
        (desired.name, destination.name), every, replaced, gone_since, desired.deletions.grace, now
    )
    new = {rename.change.path for rename in moved}
    plain = tuple(change for change in changes.changes if change.path not in new) if new else changes.changes
    sendable, blocked = without_conflicts(plain, every + olds, changes.waiting)
    after: tuple[str, ...] = ()
    if as_set:
        sendable, deletions, after = in_turn(sendable, blocked, deletions)
    actions = _send(desired, destination, effective(desired, destination, lanes), sendable, ours, retry)
    if outdated:
        actions.append(ForgetPaths(desired.name, destination.name, outdated))
    left = frozenset(emptied(desired, changes, deletions + olds, still_present))
    actions += rename_actions(desired.name, destination.name, moved, left.__contains__)
    held = None
    if not undecided:
        held = hold(desired, destination.name, deletions, ledger_count, approved, recent_deletions)
        if held is None:
            # What files are moved out of goes with the last of them, not before.
            leaving = frozenset(above for old in olds for above in ancestors(old.path))
            directories = emptied(desired, changes, deletions, still_present)
            directories = tuple(directory for directory in directories if directory not in leaving)
            actions += _delete(desired, destination.name, deletions, directories, now)
    waiting = tuple(dict.fromkeys((*changes.waiting, *unsure, *blocked, *after)))
    return Plan(
        tuple(actions),
        () if held is None else (held,),
        changes.suspects,
        waiting,
        () if later is None else (later,),
        changes.names,
    )


def _delete(
    desired: MappingSpec,
    destination: str,
    deletions: tuple[Deletion, ...],
    directories: tuple[str, ...],
    now: float,
) -> list[Action]:
    if desired.deletions.trash:
        return trash_actions(desired.name, destination, deletions, directories, now)
    return delete_actions(desired.name, destination, deletions, directories)


def _but(deletions: tuple[Deletion, ...], renames: tuple[Rename, ...]) -> tuple[Deletion, ...]:
    """The deletions that no rename has made up for."""
    olds = {rename.old for rename in renames}
    return tuple(deletion for deletion in deletions if deletion.path not in olds) if olds else deletions


def plan_mapping_removal(
    name: str,
    on_remove: OnRemove,
    destination: str,
    transfers: tuple[ObservedTransfer, ...],
    owned: tuple[Deletion, ...],
    *,
    agent: str | None = None,
    roots: tuple[str, ...] = ("/",),
    trash_at: float | None = None,
) -> Plan:
    """What becomes of a mapping's work at a destination that it has left, or when it has left the specs.

    Orphan leaves transfers and delivered files alone; cancel ends its transfers; delete also deletes what
    the ledger says it delivered (`owned`), with the directories strictly below `roots` that this empties;
    with `trash_at` (Unix seconds) it goes to the trash of that day.
    """
    if on_remove is OnRemove.ORPHAN:
        return Plan()
    actions: list[Action] = [
        CancelTransfer(name, destination, transfer.id, "the mapping was removed from the specs")
        for transfer in owned_by_mapping(transfers, name, agent)
        if alive(transfer)
    ]
    if on_remove is OnRemove.DELETE:
        empty = removable_directories(owned, roots)
        if trash_at is None:
            actions += delete_actions(name, destination, owned, empty)
        else:
            actions += trash_actions(name, destination, owned, empty, trash_at)
    return Plan(tuple(actions))


def _suspensions(
    desired: MappingSpec, destination: DestinationSpec, transfers: tuple[ObservedTransfer, ...]
) -> tuple[Action, ...]:
    what = f"destination {destination.name}" if destination.suspend else f"mapping {desired.name}"
    return tuple(
        SuspendTransfer(desired.name, destination.name, transfer.id, f"{what} is suspended")
        for transfer in transfers
        if transfer.state.active
    )


def _send(
    desired: MappingSpec,
    destination: DestinationSpec,
    settings: Effective,
    changes: tuple[Change, ...],
    running: tuple[ObservedTransfer, ...],
    retry: bool,
) -> list[Action]:
    """What runs is brought in line, the rest is started; the mapping's rate is shared among all of them."""
    pieces: tuple[tuple[Change, ...], ...] = (changes,) if changes else ()
    if desired.publish is not Publish.SET:
        pieces = tuple(batches(changes, lambda change: (change.path, change.source)))
    rate = share_rate(settings.send_rate_max, len(running) + len(pieces))
    steered = _steer(desired, destination, settings, rate, running)
    return steered + [_start(desired, destination, settings, rate, piece, retry) for piece in pieces]


def _steer(
    desired: MappingSpec,
    destination: DestinationSpec,
    settings: Effective,
    rate: float | None,
    transfers: tuple[ObservedTransfer, ...],
) -> list[Action]:
    """Bring what runs to the lane, priority and rate of the spec; wake what sleeps. An empty lane means that
    the server reports none."""
    actions: list[Action] = []
    names = (desired.name, destination.name)
    for transfer in transfers:
        place = (transfer.lane or settings.lane, transfer.priority)
        if transfer.lane and place != (settings.lane, settings.priority):
            actions.append(SetTransferPriority(*names, transfer.id, settings.lane, settings.priority))
        if not same_rate(transfer.send_rate_max, rate):
            actions.append(SetTransferRate(*names, transfer.id, rate))
        if transfer.state is TransferState.SUSPENDED:
            actions.append(ResumeTransfer(*names, transfer.id))
    return actions


def _start(
    desired: MappingSpec,
    destination: DestinationSpec,
    settings: Effective,
    rate: float | None,
    changes: tuple[Change, ...],
    retry: bool,
) -> StartTransfer:
    return StartTransfer(
        mapping=desired.name,
        destination=destination.name,
        changes=changes,
        lane=settings.lane,
        priority=settings.priority,
        send_rate_max=rate,
        overwrite=settings.overwrite,
        preserve_mtime=desired.preserve_mtime,
        preserve_executable=desired.preserve_executable,
        retry=retry,
        as_set=desired.publish is Publish.SET,
    )
