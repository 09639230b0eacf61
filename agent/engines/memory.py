"""An engine in memory, on a virtual clock: for tests of what drives engines.

It keeps what a server keeps and moves "bytes" only in `advance()`. Sources are really looked at when their
turn comes, so results tell what was there. Lanes are recorded; the order of work is plain priority and age.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace

from agent.engines.memory_far import Answer, Deleting, FarVerbs, Listing, Renaming, Request
from agent.engines.memory_transfer import MemoryTransfer, progress, publish
from agent.engines.port import (
    DestinationRequest,
    Entry,
    InventoryState,
    ReceiverCredentials,
    RemoteState,
    TransferRequest,
)
from agent.lanes import validate_lanes
from agent.model.observed import (
    Capabilities,
    EngineState,
    FileResult,
    ObservedDefaults,
    ObservedDestination,
    ObservedTransfer,
    Tag,
    TransferState,
)
from agent.model.outcome import NotFoundError, PermanentError, RetryableError, UnreachableError
from agent.model.spec import DEFAULT_LANES, Lane, TransferDefaults, default_lane

UNLIMITED_BYTES_PER_SECOND = 1e9


class MemoryEngine:
    """Implements agent.engines.port.Engine.

    Beyond the port: `reachable` (False: every call raises UnreachableError), `absent` (addresses whose
    receiver is down), `failing` (paths that cannot be delivered), `cancelled` (transfer id -> reason),
    `advance(seconds)`, `delivered(destination_id)` and `lose(transfer_id)`.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.reachable = True
        self.absent: set[tuple[str, int]] = set()
        self.failing: set[str] = set()
        self.slow_listings = False  # a page comes with the next `advance`, not at once
        self._lock = threading.RLock()
        self._ids = itertools.count(1)
        self._destinations: dict[str, ObservedDestination] = {}
        self._transfers: dict[str, MemoryTransfer] = {}
        self._manifests: dict[str, tuple[Entry, ...]] = {}
        self._far = FarVerbs()
        self._trees: dict[tuple[str, int], dict[str, FileResult]] = {}
        self._changed: Callable[[str, str], None] = _tell_nobody
        self.cancelled: dict[str, str] = {}

    # The world

    def advance(self, seconds: float) -> None:
        """Let time pass: send what it allows, then tell the watcher."""
        events: list[tuple[str, str]] = []
        with self._lock:
            self.now += seconds
            for destination in self._destinations.values():
                if (destination.address, destination.port) not in self.absent:
                    events += self._work(destination, seconds)
        for event in events:
            self._changed(*event)

    def delivered(self, destination_id: str) -> dict[str, FileResult]:
        """What is at the destination, by path."""
        with self._lock:
            destination = self._destination(destination_id)
            return dict(self._trees.get((destination.address, destination.port), {}))

    def lose(self, transfer_id: str) -> None:
        """The server forgets a transfer."""
        with self._lock:
            self._transfers.pop(transfer_id, None)

    def _work(self, destination: ObservedDestination, seconds: float) -> list[tuple[str, str]]:
        tree = self._trees.setdefault((destination.address, destination.port), {})
        events = [("deletion", found) for found in self._far.work(destination.id, tree)]
        rate = destination.send_rate_max
        budget = seconds * (UNLIMITED_BYTES_PER_SECOND if rate is None else rate * 125)
        idle = {lane.name for lane in destination.lanes or () if lane.share == 0}
        queue = [
            t
            for t in self._transfers.values()
            if t.seen.destination_id == destination.id and t.seen.state.active
        ]
        queue.sort(key=lambda t: (t.seen.lane in idle, t.seen.priority, int(t.seen.id)))
        for transfer in queue:
            if budget <= 0:
                break
            budget -= self._send(destination, transfer, budget, seconds)
            events.append(("transfer", transfer.seen.id))
        return events

    def _send(
        self, destination: ObservedDestination, transfer: MemoryTransfer, budget: float, seconds: float
    ) -> float:
        """Send up to `budget` bytes of one transfer; returns the bytes used."""
        if transfer.seen.send_rate_max is not None:
            budget = min(budget, transfer.seen.send_rate_max * 125 * seconds)
        used = 0.0
        transfer.seen = replace(transfer.seen, state=TransferState.SENDING)
        tree = self._trees.setdefault((destination.address, destination.port), {})
        while transfer.todo:
            entry = transfer.todo[0]
            left = entry.size - transfer.partial
            if left > budget - used:
                transfer.partial += int(budget - used)
                used = budget
                break
            used += left
            transfer.partial = 0
            transfer.results.append(publish(transfer.todo.pop(0), transfer.overwrite, tree, self.failing))
        transfer.seen = progress(transfer)
        return used

    # The port

    def connect(self) -> Capabilities:
        self._reach()
        return Capabilities(
            delete=True,
            rename=True,
            inventory=True,
            file_results=True,
            events=True,
            names={"version": "memory"},
        )

    def close(self) -> None:
        self._changed = _tell_nobody

    def watch(self, changed: Callable[[str, str], None]) -> None:
        self._changed = changed

    def observe(self, agent: str) -> EngineState:
        with self._lock:
            self._reach()
            return EngineState(
                tuple(d for d in self._destinations.values() if d.tag is not None and d.tag.agent == agent),
                tuple(
                    t.seen
                    for t in self._transfers.values()
                    if t.seen.tag is not None and t.seen.tag.agent == agent
                ),
            )

    def create_destination(self, request: DestinationRequest) -> str:
        with self._lock:
            self._reach()
            made = str(next(self._ids))
            self._destinations[made] = ObservedDestination(
                made,
                request.address,
                request.port,
                request.tag,
                lanes=DEFAULT_LANES,
                send_rate_max=request.send_rate_max,
                defaults=_defaults(TransferDefaults(), DEFAULT_LANES),
                route=request.route,
            )
            return made

    def tag_destination(self, destination_id: str, tag: Tag) -> None:
        self._change(destination_id, tag=tag)

    def delete_destination(self, destination_id: str) -> None:
        with self._lock:
            self._destination(destination_id)
            of_it = [t for t in self._transfers.values() if t.seen.destination_id == destination_id]
            if any(t.seen.state.active for t in of_it):
                raise PermanentError(f"destination {destination_id} has active transfers")
            for transfer in of_it:
                del self._transfers[transfer.seen.id]
            del self._destinations[destination_id]

    def set_lanes(self, destination_id: str, lanes: tuple[Lane, ...]) -> None:
        with self._lock:
            found = self._destination(destination_id)
            broken = validate_lanes([(lane.name, lane.share) for lane in lanes])
            if broken:
                raise PermanentError("; ".join(broken))
            active = {
                t.seen.lane
                for t in self._transfers.values()
                if t.seen.destination_id == destination_id and not t.seen.state.finished
            }
            names = {lane.name for lane in lanes}
            if not active <= names or (active and len(lanes) != len(found.lanes or ())):
                raise RetryableError("lanes in use cannot be renamed, nor their number changed")
            self._change(destination_id, lanes=lanes)

    def set_send_rate(self, destination_id: str, send_rate_max: float | None) -> None:
        self._change(destination_id, send_rate_max=send_rate_max)

    def set_defaults(self, destination_id: str, defaults: TransferDefaults) -> None:
        lanes = self._destination(destination_id).lanes or DEFAULT_LANES
        self._change(destination_id, defaults=_defaults(defaults, lanes))

    def start_transfer(self, request: TransferRequest) -> ObservedTransfer:
        with self._lock:
            found = self._destination(request.destination_id)
            if request.lane not in {lane.name for lane in found.lanes or ()}:
                raise PermanentError(f"destination {found.id} has no lane {request.lane!r}")
            manifest, made = str(next(self._ids)), str(next(self._ids))
            self._manifests[manifest] = request.entries
            seen = ObservedTransfer(
                made,
                request.destination_id,
                manifest,
                request.tag,
                TransferState.PENDING,
                lane=request.lane,
                priority=request.priority,
                send_rate_max=request.send_rate_max,
                total_bytes=sum(entry.size for entry in request.entries),
                total_files=len(request.entries),
            )
            self._transfers[made] = MemoryTransfer(seen, list(request.entries), request.overwrite)
            return seen

    def transfer(self, transfer_id: str) -> ObservedTransfer:
        with self._lock:
            self._reach()
            found = self._transfers.get(transfer_id)
            if found is None:
                return ObservedTransfer(transfer_id, "", "", None, TransferState.LOST, error="not found")
            return found.seen

    def results(self, transfer_id: str, after: int) -> tuple[tuple[FileResult, ...], int]:
        with self._lock:
            found = self._transfer(transfer_id)
            return tuple(found.results[after:]), len(found.results)

    def suspend(self, transfer_id: str) -> None:
        self._move(transfer_id, TransferState.SUSPENDED, lambda state: state.active)

    def resume(self, transfer_id: str) -> None:
        self._move(transfer_id, TransferState.RESUMING, lambda state: state is TransferState.SUSPENDED)

    def cancel(self, transfer_id: str, reason: str) -> None:
        with self._lock:
            self._reach()
            found = self._transfers.pop(transfer_id, None)
            if found is not None:
                self.cancelled[transfer_id] = reason
                self._manifests.pop(found.seen.manifest_id, None)

    def set_priority(self, transfer_id: str, lane: str, priority: int) -> None:
        with self._lock:
            found = self._transfer(transfer_id)
            lanes = self._destination(found.seen.destination_id).lanes or ()
            if lane not in {known.name for known in lanes}:
                raise PermanentError(f"there is no lane {lane!r}")
            found.seen = replace(found.seen, lane=lane, priority=priority)

    def set_transfer_rate(self, transfer_id: str, send_rate_max: float | None) -> None:
        with self._lock:
            found = self._transfer(transfer_id)
            found.seen = replace(found.seen, send_rate_max=send_rate_max)

    def forget(self, transfer_id: str, manifest_id: str) -> None:
        with self._lock:
            self._reach()
            found = self._transfers.get(transfer_id)
            if found is not None and found.seen.state.active:
                raise PermanentError(f"transfer {transfer_id} is active")
            self._transfers.pop(transfer_id, None)
            self._manifests.pop(manifest_id, None)

    def start_deletion(
        self,
        destination_id: str,
        files: tuple[str, ...],
        directories: tuple[str, ...],
        credentials: ReceiverCredentials | None = None,  # noqa: ARG002 - everybody may here
    ) -> str:
        return self._ask(destination_id, Deleting(files, directories))

    def deletion(self, deletion_id: str) -> RemoteState:
        return self._answer(deletion_id)

    def start_renaming(
        self,
        destination_id: str,
        renames: tuple[tuple[str, str], ...],
        credentials: ReceiverCredentials | None = None,  # noqa: ARG002
    ) -> str:
        return self._ask(destination_id, Renaming(renames))

    def renaming(self, renaming_id: str) -> RemoteState:
        return self._answer(renaming_id)

    def start_inventory(
        self,
        destination_id: str,
        directory: str,
        after: str = "",
        *,
        checksum: bool = False,
        credentials: ReceiverCredentials | None = None,  # noqa: ARG002
    ) -> str:
        made = self._ask(destination_id, Listing(directory, after, checksum))
        if not self.slow_listings:
            self._list_now(destination_id, made)
        return made

    def inventory(self, inventory_id: str) -> InventoryState:
        return self._answer(inventory_id)

    @property
    def asked(self) -> dict[str, tuple[str, Request]]:
        """Every deletion and renaming so far: id -> (destination, what)."""
        return {n: found for n, found in self._far.asked.items() if not isinstance(found[1], Listing)}

    @property
    def listings(self) -> list[Listing]:
        """Every page of an inventory that was asked for."""
        return [request for _, request in self._far.asked.values() if isinstance(request, Listing)]

    # Inside

    def _list_now(self, destination_id: str, number: str) -> None:
        found = self._destination(destination_id)
        place = (found.address, found.port)
        if place not in self.absent:
            self._far.work(destination_id, self._trees.setdefault(place, {}), only=number)

    def _ask(self, destination_id: str, request: Request) -> str:
        with self._lock:
            self._destination(destination_id)
            made = str(next(self._ids))
            self._far.asked[made] = (destination_id, request)
            return made

    def _answer(self, number: str) -> Answer:
        with self._lock:
            self._reach()
            return self._far.answer(number)

    def _reach(self) -> None:
        if not self.reachable:
            raise UnreachableError("the server is not reachable")

    def _destination(self, destination_id: str) -> ObservedDestination:
        self._reach()
        if destination_id not in self._destinations:
            raise NotFoundError(f"destination {destination_id} was not found")
        return self._destinations[destination_id]

    def _transfer(self, transfer_id: str) -> MemoryTransfer:
        self._reach()
        if transfer_id not in self._transfers:
            raise NotFoundError(f"transfer {transfer_id} was not found")
        return self._transfers[transfer_id]

    def _change(self, destination_id: str, **fields: object) -> None:
        with self._lock:
            found = self._destination(destination_id)
            self._destinations[destination_id] = replace(found, **fields)  # type: ignore[arg-type]

    def _move(self, transfer_id: str, to: TransferState, allowed: Callable[[TransferState], bool]) -> None:
        with self._lock:
            found = self._transfer(transfer_id)
            if allowed(found.seen.state):
                found.seen = replace(found.seen, state=to)
            elif found.seen.state.finished:
                raise PermanentError(f"transfer {transfer_id} is {found.seen.state}")


def _tell_nobody(_kind: str, _id: str) -> None:
    pass


def _defaults(defaults: TransferDefaults, lanes: tuple[Lane, ...]) -> ObservedDefaults:
    return ObservedDefaults(
        defaults.priority,
        defaults.lane or default_lane(lanes),
        defaults.checkpoint_interval,
        defaults.overwrite,
        defaults.modification_time_tolerance,
        defaults.min_cipher,
    )
