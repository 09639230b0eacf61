"""The change set of one mapping: one look at its sources, compared with the ledger of each destination.

A whole survey walks every source tree; an unchanged directory costs one digest. A hinted one looks only at
the paths that events named. Either way what is there decides, not what the event said.

Memory is bounded by what a destination may have on its way (`Walk.go_on`): a whole survey of a large tree
rests where that is reached, and goes on from there when there is room again.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import structlog

from agent.model.change import (
    Change,
    ChangeSet,
    Deletion,
    FileStat,
    NameProblem,
    Suspect,
    SuspectReason,
)
from agent.model.paths import destination_prefixes, is_below, join, parent
from agent.model.spec import MappingSpec, PathMapping, Publish, Symlinks
from agent.planning.changes import compare
from agent.planning.names import MOST_TOLD, collisions
from agent.planning.safety import ancestors, judge_root
from agent.planning.sentinel import Unsealed
from agent.reconcile.context import Context
from agent.reconcile.queue import WHOLE, Hints
from agent.reconcile.released import everything_released, without_released
from agent.reconcile.sentinels import Sentinels, sentinels_of
from agent.reconcile.sets import as_one, is_bounded, links_left_out
from agent.source.filters import Filter
from agent.source.look import Found, RootState, look_at_root, scan_paths
from agent.source.scan import Listing, scan_tree
from agent.state.ledger import Directories

log = structlog.get_logger(__name__)

SMALL = 64
"""Directories of a delivery about which the ledger is asked at once instead of one by one."""

MAX_HINTS = 10_000
"""So many dirty paths are looked up one by one; more ask for a whole survey."""


@dataclass(frozen=True, slots=True)
class Survey:
    changes: ChangeSet = ChangeSet()
    again: Hints = Hints()  # changed under the walk, or a moment before it: to be looked at soon
    sliced: bool = False  # one of several that make up a whole look
    missed: bool = False  # there was more than room for it: only another whole look finds the rest
    unsealed: Unsealed | None = None  # with a sentinel: what waits for one, of what was looked at …
    looked: tuple[str, ...] | None = None  # … namely these source paths; None = all
    left_out: dict[str, str] = field(default_factory=dict)  # links, by path, and why


@dataclass(slots=True)
class _Gathered:
    """What is found for one destination while the sources are walked."""

    name: str
    changes: list[Change] = field(default_factory=list)
    deletions: dict[str, Deletion] = field(default_factory=dict)
    suspects: list[Suspect] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    again: set[tuple[str, str]] = field(default_factory=set)
    digests: dict[str, bytes] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    names: list[NameProblem] = field(default_factory=list)
    room: int | None = None  # so many changes may still be gathered; None = any number
    cut: bool = False  # there were more in the directory that was just compared
    missed: bool = False  # there were more elsewhere: only another whole look finds them
    still: bool = False  # nothing is in flight, and nothing will be while the walk goes on
    small: Directories | None = None  # of a small delivery, while the walk goes on without a rest

    @property
    def full(self) -> bool:
        return self.room is not None and self.room <= 0

    def take(self, changes: list[Change]) -> None:
        if self.room is not None:
            self.cut = self.cut or len(changes) > self.room
            changes = changes[: self.room]
            self.room -= len(changes)
        self.changes += changes

    def survey(self, partial: bool, unfinished: bool = False) -> Survey:
        changes = ChangeSet(
            tuple(self.changes),
            tuple(self.deletions.values()),
            tuple(self.suspects),
            tuple(self.waiting),
            partial,
            tuple(self.names),
            unfinished,
        )
        return Survey(changes, Hints(paths=frozenset(self.again)), missed=self.missed)

    def handed_over(self) -> None:
        """What was gathered is dealt with, but for deletions: those are decided together."""
        self.changes, self.waiting, self.again, self.digests = [], [], set(), {}
        self.left_out = {}


Sources = dict[str, tuple[str, FileStat]]
"""Destination path -> (source path, version)."""


def survey(
    context: Context, spec: MappingSpec, destinations: list[str], hints: Hints, *, keep: bool = True
) -> dict[str, Survey]:
    """All of it, by destination. With `keep`, what was learned is remembered (digests, root identities)."""
    return begin(context, spec, destinations, hints, keep=keep).go_on({})


def begin(
    context: Context, spec: MappingSpec, destinations: list[str], hints: Hints, *, keep: bool = True
) -> Walk:
    """A survey of which nothing has been looked at yet."""
    gathered = [_Gathered(name) for name in destinations]
    whole = hints.whole or len(hints.paths) > MAX_HINTS
    now = context.clock.time()
    return Walk(context, spec, gathered, keep, now, hints, whole, sentinels_of(context, spec))


def hints_for(spec: MappingSpec, paths: Iterable[str]) -> Hints:
    """Destination paths as hints: which source root, and where below it."""
    found: set[tuple[str, str]] = set()
    for path in paths:
        place = next(
            (
                (entry.source, path[len(prefix.rstrip("/")) :].lstrip("/"))
                for entry, prefix in zip(spec.paths, destination_prefixes(spec), strict=True)
                if is_below(path, prefix)
            ),
            None,
        )
        if place is None:
            return WHOLE  # of an entry that the spec does not have any more
        found.add(place)
    return Hints(paths=frozenset(found))


def delivers(spec: MappingSpec, path: str, source: str) -> bool:
    """Whether the mapping, as it is now, takes this source file to this destination path."""
    for entry, prefix in zip(spec.paths, destination_prefixes(spec), strict=True):
        if is_below(path, prefix):
            relative = path[len(prefix.rstrip("/")) :].lstrip("/")
            same = source == (os.path.join(entry.source, relative) if relative else entry.source)
            return same and Filter(entry.include, entry.exclude).includes(relative, False)
    return False


def source_directory_exists(spec: MappingSpec, path: str) -> bool:
    """Whether the directory that this destination path stands for is in the source, and counts there."""
    for entry, prefix in zip(spec.paths, destination_prefixes(spec), strict=True):
        if path == prefix or path.startswith(prefix.rstrip("/") + "/"):
            relative = path[len(prefix.rstrip("/")) :].lstrip("/")
            return _counts(spec, entry, relative)
        if prefix.startswith(path.rstrip("/") + "/"):
            return True  # above an entry of the mapping: not ours to remove
    return False


def _counts(spec: MappingSpec, entry: PathMapping, relative: str) -> bool:
    """Whether a first delivery would make this directory: one that is filtered out is as good as gone."""
    path, filter_ = entry.source, Filter(entry.include, entry.exclude)
    for part in [*reversed(list(ancestors("/" + relative))), "/" + relative] if relative else []:
        path = entry.source + part
        ignored = spec.symlinks is not Symlinks.COPY_CONTENTS and os.path.islink(path)
        if ignored or filter_.prunes(part[1:]):
            return False
    if not os.path.isdir(path):
        return False
    if filter_.includes(relative, True):
        return True
    return any(listing.entries for listing in scan_tree(entry.source, filter_, spec.symlinks, relative))


@dataclass(slots=True)
class Walk:
    """One look at the sources for some destinations. A whole one may rest and go on."""

    context: Context
    spec: MappingSpec
    gathered: list[_Gathered]
    keep: bool
    now: float  # Unix seconds
    hints: Hints
    is_whole: bool
    sentinels: Sentinels | None = None
    looked: list[str] = field(default_factory=list)  # source paths, of a hinted walk
    done: bool = False
    rested: bool = False
    _steps: Iterator[None] | None = None

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
        return bool(self.gathered) and all(gathered.full for gathered in self.gathered)

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
            seen = yield from self._subtree(entry, prefix, self.context.filter_of(entry), "")
        self._judge(entry, prefix, root, known.device if known else None, seen)

    def _judge(
        self, entry: PathMapping, prefix: str, root: RootState, known_device: int | None, seen: int
    ) -> None:
        """A root that is not believed holds back every deletion below it."""
        believed = True
        for gathered in self.gathered:
            owned = self._owned(gathered, prefix)
            if not seen and owned and self._all_released(gathered, prefix):
                owned = 0
            reason = judge_root(root.exists, root.readable, root.device, known_device, seen, owned)
            if reason is not None:
                believed = False
                detail = root.error.strerror or "" if root.error is not None else ""
                gathered.suspects.append(Suspect(prefix, entry.source, reason, detail))
        if believed and self.keep and root.exists:
            self.context.state.roots.remember(self.spec.name, entry.source, root.device, root.inode)

    def _all_released(self, gathered: _Gathered, prefix: str) -> bool:
        return everything_released(self.context, (self.spec.name, gathered.name), prefix)

    def _owned(self, gathered: _Gathered, prefix: str) -> int:
        """How many rows there are at and below a path."""
        small = gathered.small
        if small is None or parent(prefix) in small:  # that one may hold the row of a single file
            return self.context.state.ledger.count(self.spec.name, gathered.name, prefix)
        return sum(files for path, (files, _) in small.items() if is_below(path, prefix))

    def _digest_of(self, gathered: _Gathered, directory: str) -> bytes | None:
        if gathered.small is None:
            return self.context.state.ledger.digest_of(self.spec.name, gathered.name, directory)
        return gathered.small.get(directory, (0, None))[1]

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
            if self._digest_of(gathered, directory) == listing.digest:
                continue
            if sources is None:
                sources = dict(_sources(entry.source, prefix, listing))
                fresh = {path for path, (_, stat) in sources.items() if self._fresh(stat)}
                alike = collisions(directory, (*listing.entries, *listing.subdirectories))
            self._directory(gathered, directory, sources, listing, fresh)
            if alike:  # to be found again by the next look
                gathered.digests.pop(directory, None)
                gathered.names += alike[: max(0, MOST_TOLD - len(gathered.names))]

    def _fresh(self, stat: FileStat) -> bool:
        """Changed so short a while ago that it may be being written. (A time to come says nothing.)"""
        age = self.now - stat.mtime_ns / 1e9
        return self.sentinels is None and -1.0 < age < self.spec.trigger.settle

    def _directory(
        self, gathered: _Gathered, directory: str, sources: Sources, listing: Listing, fresh: set[str]
    ) -> None:
        """One directory against the ledger; one that needs nothing is remembered by its digest."""
        single = "" in listing.entries  # the root is a file: its row lies in the directory above
        ledger, attempts = self.context.state.ledger, self.context.state.attempts
        if single:
            known = ledger.entry(self.spec.name, gathered.name, directory)
            rows: Mapping[str, FileStat] = {} if known is None else {directory: known}
            flying = attempts.in_flight(self.spec.name, gathered.name, [directory])
        else:
            rows = ledger.directory(self.spec.name, gathered.name, directory)
            flying = {}
            if not gathered.still:
                flying = attempts.in_flight_directory(self.spec.name, gathered.name, directory)
        in_flight = {path: stat for path, (stat, _) in flying.items()}
        if fresh:
            gathered.again |= hints_for(self.spec, fresh).paths
            sources = {path: found for path, found in sources.items() if path not in fresh}
            rows = {path: stat for path, stat in rows.items() if path not in fresh}
            in_flight = {path: stat for path, stat in in_flight.items() if path not in fresh}
        clean = self._compare(gathered, sources, rows, in_flight)
        if clean and not fresh and not single:
            gathered.digests[directory] = listing.digest

    def _compare(
        self,
        gathered: _Gathered,
        sources: Sources,
        rows: Mapping[str, FileStat],
        flying: Mapping[str, FileStat | None],
    ) -> bool:
        """Adds what differs; True when nothing does and nothing is in flight."""
        changes, deletions, waiting = compare(sources, rows, flying)
        names = (self.spec.name, gathered.name)
        changes, deletions = without_released(
            self.context, names, sources, rows, changes, deletions, keep=self.keep
        )
        clean = not (changes or deletions or waiting or flying)
        if self.sentinels is not None:
            changes, deletions = self.sentinels.sift(gathered.name, changes, deletions)
        gathered.take(changes)
        gathered.deletions.update({deletion.path: deletion for deletion in deletions})
        gathered.waiting += waiting
        return clean

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
            below = self._known_directories(gathered, prefix)
            for directory in [d for d in below if d not in walked and d != parent(prefix)]:
                if not any(is_below(directory, known) for known in unknown):
                    self._gone_directory(gathered, directory)

    def _known_directories(self, gathered: _Gathered, prefix: str) -> Iterator[str]:
        """Those with something delivered, then those with nothing but what is on its way."""
        names, state = (self.spec.name, gathered.name), self.context.state
        flying: dict[str, None] = {}
        if not gathered.still:
            flying = dict.fromkeys(state.attempts.in_flight_directories(*names, prefix))
        known: Iterable[str]
        if gathered.small is None:
            known = state.ledger.directories_below(*names, prefix)
        else:
            known = [path for path, (files, _) in gathered.small.items() if files and is_below(path, prefix)]
        for directory in known:
            flying.pop(directory, None)
            yield directory
        yield from flying

    def _gone_directory(self, gathered: _Gathered, directory: str) -> None:
        rows = self.context.state.ledger.directory(self.spec.name, gathered.name, directory)
        flying = self.context.state.attempts.in_flight_directory(self.spec.name, gathered.name, directory)
        self._compare(gathered, {}, rows, {path: stat for path, (stat, _) in flying.items()})

    def unmapped(self) -> None:
        """What was delivered below entries that the spec does not have any more."""
        prefixes = destination_prefixes(self.spec)
        for gathered in self.gathered:
            for directory in self._known_directories(gathered, "/"):
                if not any(is_below(directory, prefix) for prefix in prefixes):
                    self._stray_rows(gathered, directory, prefixes)

    def _stray_rows(self, gathered: _Gathered, directory: str, prefixes: tuple[str, ...]) -> None:
        """A directory above a single-file entry holds that entry's row, which is none of ours here."""
        rows = self.context.state.ledger.directory(self.spec.name, gathered.name, directory)
        flying = self.context.state.attempts.in_flight_directory(self.spec.name, gathered.name, directory)
        self._compare(
            gathered,
            {},
            {path: stat for path, stat in rows.items() if path not in prefixes},
            {path: stat for path, (stat, _) in flying.items() if path not in prefixes},
        )

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
        for listing in scan_tree(entry.source, filter_, self.spec.symlinks, subtree):
            directory = join(prefix, listing.directory)
            seen += len(listing.entries) + len(listing.subdirectories)
            walked.add(directory)
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
                if not self._all_released(gathered, prefix):
                    gathered.suspects.append(Suspect(prefix, entry.source, SuspectReason.EMPTIED))
        for gathered in self.gathered:
            self._one(gathered, path, sources)
            if found.absent:
                for directory in self._known_directories(gathered, path):
                    self._gone_directory(gathered, directory)

    def _one(self, gathered: _Gathered, path: str, sources: Sources) -> None:
        known = self.context.state.ledger.entry(self.spec.name, gathered.name, path)
        flying = self.context.state.attempts.in_flight(self.spec.name, gathered.name, [path])
        rows = {} if known is None else {path: known}
        self._compare(gathered, sources, rows, {path: stat for path, (stat, _) in flying.items()})

    def _emptied(self, entry: PathMapping) -> bool:
        root = look_at_root(entry.source)
        if root.is_file:
            return False
        if not (root.exists and root.readable):
            return True
        first = next(scan_tree(entry.source, self.context.filter_of(entry), self.spec.symlinks))
        return first.is_empty

    # -- bookkeeping

    def survey(self, gathered: _Gathered, whole: bool) -> Survey:
        found = self._found_so_far(gathered, whole)
        changes, again = as_one(self.spec, found.changes, found.again, hints_for)
        return replace(found, changes=changes, again=again, left_out=gathered.left_out)

    def _found_so_far(self, gathered: _Gathered, whole: bool) -> Survey:
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
