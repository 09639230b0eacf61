"""The engine port on a service of FTS3: what is asked is written down, and workers carry it out."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from agent.engines.fts3 import urls
from agent.engines.fts3.deleting import Deletions
from agent.engines.fts3.files import FileQueue
from agent.engines.fts3.service import Access, Service, agent_errors
from agent.engines.fts3.settings import Settings
from agent.engines.fts3.store import Store, open_database
from agent.engines.fts3.trouble import Troubles
from agent.engines.fts3.workers import Workers
from agent.engines.port import DestinationRequest, Entry, ReceiverCredentials, RemoteState, TransferRequest
from agent.engines.unable import NoFarVerbs
from agent.lanes import validate_lanes
from agent.model.observed import (
    Capabilities,
    EngineState,
    FileResult,
    ObservedDestination,
    ObservedTransfer,
    Tag,
    TransferState,
)
from agent.model.outcome import LaneSyncError, NotFoundError, PermanentError, RetryableError, UnreachableError
from agent.model.spec import Lane, Overwrite, Storage, TransferDefaults
from agent.state.connection import Database

__all__ = ["Access", "Fts3Engine", "Settings", "Storage"]

log = structlog.get_logger(__name__)

OVERWRITES = frozenset({Overwrite.ALWAYS, Overwrite.NEVER})

Changed = Callable[[str, str], None]


class Fts3Engine(NoFarVerbs):
    """Implements agent.engines.port.Engine and Holding. May be used from several threads.

    directory: for the store; what is on its way is found there again after a restart. Work begins with the
    first call, and goes on while nobody answers: what was asked is carried out later.
    """

    def __init__(self, access: Access, directory: str, settings: Settings | None = None) -> None:
        self._settings = settings or Settings()
        self._directory = directory
        self._service = Service(access, self._settings)
        self._sources = urls.Sources(access.storage)
        self._troubles = Troubles()
        self._changed: Changed = _tell_nobody
        self._held: dict[str, str] = {}  # what holds a destination, as it was said
        self._lock = threading.RLock()
        self._database: Database | None = None
        self._workers: Workers | None = None
        self._closed = False

    # The connection

    def connect(self) -> Capabilities:
        who = self._service.login()
        workers = self._working()
        workers.reached(who)
        expiry = self._service.expiry_notice(datetime.now(UTC))
        notices = (*workers.notices(), *([] if expiry is None else [expiry]))
        info = self._service.asking().endpoint_info()
        return Capabilities(
            rates=False,
            delete=True,
            file_results=True,
            events=False,
            names={"version": str(info.api), "user": who.user_dn},
            overwrites=OVERWRITES,
            ciphers=False,
            credentials=False,
            fine_times=False,
            control_characters=False,
            hold=True,
            notices=notices,
        )

    def close(self) -> None:
        with self._lock:
            self._closed = True
            workers, self._workers = self._workers, None
            database, self._database = self._database, None
            self._changed = _tell_nobody
        if workers is not None:
            workers.stop()
        self._service.close()
        if database is not None:
            database.close()

    def watch(self, changed: Changed) -> None:
        with self._lock:
            self._changed = changed
            with contextlib.suppress(LaneSyncError):  # it is told at connect()
                self._working()

    def observe(self, agent: str) -> EngineState:
        store = self._store()
        numbers = {place.id: place.number for place in store.places().values()}
        mine = [d for d in store.destinations() if d.tag is not None and d.tag.agent == agent]
        transfers = [t for t in store.transfers() if t.tag is not None and t.tag.agent == agent]
        return EngineState(tuple(self._told(d, numbers) for d in mine), tuple(transfers))

    def _told(self, destination: ObservedDestination, numbers: dict[str, int]) -> ObservedDestination:
        error, notices = self._troubles.of(numbers.get(destination.id, 0))
        return replace(destination, connected=not error, last_error=error, notices=notices)

    # Destinations

    def create_destination(self, request: DestinationRequest) -> str:
        if not urls.element(request.address).partition("://")[2]:
            raise PermanentError(f"{request.address} names no storage; give a URL such as davs://host/path")
        found = self._store().create_destination(request)
        self._working().lanes_changed()
        return found

    def tag_destination(self, destination_id: str, tag: Tag) -> None:
        self._store().set_tag(destination_id, tag)

    def delete_destination(self, destination_id: str) -> None:
        self.hold(destination_id, False)
        self._store().delete_destination(destination_id)
        self._wake()

    def set_lanes(self, destination_id: str, lanes: tuple[Lane, ...]) -> None:
        store = self._store()
        before = store.lanes_of(destination_id)
        broken = validate_lanes([(lane.name, lane.share) for lane in lanes])
        if broken:
            raise PermanentError("; ".join(broken))
        used = store.lanes_in_use(destination_id)
        if not used <= {lane.name for lane in lanes} or (used and len(lanes) != len(before)):
            raise RetryableError("lanes in use cannot be renamed, nor their number changed")
        store.set_lanes(destination_id, lanes)
        self._working().lanes_changed()

    def set_send_rate(self, destination_id: str, send_rate_max: float | None) -> None:
        """Kept, so that it can be observed; FTS3 has no rates."""
        self._store().change_destination(destination_id, rate=send_rate_max)

    def set_defaults(self, destination_id: str, defaults: TransferDefaults) -> None:
        self._store().set_defaults(destination_id, defaults)

    def hold(self, destination_id: str, held: bool) -> str:
        """See agent.engines.port.Holding."""
        store, administration = self._store(), self._working().administration
        place = store.place(destination_id)
        if held:
            if not place.held:
                store.change_destination(destination_id, held=1)
            if destination_id not in self._held:
                self._held[destination_id] = administration.hold(place)
            return self._held[destination_id]
        self._held.pop(destination_id, None)
        if place.held:
            with agent_errors():
                administration.release(place)
            store.change_destination(destination_id, held=0)
            self._wake()
        return ""

    # Transfers

    def start_transfer(self, request: TransferRequest) -> ObservedTransfer:
        store = self._store()
        place = store.place(request.destination_id)
        lanes = store.lanes_of(request.destination_id)
        if request.lane not in {lane.name for lane in lanes}:
            raise PermanentError(f"destination {place.id} has no lane {request.lane!r}")
        if request.overwrite not in OVERWRITES:
            raise PermanentError(
                f"FTS3 cannot overwrite `{request.overwrite}`; set `overwrite` to `always` or `never`"
            )
        target = urls.element(place.url)
        links = [self._link(entry, target) for entry in request.entries]
        made = store.create_transfer(request, links)
        self._wake()
        return store.transfer(made)

    def _link(self, entry: Entry, target: str) -> tuple[str, str]:
        """("", "") for a directory, which no job can make."""
        if entry.is_directory:
            return "", ""
        return self._sources.element(entry.source), target

    def transfer(self, transfer_id: str) -> ObservedTransfer:
        try:
            return self._store().transfer(transfer_id)
        except NotFoundError as error:
            return ObservedTransfer(transfer_id, "", "", None, TransferState.LOST, error=str(error))

    def results(self, transfer_id: str, after: int) -> tuple[tuple[FileResult, ...], int]:
        return self._store().results(transfer_id, after)

    def suspend(self, transfer_id: str) -> None:
        """Nothing more is submitted, and jobs are cancelled: what was half copied begins anew. Where a ban of
        ours holds the queue already, what runs goes on to its end."""
        store = self._store()
        number = self._unfinished(transfer_id)
        store.change_transfer(number, suspended=1)
        place = store.place(store.transfer(transfer_id).destination_id)
        if not self._working().administration.banned(place):
            self._files().cancel_jobs_of(number, time.time())
        self._wake()

    def resume(self, transfer_id: str) -> None:
        store = self._store()
        store.change_transfer(self._unfinished(transfer_id), suspended=0)
        self._wake()

    def cancel(self, transfer_id: str, reason: str) -> None:
        log.info("transfer cancelled", transfer=transfer_id, reason=reason)
        self._remove(transfer_id)

    def set_priority(self, transfer_id: str, lane: str, priority: int) -> None:
        store = self._store()
        number = store.number_of(transfer_id)
        lanes = store.lanes_of(store.transfer(transfer_id).destination_id)
        if lane not in {known.name for known in lanes}:
            raise PermanentError(f"there is no lane {lane!r}")
        store.change_transfer(number, lane=lane, priority=priority)
        self._wake()

    def set_transfer_rate(self, transfer_id: str, send_rate_max: float | None) -> None:
        """Kept, so that it can be observed; FTS3 has no rates."""
        store = self._store()
        store.change_transfer(store.number_of(transfer_id), rate=send_rate_max)

    def forget(self, transfer_id: str, manifest_id: str) -> None:  # noqa: ARG002 - one object here
        if self.transfer(transfer_id).state.active:
            raise PermanentError(f"transfer {transfer_id} is active")
        self._remove(transfer_id)

    def _remove(self, transfer_id: str) -> None:
        store = self._store()
        with contextlib.suppress(NotFoundError):
            store.remove_transfer(store.number_of(transfer_id))
        self._wake()

    def _unfinished(self, transfer_id: str) -> int:
        found = self._store().transfer(transfer_id)
        if found.state.finished:
            raise PermanentError(f"transfer {transfer_id} is {found.state}")
        return self._store().number_of(transfer_id)

    # Deletions

    def start_deletion(
        self,
        destination_id: str,
        files: tuple[str, ...],
        directories: tuple[str, ...],
        credentials: ReceiverCredentials | None = None,  # noqa: ARG002 - FTS3 acts with our own
    ) -> str:
        place = self._store().place(destination_id)
        found = self._deletions().create(place.number, files, directories)
        self._working().sweep()
        return found

    def deletion(self, deletion_id: str) -> RemoteState:
        return self._deletions().get(deletion_id)

    # Inside

    def _db(self) -> Database:
        with self._lock:
            if self._closed:
                raise UnreachableError("the connection to FTS3 was closed")
            if self._database is None:
                self._database = open_database(self._directory)
            return self._database

    def _store(self) -> Store:
        return Store(self._db())

    def _files(self) -> FileQueue:
        return FileQueue(self._db(), self._store())

    def _deletions(self) -> Deletions:
        return Deletions(self._db())

    def _working(self) -> Workers:
        with self._lock:
            if self._workers is None:
                self._workers = Workers(self._service, self._db(), self._settings, self._troubles, self._tell)
                self._workers.start()
            return self._workers

    def _wake(self) -> None:
        self._working().wake()

    def _tell(self, kind: str, found: str) -> None:
        self._changed(kind, found)


def _tell_nobody(_kind: str, _id: str) -> None:
    pass
