"""What FTS3 does not do at a destination: deleting files, and making and removing directories."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from agent.engines.fts3 import urls
from agent.engines.fts3.destination import NotEmptyError
from agent.engines.fts3.files import FileQueue, Settled, TransferFacts, Waiting
from agent.engines.fts3.loop import Crew
from agent.engines.fts3.settings import Settings
from agent.engines.fts3.storages import Storages
from agent.engines.fts3.store import Place, Store
from agent.engines.fts3.trouble import Troubles
from agent.model.observed import FileOutcome, FileResult
from agent.model.outcome import LaneSyncError, NotFoundError, RetryableError, UnreachableError
from agent.state.connection import Database

log = structlog.get_logger(__name__)

_AT_ONCE = 200
_IDLE = 5.0
_KEPT = 86_400.0
"""Seconds for which the results of a deletion are kept."""


@dataclass(frozen=True, slots=True)
class Deletion:
    done: bool
    results: tuple[FileResult, ...] = ()
    error: str = ""


class Deletions:
    """The table of deletions. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create(self, destination: int, files: Sequence[str], directories: Sequence[str]) -> str:
        found = str(uuid.uuid4())
        paths = [(path, False) for path in files] + [(path, True) for path in directories]
        with self._db.transaction():
            number = self._db.insert(
                "INSERT INTO deletions(id, destination, under_way) VALUES(?, ?, ?)",
                (found, destination, len(paths)),
            )
            self._db.execute_many(
                "INSERT INTO deleted(deletion, number, path, is_directory) VALUES(?, ?, ?, ?)",
                ((number, at, os.fsencode(path), folder) for at, (path, folder) in enumerate(paths)),
            )
        return found

    def get(self, deletion_id: str) -> Deletion:
        """NotFoundError for one that is not there (any more)."""
        row = self._db.row("SELECT number, under_way FROM deletions WHERE id = ?", (deletion_id,))
        if row is None:
            raise NotFoundError(f"deletion {deletion_id} was not found")
        if row[1]:
            return Deletion(done=False)
        query = "SELECT path, outcome, error FROM deleted WHERE deletion = ? ORDER BY number"
        results = tuple(
            FileResult(os.fsdecode(path), FileOutcome(outcome), error=error)
            for path, outcome, error in self._db.rows(query, (row[0],))
        )
        return Deletion(True, results)

    def pending(self) -> list[tuple[int, str, int]]:
        """(number, id, destination) of those that are not done."""
        query = "SELECT number, id, destination FROM deletions WHERE under_way > 0 ORDER BY number"
        return [(number, found, destination) for number, found, destination in self._db.rows(query)]

    def next(self, deletion: int) -> list[tuple[int, str, bool, int]]:
        """(number, path, is directory, tries): files first, then directories one by one in their order."""
        query = (
            "SELECT number, path, is_directory, tries FROM deleted"
            " WHERE deletion = ? AND outcome IS NULL AND is_directory = ? ORDER BY number LIMIT ?"
        )
        rows = self._db.rows(query, (deletion, 0, _AT_ONCE)) or self._db.rows(query, (deletion, 1, 1))
        return [(n, os.fsdecode(path), bool(folder), tries) for n, path, folder, tries in rows]

    def settle(self, deletion: int, results: Sequence[tuple[int, FileOutcome, str]], now: float) -> None:
        with self._db.transaction():
            self._db.execute_many(
                "UPDATE deleted SET outcome = ?, error = ? WHERE deletion = ? AND number = ?",
                ((outcome.value, error, deletion, number) for number, outcome, error in results),
            )
            self._db.execute(
                "UPDATE deletions SET under_way = max(0, under_way - ?), ended = ? WHERE number = ?",
                (len(results), now, deletion),
            )

    def tried(self, deletion: int, number: int) -> None:
        query = "UPDATE deleted SET tries = tries + 1 WHERE deletion = ? AND number = ?"
        self._db.execute(query, (deletion, number))

    def purge(self, before: float) -> None:
        old = "SELECT number FROM deletions WHERE under_way = 0 AND ended < ?"
        with self._db.transaction():
            self._db.execute(f"DELETE FROM deleted WHERE deletion IN ({old})", (before,))  # noqa: S608
            self._db.execute("DELETE FROM deletions WHERE under_way = 0 AND ended < ?", (before,))


