"""The adapter's memory: destinations and transfers, which FTS3 does not have, and the jobs they became.

One SQLite file, so that a million files that wait cost no memory and a killed agent finds everything again.
Objects of the port are here; `FileQueue` (files and jobs) is in `files.py`, on the same database.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from agent.engines.fts3.schema import SCHEMA, VERSION
from agent.engines.port import DestinationRequest, TransferRequest
from agent.model.observed import (
    FileOutcome,
    FileResult,
    ObservedDefaults,
    ObservedDestination,
    ObservedTransfer,
    Tag,
    TransferState,
)
from agent.model.outcome import NotFoundError, PermanentError
from agent.model.spec import DEFAULT_LANES, Lane, MinCipher, Overwrite, TransferDefaults, default_lane
from agent.state.connection import Database, Row

RESULTS_PAGE = 20_000
MAKING_DIRECTORIES = 0
"""The number of the link that stands for directories to make, which no job can do."""

_TRANSFER = (
    "t.id, d.id, t.tag, t.lane, t.priority, t.rate, t.total_bytes, t.done_bytes, t.total_files, t.done_files,"
    " t.error, t.settled, t.failed, t.suspended, t.jobs"
)
_FROM_TRANSFERS = "FROM transfers t JOIN destinations d ON d.number = t.destination WHERE t.removed = 0"


def open_database(directory: str) -> Database:
    """The store below `directory`, made where there is none. PermanentError when it is damaged or newer."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    database = Database(os.path.join(directory, "fts3.db"))
    database.script("PRAGMA journal_mode=WAL; PRAGMA foreign_keys=OFF; PRAGMA temp_store=MEMORY;")
    found = database.row("PRAGMA user_version")
    version = int(found[0]) if found else 0
    if version == 0:
        database.script(f"BEGIN; {SCHEMA} PRAGMA user_version={VERSION}; COMMIT;")
    elif version != VERSION:
        database.close()
        raise PermanentError(
            f"{database.path} was written by a newer version (schema {version}, this one knows {VERSION}); "
            "run that version, or move the file aside: what is on its way is then sent again"
        )
    return database


@dataclass(frozen=True, slots=True)
class Place:
    """A destination as the workers see it."""

    number: int
    id: str
    url: str
    held: bool
    shares: dict[str, float]


