"""What is decided for one delivery: the pure plan, given what the agent remembers."""

from __future__ import annotations

from dataclasses import replace

from agent.model.change import ChangeSet, Suspect
from agent.model.observed import ObservedTransfer
from agent.model.plan import CancelTransfer, Plan
from agent.model.spec import DestinationSpec, Key, Kind, MappingSpec
from agent.planning.mapping import plan_mapping
from agent.reconcile.clockset import wall_time
from agent.reconcile.context import Context
from agent.reconcile.kept import without_kept
from agent.reconcile.names import possible_renames, sendable
from agent.reconcile.queue import WHOLE, Hints
from agent.reconcile.renames import find_renames
from agent.reconcile.survey_places import delivers, source_directory_exists
from agent.reconcile.suspension import Suspension
from agent.reconcile.tombstones import came_back, gone_since


def plan_for(
    context: Context,
    spec: MappingSpec,
    destination: DestinationSpec,
    changes: ChangeSet,
    active: tuple[ObservedTransfer, ...],
    suspended: Suspension | None,
    recent_deletions: int = 0,
    *,
    looked: Hints = WHOLE,
    undecided: bool = False,
    keep: bool = True,
) -> Plan:
    """The plan of one delivery, with what a person has approved. `looked` says what a partial change set is
    about; with `keep` what is found gone is remembered."""
    now = wall_time(context)
    approved = context.state.approvals.approved(Key(Kind.MAPPING, spec.name))
    changes = replace(
        changes, suspects=tuple(s for s in changes.suspects if suspect_digest(s) not in approved)
    )
    changes, kept = without_kept(context, spec, destination.name, changes)
    connected = context.reached(destination)
    can = connected.capabilities if connected is not None else None
    changes = sendable(spec, changes, can) if can is not None else changes
    changes = came_back(context, spec, destination.name, changes, keep=keep)
    owned = context.state.ledger.count(spec.name, destination.name) if changes.deletions else 0
    renames = find_renames(context, spec, destination.name, changes, connected)
    plan = plan_mapping(
        spec,
        destination,
        context.desired.lanes_of(destination),
        changes,
        active,
        owned,
        approved,
        suspended is not None,
        finish_running=suspended is not None and suspended.finish_running,
        agent=context.state.agent_id,
        recent_deletions=recent_deletions,
        still_present=lambda path: source_directory_exists(spec, path),
        renames=possible_renames(renames, can),
        undecided=undecided or changes.unfinished,
        gone_since=gone_since(
            context, spec, destination.name, changes, looked, now, keep=keep and not changes.unfinished
        ),
        now=now,
        can_rename=can is not None and can.rename,
    )
    return plan if suspended is not None else plan + kept


def unwanted_transfers(
    context: Context, spec: MappingSpec, destination: str, active: tuple[ObservedTransfer, ...]
) -> tuple[CancelTransfer, ...]:
    """Transfers of which the spec wants nothing any more: other paths, other sources, filtered out."""
    found = []
    for attempt in context.state.attempts.of(spec.name, destination):
        if attempt.transfer_id in {transfer.id for transfer in active}:
            left = context.state.attempts.left(attempt.number)
            if left and not any(delivers(spec, path, source) for path, (_, source) in left.items()):
                reason = "the specs want none of its files any more"
                found.append(CancelTransfer(spec.name, destination, attempt.transfer_id or "", reason))
    return tuple(found)


def suspect_digest(suspect: Suspect) -> str:
    """What `approve` approves: this root for this reason."""
    return f"{suspect.path}:{suspect.source}:{suspect.reason}"
