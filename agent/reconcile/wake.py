"""Which objects a new revision is about: an edit of one object looks at that one and at what hangs on it."""

from __future__ import annotations

from collections import defaultdict

from agent.model.spec import DesiredState, Key, Kind
from agent.reconcile.context import Context
from agent.reconcile.revision import Difference


def wake(
    context: Context, before: DesiredState, after: DesiredState, found: Difference, *, everything: bool
) -> None:
    """Enqueue what the step from `before` to `after` touches, and what was not in sync: under a new revision
    its trying begins anew. Of the rest the status is true for the new revision as it is. `everything` where
    more than the specs has changed."""
    touched = _touched(before, after, {*found.added, *found.changed, *found.removed})
    settled = []
    for key in (*after.all_keys(), *found.removed):
        status = context.board.get(key)
        if everything or key in touched or status is None or not status.ready:
            context.queue.add(key, urgent=key in found.changed)
        elif status.revision == before.revision:
            settled.append(key)
        else:
            context.queue.add(key)  # it has not been looked at under that revision yet
    context.board.restamp(settled, after.revision)


def _touched(before: DesiredState, after: DesiredState, changed: set[Key]) -> set[Key]:
    """With all that refers to them, directly or not, in either version."""
    above: dict[Key, set[Key]] = defaultdict(set)
    for state in (before, after) if changed else ():
        for name, destination in state.destinations.items():
            needed = [Key(Kind.SERVER, destination.server), Key(Kind.PRIORITY_LANES, destination.lanes or "")]
            if destination.control_server is not None:
                needed.append(Key(Kind.SERVER, destination.control_server))
            for key in needed:
                above[key].add(Key(Kind.DESTINATION, name))
        for name, mapping in state.mappings.items():
            for other in mapping.destinations:
                above[Key(Kind.DESTINATION, other)].add(Key(Kind.MAPPING, name))
            for other in mapping.depends_on:
                above[Key(Kind.MAPPING, other)].add(Key(Kind.MAPPING, name))
        for name, share in state.shares.items():
            above[Key(Kind.MAPPING, share.mapping)].add(Key(Kind.SHARE, name))
    pending, touched = list(changed), set(changed)
    while pending:
        for key in above.get(pending.pop(), ()):
            if key not in touched:
                touched.add(key)
                pending.append(key)
    return touched
