"""The engine: takes files from the queue, has them copied, and moves files and jobs through their states."""

from __future__ import annotations

import heapq
import itertools
import queue
import sqlite3
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from .app import App
from .config import default_retries
from .copying import ABORTED, Task, copy
from .faults import Rule
from .outcomes import Outcome, mock_copy, mock_seconds, overwrites, tries_allowed
from .picking import A_ROUND, Picker, Running, Slots
from .stages import Stages
from .storage import Storage

FOREVER = 10 * 365 * 86400.0
SHORTEST_PAUSE = 0.0005
FIRST_PID = 1000  # they rise, so that they tell in which order files started


class Engine:
    """One thread decides and writes; each copy has a thread that only reports how it ended."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.database = app.database
        self.touched: set[str] = set()
        self.stages = Stages(self)
        self._slots = Slots()
        self._picker = Picker(app, self._slots, self._start)
        self._ended: queue.SimpleQueue[tuple[int, Outcome]] = queue.SimpleQueue()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._pids = itertools.count(FIRST_PID)
        self._last = {"look": 0.0, "cancel": 0.0, "force": 0.0}
        self._settling: set[str] = set()
        self._jobs: dict[str, dict[str, Any]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        with self.database.transaction():
            self.stages.resume()
            self._resume()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Have the engine do something; at once when there is nothing to wait for."""
        if seconds <= 0:
            action()
        else:
            self._push(seconds, action)

    def _push(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), action))

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                ended = self._wait()
                with self.database.transaction():
                    self._round(ended)
            except Exception:
                traceback.print_exc()

    def _wait(self) -> list[tuple[int, Outcome]]:
        """Copies that ended, waited for up to the next timer or look."""
        until = self._last["look"] + self.app.settings.poll
        if self._timers:
            until = min(until, self._timers[0][0])
        pause = min(self.app.settings.poll, max(SHORTEST_PAUSE, until - time.monotonic()))
        ended = []
        try:
            ended.append(self._ended.get(timeout=pause))
            while True:
                ended.append(self._ended.get_nowait())
        except queue.Empty:
            return ended

    def _round(self, ended: list[tuple[int, Outcome]]) -> None:
        now = time.monotonic()
        self._jobs.clear()
        for file_id, outcome in ended:
            self._slots.copying -= 1
            self.later(self.app.settings.end_seconds, lambda f=file_id, o=outcome: self._finish(f, o))  # type: ignore[misc]
        for _ in range(A_ROUND):
            if not self._timers or self._timers[0][0] > now:
                break
            heapq.heappop(self._timers)[2]()
        settings = self.app.settings
        if self._due("cancel", settings.cancel_poll, now):
            self._stop_canceled()
        if self._due("look", settings.poll, now):
            self.stages.look()
            if not settings.engine_paused:
                self._picker.fill()
                if self._due("force", settings.force_start_seconds, now):
                    self._picker.force()
        self._settle()

    def _due(self, what: str, seconds: float, now: float) -> bool:
        if now < self._last[what] + seconds:
            return False
        self._last[what] = now
        return True

    # ------------------------------------------------------------------ starting

    def _start(self, row: sqlite3.Row) -> list[int]:
        """Take a file, or all files of its reuse job, out of the queue; returns their ids."""
        ids = [row["file_id"]]
        job = self._job(row["job_id"])
        if job["job_type"] == "Y":
            rows = self.database.rows(
                "SELECT file_id FROM files WHERE job_id = ? AND file_state = 'SUBMITTED' ORDER BY file_id",
                (row["job_id"],),
            )
            ids = [r["file_id"] for r in rows] or ids
        with self.database.transaction() as db:
            db.executemany(
                "UPDATE files SET file_state = 'READY', pid = ?, transfer_host = ? WHERE file_id = ?",
                [(next(self._pids), self.app.host, file_id) for file_id in ids],
            )
        running = Running(ids[0], row["job_id"], (row["source_se"], row["dest_se"]), ids[1:])
        self._slots.hold(running)
        self.stages.job_goes(job, "READY" if job["job_type"] == "Y" else "ACTIVE")
        self.later(self.app.settings.ready_seconds, lambda: self._activate(running))
        return ids

    def _resume(self) -> None:
        """A real copy's process outlives the service; here it ends with it, and so is begun again."""
        reuse: dict[str, Running] = {}
        for row in self.database.rows(
            "SELECT files.*, job_type FROM files JOIN jobs USING(job_id)"
            " WHERE file_state IN ('READY', 'ACTIVE') ORDER BY file_state, file_id"
        ):
            if row["job_id"] in reuse:
                reuse[row["job_id"]].rest.append(row["file_id"])
                continue
            link = (row["source_se"], row["dest_se"])
            running = Running(row["file_id"], row["job_id"], link, leftover=True)
            if row["job_type"] == "Y":
                reuse[row["job_id"]] = running
            self._slots.hold(running)
            self._push(0, lambda r=running: self._activate(r))  # type: ignore[misc]

    def _activate(self, running: Running) -> None:
        """READY → ACTIVE, and begin; a file that was canceled meanwhile gives its slot back."""
        if self._slots.running.get(running.file_id) is not running:
            return
        row = self._row(running.file_id)
        if row is None or row["file_state"] not in ("READY", "ACTIVE"):
            self._finish(running.file_id, ABORTED)
            return
        now = self.app.now()
        log = f"/var/log/fts3/transfers/{now[:10]}/{row['job_id']}__{row['file_id']}"
        self.stages.set_state(row["file_id"], "ACTIVE", start_time=now, log_file=log, throughput=0)
        job = self._job(row["job_id"])
        self.stages.job_goes(job, "ACTIVE")
        self._begin(row, job, running)

    def _begin(self, row: sqlite3.Row, job: dict[str, Any], running: Running) -> None:
        source, destination = row["source_surl"], row["dest_surl"]
        rule = self.app.faults.for_file(source, destination)
        overwrite = overwrites(job["overwrite_flag"], row["retry"], last_hop=self.stages.is_last(row, job))
        if rule and rule.action == "stall":
            self._end_later(running, Outcome(), rule.seconds or FOREVER)
        elif rule and rule.action == "fail":
            self._end_later(running, Outcome(rule.reason, recoverable=rule.recoverable), rule.seconds)
        elif source.startswith("mock:"):
            ended = mock_copy(source, destination, job["verify_checksum"], row["checksum"], overwrite)
            self._end_later(running, ended, mock_seconds(destination))
        elif not self.app.settings.copy:
            seconds = self.app.settings.schedule_seconds
            self._end_later(running, Outcome("", row["user_filesize"] or 0, max(seconds, 1e-6)), seconds)
        else:
            self._copy(_task(row, job, running, overwrite, rule), row, job, running)

    def _copy(self, task: Task, row: sqlite3.Row, job: dict[str, Any], running: Running) -> None:
        found = self.database.row(
            "SELECT proxy FROM credentials WHERE dlg_id = ? AND dn = ?", (job["cred_id"], job["user_dn"])
        )
        proxy = found["proxy"] if found is not None else ""
        source_token, target_token = self._token(row["src_token_id"]), self._token(row["dst_token_id"])
        running.copying = True
        self._slots.copying += 1

        def work() -> None:
            try:
                with (
                    Storage(self.app.ca_file, proxy, source_token) as source,
                    Storage(self.app.ca_file, proxy, target_token) as target,
                ):
                    ended = copy(task, source, target, running.abort)
            except Exception as error:
                traceback.print_exc()
                ended = Outcome(f"AGENT [5] {error}")
            self._ended.put((running.file_id, ended))

        threading.Thread(target=work, daemon=True).start()

    def _token(self, token_id: str | None) -> str:
        row = self.database.row("SELECT token FROM tokens WHERE token_id = ?", (token_id,))
        return "" if row is None else str(row["token"])

    # ------------------------------------------------------------------ ending

    def _end_later(self, running: Running, outcome: Outcome, seconds: float) -> None:
        def end() -> None:
            if self._slots.running.get(running.file_id) is running:
                self._finish(running.file_id, outcome)

        self.later(seconds + self.app.settings.end_seconds, end)

    def _stop_canceled(self) -> None:
        """Stop what was canceled and has no finish time yet; what has one goes on to its end unheard.

        What has been forgotten is stopped too.
        """
        ids = [file_id for r in self._slots.running.values() for file_id in (r.file_id, *r.rest)]
        kept = {
            row["file_id"]
            for row in self.database.rows(
                f"SELECT file_id FROM files WHERE file_id IN ({', '.join(map(str, ids))})"
                " AND (file_state <> 'CANCELED' OR finish_time IS NOT NULL)"
            )
        }
        for file_id in set(ids) - kept:
            running = self._slots.running.get(file_id)
            if running is None:
                self.stages.set_state(file_id, "CANCELED", finish_time=self.app.now())
            elif running.copying:
                running.abort.set()
            else:
                self._finish(file_id, ABORTED)

    def _finish(self, file_id: int, outcome: Outcome) -> None:
        """Write down how a copy ended, and let the next of its reuse job begin."""
        running = self._slots.running[file_id]
        self._slots.free(running)
        row = self._row(file_id)
        if row is not None:
            self.touched.add(row["job_id"])
            if row["file_state"] == "ACTIVE":
                self._decide(row, self._job(row["job_id"]), outcome)
            elif row["file_state"] == "CANCELED" and row["finish_time"] is None:
                self.stages.set_state(file_id, "CANCELED", finish_time=self.app.now())
        if running.rest:
            following = Running(running.rest[0], running.job_id, running.link, running.rest[1:])
            self._slots.hold(following)
            self._push(0, lambda: self._activate(following))

    def _decide(self, row: sqlite3.Row, job: dict[str, Any], outcome: Outcome) -> None:
        if not outcome.reason:
            self.stages.copied(row, job, outcome)
            return
        allowed = tries_allowed(job["job_type"], job["retry"], default_retries(self.app, row["vo_name"]))
        if outcome.try_again and row["retry"] < allowed:
            delay = job["retry_delay"] or self.app.settings.default_retry_delay
            self.stages.retry(row, outcome.reason, self.app.settings.now() + delay)
        else:
            self.stages.failed(row, job, outcome)

    def _settle(self) -> None:
        """Bring the states of jobs after those of their files, end states with the lag that is set."""
        touched, self.touched = self.touched, set()
        for job_id in touched:
            if self.stages.settle(job_id) is not None and job_id not in self._settling:
                self._settling.add(job_id)
                self.later(self.app.settings.job_lag, lambda j=job_id: self._end_job(j))  # type: ignore[misc]

    def _end_job(self, job_id: str) -> None:
        self._settling.discard(job_id)
        self.stages.end_job(job_id)

    def _row(self, file_id: int) -> sqlite3.Row | None:
        return self.database.row("SELECT * FROM files WHERE file_id = ?", (file_id,))

    def _job(self, job_id: str) -> dict[str, Any]:
        """A job as it was at its first use in this round, `job_state` being kept up."""
        if job_id not in self._jobs:
            self._jobs[job_id] = self.database.job(job_id) or {}
        return self._jobs[job_id]


def _task(
    row: sqlite3.Row, job: dict[str, Any], running: Running, overwrite: bool, rule: Rule | None
) -> Task:
    options = (job["internal_job_params"] or "").split(",")
    return Task(
        row["source_surl"],
        row["dest_surl"],
        overwrite,
        job["verify_checksum"],
        row["checksum"],
        strict="strict" in options,
        cleanup="disable-cleanup" not in options,
        leftover=running.leftover,
        report=bool(job["dst_file_report"]),
        timeout=next((float(o[8:]) for o in options if o.startswith("timeout:")), 0.0),
        rate=rule.rate if rule and rule.action == "slow" else 0.0,
        corrupt=bool(rule and rule.action == "corrupt"),
    )
