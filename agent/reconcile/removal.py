"""A mapping that left the specs: carry out the `onRemove` of its last applied version, then forget it.

A renamed mapping hands over what it delivered and what is on its way, so that nothing is sent again and
nothing of it is deleted.
"""

from __future__ import annotations

import structlog

from agent.model.change import Deletion
from agent.model.condition import Reason
from agent.model.known import Origin
from agent.model.observed import ObservedTransfer
from agent.model.outcome import Done, NotFoundError, Outcome, Wait
from agent.model.paths import destination_prefixes, is_below
from agent.model.plan import DeletePaths, Plan, TrashPaths
from agent.model.spec import DesiredState, DestinationSpec, Key, Kind, MappingSpec, OnRemove, digest
from agent.planning.mapping import plan_mapping_removal
from agent.planning.receipts import owner_name
from agent.reconcile.act import Scene, execute
from agent.reconcile.collect import collect
from agent.reconcile.context import Connected, Context
from agent.reconcile.destination import own_destination
from agent.reconcile.receipts import hand_over_receipts
from agent.reconcile.report import Report

log = structlog.get_logger(__name__)


def remove_mapping(context: Context, name: str, report: Report) -> Outcome:
    """Waits for what is in flight to end or be cancelled; an unreachable server makes only this one wait."""
    applied = context.state.specs.get(report.key)
    if applied is None or not isinstance(applied.spec, MappingSpec):
        return Done()
    waiting = [d for d in applied.spec.destinations if not removed_at(context, applied.spec, d)]
    if waiting:
        report.message = f"being removed at {', '.join(waiting)} (onRemove: {applied.spec.on_remove})"
        return Wait(Reason.PROGRESSING, 5.0)
    for destination in applied.spec.destinations:
        context.state.ledger.drop(name, destination)
        _abandon(context, owner_name(name), destination)  # what it wrote beside the files stays there
    context.state.roots.forget(name)
    context.state.turns.drop(name)
    context.state.hooks.drop(name)
    context.state.approvals.remove(report.key)
    context.state.tombstones.clear(name)
    return Done()


def leave_destinations(context: Context, spec: MappingSpec) -> list[str]:
    """A mapping that goes on may have left a destination: `onRemove` is carried out there alone.
    Returns where that is not done yet."""
    key = Key(Kind.MAPPING, spec.name)
    if context.state.specs.digest(key) == digest(spec):
        return []
    applied = context.state.specs.get(key)
    if applied is None or not isinstance(applied.spec, MappingSpec):
        return []
    left = [d for d in applied.spec.destinations if d not in spec.destinations]
    waiting = [d for d in left if not removed_at(context, applied.spec, d)]
    for destination in left:
        if destination not in waiting:
            context.state.ledger.drop(spec.name, destination)
    return waiting


def removed_at(context: Context, spec: MappingSpec, name: str) -> bool:
    """Whether nothing is left to do for this mapping at one destination."""
    destination = destination_of(context, name)
    if destination is None:
        return _abandon(context, spec.name, name)
    connected = context.reached(destination)
    if connected is None:
        return spec.on_remove is OnRemove.ORPHAN and _abandon(context, spec.name, name)
    if not _exists(context, connected, name):
        return _abandon(context, spec.name, name)
    collected = collect(context, connected, spec.name, name)
    if collected.deleting or collected.failures:
        return False  # what failed is tried again after a while
    plan = removal_plan(context, spec, name, tuple(collected.active))
    try:
        execute(Scene(context, connected, destination), Plan(collected.follow_up))
        execute(Scene(context, connected, destination), plan)
    except NotFoundError:
        return _abandon(context, spec.name, name)
    if spec.on_remove is OnRemove.ORPHAN:
        return _abandon(context, spec.name, name)
    return not _deletes(plan)


def _exists(context: Context, connected: Connected, name: str) -> bool:
    """Whether the destination is on its server; makes its id known."""
    if context.destination_id(name, connected) is None:
        key = Key(Kind.DESTINATION, name)
        observed = own_destination(connected.engine.observe(context.state.agent_id), key)
        context.set_destination_id(name, connected, observed.id if observed is not None else None)
    return context.destination_id(name, connected) is not None


