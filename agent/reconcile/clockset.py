"""What is done when the machine's clock was set."""

from __future__ import annotations

import structlog

from agent.model.spec import Key, Kind
from agent.reconcile.context import Context

log = structlog.get_logger(__name__)


def wall_time(context: Context) -> float:
    """Unix seconds, after the agent's memory was told how far the clock was set."""
    wall = context.clock.time()

    def was_set(seconds: float) -> None:
        log.info("the clock was set", by=round(seconds, 1), time=wall)
        context.state.clock_was_set(seconds)
        _wake(context)

    context.wall_clock.look(wall, context.clock.monotonic(), was_set)
    return wall


def _wake(context: Context) -> None:
    """What waits for a time of day waits for the wrong number of seconds."""
    timed = [name for name, spec in context.desired.destinations.items() if spec.windows]
    keys = [Key(Kind.DESTINATION, name) for name in timed]
    for name, mapping in context.desired.mappings.items():
        if mapping.trigger.schedule is not None or not set(timed).isdisjoint(mapping.destinations):
            keys.append(Key(Kind.MAPPING, name))
    for key in keys:
        context.queue.add(key)
