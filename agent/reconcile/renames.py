"""Renames: found for a change set, asked of the destination, taken into the ledger.

What cannot be renamed there is sent and deleted as if it had never been one: its row loses the inode that it
was recognised by.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import structlog

from agent.engines.port import Engine, ReceiverCredentials
from agent.model.change import ChangeSet, FileStat, Rename, SuspectReason
from agent.model.observed import FileOutcome, FileResult
from agent.model.outcome import NotFoundError, PermanentError
from agent.model.paths import destination_prefixes, is_below, parent
from agent.model.plan import RenamePaths
from agent.model.spec import Key, Kind, MappingSpec
from agent.planning.renames import (
    Candidate,
    Evidence,
    as_rename,
    created_files,
    evidence,
    may_rename,
    pair,
)
from agent.planning.safety import suppressed
from agent.reconcile.context import Connected, Context
from agent.reconcile.queue import WHOLE
from agent.source.birth import birth_time
from agent.source.content import content_digest
from agent.source.scan import EMPTY
from agent.state.attempts import Attempt, Planned
from agent.state.audit import FileAct

log = structlog.get_logger(__name__)

READ_BUDGET = 1 << 30
"""Bytes of contents that one reconcile reads to be sure of renames; what is beyond is sent."""


def find_renames(
    context: Context, spec: MappingSpec, destination: str, changes: ChangeSet, connected: Connected | None
) -> tuple[Rename, ...]:
    """What of this change set is at the destination already, under a path that the source has no more.

    The rows that matter are found by inode, whatever was looked at: a part of the tree is enough.
    """
    if connected is None or not connected.capabilities.rename or not may_rename(spec):
        return ()
    created = created_files(changes.changes)
    ledger = context.state.ledger
    if not created or not ledger.count(spec.name, destination):
        return ()
    rows = ledger.with_inodes(spec.name, destination, {change.stat.inode for change in created})
    source = _Source(spec, changes)
    flying = context.state.attempts.in_flight_count(spec.name, destination) > 0

    def gone(path: str) -> bool:
        if flying and context.state.attempts.in_flight(spec.name, destination, [path]):
            return False
        return source.gone(path)

    budget = Budget()
    return tuple(
        as_rename(candidate)
        for candidate in pair(created, rows, gone)
        if source.one_device(candidate) and budget.believes(candidate)
    )


@dataclass(slots=True)
class Budget:
    """Of one reconcile: what it may still read."""

    left: int = READ_BUDGET

    def believes(self, candidate: Candidate) -> bool:
        known, change = candidate
        needed = evidence(candidate)
        if needed is Evidence.ENOUGH:
            return True
        if needed is not Evidence.CONTENT:
            born = birth_time(change.source)
            if born is not None and born < known.delivered_at:
                return True
        if needed is Evidence.AGE_ONLY or change.stat.size > self.left:
            return False
        self.left -= change.stat.size
        return content_digest(change.source, change.stat.size) == known.digest


@dataclass(slots=True)
class _Source:
    """What the source says of paths that have been delivered."""

    spec: MappingSpec
    changes: ChangeSet
    _deleted: frozenset[str] = field(init=False)
    _devices: dict[str, int | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._deleted = frozenset(deletion.path for deletion in self.changes.deletions)

    def gone(self, path: str) -> bool:
        """Nothing is there any more, and its root is to be believed. A root that lost its last file is: the
        file is known to be elsewhere."""
        unsure = [s for s in self.changes.suspects if s.reason is not SuspectReason.EMPTIED]
        if suppressed(path, unsure):
            return False
        if path in self._deleted:
            return True
        place = self._place(path)
        if place is None or self._device(place) is None:
            return False
        try:
            os.lstat(place)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return False

    def one_device(self, candidate: Candidate) -> bool:
        """Inodes mean something on one file system only."""
        old = self._place(candidate.known.path)
        here = self._device(candidate.change.source)
        return here is not None and (old is None or self._device(old) == here)

    def _place(self, path: str) -> str | None:
        """Where the source would have it; None for an entry that the spec does not have any more."""
        for entry, prefix in zip(self.spec.paths, destination_prefixes(self.spec), strict=True):
            if is_below(path, prefix):
                relative = path[len(prefix.rstrip("/")) :].lstrip("/")
                return os.path.join(entry.source, relative) if relative else entry.source
        return None

    def _device(self, path: str) -> int | None:
        """Of the closest directory above that exists, not above the source's root; None without a root."""
        roots = [entry.source for entry in self.spec.paths if is_below(path, entry.source)]
        directory = parent(path)
        if directory not in self._devices:
            self._devices[directory] = next(
                (found for above in _upwards(directory, roots) if (found := _device_of(above)) is not None),
                None,
            )
        return self._devices[directory]


def _upwards(directory: str, roots: list[str]) -> Iterator[str]:
    while any(is_below(directory, root) for root in roots):
        yield directory
        directory = parent(directory)


def _device_of(directory: str) -> int | None:
    try:
        return os.stat(directory).st_dev
    except OSError:
        return None


# -- asking the destination


