"""How every object is doing, and the one plain answer: in sync, yes or no, and why not.

Reconciling writes an object's status once, at its end, here. Everything that people see reads from here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from agent.model.condition import Condition, ConditionType, Reason, merge
from agent.model.spec import DesiredState, Key, Kind


@dataclass(frozen=True, slots=True)
class ObjectStatus:
    key: Key
    conditions: tuple[Condition, ...]
    detail: dict[str, Any] = field(default_factory=dict)
    revision: str = ""  # the revision this status is about
    updated_at: float = 0.0
    last_success: float | None = None

    def condition(self, kind: ConditionType) -> Condition | None:
        for condition in self.conditions:  # of every object, whenever somebody asks how things are
            if condition.type is kind and condition.status:
                return condition
        return None

    @property
    def ready(self) -> bool:
        return self.condition(ConditionType.READY) is not None

    @property
    def suspended(self) -> bool:
        return self.condition(ConditionType.SUSPENDED) is not None

    @property
    def stalled(self) -> Condition | None:
        return self.condition(ConditionType.STALLED)

    @property
    def plain(self) -> bool:
        """In sync, and nothing more to say: `overall` is the same with it and without it."""
        true = [condition.type for condition in self.conditions if condition.status]
        return true == [ConditionType.READY]

    def why_not_ready(self) -> Condition | None:
        return self.stalled or next((c for c in self.conditions if c.type is ConditionType.READY), None)


class State(StrEnum):
    IN_SYNC = "inSync"
    CONVERGING = "converging"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Overall:
    state: State
    message: str


def overall(
    statuses: Iterable[ObjectStatus], problems: tuple[str, ...] = (), unseen: Key | None = None
) -> Overall:
    """The plain answer. `problems` are what stands in the way beside the objects: invalid specs, a held
    revision. `unseen` has not been looked at. A suspended object is not asked to be in sync."""
    found = _overall(list(statuses), problems)
    if unseen is not None and found.state is not State.CONVERGING:
        return Overall(State.CONVERGING, f"{unseen} has not been looked at yet")
    return found


def _overall(statuses: list[ObjectStatus], problems: tuple[str, ...]) -> Overall:
    waiting = [s for s in statuses if not s.ready and not s.suspended]
    stalled = [s for s in waiting if s.stalled is not None]
    # A mapping that waits for a stalled destination is blocked by it, not on its way.
    moving = [s for s in waiting if s.stalled is None and not _waits_for_other(s)]
    if moving:
        return Overall(State.CONVERGING, _first_reason(stalled or moving, len(waiting)))
    if problems:
        return Overall(State.BLOCKED, problems[0])
    if stalled:
        return Overall(State.BLOCKED, _first_reason(stalled, len(waiting)))
    if waiting:
        # Nothing moves and nothing is stalled: what they wait for is suspended, or is a sentinel, and only
        # somebody else ends that.
        by_others = any(s.suspended for s in statuses) or any(map(_awaits_sentinel, waiting))
        state = State.BLOCKED if by_others else State.CONVERGING
        return Overall(state, _first_reason(waiting, len(waiting)))
    return Overall(State.IN_SYNC, _in_sync_text(statuses))


def _in_sync_text(statuses: list[ObjectStatus]) -> str:
    """What was delivered is as it should be, as far as we are asked to see to it."""
    drifted = [(s, c) for s in statuses if (c := s.condition(ConditionType.DRIFTED)) is not None]
    if not drifted:
        return "everything is in sync"
    status, condition = min(drifted, key=lambda pair: pair[0].key)
    more = f" (and {len(drifted) - 1} more)" if len(drifted) > 1 else ""
    return f"everything is delivered, but {status.key}: {condition.message}{more}"


def _waits_for_other(status: ObjectStatus) -> bool:
    return _reason(status) in (Reason.DEPENDENCY_NOT_READY, Reason.AWAITING_SENTINEL)


def _awaits_sentinel(status: ObjectStatus) -> bool:
    return _reason(status) is Reason.AWAITING_SENTINEL


def _reason(status: ObjectStatus) -> Reason | None:
    condition = status.why_not_ready()
    return None if condition is None else condition.reason


def _first_reason(statuses: list[ObjectStatus], count: int) -> str:
    # What others depend on comes first: its trouble is the cause of theirs.
    order = {kind: number for number, kind in enumerate(Kind)}
    status = min(statuses, key=lambda s: (order[s.key.kind], s.key.name))
    condition = status.why_not_ready()
    text = f"{status.key}: {condition.message or condition.reason}" if condition else str(status.key)
    return text if count == 1 else f"{text} (and {count - 1} more)"


class Board:
    """Thread-safe; `changed` is told after every write (from the writer's thread)."""

    def __init__(self, changed: Callable[[ObjectStatus], None] = lambda _status: None) -> None:
        self._lock = threading.Condition()
        self._statuses: dict[Key, ObjectStatus] = {}
        self._notable: dict[Key, ObjectStatus] = {}  # those that are not plain
        self._order: list[Key] | None = None  # of the keys, sorted; None = to be sorted again
        self._changed = changed
        self._version = 0
        self._complete: DesiredState | None = None  # each of its objects has been looked at

    def write(self, status: ObjectStatus) -> tuple[ObjectStatus | None, ObjectStatus]:
        """Replace an object's status; conditions keep their `since` where they did not change.
        Returns what it was before, and what it is now."""
        with self._lock:
            before = self._statuses.get(status.key)
            old = before.conditions if before else ()
            success = status.last_success or (before.last_success if before else None)
            now = ObjectStatus(
                status.key,
                merge(old, status.conditions),
                status.detail,
                status.revision,
                status.updated_at,
                success,
            )
            if before is None:
                self._order = None
            if self._complete is not None and now.revision != self._complete.revision:
                self._complete = None
            self._put(now)
            self._version += 1
            self._lock.notify_all()
        self._changed(now)
        return before, now

    def restamp(self, keys: Iterable[Key], revision: str) -> None:
        """What is said of these objects is as true of another revision, which leaves them as they are."""
        with self._lock:
            for key in keys:
                found = self._statuses.get(key)
                if found is not None:
                    self._put(replace(found, revision=revision))
            self._version += 1
            self._lock.notify_all()

    def _put(self, status: ObjectStatus) -> None:
        """Under the lock."""
        self._statuses[status.key] = status
        if status.plain:
            self._notable.pop(status.key, None)
        else:
            self._notable[status.key] = status

    def remove(self, key: Key) -> None:
        with self._lock:
            self._statuses.pop(key, None)
            self._notable.pop(key, None)
            self._order = self._complete = None
            self._version += 1
            self._lock.notify_all()

    def get(self, key: Key) -> ObjectStatus | None:
        with self._lock:
            return self._statuses.get(key)

    def all(self) -> list[ObjectStatus]:
        with self._lock:
            if self._order is None:
                self._order = sorted(self._statuses)
            return [self._statuses[key] for key in self._order]

    def notable(self, others: Iterable[Key] = ()) -> list[ObjectStatus]:
        """All that are not plain, and these: what the answer to "in sync?" depends on. Of many objects they
        are few."""
        with self._lock:
            wanted = {*self._notable, *others}
            return [self._statuses[key] for key in sorted(wanted) if key in self._statuses]

    def first_unseen(self, desired: DesiredState, removing: Iterable[Key] = ()) -> Key | None:
        """The first object of which nothing is said yet under this revision. One that is to be removed is
        never in sync again once that was begun."""
        with self._lock:
            known = self._statuses
            for kind in Kind if self._complete is not desired else ():
                seen = {name for name in desired.of_kind(kind) if self._is_seen(Key(kind, name), desired)}
                if lacking := desired.of_kind(kind).keys() - seen:
                    return Key(kind, min(lacking))
            self._complete = desired
            return next((key for key in removing if key not in known or known[key].ready), None)

    def _is_seen(self, key: Key, desired: DesiredState) -> bool:
        """Under the lock."""
        found = self._statuses.get(key)
        return found is not None and found.revision == desired.revision

    def wait_change(self, version: int, timeout: float) -> int:
        """Block until something changed since `version`, or the time is over; returns the version now."""
        with self._lock:
            self._lock.wait_for(lambda: self._version != version, timeout)
            return self._version
