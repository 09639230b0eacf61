"""`trigger.maxWait`: files that have not become ready for so long are told of; nothing else changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent.model.condition import Reason
from agent.model.spec import MappingSpec
from agent.model.units import format_duration
from agent.planning.words import count
from agent.reconcile.one_delivery import Delivery


def overdue(
    spec: MappingSpec, deliveries: Iterable[Delivery], busy: tuple[str, ...], now: float
) -> Iterator[tuple[Reason, str]]:
    """What to say of files that wait for a sentinel, and of those that are written on and on (`busy`)."""
    limit = format_duration(spec.trigger.max_wait)
    if busy:
        written = f"{count(len(busy), 'file has', 'files have')} kept changing for longer than {limit}"
        yield Reason.NEVER_SETTLES, f"{written} (maxWait): {busy[0]}; sent once it is closed, or quiet"
    name = spec.trigger.sentinel
    late = [d.memory.unsealed for d in deliveries if d.found.unsealed and d.memory.unsealed.paths]
    if name is not None and late:
        longest = min(late, key=lambda unsealed: unsealed.oldest)
        if now - longest.oldest > spec.trigger.max_wait:
            text = f"{longest.text(name)}, the first for longer than {limit} (maxWait)"
            yield Reason.AWAITING_SENTINEL, f"{text}; when all of them are there, `touch` that file"


def next_overdue(spec: MappingSpec, deliveries: Iterable[Delivery], now: float) -> list[float]:
    """Unix seconds at which more may have to be said."""
    found = []
    for delivery in deliveries:
        unsealed = delivery.memory.unsealed
        if delivery.found.unsealed and unsealed.paths and now - unsealed.oldest <= spec.trigger.max_wait:
            found.append(unsealed.oldest + spec.trigger.max_wait + 1.0)
        if delivery.found.settling:
            found.append(now + spec.trigger.max_wait + 1.0)
    return found
