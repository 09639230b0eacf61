"""Files that wait become jobs: as many as the window of their link has room for.

A job is written down with the id that it will have before it is submitted, so that it is submitted once
however often an answer is lost or the agent is killed in between.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Mapping

import structlog

from agent.engines.fts3 import urls
from agent.engines.fts3.files import (
    PREPARED,
    Again,
    FileQueue,
    Going,
    Job,
    Settled,
    TransferFacts,
    Version,
    Waiting,
)
from agent.engines.fts3.loop import Crew
from agent.engines.fts3.priorities import fts_priority
from agent.engines.fts3.service import Service, translated
from agent.engines.fts3.settings import Settings
from agent.engines.fts3.store import MAKING_DIRECTORIES, Place, Store
from agent.engines.fts3.trouble import Troubles
from agent.engines.fts3.turns import Queue, Turns
from agent.fts3 import FTS3ClientException, JobIdGenerator, Kind, new_job, new_transfer
from agent.model.condition import Reason
from agent.model.observed import FileOutcome, Tag
from agent.model.outcome import LaneSyncError, PermanentError

log = structlog.get_logger(__name__)

_MAX_WAIT = 5.0
_MAX_URL = 1_100  # the service fails at a longer one
_MAX_ACTIVITY = 255


class Submitter:
    """`step()` is for one thread; jobs are posted by a few others. `changed(kind, id)` hears of transfers
    and destinations."""

    def __init__(
        self,
        service: Service,
        store: Store,
        files: FileQueue,
        settings: Settings,
        troubles: Troubles,
        changed: Callable[[str, str], None],
        wake_poller: Callable[[], None],
    ) -> None:
        self._service = service
        self._sources = urls.Sources(service.access.storage)
        self._store = store
        self._files = files
        self._settings = settings
        self._troubles = troubles
        self._changed = changed
        self._wake_poller = wake_poller
        self._turns: dict[int, Turns] = {}
        self._crew = Crew("post", settings.posting)
        self._room = threading.Semaphore(2 * settings.posting)
        self._lock = threading.Lock()
        self._posting: set[int] = set()
        self._failed: LaneSyncError | None = None
        self._probing = False
        self._banned: dict[int, float] = {}  # link -> when to try again, by the clock that never jumps

    def posting(self, job: int) -> bool:
        """It may reach the service at any moment."""
        with self._lock:
            return job in self._posting

    def step(self) -> float:
        """Submit what there is room for. Raises the error of a submission that could not be made."""
        self._raise_failure()
        for job in self._files.jobs(PREPARED):  # from before a crash, or an answer was lost
            if self._probing:
                # One is tried before the others, and before anybody says that all is well again.
                if self._begin(job):
                    self._post(job)
                    self._raise_failure()
            else:
                self._post_soon(job)
        self._probing = False
        self._reprioritise()
        while self._round() and self._failed is None:
            pass
        now = time.time()
        due = self._files.next_due(now)
        return _MAX_WAIT if due is None else min(_MAX_WAIT, max(0.05, due - now))

    def _raise_failure(self) -> None:
        with self._lock:
            failed, self._failed = self._failed, None
        if failed is not None:
            self._probing = True
            raise failed

    def close(self) -> None:
        self._crew.close()

    # -- choosing

    def _round(self) -> bool:
        """One job for each link that has work and room; False when there was none."""
        now = time.time()
        queues, under_way = self._files.queues(now), self._files.under_way()
        queues.pop(MAKING_DIRECTORIES, None)
        places = self._store.places()
        shares = {(p.number, lane): share for p in places.values() for lane, share in p.shares.items()}
        made = False
        for link, waiting in queues.items():
            room = self._settings.window - under_way.get(link, 0)
            if room > 0 and self._banned.get(link, 0.0) <= time.monotonic():
                made |= self._one(link, waiting, shares, room, places, now)
        return made

    def _one(
        self,
        link: int,
        queues: list[Queue],
        shares: Mapping[tuple[int, str], float],
        room: int,
        places: Mapping[int, Place],
        now: float,
    ) -> bool:
        turns = self._turns.setdefault(link, Turns())
        queue = turns.choose(queues, shares)
        if queue is None:
            return False
        facts = self._files.facts(queue.transfer)
        found = self._files.waiting(link, queue.transfer, min(room, self._settings.batch), now)
        if not found:
            return True  # it is put off, and another may have its turn
        place = places.get(facts.destination) if facts is not None else None
        if facts is None or place is None:
            return False
        ready, settled = self._look(found, place)
        turns.took(queue.lane, len(ready), shares.get(queue.lane, 0.0))
        priority = fts_priority(queue.priority)
        job = self._files.prepare(queue.transfer, link, priority, ready, settled, _sid(facts), now)
        if settled:
            self._changed("transfer", facts.id)
        if job is not None:
            self._post_soon(job)
        return True

    def _look(
        self, found: list[Waiting], place: Place
    ) -> tuple[list[tuple[Waiting, Version]], list[Settled]]:
        """The sources as they are now: what is gone, no file or has no URL needs no job."""
        ready: list[tuple[Waiting, Version]] = []
        settled: list[Settled] = []
        for file in found:
            looked = look(file.source)
            problem = looked if isinstance(looked, Settled) else self._unsendable(file, place)
            if problem is not None:
                settled.append(Settled(file.number, problem.outcome, problem.error))
            elif isinstance(looked, Version):
                ready.append((file, looked))
        return ready, settled

    def _unsendable(self, file: Waiting, place: Place) -> Settled | None:
        try:
            pair = self._urls(file.source, file.path, place.url)
        except PermanentError as error:
            return Settled(file.number, FileOutcome.FAILED, str(error))
        if max(map(len, pair)) > _MAX_URL:
            text = f"its URL has {max(map(len, pair))} characters, FTS3 takes {_MAX_URL}; shorten the path"
            return Settled(file.number, FileOutcome.FAILED, text)
        return None

    def _urls(self, source: str, path: str, base: str) -> tuple[str, str]:
        return self._sources.url(source), urls.join(base, path)

    # -- posting

    def _post_soon(self, job: Job) -> None:
        if self._begin(job):
            self._crew.do(lambda: self._post(job))

    def _begin(self, job: Job) -> bool:
        """False when it is being posted already."""
        with self._lock:
            if job.number in self._posting:
                return False
            self._posting.add(job.number)
        self._room.acquire()
        return True

    def _posted(self, job: Job) -> None:
        with self._lock:
            self._posting.discard(job.number)
        self._room.release()

    def _post(self, job: Job) -> None:
        try:
            self._submit(job)
        except FTS3ClientException as error:
            self._refused(job, error)
        except LaneSyncError as error:
            self._failed = error
        except Exception:
            log.exception("a job could not be submitted; it will be tried again", job=job.sid)
        finally:
            self._posted(job)

    def _submit(self, job: Job) -> None:
        facts = self._files.facts(job.transfer)
        place = self._store.places().get(facts.destination) if facts is not None else None
        going = self._files.going(job.number)
        if facts is None or place is None or facts.removed or not going:
            return
        try:
            body = self._body(job, facts, place, going)
        except PermanentError as error:  # the storages have changed since it was prepared
            self._fail(job, facts, going, str(error))
            return
        client = self._service.working()
        self._files.named(job.number, client.jobs.expected_id(job.sid))
        done = client.jobs.submit(body, self._service.lifetime, adopt=True, fresh=False)
        self._files.submitted(job.number, done.job_id, time.time())
        self._banned.pop(job.link, None)
        if self._troubles.notice(facts.destination, Reason.STORAGE_BANNED, ""):
            self._changed("destination", place.id)
        log.debug("job submitted", job=done.job_id, files=job.files, lane=facts.lane, existed=done.existed)
        self._wake_poller()

    def _body(self, job: Job, facts: TransferFacts, place: Place, going: list[Going]) -> dict[str, object]:
        verify = self._service.access.verify_checksum
        transfers = []
        for file in going:
            source, target = self._urls(file.source, file.path, place.url)
            transfers.append(
                new_transfer(
                    source,
                    target,
                    checksum="ADLER32" if verify else None,
                    filesize=file.version.size,
                    activity=facts.lane[:_MAX_ACTIVITY],
                )
            )
        # Retries are ours: a file that waits for the service's own holds up all of a lower priority.
        return new_job(
            transfers,
            verify_checksum="both" if verify else "none",
            overwrite=facts.overwrite,
            retry=-1,
            priority=job.priority,
            metadata={**json.loads(facts.agent_tag), "lanesync.server": self._service.access.name},
            id_generator=JobIdGenerator.deterministic,
            sid=job.sid,
        )

    def _refused(self, job: Job, error: FTS3ClientException) -> None:
        """Only a plain no is one; what may have arrived stays prepared, and is asked for again by its id."""
        facts = self._files.facts(job.transfer)
        going = self._files.going(job.number)
        now = time.time()
        if error.kind is Kind.BANNED:
            self._banned[job.link] = time.monotonic() + self._settings.ban_recheck
            due = now + self._settings.ban_recheck
            self._files.advance(job, [], [Again(g.number, due, g.tries) for g in going])
            if facts is not None:
                self._note_ban(facts.destination, str(error))
            return
        if error.kind is Kind.PERMANENT and not error.sent_before:
            self._fail(job, facts, going, f"FTS3 refuses the job: {error}")
            return
        self._failed = translated(error)

    def _fail(self, job: Job, facts: TransferFacts | None, going: list[Going], text: str) -> None:
        self._files.advance(job, [Settled(g.number, FileOutcome.FAILED, text) for g in going], [])
        if facts is not None:
            self._changed("transfer", facts.id)

    def _note_ban(self, destination: int, text: str) -> None:
        place = self._store.places().get(destination)
        message = f"{text}; nothing new is submitted until an operator lifts the ban"
        if self._troubles.notice(destination, Reason.STORAGE_BANNED, message) and place is not None:
            self._changed("destination", place.id)

    def _reprioritise(self) -> None:
        """Jobs in the service's queue follow their transfer."""
        wanted: dict[int, list[Job]] = {}
        for job, priority in self._files.misplaced():
            if job.priority != fts_priority(priority):
                wanted.setdefault(fts_priority(priority), []).append(job)
        for step, jobs in wanted.items():
            with contextlib.suppress(FTS3ClientException):  # the order of submission serves, too
                self._service.working().jobs.set_priority([job.id for job in jobs], step)
            self._files.set_priority([job.number for job in jobs], step)


def look(source: str) -> Version | Settled:
    """A source as it is now, or what that means for its file (whose number is left at 0)."""
    try:
        found = os.stat(source)
    except (FileNotFoundError, NotADirectoryError):
        return Settled(0, FileOutcome.VANISHED)
    except OSError as error:
        return Settled(0, FileOutcome.FAILED, f"the source cannot be read: {error.strerror}")
    if not stat.S_ISREG(found.st_mode):
        return Settled(0, FileOutcome.FAILED, "the source is not a regular file")
    return Version(found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _sid(facts: TransferFacts) -> str:
    tag = Tag.from_user_data(json.loads(facts.agent_tag))
    return f"{tag.agent}/{tag.attempt}/{facts.id}" if tag is not None else facts.id
