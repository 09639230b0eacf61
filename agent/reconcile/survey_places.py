"""Which source path a destination path comes from, by a mapping as it is now, and what counts there."""

from __future__ import annotations

import os
from collections.abc import Iterable

from agent.model.paths import destination_prefixes, is_below
from agent.model.spec import MappingSpec, PathMapping, Symlinks
from agent.planning.safety import ancestors
from agent.reconcile.queue import WHOLE, Hints
from agent.source.filters import Filter
from agent.source.scan import scan_tree


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
