"""What the watcher's tests share: a consumer that collects, and timing for the impatient."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from agent.model.condition import Reason
from agent.model.spec import Trigger
from agent.source.root import Timing
from agent.source.watch import Dirty, Subscription, Watcher, WatchState

QUICK = Timing(check=0.05, identity=0.1, poll=0.2, degraded=0.5, rearm=0.0, canary=0.1, patience=0.5)
NEVER = 3600.0
LATER = Trigger(settle=NEVER)  # what is told at all was told at once


class Told:
    """Collects what the watcher tells; `until` polls with a deadline."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.dirty: list[Dirty] = []
        self.states: list[WatchState] = []

    def __call__(self, root: str, dirty: Dirty) -> None:
        with self.lock:
            self.dirty.append(dirty)
            self.lock.notify_all()

    def on_state(self, root: str, state: WatchState) -> None:
        with self.lock:
            self.states.append(state)
            self.lock.notify_all()

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> bool:
        with self.lock:
            return self.lock.wait_for(condition, seconds)

    @property
    def paths(self) -> set[str]:
        return {path for dirty in self.dirty for path in dirty.paths}

    @property
    def subtrees(self) -> set[str]:
        return {path for dirty in self.dirty for path in dirty.subtrees}

    @property
    def whole(self) -> int:
        return sum(dirty.whole for dirty in self.dirty)

    @property
    def reasons(self) -> list[Reason | None]:
        return [state.reason for state in self.states]


def watch(
    watcher: Watcher, root: Path, told: Told, trigger: Trigger = LATER, **options: object
) -> Subscription:
    return watcher.subscribe(str(root), told, trigger=trigger, **options)  # type: ignore[arg-type]
