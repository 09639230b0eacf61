"""The plan of everything, as it would be carried out now; nothing is changed by asking."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from agent.model.change import ChangeSet
from agent.model.observed import EngineState, ObservedTransfer
from agent.model.plan import Plan, StartTransfer, together
from agent.model.spec import DesiredState, Key, Kind, MappingSpec
from agent.reconcile.act import change_digest
from agent.reconcile.context import Context
from agent.reconcile.deciding import plan_for, unwanted_transfers
from agent.reconcile.destination import preview_destination
from agent.reconcile.queue import WHOLE
from agent.reconcile.removal import removal_plan
from agent.reconcile.revision import difference
from agent.reconcile.survey import survey
from agent.reconcile.suspension import delivery_suspension

_NOTHING = ChangeSet()
"""A whole look that found the source as it was delivered."""

Recent = Callable[[MappingSpec, str], int]
"""How many deletions of a mapping at a destination were carried out a short while ago."""


def preview(context: Context, desired: DesiredState, recent: Recent = lambda _mapping, _name: 0) -> Plan:
    """Destinations first, then mappings, then what left. LaneSyncError when a server does not answer."""
    # The plan is that of `desired`, which need not be in force yet.
    looking = replace(context, desired=desired)
    servers = {destination.server for destination in desired.destinations.values()}
    states = {server: _observed(looking, server) for server in servers}
    parts = [preview_destination(looking, d, states[d.server]) for d in desired.destinations.values()]
    parts += [_mapping(looking, mapping, recent) for mapping in desired.mappings.values()]
    parts += [_removal(looking, key) for key in difference(context.desired, desired).removed]
    return together(parts)


def _observed(context: Context, server: str) -> EngineState:
    connected = context.connected(server)
    return connected.engine.observe(context.state.agent_id) if connected else EngineState()


def _mapping(context: Context, spec: MappingSpec, recent: Recent) -> Plan:
    if context.refusal(spec):
        return Plan()  # its sources are not looked at
    found = survey(context, spec, list(spec.destinations), WHOLE, keep=False)
    plan = Plan()
    for name in spec.destinations:
        destination = context.desired.destinations[name]
        active, changes = _active(context, spec.name, name), found[name].changes
        if not active and changes == _NOTHING:
            continue  # of ten thousand deliveries most are as they should be
        if active:
            plan += Plan(unwanted_transfers(context, spec, name, active))
        suspended, deleted = delivery_suspension(context, spec, name), recent(spec, name)
        plan += plan_for(context, spec, destination, changes, active, suspended, deleted, keep=False)
    return plan


def _active(context: Context, mapping: str, destination: str) -> tuple[ObservedTransfer, ...]:
    spec = context.desired.destinations.get(destination)
    connected = context.connected(spec.server) if spec is not None else None
    if connected is None:
        return ()
    attempts = context.state.attempts.of(mapping, destination)
    if not attempts:
        return ()
    found = [connected.engine.transfer(a.transfer_id) for a in attempts if a.transfer_id and a.manifest_id]
    return tuple(transfer for transfer in found if not transfer.state.finished)


def _removal(context: Context, key: Key) -> Plan:
    applied = context.state.specs.get(key)
    if key.kind is not Kind.MAPPING or applied is None or not isinstance(applied.spec, MappingSpec):
        return Plan()
    plan = Plan()
    for destination in applied.spec.destinations:
        active = _active(context, key.name, destination)
        plan += removal_plan(context, applied.spec, destination, active)
    return plan


def plan_digest(plan: Plan) -> str:
    """Identity of a plan: a saved one is carried out only while it is still the plan."""
    digest = hashlib.sha256()
    for action in plan.actions:
        shown = replace(action, changes=()) if isinstance(action, StartTransfer) else action
        digest.update(repr(shown).encode("utf-8", "surrogateescape"))
        if isinstance(action, StartTransfer):
            digest.update(change_digest(action.changes).encode())
    return digest.hexdigest()[:16]
