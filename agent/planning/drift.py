"""A destination compared with the ledger: what is missing there, changed, damaged, or not from us. Pure.

Both sides come in the byte order of their paths, page by page, so memory does not grow with the tree.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from agent.model.change import FileKind
from agent.model.known import Known, Origin
from agent.model.observed import FarFile
from agent.model.spec import DestinationSpec, MappingSpec, Overwrite
from agent.planning.words import count

FINEST_NS = 1_000
"""Servers tell times to the microsecond."""

NAMED = 100
"""So many paths of a look are remembered by name; the rest is counted."""


class What(StrEnum):
    MISSING = "missing"
    CHANGED = "changed"
    DAMAGED = "damaged"  # names, sizes and times as delivered, the content is another
    UNVERIFIED = "not verified"  # whether the content is the same could not be told


class Pair(NamedTuple):
    """What we know of a path and what is there; at least one of them."""

    known: Known | None
    far: FarFile | None

    @property
    def path(self) -> str:
        return self.known.path if self.known is not None else self.far.path if self.far is not None else ""


@dataclass(slots=True)
class Merge:
    """Two streams in path order become pairs. One object for a whole look; `page` for each of its pages."""

    _hollow: list[Known] = field(default_factory=list)
    """Empty directories that did not come under their own name: one that holds something now is there."""

    def page(self, ours: Iterable[Known], there: Iterable[FarFile]) -> Iterator[Pair]:
        rows, files = iter(ours), iter(there)
        known, far = next(rows, None), next(files, None)
        while known is not None or far is not None:
            if known is not None and (far is None or _key(known.path) < _key(far.path)):
                yield from self._absent(known)
                known = next(rows, None)
            elif far is not None and (known is None or _key(far.path) < _key(known.path)):
                yield from self._passed(far.path)
                yield Pair(None, far)
                far = next(files, None)
            elif far is not None:
                yield from self._passed(far.path)
                yield Pair(known, far)
                known, far = next(rows, None), next(files, None)

    def end(self) -> Iterator[Pair]:
        """After the last page."""
        while self._hollow:
            yield Pair(self._hollow.pop(), None)

    def _absent(self, known: Known) -> Iterator[Pair]:
        if known.stat.kind is FileKind.EMPTY_DIRECTORY:
            self._hollow.append(known)
        else:
            yield Pair(known, None)

    def _passed(self, path: str) -> Iterator[Pair]:
        """Which of those that are waited for cannot come any more; the names of all begin with each other."""
        while self._hollow:
            last, at = _key(self._hollow[-1].path) + b"/", _key(path)
            if at.startswith(last):
                self._hollow.pop()
            elif last < at:
                yield Pair(self._hollow.pop(), None)
            else:
                return


def _key(path: str) -> bytes:
    return os.fsencode(path)


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts as a difference: only what was told to the destination."""

    tolerance_ns: int
    times: bool
    executable: bool


def rules_of(mapping: MappingSpec, destination: DestinationSpec) -> Rules:
    tolerance = destination.transfer_defaults.modification_time_tolerance
    return Rules(
        tolerance_ns=max(FINEST_NS, int(tolerance * 1e9)),
        times=mapping.preserve_mtime,
        executable=mapping.preserve_executable,
    )


def difference(known: Known, far: FarFile, rules: Rules) -> str:
    """How a path is not as it was left, in words; empty when it is. What the overwrite mode kept there was
    never ours, and is as it should be whatever it is."""
    if known.origin is Origin.KEPT:
        return ""
    if known.stat.kind is not far.kind:
        return f"was a {known.stat.kind}, is a {far.kind}"
    if far.kind is FileKind.EMPTY_DIRECTORY:
        return ""
    if known.stat.size != far.size:
        return f"{far.size:,} bytes instead of {known.stat.size:,}"
    if far.kind is FileKind.SYMLINK:
        turned = known.digest and far.digest and known.digest != far.digest
        return "leads elsewhere" if turned else ""
    if rules.times and abs(known.stat.mtime_ns - far.mtime_ns) > rules.tolerance_ns:
        return "modified there" if far.mtime_ns > known.stat.mtime_ns else "has an older modification time"
    if rules.executable and known.stat.executable != far.executable:
        return "is no longer executable" if known.stat.executable else "has become executable"
    return ""


def is_foreign(pair: Pair) -> bool:
    """A directory alone is nobody's."""
    return pair.known is None and pair.far is not None and pair.far.kind is not FileKind.EMPTY_DIRECTORY


def kept_by(overwrite: Overwrite, known: Known, far: FarFile | None, rules: Rules) -> str:
    """Why sending again would not replace what is there; empty when it would."""
    if far is None:
        return ""
    if overwrite is Overwrite.NEVER:
        return "`overwrite: never` keeps it"
    if overwrite is Overwrite.NEWER and far.mtime_ns + rules.tolerance_ns >= known.stat.mtime_ns:
        return "`overwrite: newer` keeps it, for it is not older than the source"
    return ""


class Named(NamedTuple):
    path: str
    what: str
    detail: str = ""


@dataclass(slots=True)
class Tally:
    """What a look has found so far. Counts are whole, names are the first ones."""

    checked: int = 0
    verified: int = 0  # of those: the content, too
    missing: int = 0
    changed: int = 0
    damaged: int = 0
    damaged_left: int = 0  # of those: not corrected
    foreign: int = 0
    unverified: int = 0
    corrected: int = 0  # of missing, changed and damaged: to be sent again
    named: list[Named] = field(default_factory=list)

    def add(self, what: What, path: str, detail: str = "", *, corrected: bool = False) -> None:
        match what:
            case What.MISSING:
                self.missing += 1
            case What.CHANGED:
                self.changed += 1
            case What.DAMAGED:
                self.damaged += 1
                self.damaged_left += not corrected
            case What.UNVERIFIED:
                self.unverified += 1
        self.corrected += corrected
        if len(self.named) < NAMED:
            self.named.append(Named(path, str(what), detail))

    @property
    def differing(self) -> int:
        return self.missing + self.changed + self.damaged

    @property
    def left(self) -> int:
        """Differences that nothing is done about."""
        return self.differing - self.corrected


def counts_text(missing: int, changed: int, damaged: int, foreign: int) -> str:
    """ "3 files missing, 1 changed"."""
    parts = [(missing, "missing"), (changed, "changed"), (damaged, "damaged"), (foreign, "not from here")]
    said = [f"{number:,} {word}" for number, word in parts if number]
    if not said:
        return "nothing"
    first, _, word = said[0].partition(" ")
    return ", ".join([f"{count(int(first.replace(',', '')), 'file')} {word}", *said[1:]])


def hold_back(rounds: int, interval: float, jitter: float) -> float:
    """Seconds after the `rounds`-th correction in a row until the same files are corrected again.

    The first of them never waits longer than for the next look; then the time doubles, to a day at most: who
    changes what we correct is no accident any more.
    """
    longest = max(interval, 86_400.0)
    return float(min(longest, interval / 2 * 2.0 ** (min(rounds, 32) - 1)) * (0.8 + 0.2 * jitter))
