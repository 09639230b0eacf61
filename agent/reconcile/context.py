"""What every reconcile may use: the agent's memory, the wanted state, the engines, the board, the clock."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from agent.engines.jetstream_control import through, widened
from agent.engines.port import Engine
from agent.model.observed import Capabilities, Tag
from agent.model.spec import (
    DesiredState,
    DestinationSpec,
    EngineKind,
    Key,
    Kind,
    PathMapping,
    ServerSpec,
    Spec,
    digest,
)
from agent.planning.destination import destination_digest
from agent.reconcile.delivered import Delivered
from agent.reconcile.dependencies import Awaited
from agent.reconcile.doubts import Doubts
from agent.reconcile.heartbeats import Heartbeats
from agent.reconcile.knocks import Knocks
from agent.reconcile.meters import Meters
from agent.reconcile.queue import WorkQueue
from agent.reconcile.requests import Requests
from agent.reconcile.status import Board
from agent.reconcile.wallclock import WallClock
from agent.source.filters import Filter, KeepOut
from agent.specs.permitted import refusal_text
from agent.specs.policy import Policy
from agent.state.db import State


class Clock(Protocol):
    def time(self) -> float:
        """Unix seconds."""

    def monotonic(self) -> float: ...


class SystemClock:
    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Connected:
    """A server that is reached: its engine and what it can do. `launch` counts connections to it, so that
    what was learned from an earlier one is not believed of a later one."""

    spec: ServerSpec
    engine: Engine
    capabilities: Capabilities
    launch: int


@dataclass(slots=True)
class Context:
    state: State
    state_dir: str
    queue: WorkQueue
    board: Board
    clock: Clock
    delivered: Delivered
    desired: DesiredState = field(default_factory=lambda: DesiredState(revision=""))
    policy: Policy | None = None
    awaited: Awaited = field(default_factory=Awaited)
    from_git: bool = False  # the specs are written by others than who runs the agent
    requests: Requests = field(default_factory=Requests)
    hooks_changed: threading.Event = field(default_factory=threading.Event)  # there may be one to call
    alerts_changed: threading.Event = field(default_factory=threading.Event)  # there may be one to tell
    meters: Meters = field(default_factory=Meters)
    heartbeats: Heartbeats = field(default_factory=Heartbeats)
    doubts: Doubts = field(default_factory=Doubts)
    knocks: Knocks = field(default_factory=Knocks)
    orphaned: set[tuple[str, str]] = field(
        default_factory=set
    )  # (mapping, destination): transfers may run on
    wall_clock: WallClock = field(default_factory=WallClock)
    _servers: dict[str, Connected] = field(default_factory=dict)
    _destination_ids: dict[str, tuple[int, str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def refusal(self, spec: Spec) -> str:
        """What the policy in force does not allow of a spec; empty when all of it. Asked whenever the spec is
        about to be used: an earlier version, or where a symbolic link leads, may be refused by now."""
        return refusal_text(spec, self.policy, from_git=self.from_git)

    def connected(self, server: str) -> Connected | None:
        with self._lock:
            return self._servers.get(server)

    def doubt(self, server: str) -> None:
        """It did not answer: one looks whether it still does, and nobody else asks before that."""
        self.doubts.note(server)
        self.queue.add(Key(Kind.SERVER, server), urgent=True)

    def set_connected(self, server: str, connected: Connected | None) -> None:
        with self._lock:
            if connected is None:
                self._servers.pop(server, None)
            else:
                self._servers[server] = connected

    def reached(self, destination: DestinationSpec) -> Connected | None:
        """The server that sends there. What is done at the destination itself goes through `controlServer`
        where the sending server cannot do it and the other one is reached."""
        found = self.connected(destination.server)
        other = None if destination.control_server is None else self.connected(destination.control_server)
        if found is None or other is None or found.capabilities.delete:
            return found
        engine = through(found.engine, other.engine)
        return replace(found, engine=engine, capabilities=widened(found.capabilities))

    def connections(self) -> list[Connected]:
        with self._lock:
            return list(self._servers.values())

    def destination_id(self, destination: str, connected: Connected) -> str | None:
        """The id that this destination has on the server as connected now; None until it was reconciled."""
        with self._lock:
            launch, found = self._destination_ids.get(destination, (-1, ""))
        return found if launch == connected.launch else None

    def set_destination_id(self, destination: str, connected: Connected, found: str | None) -> None:
        with self._lock:
            if found is None:
                self._destination_ids.pop(destination, None)
            else:
                self._destination_ids[destination] = (connected.launch, found)

    def tag(self, key: Key, attempt: int = 0, change_digest: str = "") -> Tag:
        spec = self.desired.get(key)
        if isinstance(spec, DestinationSpec):
            found = destination_digest(spec, self.desired.lanes_of(spec))
        else:
            found = digest(spec) if spec is not None else ""
        return Tag(
            agent=self.state.agent_id,
            spec=str(key),
            revision=self.desired.revision,
            spec_digest=found,
            attempt=attempt,
            change_digest=change_digest,
        )

    def receive_root(self, server: ServerSpec) -> str:
        """Of an embedded server, absolute; a relative one is below the state directory."""
        own = os.path.join("servers", server.name, "received")
        return os.path.join(self.state_dir, server.receive_root or own)

    def filter_of(self, entry: PathMapping) -> Filter:
        """The one filter of a source, for survey and watch alike. What the agent itself writes is no source:
        it would be delivered to where it is written, and delivered again."""
        return self.filters()(entry)

    def filters(self) -> Callable[[PathMapping], Filter]:
        """`filter_of` for many sources at once, with the agent's own directories as they are now."""
        servers = self.desired.servers.values()
        embedded = [server for server in servers if server.engine is EngineKind.EMBEDDED]
        own = [self.state_dir, *map(self.receive_root, embedded)]
        identities = set()
        for directory in own:
            try:
                info = os.stat(directory)
            except OSError:
                continue
            identities.add((info.st_dev, info.st_ino))
        within = None
        if self.policy is not None:
            within = tuple(os.path.realpath(rule.path) for rule in self.policy.sources)
        own_now = frozenset(identities)
        return lambda entry: Filter(entry.include, entry.exclude, KeepOut(entry.source, own_now, within))

    def removing(self) -> list[Spec]:
        """Objects that left the specs and whose removal has not been carried out yet."""
        return [applied.spec for applied in self.state.specs.of(self.state.specs.other_than(self.desired))]

    def mappings_of(self, destination: str) -> list[Key]:
        return [
            Key(Kind.MAPPING, name)
            for name, mapping in self.desired.mappings.items()
            if destination in mapping.destinations
        ]

    def destinations_of(self, server: str) -> list[Key]:
        return [
            Key(Kind.DESTINATION, name)
            for name, destination in self.desired.destinations.items()
            if server in (destination.server, destination.control_server)
        ]
