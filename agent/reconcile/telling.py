"""What an agent tells of itself: history, events, specs, all about one object, all about a path."""

from __future__ import annotations

import os
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

from agent.model.spec import DestinationSpec, Key, Kind, MappingSpec, Spec, digest
from agent.planning.windows import in_force
from agent.reconcile.agent import Agent
from agent.reconcile.document import Document, object_document, suspension_document
from agent.reconcile.explain import explain, places
from agent.reconcile.finding import parse_key, parse_kind
from agent.reconcile.progress import refreshed
from agent.reconcile.status import ObjectStatus
from agent.state.audit import Act, FileLine
from agent.state.events import Event

MAX_LINES = 100_000
"""Most lines of one answer about history or events."""

LAST = 10
"""Events, and acts, that the description of an object ends with."""


class Telling:
    """Questions. LaneSyncError with a message for whoever asked."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    # -- what was done, what happened

    def history(
        self, name: str = "", path: str = "", since: float = 0.0, limit: int = 1000, *, files: bool = False
    ) -> Document:
        """The audit trail, oldest first: acts, or with `files` or a `path` a line for each file."""
        limit, audit = min(limit, MAX_LINES), self._agent.context.state.audit
        key = self._named(name) if name else None
        if not (files or path):
            acts = audit.acts(key=str(key) if key else None, since=since, limit=limit)
            return {"entries": [self._act(act) for act in acts]}
        mapping = key.name if key is not None and key.kind is Kind.MAPPING else None
        destination = key.name if key is not None and key.kind is Kind.DESTINATION else None
        found: dict[tuple[int, str], FileLine] = {}
        for each in self._destination_paths(path) if path else (None,):
            lines = audit.files(mapping=mapping, destination=destination, path=each, since=since, limit=limit)
            found.update({(line.seq, line.file.path): line for line in lines})
        newest = sorted(found.values(), key=lambda line: line.seq)[-limit:]
        return {"entries": [_file_line(line) for line in newest]}

    def events(self, after: int | None, limit: int, name: str = "", since: float = 0.0) -> Document:
        """Those numbered above `after`, oldest first; without it the newest. `next`: the `after` to ask
        with for what comes."""
        key = self._named(name) if name else None
        limit, store = min(limit, MAX_LINES), self._agent.context.state.events
        newest = store.newest()
        found = store.last(limit, key, since) if after is None else store.since(after, limit, key)
        last = found[-1].seq if after is not None and len(found) == limit else max(newest, after or 0)
        return {"events": [event_document(event) for event in found], "next": last}

    # -- specs

    def get(self, name: str = "") -> Document:
        """The applied specs: of one object, of a kind, of all."""
        wanted = self._keys(name)
        return {
            "revision": self._agent.context.desired.revision,
            "specs": [self._spec(key) for key in wanted],
        }

    def describe(self, name: str) -> Document:
        """Everything that is known of one object."""
        key, context = self._agent.find(name), self._agent.context
        spec, now = context.desired.get(key), context.clock.time()
        status = self._status(key)
        return {
            "object": str(key),
            "time": now,
            "spec": self._spec(key),
            "set": {} if spec is None else _set(spec),
            "status": status,
            "suspension": suspension_document(spec, context.state.overrides.get(key, now)),
            "windows": self._windows(spec, now),
            "uses": [str(other) for other in _uses(spec)],
            "usedBy": [str(other) for other in self._used_by(key)],
            "approvals": [
                {"digest": approval.digest, "who": approval.who, "at": approval.at}
                for approval in context.state.approvals.of(key)
            ],
            "events": [event_document(event) for event in context.state.events.last(LAST, key)],
            "history": [self._act(act) for act in context.state.audit.acts(key=str(key), limit=LAST)],
        }

    def explain(self, path: str) -> Document:
        return explain(self._agent, path)

    # -- parts

    def _named(self, name: str) -> Key:
        """An object that is, or was, there: the trail outlives objects."""
        return parse_key(name)

    def _keys(self, name: str) -> list[Key]:
        kind, slash, _ = name.partition("/")
        if slash:
            return [self._agent.find(name)]
        every = self._agent.context.desired.all_keys()
        return [key for key in every if key.kind is parse_kind(kind)] if kind else list(every)

    def _destination_paths(self, path: str) -> tuple[str, ...]:
        """A path as it is at destinations, whichever end it was named at."""
        path = os.path.normpath(path)
        found = [place.path for place in places(self._agent.context.desired, path)]
        return tuple(dict.fromkeys((path, *found)))

    def _act(self, act: Act) -> Document:
        """With the path, when it is about one file."""
        one = None
        if act.attempt is not None and act.files + act.failed == 1:
            lines = self._agent.context.state.audit.files(attempt=act.attempt, limit=1)
            one = lines[0].file if lines else None
        return {
            "time": act.at,
            "revision": act.revision,
            "object": act.key or None,
            "destination": act.destination or None,
            "action": act.action,
            "path": one.path if one else None,
            "files": act.files,
            "failed": act.failed,
            "bytes": act.bytes,
            "digest": (one.digest or None) if one else None,
            "duration": None if act.duration is None else round(act.duration, 3),
            "attempt": act.attempt,
            "outcome": act.outcome or None,
            "who": act.who,
            "reason": act.reason or None,
            "error": act.error or (one.error if one else "") or None,
            "request": act.request or None,
        }

    def _spec(self, key: Key) -> Document:
        context = self._agent.context
        spec, applied = context.desired.get(key), context.state.specs.get(key)
        return {
            "kind": str(key.kind),
            "name": key.name,
            "from": self._agent.position(key),
            "revision": applied.revision if applied is not None else None,
            "appliedAt": applied.at if applied is not None else None,
            "applied": applied is not None and spec is not None and applied.digest == digest(spec),
            "spec": _plain(spec),
        }

    def _status(self, key: Key) -> Document | None:
        """As the agent sees it now; without a running agent as the last one knew."""
        found = [status for status in self._agent.statuses() if status.key == key]
        if found:
            fresh: list[ObjectStatus] = refreshed(self._agent.context, found)
            return object_document(fresh[0])
        saved = (self._agent.context.state.status.agent() or {}).get("objects", ())
        return next((o for o in saved if (o["kind"], o["name"]) == (str(key.kind), key.name)), None)

    def _windows(self, spec: Spec | None, now: float) -> list[Document]:
        """What the windows of the destinations concerned say now, and when that changes."""
        destinations = self._agent.context.desired.destinations
        names = spec.destinations if isinstance(spec, MappingSpec) else ()
        concerned = [destinations[name] for name in names if name in destinations]
        concerned += [spec] if isinstance(spec, DestinationSpec) else []
        found = []
        for destination in concerned:
            if destination.windows:
                holds = in_force(destination.windows, now)
                found.append(
                    {
                        "destination": destination.name,
                        "pause": holds.pause,
                        "sendRateMax": holds.send_rate_max,
                        "until": holds.until,
                    }
                )
        return found

    def _used_by(self, key: Key) -> list[Key]:
        desired = self._agent.context.desired
        every = ((other, desired.get(other)) for other in desired.all_keys())
        return [other for other, spec in every if key in _uses(spec)]


def _uses(spec: Spec | None) -> tuple[Key, ...]:
    if isinstance(spec, MappingSpec):
        needed = (Key(Kind.MAPPING, name) for name in spec.depends_on)
        return (*(Key(Kind.DESTINATION, name) for name in spec.destinations), *needed)
    if isinstance(spec, DestinationSpec):
        lanes = (Key(Kind.PRIORITY_LANES, spec.lanes),) if spec.lanes is not None else ()
        return (Key(Kind.SERVER, spec.server), *lanes)
    mapping = getattr(spec, "mapping", None)  # of kinds that are about one
    return (Key(Kind.MAPPING, mapping),) if isinstance(mapping, str) else ()


def event_document(event: Event) -> Document:
    return {
        "seq": event.seq,
        "at": event.at,
        "first": event.first,
        "count": event.count,
        "key": str(event.key) if event.key else None,
        "type": event.type,
        "reason": event.reason,
        "message": event.message,
        "revision": event.revision,
        "fields": {name: value for name, value in event.fields.items() if name not in ("count", "first")},
    }


def _file_line(line: FileLine) -> Document:
    file = line.file
    return {
        "time": line.at,
        "revision": line.revision,
        "object": f"Mapping/{line.mapping}",
        "destination": line.destination,
        "action": file.action,
        "path": file.path,
        "files": 0 if file.action in ("fail", "skip") else 1,
        "failed": int(file.action == "fail"),
        "bytes": file.size,
        "digest": file.digest or None,
        "duration": None,
        "attempt": line.attempt,
        "outcome": None,
        "who": "agent",
        "reason": f"was {file.detail}" if file.detail else None,
        "error": file.error or None,
        "request": None,
    }


def _plain(value: Any) -> Any:
    """A spec as plain data: its fields in camelCase, all defaults filled in."""
    if is_dataclass(value) and not isinstance(value, type):
        return {_camel(field.name): _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list | frozenset):
        return [_plain(item) for item in value]
    return value


def _set(spec: Any) -> dict[str, Any]:
    """What a spec says beyond the defaults."""
    found: dict[str, Any] = {}
    for field in fields(spec):
        value = getattr(spec, field.name)
        default = field.default
        if field.name == "name" or value == default:
            continue
        if is_dataclass(value) and is_dataclass(default):
            found[_camel(field.name)] = _set(value)
        elif isinstance(value, tuple) and all(is_dataclass(item) for item in value):
            found[_camel(field.name)] = [_set(item) for item in value]
        else:
            found[_camel(field.name)] = _plain(value)
    return found


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
