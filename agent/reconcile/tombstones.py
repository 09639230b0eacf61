"""Tombstones of one delivery: set when a path is found gone, dropped when it is there again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from agent.model.change import ChangeSet
from agent.model.known import Known
from agent.model.paths import destination_prefixes, join
from agent.model.spec import MappingSpec
from agent.planning.renames import Candidate, may_rename, same_file
from agent.planning.safety import ancestors, suppressed
from agent.reconcile.context import Context
from agent.reconcile.queue import Hints
from agent.reconcile.renames import Budget


def gone_since(
    context: Context,
    spec: MappingSpec,
    destination: str,
    changes: ChangeSet,
    looked: Hints,
    now: float,
    *,
    keep: bool = True,
) -> dict[str, float]:
    """Since when each deletion of this change set has been one (Unix seconds); with `keep` it is remembered.

    `looked` says what a partial change set is about. Tombstones move with a clock that is set. One that is
    lost, or lies in the future because the clock was set back while no agent ran, starts again.
    """
    store, names = context.state.tombstones, (spec.name, destination)
    if not spec.prune or spec.deletions.grace <= 0:
        if keep and not changes.partial:
            store.clear(*names)
        return {}
    known = store.all(*names)
    gone = {d.path for d in changes.deletions if not suppressed(d.path, changes.suspects)}
    fresh = [path for path in gone if known.get(path, now + 1) > now]
    if keep:
        about = known if not changes.partial else _about(spec, looked, known)
        store.drop(*names, [path for path in about if path not in gone])
        store.set(*names, fresh, now)
    return {**{path: known[path] for path in gone if path in known}, **dict.fromkeys(fresh, now)}


def came_back(
    context: Context, spec: MappingSpec, destination: str, changes: ChangeSet, *, keep: bool = True
) -> ChangeSet:
    """Without the files that were gone for a while and are the ones that were delivered: like a renamed file
    they have another change time, which the ledger takes over."""
    names = (spec.name, destination)
    if spec.deletions.grace <= 0 or not may_rename(spec) or not changes.changes:
        return changes
    gone = context.state.tombstones.all(*names)
    candidates = {change.path: change for change in changes.changes if change.path in gone}
    budget, back = Budget(), []
    for path, change in candidates.items():
        stat = context.state.ledger.entry(*names, path)
        if stat is None or not same_file(change.stat, stat):
            continue
        digest = context.state.ledger.digest(*names, path)
        if budget.believes(Candidate(Known(path, stat, digest), change)):
            back.append((path, change.stat, digest, 0))
    if not back:
        return changes
    if keep:
        context.state.ledger.record(*names, back, context.clock.time())
    paths = {path for path, *_ in back}
    return replace(changes, changes=tuple(c for c in changes.changes if c.path not in paths))


def _about(spec: MappingSpec, looked: Hints, paths: Iterable[str]) -> list[str]:
    """Those of the paths that were looked at, themselves or with a directory above them."""
    if looked.whole:
        return list(paths)
    places = {
        join(prefix, relative)
        for entry, prefix in zip(spec.paths, destination_prefixes(spec), strict=True)
        for root, relative in looked.paths
        if root == entry.source
    }
    return [path for path in paths if path in places or any(above in places for above in ancestors(path))]


def next_look(spec: MappingSpec, due: float, now: float) -> float:
    """Seconds until deletions that wait are looked at again. Those that come due one after the other are
    taken together, a little late."""
    return max(due - now, min(60.0, spec.deletions.grace / 10))
