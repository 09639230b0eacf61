"""Looking after the jobs at the service: what became of them, and ending those that nobody wants.

Jobs are asked about many at a time. Files are looked at when their job is over, and every few seconds while
it is not, because a file may be through long before its job is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence

import structlog

from agent.engines.fts3.files import CANCEL, ENDING, SUBMITTED, Again, FileQueue, Job
from agent.engines.fts3.service import Service, agent_errors, translated
from agent.engines.fts3.settings import Settings
from agent.engines.fts3.settling import Judge, Ruling
from agent.engines.fts3.storages import Storages
from agent.engines.fts3.store import Place, Store
from agent.engines.fts3.trouble import Troubles
from agent.fts3 import Client, FTS3ClientException, JobState
from agent.fts3 import Job as ServiceJob

log = structlog.get_logger(__name__)

_FIELDS = ("file_index", "file_id", "file_state", "reason", "filesize", "start_time", "finish_time")
_JOBS_AT_ONCE = 100
_FILES_AT_ONCE = 4_000
"""Of one answer, which is then about a megabyte long."""


class Poller:
    """`step()` is for one thread. `changed(kind, id)` hears of transfers and destinations."""

    def __init__(
        self,
        service: Service,
        store: Store,
        files: FileQueue,
        storages: Storages,
        settings: Settings,
        troubles: Troubles,
        changed: Callable[[str, str], None],
        posting: Callable[[int], bool],
        wake_submitter: Callable[[], None],
    ) -> None:
        self._service = service
        self._store = store
        self._files = files
        self._storages = storages
        self._settings = settings
        self._troubles = troubles
        self._changed = changed
        self._posting = posting
        self._wake_submitter = wake_submitter
        self._pause = settings.poll_min
        self._not_before = 0.0  # monotonic
        self._refused: set[str] = set()  # jobs that we may not ask about; told once
        self._requests = 0
        self._looked: dict[int, float] = {}  # job -> when its files were last looked at

    def step(self) -> float:
        """Raises the agent's errors when the service cannot be asked. Woken too early it only waits."""
        early = self._not_before - time.monotonic()
        if early > 0:
            return early
        self._requests = 0
        self._end_unwanted()
        jobs = self._files.jobs(SUBMITTED, ENDING)
        fresh = any(job.number not in self._looked for job in jobs)
        self._looked = {job.number: self._looked.get(job.number, -math.inf) for job in jobs}
        moved = sum(self._look_at(piece) for piece in _pieces(jobs, _JOBS_AT_ONCE))
        if moved:
            self._wake_submitter()
        settings = self._settings
        self._pause = settings.poll_min if moved or fresh else min(self._pause * 1.5, settings.poll_max)
        # At most half of what we may ask is spent on looking.
        gap = max(settings.poll_min, 2 * self._requests / settings.requests_per_second)
        self._not_before = time.monotonic() + gap
        return max(gap, self._pause) if jobs else settings.poll_max

    def _client(self) -> Client:
        self._requests += 1
        return self._service.working()

    # -- ending

    def _end_unwanted(self) -> None:
        jobs = [job for job in self._files.jobs(CANCEL) if not self._posting(job.number)]
        for job in [job for job in jobs if not job.id]:
            self._give_back(job)  # it was never submitted
        known = [job for job in jobs if job.id]
        for piece in _pieces(known, _JOBS_AT_ONCE):
            client = self._client()
            with agent_errors():
                found = client.jobs.cancel([job.id for job in piece])
            answered = {job.number for job in piece if job.id in found.jobs}
            self._files.move(answered, ENDING, time.time())
            for job in piece:
                if job.id in found.missing:
                    self._give_back(job)
                elif job.id in found.refused:
                    log.warning("a job cannot be cancelled", job=job.id, why=found.refused[job.id])
                    self._files.move([job.number], ENDING, time.time())

    def _give_back(self, job: Job) -> None:
        """The service has no such job, so none of its files is under way."""
        facts = self._files.facts(job.transfer)
        going = self._files.going(job.number)
        if facts is None or facts.removed:
            self._files.drop(job)
            return
        place = self._store.places().get(facts.destination)
        if place is None:
            self._files.drop(job)
        elif job.id:
            self._take(job, place, self._judge(place).lost(job, facts, going, time.time()))
        else:
            self._files.advance(job, [], [Again(g.number, 0.0, g.tries, g.lost_since) for g in going])

    # -- looking

    def _look_at(self, jobs: Sequence[Job]) -> int:
        """How many files left their jobs."""
        client = self._client()
        with agent_errors():
            found = client.jobs.statuses([job.id for job in jobs])
        by_id = {job.id: job for job in jobs}
        moved = sum(self._lost(by_id[one]) for one in found.missing if one in by_id)
        for one in found.refused.keys() - self._refused:
            log.warning("the service does not tell about a job", job=one, why=found.refused[one])
        self._refused = (self._refused - by_id.keys()) | found.refused.keys()
        due = [by_id[one] for one, seen in found.jobs.items() if one in by_id and self._due(by_id[one], seen)]
        for piece in _by_files(due):
            moved += self._look_into(piece)
        return moved

    def _due(self, job: Job, seen: ServiceJob) -> bool:
        if seen.state.over or job.state == ENDING or seen.state is JobState.UNKNOWN:
            return True
        return time.monotonic() - self._looked[job.number] >= self._settings.files_every

    def _look_into(self, jobs: Sequence[Job]) -> int:
        client = self._client()
        with agent_errors():
            found = client.jobs.statuses([job.id for job in jobs], _FIELDS)
        moved, now = 0, time.time()
        for job in jobs:
            self._looked[job.number] = time.monotonic()
            seen = found.jobs.get(job.id)
            if job.id in found.missing:
                moved += self._lost(job)
            elif seen is not None:
                moved += self._told(job, seen, now)
        return moved

    def _told(self, job: Job, seen: ServiceJob, now: float) -> int:
        facts = self._files.facts(job.transfer)
        place = self._store.places().get(facts.destination) if facts is not None else None
        if facts is None or place is None or facts.removed:
            return self._ended_unwanted(job, seen, now)
        going = self._files.going(job.number)
        ruling = self._judge(place).rule(job, facts, going, seen, seen.files or (), now)
        self._files.running(job.transfer, ruling.running, now)
        left = len(going) - len(ruling.settled) - len(ruling.again)
        if left and ruling.stuck == left and job.state == SUBMITTED:
            log.warning("a job does not move; it is cancelled and sent again", job=job.id, files=left)
            self._files.move([job.number], CANCEL, now)
        return self._take(job, place, ruling)

    def _ended_unwanted(self, job: Job, seen: ServiceJob, now: float) -> int:
        """Of a removed transfer: over when no copy can be running any more."""
        copying = [f for f in seen.files or () if not f.state.over or (f.start_time and not f.finish_time)]
        if copying and now - job.since < self._settings.unsettled:
            return 0
        self._files.drop(job)
        return job.files

    def _lost(self, job: Job) -> int:
        facts = self._files.facts(job.transfer)
        place = self._store.places().get(facts.destination) if facts is not None else None
        if facts is None or place is None or facts.removed:
            self._files.drop(job)
            return job.files
        log.warning("FTS3 no longer knows a job; the destination is looked at", job=job.id)
        going = self._files.going(job.number)
        return self._take(job, place, self._judge(place).lost(job, facts, going, time.time()))

    def _judge(self, place: Place) -> Judge:
        return Judge(self._settings, place.url, lambda: self._storages.at(place.url))

    def _take(self, job: Job, place: Place, ruling: Ruling) -> int:
        facts = self._files.facts(job.transfer)
        self._files.advance(job, ruling.settled, ruling.again)
        if ruling.needs_credential:
            self._redelegate()
        news = False
        if ruling.unreachable:
            news = self._troubles.unreachable(place.number, ruling.unreachable)
        elif ruling.answered:
            news = self._troubles.unreachable(place.number, "")
        if news:
            self._changed("destination", place.id)
        if ruling.settled and facts is not None:
            self._changed("transfer", facts.id)
        return len(ruling.settled) + len(ruling.again)

    def _redelegate(self) -> None:
        try:
            self._client().delegation.delegate(self._service.lifetime, force=True)
        except FTS3ClientException as error:
            raise translated(error) from error


def _pieces(jobs: Sequence[Job], size: int) -> Iterator[Sequence[Job]]:
    return (jobs[start : start + size] for start in range(0, len(jobs), size))


def _by_files(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Pieces whose answers stay of bounded length."""
    piece: list[Job] = []
    for job in jobs:
        if piece and sum(j.files for j in piece) + job.files > _FILES_AT_ONCE:
            yield piece
            piece = []
        piece.append(job)
    if piece:
        yield piece
