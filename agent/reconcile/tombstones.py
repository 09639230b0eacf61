"""Tombstones of one delivery: set when a path is found gone, dropped when it is there again."""

from __future__ import annotations

from collections.abc import Iterable

from agent.model.change import ChangeSet
from agent.model.paths import destination_prefixes, join
from agent.model.spec import MappingSpec
from agent.planning.safety import ancestors, suppressed
from agent.reconcile.context import Context
from agent.reconcile.queue import Hints


def gone_since(
    context: Context,
    spec: MappingSpec,
    destination: str,
    changes: ChangeSet,
    looked: Hints,
    *,
    keep: bool = True,
) -> dict[str, float]:
    """Since when each deletion of this change set has been one (Unix seconds); with `keep` it is remembered.

    `looked` says what a partial change set is about. A tombstone that is lost, or lies in the future because
    the clock was set back, starts again.
    """
    store, names = context.state.tombstones, (spec.name, destination)
    if not spec.prune or spec.deletions.grace <= 0:
        if keep and not changes.partial:
            store.clear(*names)
        return {}
    now = context.clock.time()
    known = store.all(*names)
    gone = {d.path for d in changes.deletions if not suppressed(d.path, changes.suspects)}
    fresh = [path for path in gone if known.get(path, now + 1) > now]
    if keep:
        about = known if not changes.partial else _about(spec, looked, known)
        store.drop(*names, [path for path in about if path not in gone])
        store.set(*names, fresh, now)
    return {**{path: known[path] for path in gone if path in known}, **dict.fromkeys(fresh, now)}


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
