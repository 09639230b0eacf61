"""Files and the jobs that they go out in: the tables between a transfer and FTS3.

Invariants: `queues` counts the files that wait; `jobs.under_way` counts a job's files that are; there are
never two files under way to one path of one destination, so that no late copy replaces a newer one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.engines.fts3.store import MAKING_DIRECTORIES, Store
from agent.engines.fts3.turns import Queue
from agent.model.observed import FileOutcome
from agent.state.connection import Database

_JOB = "j.number, j.id, j.sid, j.transfer, j.link, j.priority, j.state, j.since, j.files"
PREPARED, SUBMITTED, CANCEL, ENDING = "prepared", "submitted", "cancel", "ending"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file that may be submitted."""

    number: int
    path: str
    source: str
    tries: int


@dataclass(frozen=True, slots=True)
class Version:
    """A source as it was when it was submitted."""

    size: int
    mtime_ns: int
    ctime_ns: int


@dataclass(frozen=True, slots=True)
class Going:
    """A file that is under way. `place` is its index in the job."""

    number: int
    path: str
    source: str
    place: int
    version: Version
    tries: int
    running_since: float | None
    lost_since: float | None


@dataclass(frozen=True, slots=True)
class Job:
    """since: when it came into its state, Unix seconds."""

    number: int
    id: str
    sid: str
    transfer: int
    link: int
    priority: int
    state: str
    since: float
    files: int


