"""Is an object suspended, by its spec or by a person on this machine, and why?"""

from __future__ import annotations

from dataclasses import dataclass

from agent.model.condition import Reason
from agent.model.spec import DestinationSpec, Key, Kind, MappingSpec, key_of
from agent.reconcile.context import Context


@dataclass(frozen=True, slots=True)
class Suspension:
    reason: Reason
    text: str
    until: float | None = None  # Unix seconds; None = until somebody ends it


def suspension(context: Context, spec: MappingSpec | DestinationSpec) -> Suspension | None:
    """Of the object itself."""
    if spec.suspend:
        return Suspension(Reason.SUSPENDED_IN_SPEC, f"{key_of(spec)} is suspended in its spec")
    override = context.state.overrides.get(key_of(spec), context.clock.time())
    if override is None:
        return None
    text = f"{key_of(spec)} suspended by {override.author}: {override.reason or 'no reason given'}"
    return Suspension(Reason.SUSPENDED_LOCALLY, text, override.until)


def delivery_suspension(context: Context, mapping: MappingSpec, destination: str) -> Suspension | None:
    """Of a mapping at one destination: its own, or the destination's."""
    return suspension(context, mapping) or suspension(context, context.desired.destinations[destination])


def suspension_ends(context: Context, mapping: MappingSpec) -> float | None:
    """When the first suspension for a limited time is over (Unix seconds); None without one."""
    keys = [key_of(mapping), *(Key(Kind.DESTINATION, name) for name in mapping.destinations)]
    found = [context.state.overrides.get(key, context.clock.time()) for key in keys]
    return min((o.until for o in found if o is not None and o.until is not None), default=None)