class Store:
    """Destinations, transfers and their results. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # -- destinations

    def create_destination(self, request: DestinationRequest) -> str:
        found = str(uuid.uuid4())
        self._db.execute(
            "INSERT INTO destinations(id, url, rate, tag, lanes, defaults) VALUES(?, ?, ?, ?, ?, ?)",
            (
                found,
                request.address,
                request.send_rate_max,
                _tag_text(request.tag),
                _lanes_text(DEFAULT_LANES),
                _defaults_text(TransferDefaults(), DEFAULT_LANES),
            ),
        )
        return found

    def destinations(self) -> list[ObservedDestination]:
        rows = self._db.rows("SELECT id, url, rate, tag, lanes, defaults FROM destinations ORDER BY number")
        return [_observed_destination(row) for row in rows]

    def places(self) -> dict[int, Place]:
        rows = self._db.rows("SELECT number, id, url, held, lanes FROM destinations")
        return {
            number: Place(number, found, url, bool(held), dict(json.loads(lanes)))
            for number, found, url, held, lanes in rows
        }

    def place(self, destination_id: str) -> Place:
        """NotFoundError for one that is not there."""
        for place in self.places().values():
            if place.id == destination_id:
                return place
        raise NotFoundError(f"destination {destination_id} was not found")

    def change_destination(self, destination_id: str, **columns: object) -> None:
        """Set columns. NotFoundError for a destination that is not there."""
        names = ", ".join(f"{name} = ?" for name in columns)
        values = (*columns.values(), destination_id)
        if not self._db.execute(f"UPDATE destinations SET {names} WHERE id = ?", values):  # noqa: S608
            raise NotFoundError(f"destination {destination_id} was not found")

    def set_tag(self, destination_id: str, tag: Tag) -> None:
        self.change_destination(destination_id, tag=_tag_text(tag))

    def set_lanes(self, destination_id: str, lanes: tuple[Lane, ...]) -> None:
        self.change_destination(destination_id, lanes=_lanes_text(lanes))

    def lanes_of(self, destination_id: str) -> tuple[Lane, ...]:
        row = self._db.row("SELECT lanes FROM destinations WHERE id = ?", (destination_id,))
        if row is None:
            raise NotFoundError(f"destination {destination_id} was not found")
        return _lanes(row[0])

    def lanes_in_use(self, destination_id: str) -> set[str]:
        rows = self._db.rows(
            "SELECT DISTINCT t.lane FROM transfers t JOIN destinations d ON d.number = t.destination"
            " WHERE d.id = ? AND t.removed = 0 AND t.settled < t.total_files",
            (destination_id,),
        )
        return {row[0] for row in rows}

    def set_defaults(self, destination_id: str, defaults: TransferDefaults) -> None:
        lanes = self.lanes_of(destination_id)
        self.change_destination(destination_id, defaults=_defaults_text(defaults, lanes))

    def delete_destination(self, destination_id: str) -> None:
        """PermanentError while a transfer is active. Jobs that are being cancelled are seen to their end."""
        place = self.place(destination_id)
        if self.lanes_in_use(destination_id):
            raise PermanentError(f"destination {destination_id} has active transfers")
        with self._db.transaction():
            numbers = self._db.rows("SELECT number FROM transfers WHERE destination = ?", (place.number,))
            for (number,) in numbers:
                self.remove_transfer(number)
            deletions = "SELECT number FROM deletions WHERE destination = ?"
            self._db.execute(f"DELETE FROM deleted WHERE deletion IN ({deletions})", (place.number,))  # noqa: S608
            self._db.execute("DELETE FROM deletions WHERE destination = ?", (place.number,))
            self._db.execute("DELETE FROM destinations WHERE number = ?", (place.number,))

    # -- transfers

    def create_transfer(self, request: TransferRequest, links: Sequence[tuple[str, str]]) -> str:
        """`links`: (source SE, destination SE) of each entry; ("", "") for a directory to be made."""
        place, found = self.place(request.destination_id), str(uuid.uuid4())
        with self._db.transaction():
            number = self._db.insert(
                "INSERT INTO transfers(id, destination, tag, lane, priority, rate, overwrite, timeout,"
                " total_files, total_bytes) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    found,
                    place.number,
                    _tag_text(request.tag),
                    request.lane,
                    request.priority,
                    request.send_rate_max,
                    request.overwrite is Overwrite.ALWAYS,
                    request.timeout,
                    len(request.entries),
                    sum(entry.size for entry in request.entries),
                ),
            )
            numbers = {link: self._link(*link) for link in dict.fromkeys(links)}
            self._db.execute_many(
                "INSERT INTO files(transfer, number, destination, link, path, source, size)"
                " VALUES(?, ?, ?, ?, ?, ?, ?)",
                (
                    (
                        number,
                        at,
                        place.number,
                        numbers[link],
                        os.fsencode(e.path),
                        os.fsencode(e.source),
                        e.size,
                    )
                    for at, (e, link) in enumerate(zip(request.entries, links, strict=True))
                ),
            )
            self._db.execute(
                "INSERT INTO queues(link, transfer, waiting)"
                " SELECT link, transfer, count(*) FROM files WHERE transfer = ? GROUP BY link",
                (number,),
            )
        return found

    def _link(self, source_se: str, dest_se: str) -> int:
        if not source_se:
            return MAKING_DIRECTORIES
        query = "SELECT number FROM links WHERE source_se = ? AND dest_se = ?"
        row = self._db.row(query, (source_se, dest_se))
        insert = "INSERT INTO links(source_se, dest_se) VALUES(?, ?)"
        return self._db.insert(insert, (source_se, dest_se)) if row is None else int(row[0])

    def transfers(self) -> list[ObservedTransfer]:
        rows = self._db.rows(f"SELECT {_TRANSFER} {_FROM_TRANSFERS} ORDER BY t.number")
        return [_observed_transfer(row) for row in rows]

    def transfer(self, transfer_id: str) -> ObservedTransfer:
        """NotFoundError for one that is not there (any more)."""
        query = f"SELECT {_TRANSFER} {_FROM_TRANSFERS} AND t.id = ?"
        row = self._db.row(query, (transfer_id,))
        if row is None:
            raise NotFoundError(f"transfer {transfer_id} was not found")
        return _observed_transfer(row)

    def results(self, transfer_id: str, after: int) -> tuple[tuple[FileResult, ...], int]:
        self.transfer(transfer_id)
        rows = self._db.rows(
            "SELECT f.seq, f.path, f.outcome, f.size, f.mtime_ns, f.ctime_ns, f.error FROM files f"
            " JOIN transfers t ON t.number = f.transfer"
            " WHERE t.id = ? AND f.state = 2 AND f.seq > ? ORDER BY f.seq LIMIT ?",
            (transfer_id, after, RESULTS_PAGE),
        )
        found = tuple(
            FileResult(os.fsdecode(path), FileOutcome(outcome), size, mtime, ctime, "", error)
            for _, path, outcome, size, mtime, ctime, error in rows
        )
        return found, rows[-1][0] if rows else after

    def number_of(self, transfer_id: str) -> int:
        row = self._db.row("SELECT number FROM transfers WHERE id = ? AND removed = 0", (transfer_id,))
        if row is None:
            raise NotFoundError(f"transfer {transfer_id} was not found")
        return int(row[0])

    def change_transfer(self, number: int, **columns: object) -> None:
        names = ", ".join(f"{name} = ?" for name in columns)
        self._db.execute(f"UPDATE transfers SET {names} WHERE number = ?", (*columns.values(), number))  # noqa: S608

    def remove_transfer(self, number: int) -> None:
        """Out of sight at once; what is under way at the service is cancelled and then forgotten."""
        with self._db.transaction():
            self._db.execute("UPDATE transfers SET removed = 1 WHERE number = ?", (number,))
            self._db.execute("DELETE FROM files WHERE transfer = ? AND state <> 1", (number,))
            self._db.execute("DELETE FROM queues WHERE transfer = ?", (number,))
            # One that was prepared may have been submitted: it is cancelled like the others.
            self._db.execute(
                "UPDATE jobs SET state = 'cancel' WHERE transfer = ? AND state IN ('prepared', 'submitted')",
                (number,),
            )
            self.drop_if_over(number)

    def drop_if_over(self, number: int) -> None:
        """Forget a removed transfer of which nothing is under way any more."""
        self._db.execute(
            "DELETE FROM transfers WHERE number = ? AND removed = 1"
            " AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.transfer = transfers.number)",
            (number,),
        )


def _tag_text(tag: Tag) -> str:
    return json.dumps(tag.to_user_data())


def _lanes_text(lanes: tuple[Lane, ...]) -> str:
    return json.dumps([[lane.name, lane.share] for lane in lanes])


def _lanes(text: str) -> tuple[Lane, ...]:
    return tuple(Lane(name, share) for name, share in json.loads(text))


def _defaults_text(defaults: TransferDefaults, lanes: tuple[Lane, ...]) -> str:
    return json.dumps({**asdict(defaults), "lane": defaults.lane or default_lane(lanes)})


def _observed_destination(row: Row) -> ObservedDestination:
    found, url, rate, tag, lanes, text = row
    kept = json.loads(text)
    cipher = kept["min_cipher"]
    defaults = ObservedDefaults(
        kept["priority"],
        kept["lane"],
        kept["checkpoint_interval"],
        Overwrite(kept["overwrite"]),
        kept["modification_time_tolerance"],
        None if cipher is None else MinCipher(cipher),
    )
    mine = Tag.from_user_data(json.loads(tag))
    return ObservedDestination(found, url, 0, mine, _lanes(lanes), rate, defaults, connected=True)


def _observed_transfer(row: Row) -> ObservedTransfer:
    found, destination, tag, lane, priority, rate = row[:6]
    total_bytes, done_bytes, total_files, done_files, error, settled, failed, suspended, jobs = row[6:]
    if settled >= total_files:
        state = TransferState.ERROR if failed else TransferState.COMPLETE
    elif suspended:
        state = TransferState.SUSPENDED
    else:
        state = TransferState.SENDING if jobs else TransferState.PENDING
    more = f" (and {failed - 1} more)" if failed > 1 else ""
    return ObservedTransfer(
        found,
        destination,
        found,
        Tag.from_user_data(json.loads(tag)),
        state,
        lane,
        priority,
        rate,
        total_bytes,
        done_bytes,
        total_files,
        done_files,
        error + more if error else "",
    )
