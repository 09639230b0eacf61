"""A new set of specs meets the one in force: what is added, changed, removed, and what is held. Pure.

That an invalid object keeps its last good version is decided before, where specs are read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agent.model.spec import DesiredState, Key, Kind, Spec, key_of

HELD_FRACTION = 0.5
HELD_COUNT = 4
"""Losing more than half of at least so many objects at once is taken for an accident."""


@dataclass(frozen=True, slots=True)
class Difference:
    added: tuple[Key, ...] = ()
    changed: tuple[Key, ...] = ()
    removed: tuple[Key, ...] = ()


def state_of(specs: Iterable[Spec]) -> DesiredState:
    """Objects of whatever revisions."""
    state = DesiredState(revision="")
    for spec in specs:
        state.of_kind(key_of(spec).kind)[spec.name] = spec
    return state


def difference(before: DesiredState, after: DesiredState) -> Difference:
    return Difference(
        added=tuple(key for key in after.all_keys() if before.get(key) is None),
        changed=tuple(key for key in after.all_keys() if before.get(key) not in (None, after.get(key))),
        removed=tuple(key for key in before.all_keys() if after.get(key) is None),
    )


def held(before: DesiredState, after: DesiredState) -> str:
    """Why `after` must not take effect by itself: it lost all or most of its objects. Empty when it may."""
    counted = [key for key in before.all_keys() if key.kind in (Kind.MAPPING, Kind.DESTINATION)]
    lost = [key for key in counted if after.get(key) is None]
    total = len(counted)
    if not (0 < total == len(lost) or (total >= HELD_COUNT and len(lost) > total * HELD_FRACTION)):
        return ""
    what = "all" if len(lost) == total else f"{len(lost)} of {total}"
    return f"revision {after.revision} removes {what} objects; approve it with `lanesync approve revision`"
