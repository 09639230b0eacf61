"""Ask a destination for files whose delivery nobody heard of, and whose sources are gone.

What is there exactly in the version that an attempt carried is ours: it goes into the ledger as adopted, so
that the usual look prunes or renames it. So is what is there in the version of a later delivery of the same
source file: it was edited before it was read and has another name since. Anything else there is somebody
else's. What is not ours, or not there, is asked for once more later, for a receiver may still have been about
to publish it, or the other name to be delivered, and is then forgotten.

This holds up no delivery and fails no mapping.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import structlog

from agent.model.change import FileKind, FileStat
from agent.model.known import Known, Origin
from agent.model.observed import FarFile
from agent.model.outcome import LaneSyncError
from agent.model.paths import destination_prefixes, is_below
from agent.model.spec import Key, Kind, MappingSpec, Overwrite
from agent.planning.backoff import delay
from agent.planning.drift import FINEST_NS, Rules, difference
from agent.planning.effective import effective
from agent.planning.release import places
from agent.reconcile.context import Context
from agent.reconcile.listing import Listing
from agent.reconcile.one_delivery import Delivery
from agent.reconcile.origins import look_up
from agent.reconcile.queue import WHOLE
from agent.reconcile.survey_places import hints_for
from agent.state.audit import FileAct
from agent.state.uncertain import Uncertain

log = structlog.get_logger(__name__)

SETTLED_SECONDS = 60.0
"""So long after an attempt was closed nothing of it is published any more."""

BATCH = 500
FAILED_MIN, FAILED_MAX = 5.0, 600.0


@dataclass(slots=True)
class Search:
    """One delivery, between its turns. What is asked about, and what was found of it so far."""

    after: str = ""  # the last path that this round has come to
    batch: tuple[Uncertain, ...] = ()
    listing: Listing = field(default_factory=lambda: Listing(()))
    there: dict[str, FarFile] = field(default_factory=dict)
    failures: int = 0
    due: float = 0.0  # monotonic, after a failure


@dataclass(slots=True)
class Searches:
    """Called by the one worker that has the mapping."""

    context: Context
    _searches: dict[tuple[str, str], Search] = field(default_factory=dict)

    def drop(self, mapping: str) -> None:
        for pair in [pair for pair in self._searches if pair[0] == mapping]:
            del self._searches[pair]

    def turn(self, spec: MappingSpec, delivery: Delivery) -> None:
        """After what is still wanted was sent again."""
        names, store = (spec.name, delivery.destination.name), self.context.state.uncertain
        if not delivery.surveys or not store.any(*names):
            return
        if not self._can_tell(spec, delivery):
            store.clear(*names)
            return
        search, now = self._searches.setdefault(names, Search()), self.context.clock.monotonic()
        if now < search.due:
            return
        try:
            wait = self._go_on(spec, delivery, search)
        except LaneSyncError as error:
            log.warning("not looked for", mapping=names[0], destination=names[1], why=str(error))
            after = delay(search.failures + 1, FAILED_MIN, FAILED_MAX, random.random())  # noqa: S311
            self._searches[names] = Search(failures=search.failures + 1, due=now + after)
            self._come_back(spec, after)
            return
        if wait is not None:
            delivery.found.looking = True
            self._come_back(spec, wait)
        elif (since := store.next_due(*names)) is not None:
            self._come_back(spec, max(1.0, since + SETTLED_SECONDS - self.context.clock.time()))

    def _can_tell(self, spec: MappingSpec, delivery: Delivery) -> bool:
        """Whether a file of ours can be told from one that was there before."""
        lanes = self.context.desired.lanes_of(delivery.destination)
        overwrite = effective(spec, delivery.destination, lanes).overwrite
        replaces = overwrite not in (Overwrite.NEVER, Overwrite.NEWER)
        return replaces and spec.preserve_mtime and delivery.live_scene.connected.capabilities.inventory

    def _come_back(self, spec: MappingSpec, after: float) -> None:
        self.context.queue.add(Key(Kind.MAPPING, spec.name), delay=after)

    def _go_on(self, spec: MappingSpec, delivery: Delivery, search: Search) -> float | None:
        """Seconds after which to go on; None at the end of a round. Raises what asking raises."""
        if not search.batch and not self._gather(spec, delivery, search):
            search.after = ""
            return None
        while not search.listing.done:
            page = search.listing.page(delivery.live_scene)
            if page is None:
                return search.listing.wait
            wanted = {uncertain.path for uncertain in search.batch}
            search.there |= {far.path: far for far in page.files if far.path in wanted}
        self._decide(spec, delivery, search)
        search.batch, search.there, search.failures = (), {}, 0
        return 0.0

    def _gather(self, spec: MappingSpec, delivery: Delivery, search: Search) -> bool:
        """The next ones whose sources are gone; False when there are no more."""
        names, state = (spec.name, delivery.destination.name), self.context.state
        state.uncertain.drop_known(*names)
        before = self.context.clock.time() - SETTLED_SECONDS
        while some := state.uncertain.resting(*names, before, search.after, BATCH):
            search.after = some[-1].path
            search.batch = self._gone(spec, some)
            if search.batch:
                asked = (uncertain.path for uncertain in search.batch)
                search.listing = Listing(places(asked, lambda path: state.ledger.count(*names, path)))
                return True
        return False

    def _gone(self, spec: MappingSpec, some: tuple[Uncertain, ...]) -> tuple[Uncertain, ...]:
        """What the source still has is sent again, and tells then."""
        sources = look_up(self.context, spec, {uncertain.path for uncertain in some})
        there = {path for path, (_, found) in sources.items() if not found.absent}
        return tuple(uncertain for uncertain in some if uncertain.path not in there)

    def _decide(self, spec: MappingSpec, delivery: Delivery, search: Search) -> None:
        names, state = (spec.name, delivery.destination.name), self.context.state
        paths = {uncertain.path for uncertain in search.batch}
        moving = state.attempts.in_flight(*names, paths).keys() | state.ledger.known(*names, paths)
        batch = [uncertain for uncertain in self._gone(spec, search.batch) if uncertain.path not in moving]
        settled = self.context.clock.time() - SETTLED_SECONDS
        ours = self._ours(spec, names, batch, search.there)
        waiting = [u for u in batch if u.path not in ours and u.since > settled]
        with state.transaction():
            self._own(spec, delivery, ours)
            state.uncertain.set_looked(*names, waiting)
            kept = set(waiting)
            state.uncertain.drop(*names, [uncertain for uncertain in batch if uncertain not in kept])

    def _ours(
        self, spec: MappingSpec, names: tuple[str, str], batch: list[Uncertain], there: dict[str, FarFile]
    ) -> dict[str, FileStat]:
        """What is there as we carried it, and in which version."""
        rules = Rules(FINEST_NS, times=True, executable=spec.preserve_executable)
        inodes = {u.stat.inode for u in batch if u.path in there} - {0}  # rows that are not found by inode
        later = {row.stat.inode: row.stat for row in self.context.state.ledger.with_inodes(*names, inodes)}
        ours: dict[str, FileStat] = {}
        for uncertain in batch:
            far = there.get(uncertain.path)
            for stat in (uncertain.stat, later.get(uncertain.stat.inode)):
                if far is not None and stat is not None and _is(uncertain.path, stat, far, rules):
                    ours[uncertain.path] = stat
        return ours

    def _own(self, spec: MappingSpec, delivery: Delivery, ours: dict[str, FileStat]) -> None:
        if not ours:
            return
        names, state, now = (
            (spec.name, delivery.destination.name),
            self.context.state,
            self.context.clock.time(),
        )
        acts = [FileAct("adopt", path, stat.size, "") for path, stat in ours.items()]
        state.audit.add_files(*names, None, self.context.desired.revision, acts, now)
        rows = [(path, stat, "", 0) for path, stat in ours.items()]
        state.ledger.record(*names, rows, now, Origin.ADOPTED)
        prefixes = destination_prefixes(spec)
        inside = all(any(is_below(path, prefix) for prefix in prefixes) for path in ours)
        delivery.memory.pending |= hints_for(spec, list(ours)) if inside else WHOLE
        log.info("found delivered", mapping=names[0], destination=names[1], files=len(ours))


def _is(path: str, stat: FileStat, far: FarFile, rules: Rules) -> bool:
    return far.kind is FileKind.FILE and not difference(Known(path, stat), far, rules)
