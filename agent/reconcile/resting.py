"""Mappings with nothing to do, thousands of them at once: a short look that never says so of one for which a
survey would find anything. Of all others it says nothing; they are surveyed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice

from agent.model.change import FileStat
from agent.model.paths import destination_prefixes, join
from agent.model.spec import DesiredState, MappingSpec, PathMapping
from agent.planning.changes import difference
from agent.planning.names import collisions
from agent.planning.safety import judge_root
from agent.reconcile.context import Context
from agent.source.filters import Filter
from agent.source.scan import Listing, scan_tree
from agent.state.small import KnownDirectory, Small

TOGETHER = 100
"""About so many mappings the state is asked at once."""


def resting(context: Context, desired: DesiredState) -> frozenset[str]:
    """Names of mappings of which nothing is on its way and whose sources are just as they were delivered to
    every destination. Small ones only: a survey of a large one costs what its tree costs. No server is
    asked, and no source that the policy refuses is looked at."""
    filter_of = context.filters()
    return frozenset(
        spec.name
        for spec, known in _known(context, desired)
        if not context.refusal(spec) and _is_as_delivered(spec, known, filter_of)
    )


def _known(context: Context, desired: DesiredState) -> Iterator[tuple[MappingSpec, Small]]:
    specs = iter(desired.mappings.values())
    while some := list(islice(specs, TOGETHER)):
        known = context.state.small.at_rest([spec.name for spec in some])
        yield from ((spec, known[spec.name]) for spec in some if spec.name in known)


def _is_as_delivered(spec: MappingSpec, known: Small, filter_of: Callable[[PathMapping], Filter]) -> bool:
    if not all(name in known.deliveries for name in spec.destinations):
        return False
    deliveries = [known.deliveries[name] for name in spec.destinations]
    walked: set[str] = set()
    for entry, prefix in zip(spec.paths, destination_prefixes(spec), strict=True):
        seen = 0
        for listing in scan_tree(entry.source, filter_of(entry), spec.symlinks):
            directory = join(prefix, listing.directory)
            if directory in walked or not _is_plain(listing):
                return False
            walked.add(directory)
            seen += len(listing.entries) + len(listing.subdirectories)
            if not all(_is_as_known(directory, listing, delivery.get(directory)) for delivery in deliveries):
                return False
        if not _is_believed(entry, known.devices.get(entry.source), seen):
            return False
    # What was delivered from directories that are gone, or that the spec does not have any more, is left.
    return all(
        known.files == 0 or path in walked for delivery in deliveries for path, known in delivery.items()
    )


def _is_plain(listing: Listing) -> bool:
    """A directory that was read, and of which nothing is left out or has to be told."""
    return listing.error is None and not listing.problems and "" not in listing.entries


def _is_as_known(directory: str, listing: Listing, known: KnownDirectory | None) -> bool:
    if known is None:
        return not listing.entries and not collisions(directory, listing.subdirectories)
    if known.digest is not None:
        return known.digest == listing.digest
    if len(known.rows) != known.files or not _is_alike(listing.entries, known.rows):
        return False
    return not collisions(directory, (*listing.entries, *listing.subdirectories))


def _is_alike(now: dict[str, FileStat], known: dict[str, FileStat]) -> bool:
    if now == known:
        return True
    return now.keys() == known.keys() and not any(difference(now[name], known[name]) for name in now)


def _is_believed(entry: PathMapping, known_device: int | None, seen: int) -> bool:
    """Seen empty, a root is left to the survey to judge."""
    try:
        device = os.stat(entry.source).st_dev
    except OSError:
        return False
    return judge_root(True, True, device, known_device, seen, 1) is None
