"""When a mapping's sources are looked at, for which destinations, and how far.

A destination has at most HIGH paths on their way; a whole look that would find more rests, and goes on when
fewer than LOW are left. So memory and the server's queue stay bounded however many files there are, and a
destination that takes nothing holds up no other.
"""

from __future__ import annotations

from agent.model.spec import MappingSpec
from agent.reconcile.context import Context
from agent.reconcile.one_delivery import Delivery
from agent.reconcile.queue import WHOLE, Hints
from agent.reconcile.survey import Walk, begin
from agent.reconcile.turns import interval_of, looked

HIGH, LOW = 40_000, 20_000


def look(context: Context, spec: MappingSpec, deliveries: list[Delivery]) -> None:
    """One look at the source for all destinations that can take what it finds; what rests goes on where there
    is room."""
    for delivery in deliveries:
        if delivery.memory.behind and has_room(context, spec, delivery):
            delivery.memory.pending, delivery.memory.behind = WHOLE, False
    whole = [d for d in deliveries if d.memory.pending.whole]
    if whole:
        names = [d.destination.name for d in whole]
        _step(context, spec, begin(context, spec, names, WHOLE), whole)
    hinted = [d for d in deliveries if d.memory.pending.paths]
    if hinted:
        wanted = Hints()
        for delivery in hinted:
            wanted |= delivery.memory.pending
        names = [d.destination.name for d in hinted]
        _step(context, spec, begin(context, spec, names, wanted), hinted)
    for delivery in deliveries:
        walk = delivery.memory.walk
        if walk is not None and delivery.surveyed is None and may_go_on(context, spec, delivery):
            together = [d for d in deliveries if d.memory.walk is walk and d.surveyed is None]
            ready = [d for d in together if may_go_on(context, spec, d)]
            for other in together:
                if other not in ready:
                    other.memory.walk, other.memory.behind = None, True
            _step(context, spec, walk, ready)


def has_room(context: Context, spec: MappingSpec, delivery: Delivery) -> bool:
    return context.state.attempts.in_flight_count(spec.name, delivery.destination.name) < LOW


def may_go_on(context: Context, spec: MappingSpec, delivery: Delivery) -> bool:
    """Not before what failed is due again: what follows would most likely fail, too."""
    failed = delivery.found.failures
    waits = failed.consecutive > 0 and failed.next_retry_at > context.clock.time()
    return not waits and has_room(context, spec, delivery)


def _step(context: Context, spec: MappingSpec, walk: Walk, deliveries: list[Delivery]) -> None:
    room = {}
    for delivery in deliveries:
        name = delivery.destination.name
        flying = context.state.attempts.in_flight_count(spec.name, name) if walk.is_whole else 0
        room[name] = max(0, HIGH - flying)
        if walk.is_whole:
            memory = delivery.memory
            memory.pending = WHOLE  # until what this finds is acted on, for that may fail
    found = walk.go_on(room)
    for delivery in deliveries:
        memory, name = delivery.memory, delivery.destination.name
        delivery.surveyed = found[name]
        memory.behind = memory.behind or found[name].missed
        if walk.is_whole:
            memory.walk = None if walk.done or found[name].missed else walk
            memory.survey_due = context.clock.monotonic() + interval_of(spec)
            delivery.looked = True
            looked(context, spec, name)  # one that rests has paths on their way: a restart begins it anew
