"""The states around a copy: token preparation, staging, archiving, retries, hops, queue time, retention."""

from __future__ import annotations

import calendar
import json
import sqlite3
import time
import uuid
from typing import TYPE_CHECKING, Any

from .jobs import archive_jobs
from .outcomes import Outcome, failure, mock_number
from .settings import stamp
from .states import IN_QUEUE_TOO_LONG, SOME_FAILED, end_of_job, going_state

if TYPE_CHECKING:
    from .engine import Engine

QUEUED = "('SUBMITTED', 'STAGING', 'TOKEN_PREP', 'ON_HOLD', 'ON_HOLD_STAGING')"
SWEEP_SECONDS = 0.5
SWEEP_JOBS = 1000


class Stages:
    """Writes the changes of single files and jobs; the engine says when."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.app = engine.app
        self.database = engine.database
        self._next_sweep = 0.0

    def set_state(self, file_id: int, state: str, **columns: Any) -> None:
        names = "".join(f", {name} = ?" for name in columns)
        with self.database.transaction() as db:
            db.execute(
                f"UPDATE files SET file_state = ?{names} WHERE file_id = ?",
                (state, *columns.values(), file_id),
            )

    def resume(self) -> None:
        """After a start: what was under way outside of copies goes on."""
        for row in self.database.rows("SELECT * FROM files WHERE file_state IN ('STARTED', 'ARCHIVING')"):
            wait = self._staged_later if row["file_state"] == "STARTED" else self._archived_later
            wait(row)
        for row in self.database.rows("SELECT job_id FROM jobs WHERE job_finished IS NULL"):
            self.engine.touched.add(row["job_id"])

    def look(self) -> None:
        """Begin what waits for token preparation or staging; now and then end what waited too long."""
        for row in self.database.rows("SELECT * FROM files WHERE file_state = 'TOKEN_PREP'"):
            self._prepare(row)
        if not self.app.settings.engine_paused:
            for row in self.database.rows("SELECT * FROM files WHERE file_state = 'STAGING'"):
                self._stage(row)
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + SWEEP_SECONDS
            self._end_overdue()
            self._archive_old()

    def _prepare(self, row: sqlite3.Row) -> None:
        """The time since the submission stands for that of fetching a refresh token."""
        since = self.app.settings.now() - self._submitted(row["job_id"])
        if since >= self.app.settings.token_prep_seconds:
            self.set_state(row["file_id"], row["file_state_initial"])

    def _submitted(self, job_id: str) -> float:
        job = self.database.job(job_id) or {}
        return calendar.timegm(time.strptime(job["submit_time"], "%Y-%m-%dT%H:%M:%S"))

    # ------------------------------------------------------------------ staging and archiving

    def _stage(self, row: sqlite3.Row) -> None:
        self.set_state(
            row["file_id"],
            "STARTED",
            staging_start=self.app.now(),
            staging_host=self.app.host,
            bringonline_token=str(uuid.uuid4()),
        )
        self.engine.touched.add(row["job_id"])
        self._staged_later(row)

    def _staged_later(self, row: sqlite3.Row) -> None:
        seconds = mock_number(row["source_surl"], "staging_time") or self.app.settings.staging_seconds
        self.engine.later(seconds, lambda: self._staged(row["file_id"]))

    def _staged(self, file_id: int) -> None:
        row = self.database.row("SELECT * FROM files WHERE file_id = ?", (file_id,))
        if row is None or row["file_state"] != "STARTED":
            return
        now = self.app.now()
        error = int(mock_number(row["source_surl"], "staging_errno"))
        if error:
            job = self.database.job(row["job_id"]) or {}
            self.failed(row, job, failure("STAGING", error))
        elif row["source_surl"] == row["dest_surl"]:
            self.set_state(file_id, "FINISHED", staging_finished=now, finish_time=now, reason="")
        else:
            self.set_state(file_id, "SUBMITTED", staging_finished=now)
        self.engine.touched.add(row["job_id"])

    def _archived_later(self, row: sqlite3.Row) -> None:
        seconds = mock_number(row["dest_surl"], "archiving_time") or self.app.settings.archive_seconds
        self.engine.later(seconds, lambda: self._archived(row["file_id"]))

    def _archived(self, file_id: int) -> None:
        row = self.database.row("SELECT * FROM files WHERE file_id = ?", (file_id,))
        if row is not None and row["file_state"] == "ARCHIVING":
            self.set_state(file_id, "FINISHED", archive_finish_time=self.app.now())
            self.engine.touched.add(row["job_id"])

    # ------------------------------------------------------------------ ends of copies

    def copied(self, row: sqlite3.Row, job: dict[str, Any], outcome: Outcome) -> None:
        """A good end: FINISHED, or ARCHIVING first; `finish_time` is the end of the copy either way."""
        now = self.app.now()
        figures = {
            "finish_time": now,
            "filesize": outcome.size,
            "tx_duration": round(outcome.seconds, 3),
            "throughput": round(outcome.throughput, 3),
            "reason": "",
        }
        if job["archive_timeout"] > 0 and self.is_last(row, job):
            self.set_state(row["file_id"], "ARCHIVING", archive_start_time=now, **figures)
            self._archived_later(row)
        else:
            self.set_state(row["file_id"], "FINISHED", **figures)
        if job["job_type"] == "H":
            self._take_next(
                "job_id = ? AND file_index > ? ORDER BY file_index", row["job_id"], row["file_index"]
            )

    def retry(self, row: sqlite3.Row, reason: str, at: float) -> None:
        """Back to the queue; the reason is kept only among the retries, and the process id stays."""
        tries = row["retry"] + 1
        with self.database.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO retries VALUES(?, ?, ?, ?, ?, ?)",
                (row["file_id"], tries, self.app.now(), reason, self.app.host, row["log_file"]),
            )
        self.set_state(
            row["file_id"], "SUBMITTED", retry=tries, retry_at=at, start_time=None, log_file=None, reason=""
        )

    def failed(self, row: sqlite3.Row, job: dict[str, Any], outcome: Outcome) -> None:
        """The last end; another replica takes over if there is one."""
        columns: dict[str, Any] = {"reason": outcome.reason, "finish_time": self.app.now()}
        columns["recoverable"] = int(outcome.try_again)
        if outcome.existing is not None:
            metadata = json.loads(row["file_metadata"] or "{}")
            columns["file_metadata"] = json.dumps({**metadata, "dst_file": outcome.existing})
        self.set_state(row["file_id"], "FAILED", **columns)
        if job["job_type"] == "R":
            self._take_next(
                "job_id = ? AND file_index = ? ORDER BY file_id", row["job_id"], row["file_index"]
            )

    def _take_next(self, which: str, *values: Any) -> None:
        row = self.database.row(
            f"SELECT file_id FROM files WHERE file_state = 'NOT_USED' AND {which} LIMIT 1", values
        )
        if row is not None:
            self.set_state(row["file_id"], "SUBMITTED")

    def is_last(self, row: sqlite3.Row, job: dict[str, Any]) -> bool:
        """Whether no later hop follows; true for every file of other jobs."""
        if job["job_type"] != "H":
            return True
        later = self.database.row(
            "SELECT 1 FROM files WHERE job_id = ? AND file_index > ?", (row["job_id"], row["file_index"])
        )
        return later is None

    # ------------------------------------------------------------------ jobs

    def job_goes(self, job: dict[str, Any], state: str) -> None:
        if job["job_state"] not in (state, "ACTIVE"):
            job["job_state"] = state
            with self.database.transaction() as db:
                db.execute(
                    "UPDATE jobs SET job_state = ? WHERE job_id = ? AND job_finished IS NULL",
                    (state, job["job_id"]),
                )

    def settle(self, job_id: str) -> str | None:
        """Set the state of a job that goes on; the end state it is due to get, if it is over."""
        job = self.database.row(
            "SELECT job_state, job_type, job_finished FROM jobs WHERE job_id = ?", (job_id,)
        )
        if job is None or job["job_finished"] is not None:
            return None
        counts = self._counts(job_id)
        end = end_of_job(job["job_type"], counts)
        if end is None:
            state = going_state(job["job_state"], job["job_type"], counts)
            if state != job["job_state"]:
                with self.database.transaction() as db:
                    db.execute("UPDATE jobs SET job_state = ? WHERE job_id = ?", (state, job_id))
        return end

    def end_job(self, job_id: str) -> None:
        job = self.database.row("SELECT job_type FROM jobs WHERE job_id = ?", (job_id,))
        end = job and end_of_job(job["job_type"], self._counts(job_id))
        if end is None:
            return
        with self.database.transaction() as db:
            db.execute(
                "UPDATE jobs SET job_state = ?, job_finished = ?, reason = ?"
                " WHERE job_id = ? AND job_finished IS NULL",
                (end, self.app.now(), "" if end == "FINISHED" else SOME_FAILED, job_id),
            )

    def _counts(self, job_id: str) -> dict[str, int]:
        rows = self.database.rows(
            "SELECT file_state, count(*) AS n FROM files WHERE job_id = ? GROUP BY file_state", (job_id,)
        )
        return {row["file_state"]: row["n"] for row in rows}

    def _end_overdue(self) -> None:
        """Files that still wait when their job's time in the queue is over."""
        rows = self.database.rows(
            "SELECT job_id FROM jobs WHERE job_finished IS NULL AND max_time_in_queue IS NOT NULL"
            " AND max_time_in_queue <= ?",
            (self.app.settings.now(),),
        )
        for row in rows:
            with self.database.transaction() as db:
                db.execute(
                    "UPDATE files SET file_state = 'CANCELED', reason = ?, finish_time = ?"
                    f" WHERE job_id = ? AND file_state IN {QUEUED}",
                    (IN_QUEUE_TOO_LONG, self.app.now(), row["job_id"]),
                )
            self.engine.touched.add(row["job_id"])

    def _archive_old(self) -> None:
        before = stamp(self.app.settings.now() - self.app.settings.retention)
        rows = self.database.rows(
            "SELECT job_id FROM jobs WHERE job_finished IS NOT NULL AND job_finished < ? LIMIT ?",
            (before, SWEEP_JOBS),
        )
        archive_jobs(self.app, [row["job_id"] for row in rows])
