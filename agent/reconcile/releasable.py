"""Source files that may be released: delivered everywhere, as the ledger says, and ours to delete here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.model.change import FileKind, FileStat
from agent.model.known import Known
from agent.model.paths import destination_prefixes, join
from agent.model.spec import MappingSpec
from agent.planning.release import is_delivered, not_sent
from agent.reconcile.context import Context
from agent.source.removing import (
    LINKED,
    NOT_ALLOWED,
    StaysError,
    directory_of,
    is_plain,
    may_delete_in,
    place_of,
)
from agent.source.scan import Listing, scan_tree

BATCH = 500
"""Files that are verified, then deleted, together."""


@dataclass(frozen=True, slots=True)
class Candidate:
    path: str  # at the destinations
    root: str  # of the source
    relative: str  # below it; empty = the root is the file
    stat: FileStat

    @property
    def directory(self) -> tuple[str, str]:
        return self.root, self.relative.rpartition("/")[0]

    @property
    def name(self) -> str:
        return (self.relative or self.root).rpartition("/")[2]


@dataclass(slots=True)
class Staying:
    """What stays at the source, by why: how many files, and the first."""

    found: dict[str, tuple[int, str]] = field(default_factory=dict)
    sentinels: bool = False  # that wait until everything else is gone

    def add(self, why: str, path: str, number: int = 1) -> None:
        before, first = self.found.get(why, (0, path))
        self.found[why] = (before + number, first)


def candidates(context: Context, spec: MappingSpec, staying: Staying) -> Iterator[list[Candidate]]:
    """Some of one directory at a time; empty lists in between, so that the caller can rest."""
    for entry, prefix in zip(spec.paths, destination_prefixes(spec), strict=True):
        for listing in scan_tree(entry.source, context.filter_of(entry), spec.symlinks):
            above = listing.directory + "/" if listing.directory else ""
            files = [
                Candidate(join(prefix, above + name), entry.source, above + name, stat)
                for name, stat in listing.entries.items()
                if stat.kind is FileKind.FILE
            ]
            files = _without_sentinel(spec, listing, files, staying)
            for start in range(0, len(files), BATCH):
                yield _delivered(context, spec, files[start : start + BATCH], staying)
            yield []


def _without_sentinel(
    spec: MappingSpec, listing: Listing, files: list[Candidate], staying: Staying
) -> list[Candidate]:
    """A sentinel goes when nothing else is left below its directory: a file that has to be sent again would
    wait for it."""
    sentinel = spec.trigger.sentinel
    if sentinel is None or (len(files) == 1 and not listing.subdirectories):
        return files
    others = [candidate for candidate in files if candidate.name != sentinel]
    staying.sentinels = staying.sentinels or len(others) < len(files)
    return others


def _delivered(
    context: Context, spec: MappingSpec, files: list[Candidate], staying: Staying
) -> list[Candidate]:
    rows = rows_of(context, spec, [candidate.path for candidate in files])
    found = []
    for candidate in files:
        if not is_delivered(candidate.stat, rows[candidate.path]):
            continue
        if why := not_sent(rows[candidate.path]):
            staying.add(why, candidate.path)
        else:
            found.append(candidate)
    return _deletable(context, found, staying) if found else []


def rows_of(context: Context, spec: MappingSpec, paths: list[str]) -> dict[str, dict[str, Known | None]]:
    """By path and destination; None where nothing is delivered, or something is on its way."""
    found: dict[str, dict[str, Known | None]] = {path: {} for path in paths}
    for name in spec.destinations:
        rows = context.state.released.rows(spec.name, name, paths)
        flying = context.state.attempts.in_flight(spec.name, name, paths)
        for path in paths:
            found[path][name] = None if path in flying else rows.get(path)
    return found


def _deletable(context: Context, files: list[Candidate], staying: Staying) -> list[Candidate]:
    """Of one directory. What cannot be deleted there is not worth asking the destinations for."""
    first = files[0]
    try:
        with directory_of(first.root, first.relative) as (fd, _):
            require_allowed(context, fd)
            plain = {candidate.path for candidate in files if is_plain(fd, candidate.name)}
    except StaysError as error:
        staying.add(str(error), first.path, len(files))
        return []
    for candidate in files:
        if candidate.path not in plain:
            staying.add(LINKED, candidate.path)
    return [candidate for candidate in files if candidate.path in plain]


def require_allowed(context: Context, directory: int) -> None:
    """StaysError when files of this directory are not ours to delete."""
    if context.policy is None or not context.policy.releases(place_of(directory)):
        raise StaysError("`spec.release` of the policy does not have its directory")
    if not may_delete_in(directory):
        raise StaysError(NOT_ALLOWED)


def is_the_same(stat: FileStat, rows: dict[str, Known | None]) -> bool:
    """Delivered everywhere with one known content."""
    digests = {row.digest for row in rows.values() if row is not None}
    return is_delivered(stat, rows) and not not_sent(rows) and len(digests) == 1 and "" not in digests
