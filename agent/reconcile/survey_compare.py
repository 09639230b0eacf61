"""One directory, or one path, of a mapping's sources compared with the ledger of one destination."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from agent.model.change import FileStat
from agent.model.paths import is_below, parent
from agent.model.spec import MappingSpec
from agent.planning.changes import compare
from agent.reconcile.context import Context
from agent.reconcile.released import everything_released, without_released
from agent.reconcile.sentinels import Sentinels
from agent.reconcile.survey_gathered import Gathered
from agent.reconcile.survey_places import hints_for
from agent.source.scan import Listing

Sources = dict[str, tuple[str, FileStat]]
"""Destination path -> (source path, version)."""


@dataclass(slots=True)
class Comparison:
    """What differs, and what is gone, into what is gathered for a destination."""

    context: Context
    spec: MappingSpec
    keep: bool
    sentinels: Sentinels | None

    def all_released(self, gathered: Gathered, prefix: str) -> bool:
        return everything_released(self.context, (self.spec.name, gathered.name), prefix)

    def owned(self, gathered: Gathered, prefix: str) -> int:
        """How many rows there are at and below a path."""
        small = gathered.small
        if small is None or parent(prefix) in small:  # that one may hold the row of a single file
            return self.context.state.ledger.count(self.spec.name, gathered.name, prefix)
        return sum(files for path, (files, _) in small.items() if is_below(path, prefix))

    def digest_of(self, gathered: Gathered, directory: str) -> bytes | None:
        if gathered.small is None:
            return self.context.state.ledger.digest_of(self.spec.name, gathered.name, directory)
        return gathered.small.get(directory, (0, None))[1]

    def directory(
        self, gathered: Gathered, directory: str, sources: Sources, listing: Listing, fresh: set[str]
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
        gathered: Gathered,
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

    def known_directories(self, gathered: Gathered, prefix: str) -> Iterator[str]:
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

    def gone_directory(self, gathered: Gathered, directory: str) -> None:
        rows = self.context.state.ledger.directory(self.spec.name, gathered.name, directory)
        flying = self.context.state.attempts.in_flight_directory(self.spec.name, gathered.name, directory)
        self._compare(gathered, {}, rows, {path: stat for path, (stat, _) in flying.items()})

    def stray_rows(self, gathered: Gathered, directory: str, prefixes: tuple[str, ...]) -> None:
        """A directory above a single-file entry holds that entry's row, which is none of ours here."""
        rows = self.context.state.ledger.directory(self.spec.name, gathered.name, directory)
        flying = self.context.state.attempts.in_flight_directory(self.spec.name, gathered.name, directory)
        self._compare(
            gathered,
            {},
            {path: stat for path, stat in rows.items() if path not in prefixes},
            {path: stat for path, (stat, _) in flying.items() if path not in prefixes},
        )

    def one(self, gathered: Gathered, path: str, sources: Sources) -> None:
        known = self.context.state.ledger.entry(self.spec.name, gathered.name, path)
        flying = self.context.state.attempts.in_flight(self.spec.name, gathered.name, [path])
        rows = {} if known is None else {path: known}
        self._compare(gathered, sources, rows, {path: stat for path, (stat, _) in flying.items()})
