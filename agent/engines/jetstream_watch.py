"""Hints that something on a JetStream server changed: a long poll where it is offered, else polling."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from agent.engines.jetstream_session import Api, Session
from agent.jetstream import JetstreamError
from agent.model.outcome import LaneSyncError, PermanentError

log = structlog.get_logger(__name__)

_LONG_POLL_SECONDS = 20.0
_POLL_SECONDS = 0.5
_PAUSE_MIN, _PAUSE_MAX = 0.1, 2.0
_PAUSE_REFUSED = 30.0
_PAGE = 1000
_KINDS = frozenset({"transfer", "deletion", "destination"})

Changed = Callable[[str, str], None]


class Watch:
    """A daemon thread with a connection of its own, reconnecting for as long as it runs.

    Calls `changed(kind, id)`, and `changed("server", "")` whenever its connection is lost or regained or
    events may have been missed.
    """

    def __init__(self, session: Session, changed: Changed) -> None:
        self._session = session
        self._changed = changed
        self._stopping = threading.Event()
        self._cursor = 0
        self._seen: dict[tuple[str, str], Any] | None = None
        self._thread = threading.Thread(target=self._run, name="jetstream watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when no more calls will be made (unless called from `changed` itself). Idempotent."""
        self._stopping.set()
        self._session.close()
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join(2)

    def _run(self) -> None:
        pause, lost = _PAUSE_MIN, False
        while not self._stopping.is_set():
            try:
                api = self._session.api()
                if lost:
                    self._changed("server", "")
                    self._tell_all(api)
                pause, lost = _PAUSE_MIN, False
                self._follow(api)
            except (LaneSyncError, JetstreamError) as error:
                if self._stopping.is_set():
                    return
                refused = isinstance(error, PermanentError)
                pause = _PAUSE_REFUSED if refused else min(pause, _PAUSE_MAX)
                if not lost:
                    log.debug("watch lost the server", error=str(error))
                    lost = True
                    self._changed("server", "")
            except Exception:
                log.exception("watch failed; it goes on")
                lost = True
            self._stopping.wait(pause)
            pause = min(pause * 2, _PAUSE_MAX)

    def _follow(self, api: Api) -> None:
        """Until the connection breaks, which raises."""
        step = self._wait if "events" in self._session.extensions else self._compare
        while not self._stopping.is_set():
            step(api)

    def _wait(self, api: Api) -> None:
        kinds = {"kinds": sorted(_KINDS)} if "eventKinds" in self._session.extensions else {}
        answer = api.lanesync.waitEvents(after=self._cursor, timeoutSeconds=_LONG_POLL_SECONDS, **kinds)
        first, self._cursor = self._cursor == 0, answer["next"]
        if answer.get("reset") and not first:
            self._tell_all(api)
        for event in answer.get("events", ()):
            if event["kind"] in _KINDS:
                self._changed(event["kind"], self._name(event["kind"], event["id"]))

    def _tell_all(self, api: Api) -> None:
        """Events were missed: any transfer may have changed."""
        for found in list_transfers(api):
            self._changed("transfer", str(found["transferId"]))

    def _name(self, kind: str, found: str) -> str:
        return deletion_id(self._session, found) if kind == "deletion" else found

    def _compare(self, api: Api) -> None:
        """Without events: look at everything twice a second and name what differs."""
        now: dict[tuple[str, str], Any] = {
            ("transfer", str(t["transferId"])): (t.get("status"), t.get("priority"), t.get("errorMessage"))
            for t in list_transfers(api)
        }
        for found in api.send.getDestinations():
            state = (found.get("encryptedConnectionState"), found.get("lastErrorMessage"))
            now["destination", str(found["destinationId"])] = state
        before, self._seen = self._seen, now
        if before is not None:
            for key in before.keys() | now.keys():
                if before.get(key) != now.get(key):
                    self._changed(*key)
        self._stopping.wait(_POLL_SECONDS)


def list_transfers(api: Api) -> Iterator[dict[str, Any]]:
    """Every transfer of the server, a page at a time."""
    after: str | None = None
    while True:
        page = api.send.getTransfers(after=after, limit=_PAGE)
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1]["transferId"]


def deletion_id(session: Session, request_id: object) -> str:
    """Request ids start again when the server is restarted, so the launch is part of the id."""
    return f"{session.info.get('serverId', '')}/{request_id}"


def request_id_of(session: Session, deletion: str) -> str | None:
    """The request, or None when it belongs to an earlier launch of the server."""
    launch, _, request = deletion.rpartition("/")
    return request if launch == str(session.info.get("serverId", "")) else None


def stop_quietly(watch: Watch | None) -> None:
    if watch is not None:
        with contextlib.suppress(LaneSyncError, JetstreamError):
            watch.stop()
