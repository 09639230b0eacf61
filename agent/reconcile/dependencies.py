"""A mapping with `dependsOn` sends nothing until the mappings that it names are in sync, in the revision in
force. Who waits is told as soon as what it waits for has been looked at again; nothing is polled.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.model.spec import Key, Kind, MappingSpec

if TYPE_CHECKING:
    from agent.reconcile.context import Context


@dataclass(slots=True)
class Awaited:
    """Who is to be told about whom. Thread-safe."""

    _by: dict[Key, set[Key]] = field(default_factory=lambda: defaultdict(set))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, key: Key, waiting: Key) -> None:
        with self._lock:
            self._by[key].add(waiting)

    def take(self, key: Key) -> set[Key]:
        """Those who wait for `key`; each is told once."""
        with self._lock:
            return self._by.pop(key, set())


def waits_for(context: Context, spec: MappingSpec) -> str:
    """Which mapping this one waits for and why, in words; empty when it may go on."""
    mine = Key(Kind.MAPPING, spec.name)
    for name in spec.depends_on:
        key = Key(Kind.MAPPING, name)
        context.awaited.add(key, mine)  # before its state is looked at, so that no change of it is missed
        if why := _not_ready(context, key):
            return why
    return ""


def _not_ready(context: Context, key: Key) -> str:
    status = context.board.get(key)
    if status is None or status.revision != context.desired.revision:
        return f"{key}, which has not been looked at yet"
    condition = status.why_not_ready()
    if not status.ready and condition is not None:
        return f"{key}: {condition.message or condition.reason}"
    return f"{key}, which is being looked at" if context.queue.busy(key) else ""


def tell(context: Context, key: Key) -> None:
    """`key` has been reconciled: those who waited for it look again."""
    for waiting in context.awaited.take(key):
        if context.desired.get(waiting) is not None:
            context.queue.add(waiting)
