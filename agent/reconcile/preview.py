"""The plan of everything, as it would be carried out now; nothing is changed by asking."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from agent.model.change import ChangeSet
from agent.model.observed import EngineState, ObservedTransfer
from agent.model.plan import Plan, StartTransfer, together
from agent.model.spec import DesiredState, Key, Kind, MappingSpec, OnRemove, Spec, digest
from agent.planning.describe import EXAMPLES
from agent.planning.fold import Fold
from agent.reconcile.act import change_digest
from agent.reconcile.context import Context
from agent.reconcile.deciding import plan_for, unwanted_transfers
from agent.reconcile.destination import preview_destination
from agent.reconcile.queue import WHOLE
from agent.reconcile.removal import removal_plan
from agent.reconcile.resting import resting
from agent.reconcile.revision import difference
from agent.reconcile.survey import begin
from agent.reconcile.suspension import delivery_suspension

_NOTHING = ChangeSet()
"""A whole look that found the source as it was delivered."""

PART = 40_000
"""So many changes for one destination are held at once, and what else is in the directory of the last."""

Recent = Callable[[MappingSpec, str], int]
"""How many deletions of a mapping at a destination were carried out a short while ago."""


def preview(
    context: Context,
    desired: DesiredState,
    recent: Recent = lambda _mapping, _name: 0,
    examples: int = EXAMPLES,
    still: frozenset[str] | None = None,
) -> Plan:
    """Destinations first, then mappings, then what left; of what a transfer sends `examples` paths and the
    outline. `still` are mappings that are known to have nothing to do (`resting`), where that has been asked.
    LaneSyncError when a server does not answer."""
    # The plan is that of `desired`, which need not be in force yet.
    looking = replace(context, desired=desired)
    servers = {destination.server for destination in desired.destinations.values()}
    states = {server: _observed(looking, server) for server in servers}
    parts = [preview_destination(looking, d, states[d.server]) for d in desired.destinations.values()]
    still = resting(looking, desired) if still is None else still
    parts += [
        _mapping(looking, m, recent, examples) for m in desired.mappings.values() if m.name not in still
    ]
    parts += [_removal(looking, key) for key in difference(context.desired, desired).removed]
    return together(parts)


def _observed(context: Context, server: str) -> EngineState:
    connected = context.connected(server)
    return connected.engine.observe(context.state.agent_id) if connected else EngineState()


def _mapping(context: Context, spec: MappingSpec, recent: Recent, examples: int) -> Plan:
    if context.refusal(spec):
        return Plan()  # its sources are not looked at
    active = {name: _active(context, spec.name, name) for name in spec.destinations}
    folds = {name: Fold(examples) for name in spec.destinations}
    walk = begin(context, spec, list(spec.destinations), WHOLE, keep=False)
    while not walk.done:
        found = walk.go_on(dict.fromkeys(spec.destinations, PART))
        for name, fold in folds.items():
            changes = _not_renamed(found[name].changes, fold.renamed)
            if active[name] or changes != _NOTHING:  # of ten thousand deliveries most are as they should be
                fold.add(_part(context, spec, name, changes, active[name], recent), last=walk.done)
    plan = Plan()
    for name, fold in folds.items():
        plan += Plan(unwanted_transfers(context, spec, name, active[name]) if active[name] else ())
        plan += fold.plan()
    return plan


def _part(
    context: Context,
    spec: MappingSpec,
    name: str,
    changes: ChangeSet,
    active: tuple[ObservedTransfer, ...],
    recent: Recent,
) -> Plan:
    destination = context.desired.destinations[name]
    suspended = delivery_suspension(context, spec, name)
    deleted = recent(spec, name)
    return plan_for(context, spec, destination, changes, active, suspended, deleted, keep=False)


def _not_renamed(changes: ChangeSet, renamed: set[str]) -> ChangeSet:
    """Without the deletions that a rename in an earlier part has made up for."""
    if not renamed:
        return changes
    left = tuple(deletion for deletion in changes.deletions if deletion.path not in renamed)
    return replace(changes, deletions=left)


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
    if key.kind is not Kind.MAPPING:
        return Plan()
    spec = _last_applied(context, key)
    if not isinstance(spec, MappingSpec) or spec.on_remove is OnRemove.ORPHAN:
        return Plan()  # nothing of an orphan's is touched
    plan = Plan()
    for destination in spec.destinations:
        active = _active(context, key.name, destination)
        plan += removal_plan(context, spec, destination, active)
    return plan


def _last_applied(context: Context, key: Key) -> Spec | None:
    """What is in force, where that has been applied: of thousands that are left out none is read again."""
    known = context.desired.get(key)
    if known is not None and context.state.specs.digest(key) == digest(known):
        return known
    applied = context.state.specs.get(key)
    return applied.spec if applied is not None else None


def sent_digest(action: StartTransfer) -> str:
    """Identity of what is sent: which paths in which versions."""
    return action.outline.digest if action.outline else change_digest(action.changes)


def plan_digest(plan: Plan) -> str:
    """Identity of a plan: a saved one is carried out only while it is still the plan."""
    digest = hashlib.sha256()
    for action in plan.actions:
        shown = replace(action, changes=(), outline=None) if isinstance(action, StartTransfer) else action
        digest.update(repr(shown).encode("utf-8", "surrogateescape"))
        if isinstance(action, StartTransfer):
            digest.update(sent_digest(action).encode())
    return digest.hexdigest()[:16]
