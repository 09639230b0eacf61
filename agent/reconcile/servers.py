"""Reconcile one Server: an embedded one runs as our child, any one is connected and logged in to.

resolve the spec → (embedded) child runs as specified → engine connects → its events are watched → conditions
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from agent.engines.jetstream import Credentials
from agent.engines.port import Engine
from agent.model.condition import ConditionType, Reason
from agent.model.outcome import (
    AuthenticationError,
    Done,
    Outcome,
    PermanentError,
    RetryableError,
    Stalled,
    Wait,
)
from agent.model.spec import DestinationSpec, EngineKind, Key, Kind, MappingSpec, ServerSpec
from agent.planning.backoff import delay
from agent.planning.receipts import mapping_name
from agent.reconcile.context import Connected, Context
from agent.reconcile.embedded import EmbeddedServer, Listening
from agent.reconcile.engines import Contact, EngineFactory, Login, login_of
from agent.reconcile.removal import destination_of
from agent.reconcile.report import Report
from agent.state.attempts import Attempt

log = structlog.get_logger(__name__)

INTERVAL = 30.0
FIRST_RETRY = 0.5

PERSON_AFTER = 3
"""Starts of our own child that fail in a row, after which a person is asked to look, while trying goes on."""


@dataclass(slots=True)
class _Running:
    spec: ServerSpec
    engine: Engine
    child: EmbeddedServer | None
    listening: Listening


class Servers:
    """The servers that this agent drives. Each key is reconciled by one worker at a time."""

    def __init__(self, context: Context, factory: EngineFactory, lock_fd: int) -> None:
        self._context = context
        self._factory = factory
        self._lock_fd = lock_fd
        self._running: dict[str, _Running] = {}
        self._launches = 0
        self._failures: dict[str, int] = {}
        self._missed: set[str] = set()  # servers that may have told what nobody heard
        self._lock = threading.Lock()

    def reconcile(self, name: str, report: Report) -> Outcome:
        """Whatever comes of it, those that waited to know are woken."""
        try:
            return self._reconcile(name, report)
        finally:
            queue, attempts = self._context.queue, self._context.state.attempts
            for key in self._context.doubts.over(name):
                queue.add(key)
            if name in self._missed:
                self._missed.discard(name)
                for pending in attempts.pending():
                    queue.add(Key(Kind.MAPPING, mapping_name(pending.mapping)))

    def _reconcile(self, name: str, report: Report) -> Outcome:
        spec = self._context.desired.servers.get(name) or self._still_needed(name)
        running = self._running.get(name)
        if running is not None and (spec != running.spec or not _alive(running)):
            self.stop(name)
            running = None
        if spec is None:
            return Done()
        if refused := self._context.refusal(spec):
            self._disconnected(name)
            self.stop(name)
            return Stalled(Reason.REFUSED_BY_POLICY, refused, INTERVAL)
        try:
            running = running or self._start(spec)
            capabilities = running.engine.connect()
        except AuthenticationError as error:
            self._disconnected(name)
            return Stalled(Reason.AUTHENTICATION_FAILED, str(error), INTERVAL)
        except PermanentError as error:
            self._disconnected(name)
            return Stalled(Reason.SERVER_FAILED, str(error), INTERVAL)
        except RetryableError as error:
            self._disconnected(name)
            self._failures[name] = count = self._failures.get(name, 0) + 1
            if count >= PERSON_AFTER and spec.engine is EngineKind.EMBEDDED:
                log.warning("transfer server does not start", server=name, failures=count, why=str(error))
                after = delay(count, FIRST_RETRY, INTERVAL, random.random())  # noqa: S311
                return Stalled(Reason.SERVER_FAILED, f"{error}; trying on", after)
            raise
        self._failures.pop(name, None)
        if self._context.connected(name) is None:
            self._launches += 1
            self._context.set_connected(name, Connected(spec, running.engine, capabilities, self._launches))
            self._wake_dependents(name)
        port = f":{running.listening.port}" if running.listening.port else ""
        report.message = f"{spec.engine} at {running.listening.address}{port}"
        for notice in capabilities.notices:
            report.add(ConditionType.LIMITED, notice.reason, notice.message)
        if spec.receive_root is not None:
            report.message += f", receives below {self._context.receive_root(spec)}"
        report.detail = {
            "engine": str(spec.engine),
            "address": running.listening.address,
            "port": running.listening.port,
            "pid": running.listening.pid or None,
            "receiveRoot": self._context.receive_root(spec) if spec.engine is EngineKind.EMBEDDED else None,
        }
        if name not in self._context.desired.servers:
            return Wait(Reason.PROGRESSING, INTERVAL)
        return Done(INTERVAL)

    def _still_needed(self, name: str) -> ServerSpec | None:
        """A server that left the specs stays until what is removed from it, or at it, has been."""
        applied = self._context.state.specs.get(Key(Kind.SERVER, name))
        if applied is None or not isinstance(applied.spec, ServerSpec):
            return None
        for destination in self._removing_at():
            if name in (destination.server, destination.control_server) or _receives(
                applied.spec, destination
            ):
                return applied.spec
        return None

    def _removing_at(self) -> list[DestinationSpec]:
        """The destinations that are being removed, and those of mappings that are."""
        found: list[DestinationSpec] = []
        for spec in self._context.removing():
            if isinstance(spec, DestinationSpec):
                found.append(spec)
            elif isinstance(spec, MappingSpec):
                known = (destination_of(self._context, name) for name in spec.destinations)
                found += [destination for destination in known if destination is not None]
        return found

    def has_run(self, spec: ServerSpec) -> bool:
        """Whether an embedded server has a memory of its own already."""
        return os.path.isdir(self._directory(spec))

    def _directory(self, spec: ServerSpec) -> str:
        return os.path.join(self._context.state_dir, "servers", spec.name)

    def _start(self, spec: ServerSpec) -> _Running:
        child = None
        if spec.engine is EngineKind.EMBEDDED:
            child = EmbeddedServer(
                self._directory(spec),
                (spec.address, spec.port),
                self._context.receive_root(spec),
                self._lock_fd,
                lambda code: self._child_ended(spec.name, code),
                _receiving(spec),
            )
            listening = child.start()
            token = child.token()
            login: Login = lambda: Credentials(token=token)  # noqa: E731
            log.info("transfer server started", server=spec.name, port=listening.port, pid=listening.pid)
        else:
            listening, login = (
                Listening(spec.address, spec.port, 0),
                login_of(spec, lambda: self._context.policy),
            )
        contact = Contact(
            reachable(listening.address), listening.port, login, self._directory(spec), listening.public_key
        )
        engine = self._factory(spec, contact)
        running = _Running(spec, engine, child, listening)
        with self._lock:
            self._running[spec.name] = running
        engine.watch(lambda kind, found: self._changed(spec.name, kind, found))
        return running

    def _child_ended(self, name: str, code: int) -> None:
        log.warning("transfer server ended", server=name, returncode=code)
        self._context.queue.add(Key(Kind.SERVER, name), urgent=True)

    def _changed(self, name: str, kind: str, found: str) -> None:
        """A hint from the engine: find whom it is about."""
        queue = self._context.queue
        if kind == "server":
            # Whether it answers is asked once; then everything that is on its way looks after itself.
            self._missed.add(name)
            queue.add(Key(Kind.SERVER, name), urgent=True)
        elif kind == "destination":
            for key in self._destinations(name, found):
                queue.add(key)
        else:
            for attempt in self._about(kind, found):
                queue.add(Key(Kind.MAPPING, mapping_name(attempt.mapping)), urgent=True)

    def _destinations(self, name: str, found: str) -> list[Key]:
        """The one that has this id on the server, or all of them while it is nobody's that we know of: each
        look at a destination is told of all."""
        context, keys = self._context, self._context.destinations_of(name)
        connected = context.connected(name)
        if connected is None:
            return keys
        return [key for key in keys if context.destination_id(key.name, connected) == found] or keys

    def _about(self, kind: str, found: str) -> tuple[Attempt, ...]:
        """Whose it is. What ends as soon as it begins is told of before its id is written down: then it may
        be of any attempt that has none yet. They are asked for between two looks for the id, so that one
        of the three sees it."""
        attempts, far = self._context.state.attempts, kind != "transfer"
        if named := attempts.by_transfer(found, far=far):
            return named
        unnamed = attempts.unnamed()
        return attempts.by_transfer(found, far=far) or unnamed

    def _wake_dependents(self, name: str) -> None:
        for key in self._context.destinations_of(name):
            self._context.queue.add(key, urgent=True)

    def _disconnected(self, name: str) -> None:
        if self._context.connected(name) is not None:
            self._context.set_connected(name, None)
            self._wake_dependents(name)

    def stop(self, name: str) -> None:
        """Disconnect, and end the child. Idempotent."""
        with self._lock:
            running = self._running.pop(name, None)
        self._context.set_connected(name, None)
        if running is not None:
            running.engine.close()
            if running.child is not None:
                running.child.stop()

    def start_all(self, names: list[str]) -> None:
        """Side by side, without the queue. Raises the first LaneSyncError."""
        with self.starting(names):
            pass

    @contextmanager
    def starting(self, names: list[str]) -> Iterator[None]:
        """`start_all` beside what is done within."""
        with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
            done = pool.map(lambda name: self.reconcile(name, Report(Key(Kind.SERVER, name))), names)
            yield
            for name, outcome in zip(names, done, strict=True):
                if isinstance(outcome, Stalled):
                    raise PermanentError(f"Server/{name}: {outcome.message}")

    def stop_all(self) -> None:
        """Side by side."""
        with ThreadPoolExecutor(max_workers=max(1, len(self._running))) as pool:
            list(pool.map(self.stop, list(self._running)))


def _receiving(spec: ServerSpec) -> list[str]:
    """Options of `lanesync serve` about who may send to it, and how much."""
    options = [] if spec.accounts is None else ["--accounts", spec.accounts]
    options += [] if spec.reserve is None else ["--reserve", spec.reserve]
    for key in spec.authorized_clients:
        options += ["--authorized-client", key]
    return [*options, "--only-authorized-clients"] if spec.authorized_clients else options


def _receives(server: ServerSpec, destination: DestinationSpec) -> bool:
    """Whether a destination is this embedded server itself, by whatever name of this machine."""
    if server.engine is not EngineKind.EMBEDDED or server.port != destination.port:
        return False
    ours = {server.address, reachable(server.address)}
    wild = bool(ours & _LOOPBACK) and destination.address in _LOOPBACK
    return destination.address in ours or wild or server.address != reachable(server.address)


_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


def reachable(address: str) -> str:
    """Where a server that listens on `address` answers its own machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104


def _alive(running: _Running) -> bool:
    return running.child is None or running.child.alive