def start_renaming(
    context: Context,
    engine: Engine,
    destination_id: str,
    action: RenamePaths,
    credentials: ReceiverCredentials | None,
) -> None:
    """Old and new paths are in flight from here on. A server that refuses has the files sent instead."""
    renames = action.renames
    paths: list[tuple[str, str, FileStat | None]] = [
        (rename.change.path, rename.change.source, rename.change.stat) for rename in renames
    ]
    paths += [(rename.old, rename.change.path, None) for rename in renames]
    paths += [(directory, "", None) for directory in action.directories]
    pairs = tuple((rename.old, rename.change.path) for rename in renames)
    attempt = context.state.attempts.open(
        action.mapping,
        action.destination,
        "rename",
        hashlib.sha256(repr(pairs).encode("utf-8", "surrogateescape")).hexdigest()[:16],
        context.desired.revision,
        paths,
        context.clock.time(),
    )
    try:
        started = engine.start_renaming(destination_id, pairs, credentials)
    except PermanentError as error:
        log.warning("cannot rename; sending instead", mapping=action.mapping, error=str(error))
        with context.state.transaction():
            _unrecognised(context, attempt, [rename.old for rename in renames])
            context.state.attempts.finish(attempt.number, "refused", str(error), context.clock.time())
        context.queue.add(Key(Kind.MAPPING, action.mapping), hints=WHOLE)
        return
    context.state.attempts.created(attempt.number, started, "")
    log.info(
        "renaming started",
        mapping=action.mapping,
        destination=action.destination,
        attempt=attempt.number,
        files=len(renames),
        bytes=action.total_bytes,
        revision=context.desired.revision,
    )


# -- what became of it


@dataclass(frozen=True, slots=True)
class Renamed:
    """What came in about one attempt."""

    done: bool = True
    new: tuple[tuple[str, int], ...] = ()  # where files are now, and their sizes
    gone: tuple[str, ...] = ()  # nothing is there any more
    look: tuple[str, ...] = ()  # to be looked at again
    emptied: tuple[str, ...] = ()  # directories that can be deleted if they are empty now
    directories: tuple[str, ...] = ()  # all of those that might have become empty
    again: tuple[tuple[str, str], ...] = ()  # into the trash: under another name
    failures: tuple[str, ...] = ()
    known: bool = True  # False: the server forgot


def collect_renaming(context: Context, connected: Connected, attempt: Attempt) -> Renamed:
    """Raises UnreachableError when the server cannot be asked."""
    left = context.state.attempts.left(attempt.number)
    try:
        state = connected.engine.renaming(attempt.transfer_id or "")
    except NotFoundError:
        # The server was restarted and forgot. What was not renamed will be found again; what was has
        # vanished under its old path then, and is sent.
        context.state.attempts.finish(attempt.number, "lost", "", context.clock.time())
        return Renamed(look=tuple(left), known=False)
    if not state.done:
        return Renamed(done=False)
    old_of = {source: path for path, (stat, source) in left.items() if stat is None and source}
    directories = [path for path, (stat, source) in left.items() if stat is None and not source]
    outcomes = {result.path: result for result in state.results}
    with context.state.transaction():
        failed, gone = _settle(context, attempt, left, old_of, outcomes, state.error)
        context.state.attempts.finish(attempt.number, "done", state.error, context.clock.time())
        emptied = note_left_empty(context, attempt, directories)
    for path in failed:
        result = outcomes.get(path)
        error = (result.error or str(result.outcome)) if result is not None else state.error
        log.warning("not renamed; sending instead", old=old_of.get(path), path=path, error=error)
    log.info(
        "renaming ended",
        mapping=attempt.mapping,
        destination=attempt.destination,
        attempt=attempt.number,
        renamed=len(old_of) - len(failed),
        failed=len(failed),
    )
    new = [(path, stat.size) for path, (stat, _) in left.items() if stat is not None and path not in failed]
    look = (*failed, *(old_of[path] for path in failed))
    return Renamed(True, tuple(new), tuple(gone), look, emptied, tuple(directories))


def _settle(
    context: Context,
    attempt: Attempt,
    left: dict[str, Planned],
    old_of: dict[str, str],
    outcomes: dict[str, FileResult],
    error: str,
) -> tuple[set[str], list[str]]:
    """Rows of what was renamed get their new paths. Returns the new paths of what was not, and the old ones
    that nothing is at any more."""
    ledger, names = context.state.ledger, (attempt.mapping, attempt.destination)
    moved, forgotten, failed, kept, acts = [], [], set(), [], []
    for new, old in old_of.items():
        result = outcomes.get(new)
        outcome = result.outcome if result is not None else FileOutcome.FAILED
        stat = left[new][0]
        if outcome is FileOutcome.DELIVERED and stat is not None:
            digest = ledger.digest(*names, old)
            moved.append((new, stat, digest, attempt.number))
            forgotten.append(old)
            acts.append(FileAct("rename", new, stat.size, digest, detail=old))
            continue
        failed.add(new)
        acts.append(FileAct("fail", new, error=(result.error if result else "") or error, detail=old))
        if outcome is FileOutcome.VANISHED:
            forgotten.append(old)
        else:
            kept.append(old)
    context.state.audit.add_files(*names, attempt.number, attempt.revision, acts, context.clock.time())
    ledger.forget(*names, forgotten)
    ledger.record(*names, moved, context.clock.time())
    _unrecognised(context, attempt, kept)
    context.state.tombstones.drop(*names, forgotten)
    return failed, forgotten


def _unrecognised(context: Context, attempt: Attempt, paths: Iterable[str]) -> None:
    """These rows are never again taken for the earlier path of another file."""
    context.state.ledger.forget_inodes(attempt.mapping, attempt.destination, paths)


def note_left_empty(context: Context, attempt: Attempt, directories: Iterable[str]) -> tuple[str, ...]:
    """Of these directories the ones that hold nothing of ours any more: the ledger has them as empty ones
    of ours from here on, so that they go even when this ends here."""
    state, names = context.state, (attempt.mapping, attempt.destination)
    emptied = []
    for directory in sorted(directories, key=lambda path: (-path.count("/"), path)):
        inside = state.ledger.has_under(*names, directory)
        if not inside and not state.attempts.in_flight_directories(*names, directory):
            emptied.append(directory)
    rows = [(path, EMPTY, "", attempt.number) for path in emptied]
    state.ledger.record(*names, rows, context.clock.time())
    return tuple(emptied)