@dataclass(frozen=True, slots=True)
class Settled:
    number: int
    outcome: FileOutcome
    error: str = ""
    version: Version = Version(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Again:
    """A file that goes back to those that wait, until `due`. lost_since: since when nobody answers there."""

    number: int
    due: float
    tries: int
    lost_since: float | None = None


@dataclass(frozen=True, slots=True)
class TransferFacts:
    """What a job's files need to know of their transfer."""

    number: int
    id: str
    destination: int
    agent_tag: str  # JSON
    lane: str
    overwrite: bool
    timeout: float
    suspended: bool
    removed: bool


class FileQueue:
    """Thread-safe; every method is one transaction."""

    def __init__(self, database: Database, store: Store) -> None:
        self._db = database
        self._store = store

    # -- what waits

    def links(self) -> dict[int, tuple[str, str]]:
        rows = self._db.rows("SELECT number, source_se, dest_se FROM links")
        return {number: (source, dest) for number, source, dest in rows}

    def queues(self, now: float) -> dict[int, list[Queue]]:
        """By link, and of each lane the first by priority and age: what waits and is due, of transfers that
        are not held back."""
        rows = self._db.rows(
            "SELECT q.link, t.number, t.destination, t.lane, t.priority, q.waiting,"
            # The other columns are those of the row with the least rank.
            " min(t.priority * 1073741824 + t.number) FROM queues q"
            " JOIN transfers t ON t.number = q.transfer JOIN destinations d ON d.number = t.destination"
            " WHERE q.waiting > 0 AND q.due <= ? AND t.suspended = 0 AND t.removed = 0 AND d.held = 0"
            " GROUP BY q.link, t.destination, t.lane",
            (now,),
        )
        found: dict[int, list[Queue]] = {}
        for link, transfer, destination, lane, priority, waiting, _rank in rows:
            found.setdefault(link, []).append(Queue(transfer, (destination, lane), priority, waiting))
        return found

    def next_due(self, now: float) -> float | None:
        """When the next file that waits for a time to come may go (Unix seconds)."""
        row = self._db.row("SELECT min(due) FROM queues WHERE waiting > 0 AND due > ?", (now,))
        return None if row is None else row[0]

    def under_way(self) -> dict[int, int]:
        """Files under way, by link."""
        return dict(self._db.rows("SELECT link, sum(under_way) FROM jobs GROUP BY link"))

    def waiting(self, link: int, transfer: int, limit: int, now: float) -> list[Waiting]:
        """The first files that may go now; none whose path is still under way from before."""
        rows = self._db.rows(
            "SELECT w.number, w.path, w.source, w.tries FROM files w"
            " WHERE w.link = ? AND w.transfer = ? AND w.state = 0 AND w.due <= ? AND NOT EXISTS"
            " (SELECT 1 FROM files f WHERE f.state = 1 AND f.destination = w.destination AND f.path = w.path)"
            " ORDER BY w.number LIMIT ?",
            (link, transfer, now, limit),
        )
        if not rows:
            self._postpone(link, transfer, now)
        return [Waiting(n, os.fsdecode(path), os.fsdecode(source), tries) for n, path, source, tries in rows]

    def _postpone(self, link: int, transfer: int, now: float) -> None:
        """Nothing may go: the queue is looked at again when the first file is due, or in a second."""
        row = self._db.row(
            "SELECT min(due) FROM files WHERE link = ? AND transfer = ? AND state = 0", (link, transfer)
        )
        due = max(row[0] if row and row[0] is not None else 0.0, now + 1.0)
        self._db.execute("UPDATE queues SET due = ? WHERE link = ? AND transfer = ?", (due, link, transfer))

    # -- jobs

    def facts(self, transfer: int) -> TransferFacts | None:
        row = self._db.row(
            "SELECT number, id, destination, tag, lane, overwrite, timeout, suspended, removed"
            " FROM transfers WHERE number = ?",
            (transfer,),
        )
        if row is None:
            return None
        number, found, destination, tag, lane, overwrite, timeout, suspended, removed = row
        flags = bool(overwrite), timeout, bool(suspended), bool(removed)
        return TransferFacts(number, found, destination, tag, lane, *flags)

    def prepare(
        self,
        transfer: int,
        link: int,
        priority: int,
        files: Sequence[tuple[Waiting, Version]],
        settled: Sequence[Settled],
        sid_of: str,
        now: float,
    ) -> Job | None:
        """Write down a job before it is submitted, and what needs no job. `sid_of` is the sid without the
        number of the job. None when there is nothing to submit, or the transfer is gone."""
        with self._db.transaction():
            row = self._db.row(
                "UPDATE transfers SET jobs = jobs + 1 WHERE number = ? AND removed = 0 AND suspended = 0"
                " RETURNING jobs",
                (transfer,),
            )
            if row is None:
                return None
            self._settle(transfer, settled)
            self._count(link, transfer, -len(settled) - len(files))
            if not files:
                return None
            sid = f"{sid_of}/{row[0]}"
            number = self._db.insert(
                "INSERT INTO jobs(sid, transfer, link, priority, state, since, files, under_way)"
                " VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                (sid, transfer, link, priority, PREPARED, now, len(files), len(files)),
            )
            self._db.execute_many(
                "UPDATE files SET state = 1, job = ?, place = ?, size = ?, mtime_ns = ?, ctime_ns = ?,"
                " running_since = NULL WHERE transfer = ? AND number = ?",
                (
                    (number, at, version.size, version.mtime_ns, version.ctime_ns, transfer, file.number)
                    for at, (file, version) in enumerate(files)
                ),
            )
        return Job(number, "", sid, transfer, link, priority, PREPARED, now, len(files))

    def submitted(self, job: int, job_id: str, now: float) -> None:
        """The service has it. One that was to be cancelled meanwhile stays so."""
        self._db.execute("UPDATE jobs SET id = ? WHERE number = ?", (job_id, job))
        self._db.execute(
            "UPDATE jobs SET state = ?, since = ? WHERE number = ? AND state = ?",
            (SUBMITTED, now, job, PREPARED),
        )

    def named(self, job: int, job_id: str) -> None:
        """The id that it will have."""
        self._db.execute("UPDATE jobs SET id = ? WHERE number = ?", (job_id, job))

    def jobs(self, *states: str) -> list[Job]:
        marks = ", ".join("?" * len(states))
        rows = self._db.rows(f"SELECT {_JOB} FROM jobs j WHERE state IN ({marks}) ORDER BY number", states)  # noqa: S608
        return [Job(*row) for row in rows]

    def known(self, job_id: str) -> bool:
        return self._db.row("SELECT 1 FROM jobs WHERE id = ?", (job_id,)) is not None

    def move(self, jobs: Iterable[int], state: str, now: float) -> None:
        self._db.execute_many(
            "UPDATE jobs SET state = ?, since = ? WHERE number = ?", ((state, now, job) for job in jobs)
        )

    def cancel_jobs_of(self, transfer: int, now: float) -> None:
        self._db.execute(
            "UPDATE jobs SET state = ?, since = ? WHERE transfer = ? AND state IN (?, ?)",
            (CANCEL, now, transfer, PREPARED, SUBMITTED),
        )

    def set_priority(self, jobs: Iterable[int], priority: int) -> None:
        self._db.execute_many("UPDATE jobs SET priority = ? WHERE number = ?", ((priority, j) for j in jobs))

    def misplaced(self) -> list[tuple[Job, int]]:
        """Submitted jobs with the priority that their transfer has now."""
        rows = self._db.rows(
            f"SELECT {_JOB}, t.priority FROM jobs j JOIN transfers t ON t.number = j.transfer"  # noqa: S608
            " WHERE j.state = ?",
            (SUBMITTED,),
        )
        return [(Job(*row[:-1]), row[-1]) for row in rows]

    def going(self, job: int) -> list[Going]:
        rows = self._db.rows(
            "SELECT number, path, source, place, size, mtime_ns, ctime_ns, tries, running_since, lost_since"
            " FROM files WHERE job = ? AND state = 1 ORDER BY place",
            (job,),
        )
        return [
            Going(number, os.fsdecode(path), os.fsdecode(source), place, Version(size, mtime, ctime), *rest)
            for number, path, source, place, size, mtime, ctime, *rest in rows
        ]

    def running(self, transfer: int, numbers: Iterable[int], now: float) -> None:
        self._db.execute_many(
            "UPDATE files SET running_since = ? WHERE transfer = ? AND number = ? AND running_since IS NULL",
            ((now, transfer, number) for number in numbers),
        )

    def advance(self, job: Job, settled: Sequence[Settled], again: Sequence[Again]) -> None:
        """Take in what became of some files of a job; a job of which nothing is under way is forgotten."""
        with self._db.transaction():
            self._settle(job.transfer, settled)
            self._again(job, again)
            self._db.execute(
                "UPDATE jobs SET under_way = under_way - ? WHERE number = ?",
                (len(settled) + len(again), job.number),
            )
            self._db.execute("DELETE FROM jobs WHERE number = ? AND under_way <= 0", (job.number,))
            self._store.drop_if_over(job.transfer)

    def drop(self, job: Job) -> None:
        """A cancelled job of a transfer that nobody wants: nothing of it is told."""
        with self._db.transaction():
            self._db.execute("DELETE FROM files WHERE job = ? AND state = 1", (job.number,))
            self._db.execute("DELETE FROM jobs WHERE number = ?", (job.number,))
            self._store.drop_if_over(job.transfer)

    # -- directories to make

    def directories(self, limit: int, now: float) -> list[tuple[TransferFacts, Waiting]]:
        found: list[tuple[TransferFacts, Waiting]] = []
        for queue in self.queues(now).get(MAKING_DIRECTORIES, []):
            facts = self.facts(queue.transfer)
            if facts is not None and len(found) < limit:
                left = limit - len(found)
                found += [(facts, w) for w in self.waiting(MAKING_DIRECTORIES, queue.transfer, left, now)]
        return found

    def directory_made(self, transfer: int, settled: Sequence[Settled]) -> None:
        with self._db.transaction():
            if self.facts(transfer) is not None:
                self._settle(transfer, settled)
                self._count(MAKING_DIRECTORIES, transfer, -len(settled))

    def directory_waits(self, transfer: int, number: int, due: float, tries: int) -> None:
        self._db.execute(
            "UPDATE files SET due = ?, tries = ? WHERE transfer = ? AND number = ?",
            (due, tries, transfer, number),
        )

    # -- inside

    def _count(self, link: int, transfer: int, change: int, due: float | None = None) -> None:
        self._db.execute(
            "INSERT INTO queues(link, transfer, waiting, due) VALUES(?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
            " waiting = waiting + excluded.waiting,"
            " due = CASE WHEN waiting <= 0 THEN excluded.due ELSE min(due, excluded.due) END",
            (link, transfer, change, 0.0 if due is None else due),
        )

    def _settle(self, transfer: int, settled: Sequence[Settled]) -> None:
        if not settled:
            return
        row = self._db.row("SELECT settled, removed FROM transfers WHERE number = ?", (transfer,))
        if row is None or row[1]:
            self._db.execute_many(
                "DELETE FROM files WHERE transfer = ? AND number = ?", ((transfer, s.number) for s in settled)
            )
            return
        self._db.execute_many(
            "UPDATE files SET state = 2, seq = ?, outcome = ?, error = ?, size = ?, mtime_ns = ?,"
            " ctime_ns = ?, job = NULL WHERE transfer = ? AND number = ?",
            (
                (
                    row[0] + 1 + at,
                    s.outcome.value,
                    s.error,
                    s.version.size,
                    s.version.mtime_ns,
                    s.version.ctime_ns,
                    transfer,
                    s.number,
                )
                for at, s in enumerate(settled)
            ),
        )
        self._tally(transfer, settled)

    def _tally(self, transfer: int, settled: Sequence[Settled]) -> None:
        failed = [s for s in settled if s.outcome is FileOutcome.FAILED]
        error = ""
        if failed:
            query = "SELECT path FROM files WHERE transfer = ? AND number = ?"
            row = self._db.row(query, (transfer, failed[0].number))
            error = f"{os.fsdecode(row[0]) if row else ''}: {failed[0].error}"
            error = error.encode("utf-8", "backslashreplace").decode()
        self._db.execute(
            "UPDATE transfers SET settled = settled + ?, done_files = done_files + ?,"
            " done_bytes = done_bytes + ?, failed = failed + ?,"
            " error = CASE WHEN error = '' THEN ? ELSE error END WHERE number = ?",
            (
                len(settled),
                len(settled) - len(failed),
                sum(s.version.size for s in settled if s.outcome is FileOutcome.DELIVERED),
                len(failed),
                error,
                transfer,
            ),
        )

    def _again(self, job: Job, again: Sequence[Again]) -> None:
        if not again:
            return
        row = self._db.row("SELECT removed FROM transfers WHERE number = ?", (job.transfer,))
        if row is None or row[0]:
            self._db.execute_many(
                "DELETE FROM files WHERE transfer = ? AND number = ?",
                ((job.transfer, a.number) for a in again),
            )
            return
        self._db.execute_many(
            "UPDATE files SET state = 0, job = NULL, place = NULL, due = ?, tries = ?, lost_since = ?,"
            " running_since = NULL WHERE transfer = ? AND number = ?",
            ((a.due, a.tries, a.lost_since, job.transfer, a.number) for a in again),
        )
        self._count(job.link, job.transfer, len(again), min(a.due for a in again))
