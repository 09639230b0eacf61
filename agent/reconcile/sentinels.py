"""`ready: {sentinel: NAME}` while the sources are walked: which sentinels there are, what waits for them."""

from __future__ import annotations

import os
import posixpath
import stat as st
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from agent.model.change import Change, Deletion, FileKind
from agent.model.paths import destination_prefixes, is_below, parent
from agent.model.spec import MappingSpec, Ready
from agent.planning.sentinel import Unsealed, covered, last_of_all
from agent.reconcile.context import Context

TICK_NS = 20_000_000
"""A sentinel's directory is stamped when the sentinel is made, perhaps a tick of the kernel's clock later."""


@dataclass(slots=True)
class Sentinels:
    """Of one walk. Sentinels are looked up by name, whatever the filters say: one that is left out is not
    delivered, and counts all the same."""

    context: Context
    spec: MappingSpec
    name: str
    found: dict[str, Unsealed] = field(default_factory=dict)  # by destination
    _newest: dict[tuple[str, str], int | None] = field(default_factory=dict)  # by source directory and root

    def sift(
        self, destination: str, changes: list[Change], deletions: list[Deletion]
    ) -> tuple[list[Change], list[Deletion]]:
        """Those that are ready. A deletion waits while its directory is there and has changed since its
        sentinel, or has none."""
        unsealed = self.found.setdefault(destination, Unsealed())
        ready = []
        for change in changes:
            if covered(change.stat, self._above(change.source)):
                ready.append(change)
            elif change.stat.kind is not FileKind.EMPTY_DIRECTORY:
                unsealed.add(change.source, change.stat.ctime_ns)
        return ready, [deletion for deletion in deletions if self._may_go(deletion.path)]

    def last(self, destination: str, changes: list[Change], waiting: list[str]) -> list[str]:
        """Takes the sentinels that must wait out of `changes`; their paths."""
        if not any(posixpath.basename(change.path) == self.name for change in changes):
            return []
        state, names = self.context.state, (self.spec.name, destination)
        flying = [
            p for d in state.attempts.in_flight_directories(*names, "/") for p in self._flying(*names, d)
        ]
        unsealed = self.found.get(destination, Unsealed())
        places = (self._destination_path(source) for source in unsealed.paths)
        unfinished = [*waiting, *flying, *(place for place in places if place)]
        changes[:], held = last_of_all(changes, unfinished, self.name)
        return held

    def widened(self, paths: Iterable[str]) -> list[str]:
        """Hints below a root: a sentinel speaks for its whole directory."""
        return sorted(
            {posixpath.dirname(path) if posixpath.basename(path) == self.name else path for path in paths}
        )

    def _flying(self, mapping: str, destination: str, directory: str) -> Iterator[str]:
        yield from self.context.state.attempts.in_flight_directory(mapping, destination, directory)

    def _above(self, source: str) -> int | None:
        root = self._root_of(source)
        return self._newest_in(os.path.dirname(source), root)

    def _newest_in(self, directory: str, root: str) -> int | None:
        """ctime of the newest sentinel in this directory or above it, up to the root."""
        key = (directory, root)
        if key not in self._newest:
            times = [self._ctime(directory)]
            if directory != root and is_below(directory, root):
                times.append(self._newest_in(os.path.dirname(directory), root))
            self._newest[key] = max((time for time in times if time is not None), default=None)
        return self._newest[key]

    def _ctime(self, directory: str) -> int | None:
        try:
            info = os.stat(os.path.join(directory, self.name))
        except OSError:
            return None
        return info.st_ctime_ns if st.S_ISREG(info.st_mode) else None

    def _root_of(self, source: str) -> str:
        """The source root that a path lies below; of a root that is a file, its directory."""
        roots = [entry.source for entry in self.spec.paths if is_below(source, entry.source)]
        root = max(roots, key=len, default=source)
        return os.path.dirname(source) if root == source else root

    def _may_go(self, path: str) -> bool:
        for entry, prefix in zip(self.spec.paths, destination_prefixes(self.spec), strict=True):
            if is_below(path, prefix) and path != prefix:
                relative = parent(path)[len(prefix.rstrip("/")) :].lstrip("/")
                directory = os.path.join(entry.source, relative) if relative else entry.source
                return self._unchanged(directory, entry.source)
        return True

    def _unchanged(self, directory: str, root: str) -> bool:
        """Whether the names in a directory are as they were when its sentinel was made, or it is gone. Where
        nothing above it is sealed, or names came and went since, it is being worked on: what was renamed
        there would be missing at the destination until its new name may go."""
        try:
            info = os.stat(directory)
        except OSError:
            return True
        newest = self._newest_in(directory, root)
        return newest is not None and info.st_mtime_ns <= newest + TICK_NS

    def _destination_path(self, source: str) -> str:
        for entry, prefix in zip(self.spec.paths, destination_prefixes(self.spec), strict=True):
            if is_below(source, entry.source):
                relative = source[len(entry.source) :].lstrip("/")
                return prefix.rstrip("/") + "/" + relative if relative else prefix
        return ""


def sentinels_of(context: Context, spec: MappingSpec) -> Sentinels | None:
    """None for a mapping that has another rule for what is ready."""
    if spec.trigger.ready is not Ready.SENTINEL or spec.trigger.sentinel is None:
        return None
    return Sentinels(context, spec, spec.trigger.sentinel)
