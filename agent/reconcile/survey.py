"""The change set of one mapping: one look at its sources, compared with the ledger of each destination.

A whole survey walks every source tree; an unchanged directory costs one digest. A hinted one looks only at
the paths that events named. Either way what is there decides, not what the event said.

Memory is bounded by what a destination may have on its way (`Walk.go_on`): a whole survey of a large tree
rests where that is reached, and goes on from there when there is room again.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import structlog

from agent.model.change import (
    FileStat,
    NameProblem,
    Suspect,
    SuspectReason,
)
from agent.model.paths import destination_prefixes, is_below, join, parent
from agent.model.spec import MappingSpec, PathMapping, Publish
from agent.planning.names import MOST_TOLD, collisions
from agent.planning.safety import judge_root
from agent.planning.sentinel import Unsealed
from agent.reconcile.context import Context
from agent.reconcile.queue import Hints
from agent.reconcile.sentinels import Sentinels, sentinels_of
from agent.reconcile.sets import as_one, is_bounded, links_left_out
from agent.reconcile.survey_compare import Comparison, Sources
from agent.reconcile.survey_gathered import Gathered, Survey
from agent.reconcile.survey_places import hints_for
from agent.source.ahead import Ahead
from agent.source.filters import Filter
from agent.source.look import Found, RootState, look_at_root, scan_paths
from agent.source.scan import Listing, scan_tree

log = structlog.get_logger(__name__)

SMALL = 64
"""Directories of a delivery about which the ledger is asked at once instead of one by one."""

LARGE = 50_000
"""So many files of a source make a second process worth its start, where there is a second processor."""

MAX_HINTS = 10_000
"""So many dirty paths are looked up one by one; more ask for a whole survey."""


def survey(
    context: Context, spec: MappingSpec, destinations: list[str], hints: Hints, *, keep: bool = True
) -> dict[str, Survey]:
    """All of it, by destination. With `keep`, what was learned is remembered (digests, root identities)."""
    return begin(context, spec, destinations, hints, keep=keep).go_on({})


def begin(
    context: Context, spec: MappingSpec, destinations: list[str], hints: Hints, *, keep: bool = True
) -> Walk:
    """A survey of which nothing has been looked at yet."""
    gathered = [Gathered(name, shown=not keep) for name in destinations]
    whole = hints.whole or len(hints.paths) > MAX_HINTS
    now = context.clock.time()
    return Walk(context, spec, gathered, keep, now, hints, whole, sentinels_of(context, spec))


@dataclass(slots=True)
class Walk:
    """One look at the sources for some destinations. A whole one may rest and go on."""

    context: Context
    spec: MappingSpec
    gathered: list[Gathered]
    keep: bool
    now: float  # Unix seconds
    hints: Hints
    is_whole: bool
    sentinels: Sentinels | None = None
    looked: list[str] = field(default_factory=list)  # source paths, of a hinted walk
    done: bool = False
    rested: bool = False
    comparison: Comparison = field(init=False)
    _steps: Iterator[None] | None = None
    _ahead: Ahead | None = None

    def __post_init__(self) -> None:
        self.comparison = Comparison(self.context, self.spec, self.keep, self.sentinels)

    @property
    def may_rest(self) -> bool:
        """Not where all of a change set belongs together."""
        return self.is_whole and self.sentinels is None and self.spec.publish is Publish.FILE

    def go_on(self, room: Mapping[str, int]) -> dict[str, Survey]:
        """Look on until every destination has as many changes as `room` says, or all has been looked at
        (`done`). A destination without a number takes any number. A rest forgets the destinations that are
        not in `room`; one that has no room left while others have is not looked for any more (`missed`)."""
        if self.rested:
            self.gathered = [g for g in self.gathered if g.name in room]
        self.now = self.context.clock.time()
        for gathered in self.gathered:
            free = not is_bounded(self.spec) or (self.is_whole and not self.may_rest)
            gathered.room = None if free else room.get(gathered.name)
            names, state = (self.spec.name, gathered.name), self.context.state
            gathered.still = not state.attempts.of(*names)
            first = self.is_whole and not self.rested
            gathered.small = state.ledger.few_directories(*names, SMALL) if first else None
        if self._steps is None:
            self._steps = self._all()
        self.done = not (self.may_rest and self._full()) and self._advance(self._steps)
        self._alone()  # what a helper saw before a rest is old after it
        if self.keep:
            self.remember()
        if self.done and self.rested:
            self._look_again_at_deletions()
        for gathered in self.gathered:
            gathered.missed, gathered.cut = gathered.missed or gathered.cut, False
        found = {gathered.name: self.survey(gathered, self.is_whole) for gathered in self.gathered}
        self.rested = self.rested or not self.done
        self.gathered = [gathered for gathered in self.gathered if not gathered.missed]
        for gathered in self.gathered:
            gathered.handed_over()
        return found

    def _full(self) -> bool:
        full = all if self.keep else any  # what is only shown is handed over without waiting for the others
        return bool(self.gathered) and full(gathered.full for gathered in self.gathered)

    def _advance(self, steps: Iterator[None]) -> bool:
        """True at the end."""
        return not any(self.may_rest and self._full() for _ in steps)

    def _all(self) -> Iterator[None]:
        for entry, prefix in zip(self.spec.paths, destination_prefixes(self.spec), strict=True):
            if self.is_whole:
                yield from self.whole(entry, prefix)
            else:
                self.hinted(entry, prefix, self.hints)
        if self.is_whole:
            self.unmapped()

    def _look_again_at_deletions(self) -> None:
        """Since they were found the walk has rested, and what was gone may be there again."""
        for gathered in self.gathered:
            paths = list(gathered.deletions)
            flying = self.context.state.attempts.in_flight(self.spec.name, gathered.name, paths)
            for path in paths:
                known = self.context.state.ledger.entry(self.spec.name, gathered.name, path)
                if known is None or path in flying:
                    del gathered.deletions[path]
                elif self._is_in_source(path):
                    del gathered.deletions[path]
                    gathered.again |= hints_for(self.spec, [path]).paths

    def _is_in_source(self, path: str) -> bool:
        return any(
            os.path.lexists(os.path.join(root, relative) if relative else root)
            for root, relative in hints_for(self.spec, [path]).paths
        )

    # -- whole trees

    def whole(self, entry: PathMapping, prefix: str) -> Iterator[None]:
        root = look_at_root(entry.source)
        known = self.context.state.roots.known(self.spec.name, entry.source)
        seen = 0
        if root.exists and root.readable:
            filter_ = self.context.filter_of(entry)
            self._ahead = self._helper(entry, prefix, filter_)
            try:
                seen = yield from self._subtree(entry, prefix, filter_, "")
            finally:
                self._alone()
        self._judge(entry, prefix, root, known.device if known else None, seen)

    def _helper(self, entry: PathMapping, prefix: str, filter_: Filter) -> Ahead | None:
        """Not for a first look: there is no digest that a directory could have kept."""
        cores = len(os.sched_getaffinity(0))
        if cores < 2 or not any(self.comparison.owned(found, prefix) >= LARGE for found in self.gathered):
            return None

        def known(directory: str, digest: bytes) -> bool:
            path = join(prefix, directory)
            return all(self.comparison.digest_of(found, path) == digest for found in self.gathered)

        return Ahead(entry.source, filter_, self.spec.symlinks, known)

    def _alone(self) -> None:
        if self._ahead is not None:
            self._ahead.close()

    def _judge(
        self, entry: PathMapping, prefix: str, root: RootState, known_device: int | None, seen: int
    ) -> None:
        """A root that is not believed holds back every deletion below it."""
        believed = True
        for gathered in self.gathered:
            owned = self.comparison.owned(gathered, prefix)
            if not seen and owned and self.comparison.all_released(gathered, prefix):
                owned = 0
            reason = judge_root(root.exists, root.readable, root.device, known_device, seen, owned)
            if reason is not None:
                believed = False
                detail = root.error.strerror or "" if root.error is not None else ""
                gathered.suspects.append(Suspect(prefix, entry.source, reason, detail))
        if believed and self.keep and root.exists:
            self.context.state.roots.remember(self.spec.name, entry.source, root.device, root.inode)

    def _listing(self, entry: PathMapping, prefix: str, listing: Listing) -> None:
        directory = join(prefix, listing.directory)
        if listing.error is not None:
            self._unreadable(entry, directory, listing)
            return
        for problem in listing.problems:
            log.warning("left out", mapping=self.spec.name, path=problem.path, why=problem.text)
        for gathered in self.gathered:
            gathered.left_out |= links_left_out(self.spec, listing.problems)
        sources: Sources | None = None
        fresh: set[str] = set()
        alike: list[NameProblem] = []
        for gathered in self.gathered:
            if self.comparison.digest_of(gathered, directory) == listing.digest:
                continue
            if sources is None:
                sources = dict(_sources(entry.source, prefix, listing))
                fresh = {path for path, (_, stat) in sources.items() if self._fresh(stat)}
                alike = collisions(directory, (*listing.entries, *listing.subdirectories))
            self.comparison.directory(gathered, directory, sources, listing, fresh)
            if alike:  # to be found again by the next look
                gathered.digests.pop(directory, None)
                gathered.names += alike[: max(0, MOST_TOLD - len(gathered.names))]

    def _fresh(self, stat: FileStat) -> bool:
        """Changed so short a while ago that it may be being written. (A time to come says nothing.)"""
        age = self.now - stat.mtime_ns / 1e9
        return self.sentinels is None and -1.0 < age < self.spec.trigger.settle

    def _unreadable(self, entry: PathMapping, directory: str, listing: Listing) -> None:
        """No opinion about this subtree. One that vanished while the walk was on is no cause for alarm."""
        if isinstance(listing.error, FileNotFoundError) or listing.error is None:
            for gathered in self.gathered:
                gathered.again.add((entry.source, listing.directory))
            return
        source = os.path.join(entry.source, listing.directory)
        for gathered in self.gathered:
            detail = listing.error.strerror or ""
            gathered.suspects.append(Suspect(directory, source, SuspectReason.UNREADABLE, detail))

    def _vanished_directories(self, prefix: str, walked: set[str], unknown: list[str]) -> None:
        """Directories we know of that the walk did not meet: all of theirs is gone. Of what lies below a
        directory that could not be read, whatever the reason, nothing is known."""
        for gathered in self.gathered:
            below = self.comparison.known_directories(gathered, prefix)
            for directory in [d for d in below if d not in walked and d != parent(prefix)]:
                if not any(is_below(directory, known) for known in unknown):
                    self.comparison.gone_directory(gathered, directory)

    def unmapped(self) -> None:
        """What was delivered below entries that the spec does not have any more."""
        prefixes = destination_prefixes(self.spec)
        for gathered in self.gathered:
            for directory in self.comparison.known_directories(gathered, "/"):
                if not any(is_below(directory, prefix) for prefix in prefixes):
                    self.comparison.stray_rows(gathered, directory, prefixes)

    # -- single paths

    def hinted(self, entry: PathMapping, prefix: str, hints: Hints) -> None:
        paths = sorted(path for root, path in hints.paths if root == entry.source)
        if not paths:
            return
        if self.sentinels is not None:
            paths = self.sentinels.widened(paths)
            self.looked += [os.path.join(entry.source, path) if path else entry.source for path in paths]
        filter_ = self.context.filter_of(entry)
        seen: set[str] = set()
        walked: set[str] = set()
        for found in scan_paths(entry.source, paths, filter_, self.spec.symlinks):
            if found.path in seen or _lies_below(found.path, walked):
                continue  # hints overlap, and a path that is found twice would be sent twice
            seen.add(found.path)
            if found.is_directory:
                walked.add(found.path)
                for _ in self._subtree(entry, prefix, filter_, found.path):
                    pass
            elif found.error is None:
                self._found(entry, prefix, found)

    def _subtree(
        self, entry: PathMapping, prefix: str, filter_: Filter, subtree: str
    ) -> Generator[None, None, int]:
        """Everything below, a directory at a time; returns how many entries were seen."""
        walked: set[str] = set()
        unknown: list[str] = []
        seen = 0
        for listing in scan_tree(entry.source, filter_, self.spec.symlinks, subtree, self._ahead):
            directory = join(prefix, listing.directory)
            seen += len(listing.entries) + len(listing.subdirectories) + (listing.unread or 0)
            walked.add(directory)
            if listing.unread is not None:
                yield
                continue
            if listing.error is not None:
                unknown.append(directory)
            self._listing(entry, prefix, listing)
            yield from self._rest_of(entry, prefix, filter_, listing)
        self._vanished_directories(join(prefix, subtree), walked, unknown)
        return seen

    def _rest_of(
        self, entry: PathMapping, prefix: str, filter_: Filter, listing: Listing
    ) -> Generator[None, None, None]:
        """Of a directory with more changes than there was room for the rest, when there is room again."""
        while True:
            rests = self.may_rest and self._full()
            for gathered in self.gathered:
                gathered.missed = gathered.missed or (gathered.cut and not rests)
            more = rests and any(gathered.cut for gathered in self.gathered)
            for gathered in self.gathered:
                gathered.cut = False
            yield
            if not more:
                return
            again = scan_tree(entry.source, filter_, self.spec.symlinks, listing.directory)
            for now in islice(again, 1):
                self._listing(entry, prefix, now)

    def _found(self, entry: PathMapping, prefix: str, found: Found) -> None:
        path = join(prefix, found.path)
        sources: Sources = {}
        if found.stat is not None:
            sources[path] = (
                os.path.join(entry.source, found.path) if found.path else entry.source,
                found.stat,
            )
        elif entry.source and self._emptied(entry):
            # The last file may be gone because the disk is: a whole survey judges that.
            for gathered in self.gathered:
                if not self.comparison.all_released(gathered, prefix):
                    gathered.suspects.append(Suspect(prefix, entry.source, SuspectReason.EMPTIED))
        for gathered in self.gathered:
            self.comparison.one(gathered, path, sources)
            if found.absent:
                for directory in self.comparison.known_directories(gathered, path):
                    self.comparison.gone_directory(gathered, directory)

    def _emptied(self, entry: PathMapping) -> bool:
        root = look_at_root(entry.source)
        if root.is_file:
            return False
        if not (root.exists and root.readable):
            return True
        first = next(scan_tree(entry.source, self.context.filter_of(entry), self.spec.symlinks))
        return first.is_empty

    # -- bookkeeping

    def survey(self, gathered: Gathered, whole: bool) -> Survey:
        found = self._found_so_far(gathered, whole)
        changes, again = as_one(self.spec, found.changes, found.again, hints_for)
        return replace(found, changes=changes, again=again, left_out=gathered.left_out)

    def _found_so_far(self, gathered: Gathered, whole: bool) -> Survey:
        if self.sentinels is None:
            partial = not whole or not self.done or gathered.missed
            found = gathered.survey(partial, unfinished=whole and partial)
            return replace(found, sliced=self.rested or partial)
        gathered.waiting += self.sentinels.last(gathered.name, gathered.changes, gathered.waiting)
        unsealed = self.sentinels.found.get(gathered.name, Unsealed())
        looked = None if whole else tuple(self.looked)
        return replace(gathered.survey(not whole), unsealed=unsealed, looked=looked)

    def remember(self) -> None:
        for gathered in self.gathered:
            if gathered.digests:
                self.context.state.ledger.set_digests(self.spec.name, gathered.name, gathered.digests)


def _lies_below(path: str, directories: set[str]) -> bool:
    """Relative paths; the root is empty."""
    while path and directories:
        path = path.rpartition("/")[0]
        if path in directories:
            return True
    return False


def _sources(root: str, prefix: str, listing: Listing) -> Iterator[tuple[str, tuple[str, FileStat]]]:
    """Destination paths of one directory's entries; the entry "" is a root that is a single file."""
    source = os.path.join(root, listing.directory) if listing.directory else root
    directory = join(prefix, listing.directory)
    for name, stat in listing.entries.items():
        yield join(directory, name), (os.path.join(source, name) if name else source, stat)
