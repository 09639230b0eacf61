"""What a JetStream server does at its destinations beside transfers: delete, rename, list.

Through the bundled server's extensions: requests of the sending server, which asks the receiving one over its
session with it. A request's record belongs to a launch of the server, and so do the ids that are given here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from agent.engines import jetstream_convert as convert
from agent.engines.jetstream_session import Session, agent_errors
from agent.engines.jetstream_watch import deletion_id, request_id_of
from agent.engines.port import InventoryState, ReceiverCredentials, RemoteState
from agent.model import outcome
from agent.model.observed import FarFile, FileResult

T = TypeVar("T")

LISTED_AT_ONCE = 1_000
"""Entries of one page: what compares a page holds up its mapping for as long, and with it a changed file."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Implements RemoteState and InventoryState of the port."""

    done: bool
    results: tuple[FileResult, ...] = ()
    files: tuple[FarFile, ...] = ()
    next: str | None = None
    error: str = ""


class FarVerbs:
    """The part of the port that works at the destination."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def start_deletion(
        self,
        destination_id: str,
        files: tuple[str, ...],
        directories: tuple[str, ...],
        credentials: ReceiverCredentials | None = None,
    ) -> str:
        lanesync = self._extension(
            "deletePaths", "this server cannot delete at the destination; set `prune: false`"
        )
        shown = convert.credentials(credentials)
        return self._start(lambda: lanesync.deletePathsAsync(destination_id, files, directories, **shown))

    def deletion(self, deletion_id: str) -> RemoteState:
        return self._answer(deletion_id, "deletion", _deleted)

    def start_renaming(
        self,
        destination_id: str,
        renames: tuple[tuple[str, str], ...],
        credentials: ReceiverCredentials | None = None,
    ) -> str:
        lanesync = self._extension("renamePaths", "this server cannot rename at the destination")
        shown = convert.credentials(credentials)
        return self._start(lambda: lanesync.renamePathsAsync(destination_id, renames, **shown))

    def renaming(self, renaming_id: str) -> RemoteState:
        return self._answer(renaming_id, "renaming", _renamed)

    def start_inventory(
        self,
        destination_id: str,
        directory: str,
        after: str = "",
        *,
        checksum: bool = False,
        credentials: ReceiverCredentials | None = None,
    ) -> str:
        lanesync = self._extension("listPaths", "this server cannot tell what is at the destination")
        shown = convert.credentials(credentials)
        return self._start(
            lambda: lanesync.listPathsAsync(
                destination_id, directory, after, checksum, limit=LISTED_AT_ONCE, **shown
            )
        )

    def inventory(self, inventory_id: str) -> InventoryState:
        return self._answer(inventory_id, "listing", _listed)

    def _extension(self, name: str, otherwise: str) -> Any:
        api = self._session.api()
        if name not in self._session.extensions:
            raise outcome.PermanentError(otherwise)
        return api.lanesync

    def _start(self, call: Callable[[], Any]) -> str:
        with agent_errors():
            return deletion_id(self._session, call()["requestId"])

    def _answer(self, ident: str, what: str, read: Callable[[Any], Answer]) -> Answer:
        api = self._session.api()
        request = request_id_of(self._session, ident)
        if request is None:
            raise outcome.NotFoundError(f"the server was restarted and no longer knows this {what}")
        with agent_errors():
            status = api.server.getRequestStatus(request)
            if status["processing"]:
                return Answer(done=False)
            if status["status"] != "complete":
                return Answer(done=True, error=status.get("errorMessage") or f"the {what} failed")
            return read(api.server.getRequestResult(request))


def _deleted(result: Any) -> Answer:
    return Answer(True, tuple(convert.deletion_result(found) for found in result["results"]))


def _renamed(result: Any) -> Answer:
    return Answer(True, tuple(convert.renaming_result(found) for found in result["results"]))


def _listed(result: Any) -> Answer:
    files = (convert.far_file(found) for found in result["files"])
    return Answer(True, files=tuple(file for file in files if file is not None), next=result["next"])
