"""What an overwrite mode left at a destination as it was: known, so that it is not sent again and again, but
not ours, so that it is never deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agent.model.change import ChangeSet, FileStat
from agent.model.known import Origin
from agent.model.observed import FileOutcome, FileResult
from agent.model.plan import ForgetPaths, Plan
from agent.model.spec import MappingSpec
from agent.planning.safety import suppressed
from agent.reconcile.context import Context
from agent.state.attempts import Attempt, Planned


def record(
    context: Context, attempt: Attempt, planned: Mapping[str, Planned], results: Mapping[str, FileResult]
) -> None:
    """Into the ledger: what was delivered, and apart from it what was left as it was. A file that was ours
    before stays ours when a later version of it is skipped."""
    names, ledger = (attempt.mapping, attempt.destination), context.state.ledger
    skipped = [path for path in planned if results[path].outcome is FileOutcome.SKIPPED]
    ours = ledger.known(*names, skipped) - ledger.kept(*names, skipped) if skipped else set()
    kept = {path for path in skipped if path not in ours}
    rows = [
        (path, as_read(stat, results[path]), results[path].digest, attempt.number)
        for path, (stat, _source) in planned.items()
        if stat is not None
    ]
    now = context.clock.time()
    ledger.record(*names, [row for row in rows if row[0] not in kept], now)
    if kept:
        ledger.record(*names, [row for row in rows if row[0] in kept], now, Origin.KEPT)


def as_read(planned: FileStat, result: FileResult) -> FileStat:
    """The version that the sender read, which may be newer than the one that was planned."""
    if result.mtime_ns == 0 and result.ctime_ns == 0:
        return planned
    return planned._replace(size=result.size, mtime_ns=result.mtime_ns, ctime_ns=result.ctime_ns)


def without_kept(
    context: Context, spec: MappingSpec, destination: str, changes: ChangeSet
) -> tuple[ChangeSet, Plan]:
    """The change set without deletions of what is not ours, which is only forgotten."""
    if not (changes.deletions and spec.prune):
        return changes, Plan()
    paths = (deletion.path for deletion in changes.deletions)
    kept = context.state.ledger.kept(spec.name, destination, paths)
    forgotten = tuple(sorted(path for path in kept if not suppressed(path, changes.suspects)))
    if not kept:
        return changes, Plan()
    ours = tuple(deletion for deletion in changes.deletions if deletion.path not in kept)
    actions = (ForgetPaths(spec.name, destination, forgotten),) if forgotten else ()
    return replace(changes, deletions=ours), Plan(actions)
