"""Reconcile one Share: a token at the server that has received what a mapping delivers.

permitted? → which server? → is the token there, as specified? → change it, or make it anew → when next

A token is over the files that were delivered when it was made. It is not made anew because more are
delivered: people hold it. When it has expired it is not made again until the spec says something else.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import replace

import structlog

from agent.engines.port import Entry, ObservedShare, ShareRequest, Sharing
from agent.model.change import FileKind
from agent.model.condition import ConditionType, Reason
from agent.model.known import Origin
from agent.model.outcome import Done, LaneSyncError, Outcome, PermanentError, Stalled, Wait
from agent.model.paths import destination_prefixes
from agent.model.spec import DestinationSpec, EngineKind, Key, Kind, MappingSpec, ServerSpec, ShareSpec
from agent.model.units import format_duration
from agent.planning.words import count
from agent.reconcile.context import Connected, Context
from agent.reconcile.report import Report
from agent.specs.secrets import resolve
from agent.state.shares import Share

log = structlog.get_logger(__name__)

INTERVAL = 60.0
WAITING = 2.0
TOLERANCE = 2.0
"""Seconds by which an expiry may be off: clocks and calls take their time."""

MAX_FILES = 20_000
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def reconcile_share(context: Context, name: str, report: Report) -> Outcome:
    spec = context.desired.shares.get(name)
    if spec is None:
        return _remove(context, name, report)
    if refused := context.refusal(spec):
        return Stalled(Reason.REFUSED_BY_POLICY, refused, INTERVAL)
    mapping = context.desired.mappings[spec.mapping]
    place = _place(context, mapping)
    if place is None:
        return Stalled(Reason.SHARE_IMPOSSIBLE, _impossible(context, mapping), INTERVAL)
    server, destination = place
    connected = context.connected(server.name)
    if connected is None:
        report.message = f"waits for Server/{server.name}"
        return Wait(Reason.DEPENDENCY_NOT_READY, WAITING)
    return _Sharer(context, spec, mapping, connected, destination.name, report).reconcile()


def token_of(context: Context, name: str) -> dict[str, str | None]:
    """The token itself, for whoever may read the state directory. Raises LaneSyncError."""
    row = context.state.shares.get(name)
    connected = context.connected(row.server) if row is not None else None
    if row is None or connected is None or not isinstance(connected.engine, Sharing):
        raise LaneSyncError(f"Share/{name} has no token now; see `lanesync status Share/{name}`")
    observed = _own(connected.engine, context.state.agent_id, Key(Kind.SHARE, name))
    if not observed:
        raise LaneSyncError(f"Share/{name} has no token now; see `lanesync status Share/{name}`")
    return {"share": name, "server": row.server, "token": connected.engine.share_token(observed[0].id)}


class _Sharer:
    """One look at one share, with what it needs."""

    def __init__(
        self,
        context: Context,
        spec: ShareSpec,
        mapping: MappingSpec,
        connected: Connected,
        destination: str,
        report: Report,
    ) -> None:
        self._context, self._spec, self._mapping = context, spec, mapping
        self._connected, self._destination, self._report = connected, destination, report
        if not isinstance(connected.engine, Sharing):
            raise PermanentError(f"Server/{connected.spec.name} has no shared tokens")
        self._engine: Sharing = connected.engine
        self._now = context.clock.time()

    def reconcile(self) -> Outcome:
        spec, context = self._spec, self._context
        password = self._password()
        content = self._content(password)
        row = context.state.shares.get(spec.name)
        if row is not None and (row.server != self._connected.spec.name or row.content != content):
            _delete_at(context, row)
            row = None
        observed = self._known(content)
        if row is None and observed is not None:  # it was made, and then we were cut off
            row = self._remember(content, observed.created, 0)
        if row is not None and self._left(row) is not None and (self._left(row) or 0.0) <= 0:
            return self._expired(row, observed)
        if observed is None:
            return self._make(row, content, password)
        if row is not None:
            self._adjust(row, observed)
            self._describe(row, observed)
        return Done(self._next(row))

    def _known(self, content: str) -> ObservedShare | None:
        """The token that is as wanted; any other that is ours is deleted."""
        found: ObservedShare | None = None
        for share in _own(self._engine, self._context.state.agent_id, self._report.key):
            if found is None and share.tag is not None and share.tag.spec_digest == content:
                found = share
            else:
                self._engine.delete_share(share.id)
                log.info("share deleted", share=self._spec.name, why="another one is wanted")
        return found

    def _make(self, row: Share | None, content: str, password: str | None) -> Outcome:
        """Once the mapping has delivered what it has. Expiry goes on from the first time."""
        status = self._context.board.get(Key(Kind.MAPPING, self._mapping.name))
        if status is None or not status.ready:
            self._report.message = f"waits until Mapping/{self._mapping.name} is in sync"
            return Wait(Reason.DEPENDENCY_NOT_READY, WAITING)
        files = self._files()
        if not files:
            self._report.message = f"Mapping/{self._mapping.name} has delivered nothing that can be shared"
            return Wait(Reason.DEPENDENCY_NOT_READY, INTERVAL)
        tag = replace(self._context.tag(self._report.key), spec_digest=content)
        left = self._spec.expires_in if row is None else self._left(row)
        made = self._engine.create_share(
            ShareRequest(files, password, self._spec.download_limit, left, self._spec.description, tag)
        )
        row = self._remember(content, made.created if row is None else row.created_at, len(files))
        log.info("share made", share=self._spec.name, server=row.server, files=row.files)
        self._describe(row, made)
        return Done(self._next(row))

    def _remember(self, content: str, created: float, files: int) -> Share:
        row = Share(self._spec.name, self._connected.spec.name, content, created, files)
        self._context.state.shares.put(row)
        return row

    def _expired(self, row: Share, observed: ObservedShare | None) -> Outcome:
        if observed is not None:
            self._engine.delete_share(observed.id)
        self._report.message = "expired"
        self._report.detail = {"server": row.server, "files": row.files, "createdAt": row.created_at}
        self._report.add(
            ConditionType.LIMITED,
            Reason.SHARE_EXPIRED,
            "it has expired; to share again, change `expiresIn`, or remove the object and add it again",
        )
        return Done(INTERVAL)

    def _adjust(self, row: Share, observed: ObservedShare) -> None:
        """What can be changed of a token that people hold."""
        left = self._left(row)
        later = left is not None and (
            observed.expires is None or abs(observed.expires - (self._now + left)) > TOLERANCE
        )
        if later or observed.description != self._spec.description:
            self._engine.update_share(observed.id, left if later else None, self._spec.description)
            log.info("share changed", share=self._spec.name)

    def _describe(self, row: Share, observed: ObservedShare) -> None:
        left = self._left(row)
        self._report.detail = {
            "server": row.server,
            "files": row.files,
            "createdAt": row.created_at,
            "expiresAt": None if left is None else self._now + left,
            "downloads": observed.downloads,
            "downloadLimit": observed.download_limit,
        }
        files = f"{count(row.files, 'file')} of " if row.files else ""
        until = "" if left is None else f", for {format_duration(left)} from now"
        limit = f" of {observed.download_limit}" if observed.download_limit is not None else ""
        self._report.message = (
            f"shares {files}Mapping/{self._mapping.name} at Server/{row.server}{until}; "
            f"downloads: {observed.downloads}{limit}"
        )
        if observed.download_limit is not None and observed.downloads >= observed.download_limit:
            self._report.add(
                ConditionType.LIMITED,
                Reason.SHARE_USED_UP,
                "its downloads are used up; raise `downloadLimit`",
            )

    def _left(self, row: Share) -> float | None:
        """Seconds until it expires; None = never."""
        expires = self._spec.expires_in
        return None if expires is None else row.created_at + expires - self._now

    def _next(self, row: Share | None) -> float:
        left = self._left(row) if row is not None else None
        return INTERVAL if left is None else max(0.1, min(INTERVAL, left + 0.1))

    def _password(self) -> str | None:
        ref = self._spec.password
        if ref is None:
            return None
        return resolve(ref, os.environ, os.environ.get("CREDENTIALS_DIRECTORY"), self._context.policy)

    def _content(self, password: str | None) -> str:
        """Digest of all that a token cannot be changed in."""
        facts = [
            self._connected.spec.name,
            self._destination,
            self._mapping.name,
            *destination_prefixes(self._mapping),
            str(self._spec.download_limit),
            str(self._spec.expires_in is None),
            "" if password is None else self._context.state.shares.keyed(password),
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def _files(self) -> tuple[Entry, ...]:
        """What the mapping has delivered and is still there as it was, by its real place below the root."""
        root = os.path.realpath(self._context.receive_root(self._connected.spec))
        found: list[Entry] = []
        for row in self._context.state.ordered.rows(self._mapping.name, self._destination, "/"):
            if row.origin is Origin.KEPT or row.stat.kind is not FileKind.FILE:
                continue
            source = os.path.join(root, row.path.lstrip("/"))
            if not _there(source, row.stat.size):
                continue
            found.append(
                Entry(row.path, source, row.stat.size, is_directory=False, executable=row.stat.executable)
            )
            if len(found) > MAX_FILES:
                raise PermanentError(
                    f"Mapping/{self._mapping.name} has delivered more than {MAX_FILES:,} files, the most "
                    "that one share takes; share a mapping with fewer"
                )
        return tuple(found)


def _there(source: str, size: int) -> bool:
    """A file of this size, not by a symbolic link: who may write there must not show what is elsewhere."""
    try:
        info = os.lstat(source)
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and info.st_size == size and os.path.realpath(source) == source


def _place(context: Context, mapping: MappingSpec) -> tuple[ServerSpec, DestinationSpec] | None:
    """The server of ours that receives what the mapping delivers, at its first such destination."""
    for name in mapping.destinations:
        destination = context.desired.destinations[name]
        for server in context.desired.servers.values():
            if server.engine is EngineKind.EMBEDDED and server.port and _is(server, destination):
                return server, destination
    return None


def _is(server: ServerSpec, destination: DestinationSpec) -> bool:
    """Whether that address is surely this server: any other machine may have a port of the same number."""
    if server.port != destination.port:
        return False
    own = server.address in _LOOPBACK | {"0.0.0.0", "::"} and destination.address in _LOOPBACK  # noqa: S104
    return own or server.address == destination.address


def _impossible(context: Context, mapping: MappingSpec) -> str:
    places = ", ".join(context.desired.destinations[name].place for name in mapping.destinations)
    return (
        f"no embedded server of these specs receives at {places}, so this agent cannot make a token there; "
        "its operator can, with `send.createSharedToken` of a manifest of "
        + ", ".join(destination_prefixes(mapping))
    )


def _own(engine: Sharing, agent: str, key: Key) -> list[ObservedShare]:
    return [share for share in engine.shares(agent) if share.tag is not None and share.tag.spec == str(key)]


def _remove(context: Context, name: str, report: Report) -> Outcome:
    """The token goes with the object."""
    row = context.state.shares.get(name)
    if row is None:
        return Done()
    if context.connected(row.server) is None and row.server in context.desired.servers:
        report.message = f"waits for Server/{row.server} to delete its token"
        return Wait(Reason.DEPENDENCY_NOT_READY, WAITING)
    _delete_at(context, row)
    return Done()


def _delete_at(context: Context, row: Share) -> None:
    """A server that is no longer ours has ended, and its tokens with it."""
    connected = context.connected(row.server)
    if connected is not None and isinstance(connected.engine, Sharing):
        for share in _own(connected.engine, context.state.agent_id, Key(Kind.SHARE, row.name)):
            connected.engine.delete_share(share.id)
            log.info("share deleted", share=row.name, server=row.server)
    context.state.shares.remove(row.name)