def _deletes(plan: Plan) -> bool:
    return any(isinstance(action, DeletePaths | TrashPaths) for action in plan.actions)


def removal_plan(
    context: Context, spec: MappingSpec, name: str, active: tuple[ObservedTransfer, ...]
) -> Plan:
    """What is to be done at one destination that the mapping has left. What is to be kept in the trash stays
    where it is when the server cannot move it there."""
    destination = destination_of(context, name)
    connected = context.connected(destination.server) if destination is not None else None
    can_rename = connected is not None and connected.capabilities.rename
    deletes = spec.on_remove is OnRemove.DELETE and (can_rename or not spec.deletions.trash)
    return plan_mapping_removal(
        *(spec.name, spec.on_remove, name, active, owned(context, spec, name) if deletes else ()),
        agent=context.state.agent_id,
        trash_at=context.clock.time() if spec.deletions.trash else None,
    )


def _abandon(context: Context, mapping: str, destination: str) -> bool:
    """Leave what runs to itself: its attempts are closed, nothing is touched at the server."""
    for attempt in context.state.attempts.of(mapping, destination):
        context.state.attempts.finish(attempt.number, "orphaned", "", context.clock.time())
        context.orphaned.add((mapping, destination))  # should it come back, they are not its own any more
    return True


def destination_of(context: Context, name: str) -> DestinationSpec | None:
    """As it is wanted, or as it was last applied."""
    wanted = context.desired.destinations.get(name)
    if wanted is not None:
        return wanted
    applied = context.state.specs.get(Key(Kind.DESTINATION, name))
    return applied.spec if applied is not None and isinstance(applied.spec, DestinationSpec) else None


def owned(context: Context, spec: MappingSpec, destination: str) -> tuple[Deletion, ...]:
    """What it delivered and no mapping that is still wanted delivers to the same place. What the overwrite
    mode left there was never its own, and what was released at the source is there alone."""
    others = [
        prefix
        for mapping in context.desired.mappings.values()
        if destination in mapping.destinations
        for prefix in destination_prefixes(mapping)
    ]
    found = tuple(
        Deletion(row.path, row.stat.kind)
        for row in context.state.ordered.rows(spec.name, destination, "/")
        if row.origin is not Origin.KEPT and not any(is_below(row.path, other) for other in others)
    )
    released = context.state.released.among(spec.name, destination, (one.path for one in found))
    return tuple(one for one in found if one.path not in released)


def hand_over(context: Context, before: DesiredState, after: DesiredState) -> None:
    """What a mapping that is gone delivered belongs to a new one with the same sources and paths."""
    gone = [m for name, m in before.mappings.items() if name not in after.mappings]
    new = [m for name, m in after.mappings.items() if name not in before.mappings]
    for old in gone:
        heir = next((m for m in new if _same_place(old, m)), None)
        if heir is not None:
            _hand_over(context, old, heir)


def _same_place(old: MappingSpec, new: MappingSpec) -> bool:
    """The same sources at the same paths, of at least one destination in common."""
    return bool(set(old.destinations) & set(new.destinations)) and {
        (p, e.source) for p, e in zip(destination_prefixes(old), old.paths, strict=True)
    } == {(p, e.source) for p, e in zip(destination_prefixes(new), new.paths, strict=True)}


def _hand_over(context: Context, old: MappingSpec, new: MappingSpec) -> None:
    """At the destinations that both have. What the roots are known by comes along."""
    moved = [
        destination
        for destination in old.destinations
        if destination in new.destinations and _hand_over_at(context, old.name, new.name, destination)
    ]
    if moved:
        context.state.roots.hand_over(old.name, new.name)
        log.info("handed over", mapping=old.name, to=new.name, destinations=moved)


def _hand_over_at(context: Context, old: str, new: str, destination: str) -> bool:
    """What is delivered, and what is on its way: the transfers go on, and what they bring is the heir's."""
    state = context.state
    with state.transaction():
        if state.attempts.of(new, destination) or not state.ledger.hand_over(old, new, destination):
            return False
        state.attempts.hand_over(old, new, destination)
        hand_over_receipts(context, old, new, destination)
    return True
