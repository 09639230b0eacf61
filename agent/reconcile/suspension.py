"""Is an object suspended, by its spec or by a person on this machine, and why?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from agent.model.condition import Reason
from agent.model.spec import DestinationSpec, Key, Kind, MappingSpec, Overrun, key_of
from agent.planning.windows import in_force
from agent.reconcile.context import Context


@dataclass(frozen=True, slots=True)
class Suspension:
    reason: Reason
    text: str
    until: float | None = None  # Unix seconds; None = until somebody ends it
    finish_running: bool = False  # what runs goes on to its end


def suspension(context: Context, spec: MappingSpec | DestinationSpec) -> Suspension | None:
    """Of the object itself."""
    if refused := context.refusal(spec):
        return Suspension(Reason.REFUSED_BY_POLICY, f"{key_of(spec)}: {refused}")
    if spec.suspend:
        return Suspension(Reason.SUSPENDED_IN_SPEC, f"{key_of(spec)} is suspended in its spec")
    now = context.clock.time()
    override = context.state.overrides.get(key_of(spec), now)
    if override is not None:
        until = ""
        if override.until is not None:
            until = datetime.fromtimestamp(override.until, UTC).strftime(", until %Y-%m-%d %H:%M UTC")
        why = override.reason or "no reason given"
        text = f"{key_of(spec)} suspended by {override.author}: {why}{until}"
        return Suspension(Reason.SUSPENDED_LOCALLY, text, override.until)
    return _window(spec, now) if isinstance(spec, DestinationSpec) else None


def _window(spec: DestinationSpec, now: float) -> Suspension | None:
    found = in_force(spec.windows, now)
    if not found.pause:
        return None
    text = f"{key_of(spec)} pauses in a window"
    return Suspension(Reason.OUTSIDE_WINDOW, text, found.until, found.overrun is Overrun.FINISH)


def delivery_suspension(context: Context, mapping: MappingSpec, destination: str) -> Suspension | None:
    """Of a mapping at one destination: its own, or the destination's."""
    return suspension(context, mapping) or suspension(context, context.desired.destinations[destination])


def suspension_ends(context: Context, mapping: MappingSpec) -> float | None:
    """When the first suspension for a limited time is over, or a window begins or ends (Unix seconds); None
    without one."""
    now = context.clock.time()
    keys = [key_of(mapping), *(Key(Kind.DESTINATION, name) for name in mapping.destinations)]
    found = [context.state.overrides.get(key, now) for key in keys]
    ends = [o.until for o in found if o is not None and o.until is not None]
    for name in mapping.destinations:
        edge = in_force(context.desired.destinations[name].windows, now).until
        ends += [] if edge is None else [edge]
    return min(ends, default=None)
