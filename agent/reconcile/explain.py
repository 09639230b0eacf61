"""What there is to say about one path: whose it is, what became of it, and what happens to it next.

The path is a source path or a destination path, and need not exist yet. Nothing is changed by asking.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agent.model.change import FileStat
from agent.model.outcome import LaneSyncError
from agent.model.paths import destination_prefixes, is_below, join
from agent.model.patterns import compiled
from agent.model.spec import DesiredState, Key, Kind, MappingSpec, PathMapping, Ready, Release, Symlinks
from agent.model.units import format_duration
from agent.planning.changes import difference
from agent.planning.sentinel import covered
from agent.planning.tombstones import due_at
from agent.reconcile.agent import Agent
from agent.reconcile.delivery import Memory
from agent.reconcile.document import Document
from agent.reconcile.progress import transfer_document
from agent.reconcile.suspension import delivery_suspension
from agent.source.filters import DEFAULT_EXCLUDE, Filter
from agent.source.look import Found, scan_paths

LINES = 5
"""Lines of the audit trail that are told of a path."""


@dataclass(frozen=True, slots=True)
class Place:
    """A path as one entry of a mapping sees it."""

    mapping: MappingSpec
    entry: PathMapping
    path: str  # at the destination
    relative: str  # below the source; empty = the source itself

    @property
    def source(self) -> str:
        return os.path.join(self.entry.source, self.relative) if self.relative else self.entry.source


def places(desired: DesiredState, path: str) -> list[Place]:
    """Every entry that the path is of: as a source path, or else as a destination path. (Where a mapping's
    destination path is `/`, everything would be one.)"""
    as_source: list[Place] = []
    as_destination: list[Place] = []
    for mapping in desired.mappings.values():
        for entry, prefix in zip(mapping.paths, destination_prefixes(mapping), strict=True):
            for found, root in ((as_source, entry.source), (as_destination, prefix)):
                if is_below(path, root):
                    relative = path[len(root.rstrip("/")) :].lstrip("/")
                    found.append(Place(mapping, entry, join(prefix, relative), relative))
    return as_source or as_destination


def explain(agent: Agent, path: str) -> Document:
    """`owned` is false when no mapping has the path; `mappings` says the same of each that might."""
    desired = agent.context.desired
    path = os.path.normpath(path) if path.startswith("/") else "/" + os.path.normpath(path)
    found = [_place(agent, place) for place in places(desired, path)]
    text = ""
    if not found:
        sources = [entry.source for mapping in desired.mappings.values() for entry in mapping.paths]
        prefixes = [p for mapping in desired.mappings.values() for p in destination_prefixes(mapping)]
        text = f"no mapping takes it: sources are {_some(sources)}; destination paths are {_some(prefixes)}"
    return {
        "path": path,
        "owned": any(entry["counts"] for entry in found),
        "message": text,
        "revision": desired.revision,
        "time": agent.context.clock.time(),
        "mappings": found,
    }


def _place(agent: Agent, place: Place) -> Document:
    context, spec = agent.context, place.mapping
    why_not = context.refusal(spec)
    filter_ = context.filter_of(place.entry)
    looked: Found | None = None
    if not why_not:
        looked = next(scan_paths(place.entry.source, [place.relative], filter_, spec.symlinks))
        is_directory = looked.is_directory or os.path.isdir(place.source)
        why_not = left_out(filter_, spec, place, is_directory)
    position = agent.position(Key(Kind.MAPPING, spec.name))
    return {
        "mapping": spec.name,
        "from": position,
        "source": place.source,
        "sourceRoot": place.entry.source,
        "destinationPath": place.path,
        "counts": not why_not,
        "whyNot": why_not or None,
        "inSource": None if looked is None else _in_source(place, looked),
        "settling": _settling(agent, place, looked),
        "deliveries": [
            _delivery(agent, place, name, None if looked is None else looked.stat, bool(why_not))
            for name in spec.destinations
        ],
    }


def left_out(filter_: Filter, spec: MappingSpec, place: Place, is_directory: bool) -> str:
    """The rule by which a path is no part of the mapping; empty when it is."""
    relative = place.relative
    if spec.symlinks is Symlinks.IGNORE and _through_link(place.entry.source, relative):
        return "it is, or lies below, a symbolic link, and `symlinks` is `ignore`"
    for above in _above(relative):
        if filter_.keep_out is not None and filter_.keep_out.holds(above):
            return f"{above}/ holds what the agent itself writes"
        if filter_.prunes(above):
            return f"its directory {above}/ is left out by {_pattern(filter_, above + '/')}"
    if relative and filter_.leads_out(relative):
        return "a symbolic link on its way leads out of what the policy allows"
    if is_directory or filter_.includes(relative, is_directory):
        return ""
    name = relative + "/" if is_directory else relative
    found = _pattern(filter_, name)
    return (
        f"left out by {found}" if found else f"no pattern of `include` matches it ({_some(filter_.include)})"
    )


def _pattern(filter_: Filter, name: str) -> str:
    """Which pattern excludes a name: the last that matches decides."""
    patterns = (*DEFAULT_EXCLUDE, *filter_.exclude)
    for number in range(len(patterns), 0, -1):
        if compiled((patterns[number - 1],)).match_file(name):
            own = number <= len(DEFAULT_EXCLUDE)
            return f"`{patterns[number - 1]}`" + (" (always excluded)" if own else " in `exclude`")
    return ""


def _above(relative: str) -> Iterator[str]:
    parts = relative.split("/")
    for number in range(1, len(parts)):
        yield "/".join(parts[:number])


def _through_link(root: str, relative: str) -> bool:
    return any(os.path.islink(os.path.join(root, part)) for part in (*_above(relative), relative) if part)


def _in_source(place: Place, looked: Found | None) -> Document | None:
    """What is there, whether or not it counts; None: nothing."""
    if looked is not None and looked.error is not None:
        return {"kind": "unreadable", "error": looked.error.strerror or str(looked.error)}
    if looked is not None and looked.stat is not None:
        return _version(looked.stat)
    try:
        info = os.lstat(place.source)
    except OSError:
        return None
    if stat.S_ISREG(info.st_mode):
        return {"kind": "file", "size": info.st_size, "mtime": info.st_mtime_ns / 1e9}
    kinds = ((stat.S_ISDIR, "directory"), (stat.S_ISLNK, "symlink"))
    return {"kind": next((name for test, name in kinds if test(info.st_mode)), "special")}


def _version(version: FileStat) -> Document:
    return {"kind": str(version.kind), "size": version.size, "mtime": version.mtime_ns / 1e9}


def _settling(agent: Agent, place: Place, looked: Found | None) -> Document | None:
    """None when it is ready to be sent, as far as its writers go."""
    trigger, now = place.mapping.trigger, agent.context.clock.time()
    if looked is None or looked.stat is None:
        return None
    age = now - looked.stat.mtime_ns / 1e9
    if 0 <= age < trigger.settle:
        return {"reason": f"changed less than {trigger.settle:g} s ago", "until": now + trigger.settle - age}
    name = trigger.sentinel
    if trigger.ready is Ready.SENTINEL and name is not None and not _sealed(place, looked.stat, name):
        why = f"neither its directory nor one above it, up to the source, holds a `{name}` newer than it"
        return {"reason": why, "until": None}
    if (place.entry.source, place.relative) in agent.sources.waiting(place.mapping.name):
        return {
            "reason": f"it is being written; sent {trigger.settle:g} s after the last change",
            "until": None,
        }
    return None


def _sealed(place: Place, version: FileStat, sentinel: str) -> bool:
    """Whether a sentinel speaks for a file."""
    newest = None
    for above in ("", *_above(place.relative)):
        try:
            info = os.stat(os.path.join(place.entry.source, above, sentinel))
        except OSError:
            continue
        newest = max(newest or 0, info.st_ctime_ns)
    return covered(version, newest)


def _at_destination(agent: Agent, names: tuple[str, str], path: str) -> Document | None:
    """What the last look at the destination found of it, where that differs from what was delivered."""
    found = agent.context.state.looks.get(*names, "drift") or {}
    for named in found.get("paths", ()):
        if named["path"] == path:
            return {"what": named["what"], "detail": named["detail"], "at": found["at"]}
    return None


def _delivery(agent: Agent, place: Place, destination: str, now: FileStat | None, left_out: bool) -> Document:
    context, names = agent.context, (place.mapping.name, destination)
    row = context.state.ledger.row(*names, place.path)
    flying = context.state.attempts.in_flight(*names, [place.path]).get(place.path)
    audit = context.state.audit.files(mapping=names[0], destination=destination, path=place.path, limit=50)
    lines = [line for line in audit if place.path in (line.file.path, line.file.detail)][-LINES:]
    failed = lines[-1] if lines and lines[-1].file.action == "fail" else None
    differs = "" if now is None or row is None else difference(now, row.stat)
    state, text, when = _next(
        agent, place, destination, _Seen(now, row is not None, differs, flying is not None)
    )
    return {
        "destination": destination,
        "state": "leftOut" if left_out and row is None else state,
        "delivered": None
        if row is None
        else {
            **_version(row.stat),
            "digest": row.digest,
            "at": row.at,
            "attempt": row.attempt,
            "origin": row.origin.name.lower(),
        },
        "differs": differs or None,
        "inFlight": None if flying is None else _in_flight(agent, destination, flying[1], flying[0] is None),
        "atDestination": _at_destination(agent, names, place.path),
        "lastError": None if failed is None else {"error": failed.file.error, "at": failed.at},
        "history": [line_document(line) for line in lines],
        "next": "nothing: it is left out" if left_out and row is None else text,
        "nextAt": when,
    }


def line_document(line: Any) -> Document:
    return {
        "time": line.at,
        "action": line.file.action,
        "attempt": line.attempt,
        "bytes": line.file.size,
        "digest": line.file.digest,
        "error": line.file.error or None,
    }


def _in_flight(agent: Agent, destination: str, number: int, deleting: bool) -> Document:
    """What carries it, as its server reports it now."""
    context = agent.context
    attempt, spec = context.state.attempts.get(number), context.desired.destinations.get(destination)
    connected = context.connected(spec.server) if spec is not None else None
    transfer = None
    if (
        attempt is not None
        and attempt.transfer_id
        and attempt.operation == "transfer"
        and connected is not None
    ):
        try:
            transfer = transfer_document(connected.engine.transfer(attempt.transfer_id))
        except LaneSyncError:
            transfer = None
    since = None if attempt is None else attempt.created_at
    return {"attempt": number, "deleting": deleting, "since": since, "transfer": transfer}


@dataclass(frozen=True, slots=True)
class _Seen:
    now: FileStat | None
    delivered: bool
    differs: str
    flying: bool


def _next(agent: Agent, place: Place, destination: str, seen: _Seen) -> tuple[str, str, float | None]:
    """(state, what happens next, when: Unix seconds or None)."""
    spec, context = place.mapping, agent.context
    memory = agent.mappings.memories.get((spec.name, destination), Memory())
    if seen.flying:
        return "inFlight", "nothing: it is on its way; its server tells when it has arrived", None
    if seen.now is None and not seen.delivered:
        return "absent", "nothing until it is there", None
    if seen.now is None:
        if context.state.released.among(spec.name, destination, [place.path]):
            return "released", "nothing: it was deleted at the source, for every destination had it", None
        gone = context.state.tombstones.since(spec.name, destination, place.path)
        return _gone(spec, memory, place.path, gone, context.clock.time())
    if seen.delivered and not seen.differs:
        if spec.release is Release.DELETE_SOURCE:
            then = "deleted at the source once every destination has it, verified"
            return "delivered", then, None
        return "delivered", "nothing: the destination has this version", None
    if (suspended := delivery_suspension(context, spec, destination)) is not None:
        return "suspended", f"sent once the suspension ends: {suspended.text}", suspended.until
    status = context.board.get(Key(Kind.DESTINATION, destination))
    if status is not None and not status.ready:
        why = status.why_not_ready()
        return "waiting", f"sent once Destination/{destination} is ready: {why.message if why else ''}", None
    failures = context.state.attempts.failures(spec.name, destination, context.desired.revision)
    if failures.consecutive:
        return "retrying", f"tried again; {failures.last_error}", failures.next_retry_at
    due = memory.survey_due - context.clock.monotonic()
    when = context.clock.time() + due if due > 0 else None
    return "pending", "sent when its source is looked at next" + ("" if when else ", which is due"), when


def _gone(
    spec: MappingSpec, memory: Memory, path: str, since: float | None, now: float
) -> tuple[str, str, float | None]:
    """Delivered, and no longer in the source."""
    if not spec.prune:
        return "kept", "nothing: it is gone from the source, and `prune` is off", None
    if any(deletion.path == path for held in memory.held for deletion in held.deletions):
        return "held", f"deleted once a person runs `lanesync approve Mapping/{spec.name}`", None
    if any(is_below(path, suspect.path) for suspect in memory.suspects):
        return "held", "nothing: its source is not believed; `lanesync status` tells why", None
    how = "moved to the trash there" if spec.deletions.trash else "deleted there"
    if spec.deletions.grace > 0 and since is not None:
        due = due_at(since, spec.deletions.grace, now)
        return "tombstone", f"{how} when it has been gone for {format_duration(spec.deletions.grace)}", due
    return "deleting", f"{how} at the next look", None


def _some(names: Any, limit: int = 5) -> str:
    names = list(dict.fromkeys(names))
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return (", ".join(names[:limit]) or "none") + more
