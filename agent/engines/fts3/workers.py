"""The threads of the adapter, and what they tell each other.

submit: files that wait become jobs. poll: what became of them. sweep: deletions and directories.
attend: the delegation, the shares of lanes, and jobs that a lost store left behind.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from agent.engines.fts3.administering import Administration
from agent.engines.fts3.deleting import Deletions, Sweeper
from agent.engines.fts3.files import FileQueue
from agent.engines.fts3.loop import Loop
from agent.engines.fts3.polling import Poller
from agent.engines.fts3.service import Service, agent_errors
from agent.engines.fts3.settings import Settings
from agent.engines.fts3.storages import Storages
from agent.engines.fts3.store import Store
from agent.engines.fts3.submitting import Submitter
from agent.engines.fts3.trouble import Troubles
from agent.fts3 import WhoAmI
from agent.model.condition import Reason
from agent.model.observed import Notice, Tag
from agent.model.outcome import AuthenticationError, LaneSyncError
from agent.state.connection import Database

log = structlog.get_logger(__name__)

_STOP_SECONDS = 2.0

SUBMITTING, ASKING = "jobs cannot be submitted", "jobs cannot be asked about"


class Workers:
    def __init__(
        self,
        service: Service,
        database: Database,
        settings: Settings,
        troubles: Troubles,
        changed: Callable[[str, str], None],
    ) -> None:
        self._service = service
        self._settings = settings
        self._changed = changed
        self._store = store = Store(database)
        self._files = files = FileQueue(database, store)
        self._storages = Storages(service)
        self.administration = Administration(service, store)
        self._submitter = Submitter(service, store, files, settings, troubles, changed, self._wake_poller)
        poller = Poller(
            service,
            store,
            files,
            self._storages,
            settings,
            troubles,
            changed,
            self._submitter.posting,
            self._wake_submitter,
        )
        self._sweeper = Sweeper(
            Deletions(database), store, files, self._storages, settings, troubles, changed
        )
        self._submit = Loop("submit", self._submitter.step, lambda error: self._trouble(SUBMITTING, error))
        self._poll = Loop("poll", poller.step, lambda error: self._trouble(ASKING, error))
        self._sweep = Loop("sweep", self._sweeper.step, lambda _: None)
        self._attend = Loop("attend", self._attending, lambda _: None)
        self._lock = threading.Lock()
        self._errors: dict[str, LaneSyncError] = {}
        self._who: WhoAmI | None = None
        self._lanes_due = True
        self._orphans_due = True
        self._lanes_notice: Notice | None = None

    def start(self) -> None:
        for loop in (self._submit, self._poll, self._sweep, self._attend):
            loop.start()

    def stop(self) -> None:
        """Returns within seconds, whatever hangs; what runs at the service runs on."""
        loops = (self._submit, self._poll, self._sweep, self._attend)
        for loop in loops:
            loop.stop()
        self._submitter.close()
        self._sweeper.close()
        deadline = time.monotonic() + _STOP_SECONDS
        for loop in loops:
            loop.join(max(0.0, deadline - time.monotonic()))
        self._storages.close()

    def wake(self) -> None:
        for loop in (self._submit, self._poll, self._sweep):
            loop.wake()

    def _wake_poller(self) -> None:
        self._poll.wake()

    def _wake_submitter(self) -> None:
        self._submit.wake()

    def sweep(self) -> None:
        self._sweep.wake()

    def reached(self, who: WhoAmI) -> None:
        """The service has let us in."""
        first = self._who is None
        self._who = who
        if first:
            self._attend.wake()

    def lanes_changed(self) -> None:
        """Or a destination is new."""
        self._lanes_due = True
        self._attend.wake()

    def notices(self) -> tuple[Notice, ...]:
        """What keeps work from going on though the service lets us in, and what it does not let us set."""
        with self._lock:
            errors = dict(self._errors)
        found = [
            Notice(
                Reason.AUTHENTICATION_FAILED if isinstance(error, AuthenticationError) else Reason.RETRYING,
                f"{what}: {error}; trying on",
            )
            for what, error in errors.items()
        ]
        return (*found, *([] if self._lanes_notice is None else [self._lanes_notice]))

    def _trouble(self, what: str, error: LaneSyncError | None) -> None:
        """Work on the service fails, or goes well again; the first and the last of it are told."""
        with self._lock:
            news = (what in self._errors) != (error is not None)
            if error is None:
                self._errors.pop(what, None)
            else:
                self._errors[what] = error
        if news:
            log.info(
                "FTS3 in trouble" if error else "FTS3 goes on", what=what, error=str(error or "") or None
            )
            self._changed("server", "")
        if error is None:
            self.wake()

    # -- attending

    def _attending(self) -> float:
        who = self._who
        if who is None:
            return self._settings.delegation_check
        self._service.delegate()
        if self._orphans_due:
            self._orphans_due = not self._end_orphans(who)
        if self._lanes_due:
            self._lanes_due = False
            before, self._lanes_notice = self._lanes_notice, self.administration.share_lanes(who)
            if before != self._lanes_notice:
                self._changed("server", "")
        return self._settings.delegation_check

    def _end_orphans(self, who: WhoAmI) -> bool:
        """Jobs of ours that this store does not know: it was lost, and what they copy is planned anew. One
        of them that went on might replace a newer file. False while we do not know who we are."""
        agents = {d.tag.agent for d in self._store.destinations() if d.tag is not None}
        if not agents:
            return False
        client = self._service.working()
        with agent_errors():
            found = client.jobs.list_jobs(delegation_id=who.delegation_id, fields=("job_metadata",))
        orphans = [
            job.job_id
            for job in found
            if _is_of(job.metadata, agents, self._service.access.name) and not self._files.known(job.job_id)
        ]
        if orphans:
            log.warning("jobs of a lost state directory are cancelled", jobs=len(orphans))
            client = self._service.working()
            with agent_errors():
                client.jobs.cancel(orphans)
        return True


def _is_of(metadata: object, agents: set[str], server: str) -> bool:
    """Whether one of these agents made a job, for the server of this name."""
    if not isinstance(metadata, dict) or metadata.get("lanesync.server") != server:
        return False
    tag = Tag.from_user_data({str(name): str(value) for name, value in metadata.items()})
    return tag is not None and tag.agent in agents
