"""From paths at a destination back to what the source has there now, as a scan would see it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field

import xxhash

from agent.model.change import FileStat
from agent.model.paths import destination_prefixes, is_below
from agent.model.spec import MappingSpec, PathMapping
from agent.reconcile.context import Clock, Context
from agent.source.look import Found, scan_paths
from agent.source.scan import file_stat

_CHUNK = 1 << 20


def look_up(context: Context, spec: MappingSpec, paths: Iterable[str]) -> dict[str, tuple[str, Found]]:
    """(source path, what is found there) by destination path; paths of no entry of the spec are left out."""
    by_entry: dict[int, list[str]] = {}
    prefixes = destination_prefixes(spec)
    for path in paths:
        number = next((n for n, prefix in enumerate(prefixes) if is_below(path, prefix)), None)
        if number is not None:
            by_entry.setdefault(number, []).append(path)
    found: dict[str, tuple[str, Found]] = {}
    for number, wanted in by_entry.items():
        entry, prefix = spec.paths[number], prefixes[number]
        relative = {path[len(prefix.rstrip("/")) :].lstrip("/"): path for path in wanted}
        for seen in scan_paths(entry.source, relative, context.filter_of(entry), spec.symlinks):
            if seen.path in relative:
                found[relative[seen.path]] = (_source(entry, seen.path), seen)
    return found


def _source(entry: PathMapping, relative: str) -> str:
    return os.path.join(entry.source, relative) if relative else entry.source


@dataclass(slots=True)
class Reader:
    """Digests of source files, read in slices of time: a large one takes many turns."""

    clock: Clock
    _path: str = ""
    _fd: int = -1
    _state: xxhash.xxh3_64 = field(default_factory=xxhash.xxh3_64)

    def digest(self, path: str, version: FileStat, until: float) -> str | None:
        """As a transfer's results have it; empty when the file is no longer of this version, None when the
        time (monotonic) is over before its end: then call again."""
        try:
            if self._path != path:
                self.close()
                self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                self._path, self._state = path, xxhash.xxh3_64()
            while chunk := os.read(self._fd, _CHUNK):
                self._state.update(chunk)
                if self.clock.monotonic() >= until:
                    return None
            same = file_stat(os.fstat(self._fd)) == version
        except OSError:
            same = False
        found = self._state.hexdigest() if same else ""
        self.close()
        return found

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._path, self._fd = "", -1
