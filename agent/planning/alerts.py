"""When an alert speaks, and of what: firing, reminded, resolved. Pure; times are Unix seconds.

An instance is one condition of one object. It is pending until it has held for `for`, then it fires; when it
ends, what the receiver was told of is resolved, and the rest is forgotten. What an instance *is* and what was
*told* of it are compared, so that any number of changes between two messages are one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from agent.model.spec import AlertOn, AlertSpec

NAMED = 50
"""So many objects are named in a message; the rest is counted."""

MAX_TEXT = 500


class Id(NamedTuple):
    object: str  # "Mapping/dailies"
    on: AlertOn


class Fact(NamedTuple):
    """Why a condition is true now. The text may change without it being another condition."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Instance:
    id: Id
    since: float
    fact: Fact
    told_at: float | None = None  # when the receiver was last told that it fires; None = never
    ended: float | None = None  # when it ended; it is kept until the receiver is told so

    def fires(self, spec: AlertSpec, now: float) -> bool:
        return self.ended is None and (self.told_at is not None or self.since + spec.holds <= now)


@dataclass(frozen=True, slots=True)
class Message:
    """What is to be told in one request."""

    new: tuple[Instance, ...] = ()
    resolved: tuple[Instance, ...] = ()
    reminded: tuple[Instance, ...] = ()
    firing: int = 0  # how many fire, these among them


def observe(
    before: Mapping[Id, Instance], facts: Mapping[Id, Fact], unknown: frozenset[str], now: float
) -> dict[Id, Instance]:
    """The instances after a look. Those of objects in `unknown`, which nobody looked at yet, stay."""
    after: dict[Id, Instance] = {}
    for id_, fact in facts.items():
        known = before.get(id_)
        after[id_] = Instance(id_, now, fact) if known is None else replace(known, fact=fact, ended=None)
    for id_, known in before.items():
        if id_ in facts:
            continue
        if id_.object in unknown:
            after[id_] = known
        elif known.told_at is not None:
            after[id_] = known if known.ended is not None else replace(known, ended=now)
    return {id_: _not_ahead(instance, now) for id_, instance in after.items()}


def _not_ahead(instance: Instance, now: float) -> Instance:
    """A clock that was set back must not silence it."""
    ahead = instance.since > now or (instance.told_at or 0.0) > now
    if not ahead:
        return instance
    told = None if instance.told_at is None else min(instance.told_at, now)
    return replace(instance, since=min(instance.since, now), told_at=told)


def due(
    spec: AlertSpec, instances: Iterable[Instance], last_sent: float, now: float
) -> tuple[Message | None, float | None]:
    """What to tell now, and else when to look again (None = when something changes)."""
    known = list(instances)
    changes = [at for instance in known if (at := _untold_since(spec, instance)) is not None]
    reminders = [i.told_at + spec.repeat for i in known if _repeats(spec, i) and i.told_at is not None]
    earliest = min(changes, default=None)
    times = [min(reminders)] if reminders else []
    if earliest is not None:
        paced = last_sent if last_sent <= now else earliest  # the clock was set back since
        times.append(max(earliest, paced) + spec.group_wait)
    if not times:
        return None, None
    if min(times) > now:
        return None, min(times)
    return _message(spec, known, now, remind=bool(reminders) and min(reminders) <= now), None


def _untold_since(spec: AlertSpec, instance: Instance) -> float | None:
    """Since when what it is differs from what was told of it."""
    if instance.told_at is None:
        return instance.since + spec.holds
    return instance.ended


def _repeats(spec: AlertSpec, instance: Instance) -> bool:
    return spec.repeat > 0 and instance.told_at is not None and instance.ended is None


def _message(spec: AlertSpec, known: list[Instance], now: float, *, remind: bool) -> Message:
    firing = [instance for instance in known if instance.fires(spec, now)]
    return Message(
        new=tuple(instance for instance in firing if instance.told_at is None),
        resolved=tuple(instance for instance in known if instance.ended is not None),
        reminded=tuple(i for i in firing if i.told_at is not None) if remind else (),
        firing=len(firing),
    )


def told(instances: Mapping[Id, Instance], message: Message, now: float) -> dict[Id, Instance]:
    """The instances once the message is written down to be sent."""
    after = dict(instances)
    for instance in (*message.new, *message.reminded):
        after[instance.id] = replace(instance, told_at=now)
    for instance in message.resolved:
        after.pop(instance.id, None)
    return after


def document(spec: AlertSpec, message: Message, agent: str, revision: str, id_: str, now: float) -> Any:
    """The message as it is sent: a documented contract, docs/alerts.md."""
    objects = [
        *(_object(spec, agent, i, "firing") for i in message.new[:NAMED]),
        *(_object(spec, agent, i, "resolved") for i in message.resolved[:NAMED]),
        *(_object(spec, agent, i, "firing") for i in message.reminded[:NAMED]),
    ][:NAMED]
    listed = len(message.new) + len(message.resolved) + len(message.reminded)
    return {
        "version": 1,
        "event": "alert",
        "id": id_,
        "alert": spec.name,
        "agent": agent,
        "revision": revision,
        "time": now,
        "status": "firing" if message.firing else "resolved",
        "reminder": bool(message.reminded),
        "counts": {"firing": message.firing, "new": len(message.new), "resolved": len(message.resolved)},
        "objects": objects,
        "objectsOmitted": listed - len(objects),
    }


def _object(spec: AlertSpec, agent: str, instance: Instance, status: str) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint(agent, spec.name, instance.id),
        "status": status,
        "object": instance.id.object,
        "on": str(instance.id.on),
        "reason": instance.fact.reason,
        "message": instance.fact.message[:MAX_TEXT],
        "since": instance.since,
        "ended": instance.ended,
    }


def fingerprint(agent: str, alert: str, id_: Id) -> str:
    """The same for the same condition of the same object, for as long as the agent's state lives."""
    return hashlib.sha256("\0".join((agent, alert, *id_)).encode()).hexdigest()[:16]