class Sweeper:
    """`step()` is for one thread; the calls to storages are spread over a few others."""

    def __init__(
        self,
        deletions: Deletions,
        store: Store,
        files: FileQueue,
        storages: Storages,
        settings: Settings,
        troubles: Troubles,
        changed: Callable[[str, str], None],
    ) -> None:
        self._deletions = deletions
        self._store = store
        self._files = files
        self._storages = storages
        self._settings = settings
        self._troubles = troubles
        self._changed = changed
        self._crew = Crew("storage", settings.storage_calls)

    def close(self) -> None:
        self._crew.close()

    def step(self) -> float:
        """Raises the error of a storage that does not answer, when everything else was done."""
        places = self._store.places()
        failed: LaneSyncError | None = None
        for number, found, destination in self._deletions.pending():
            if destination in places:
                failed = self._delete(number, found, places[destination]) or failed
        failed = self._make_directories(places) or failed
        self._deletions.purge(time.time() - _KEPT)
        if failed is not None:
            raise failed
        now = time.time()
        due = self._files.next_due(now)
        return _IDLE if due is None else min(_IDLE, max(0.05, due - now))

    # -- deleting

    def _delete(self, deletion: int, found: str, place: Place) -> LaneSyncError | None:
        while paths := self._deletions.next(deletion):
            answers = self._crew.each(lambda one: self._delete_one(place, *one[1:]), paths)
            settled = [
                (one[0], *answer)
                for one, answer in zip(paths, answers, strict=True)
                if not isinstance(answer, LaneSyncError)
            ]
            self._deletions.settle(deletion, settled, time.time())
            failed = [
                (one[0], answer)
                for one, answer in zip(paths, answers, strict=True)
                if isinstance(answer, LaneSyncError)
            ]
            for number, error in failed:
                if not isinstance(error, UnreachableError):
                    self._deletions.tried(deletion, number)
            self._reached(place, failed[0][1] if failed else None)
            if failed:
                return failed[0][1]
        self._changed("deletion", found)
        return None

    def _delete_one(
        self, place: Place, path: str, folder: bool, tries: int
    ) -> tuple[FileOutcome, str] | LaneSyncError:
        """The outcome, or an error that may pass."""
        try:
            storage, url = self._storages.at(place.url), urls.join(place.url, path)
            if folder:
                storage.rmdir(url)
            else:
                storage.delete(url)
        except NotEmptyError as error:
            return FileOutcome.SKIPPED, str(error)
        except NotFoundError:
            return FileOutcome.DELIVERED, ""
        except RetryableError as error:
            last = tries + 1 >= self._settings.tries and not isinstance(error, UnreachableError)
            return (FileOutcome.FAILED, str(error)) if last else error
        except LaneSyncError as error:
            return FileOutcome.FAILED, str(error)
        return FileOutcome.DELIVERED, ""

    # -- directories

    def _make_directories(self, places: dict[int, Place]) -> LaneSyncError | None:
        failed: LaneSyncError | None = None
        while found := self._files.directories(_AT_ONCE, time.time()):
            answers = self._crew.each(lambda one: self._make(places, *one), found)
            for (facts, directory), answer in zip(found, answers, strict=True):
                if isinstance(answer, LaneSyncError):
                    failed = answer
                    due = time.time() + self._settings.retry_delay
                    self._files.directory_waits(facts.number, directory.number, due, directory.tries + 1)
                else:
                    self._files.directory_made(facts.number, [answer])
                    self._changed("transfer", facts.id)
        return failed

    def _make(
        self, places: dict[int, Place], facts: TransferFacts, directory: Waiting
    ) -> Settled | LaneSyncError:
        place = places.get(facts.destination)
        if place is None:
            return Settled(directory.number, FileOutcome.FAILED, "its destination is gone")
        try:
            self._storages.at(place.url).mkdir(urls.join(place.url, directory.path))
        except UnreachableError as error:
            self._reached(place, error)
            return error
        except RetryableError as error:
            if directory.tries + 1 < self._settings.tries:
                return error
            return Settled(directory.number, FileOutcome.FAILED, str(error))
        except LaneSyncError as error:
            return Settled(directory.number, FileOutcome.FAILED, str(error))
        return Settled(directory.number, FileOutcome.DELIVERED)

    def _reached(self, place: Place, error: LaneSyncError | None) -> None:
        why = str(error) if isinstance(error, UnreachableError) else ""
        if self._troubles.unreachable(place.number, why):
            self._changed("destination", place.id)
