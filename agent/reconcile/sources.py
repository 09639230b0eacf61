"""Watching: which source roots are watched for which mappings, and the specs themselves.

An event only enqueues a key with hints. The watch is armed before the survey that follows it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from agent.model.condition import Reason
from agent.model.spec import DesiredState, Key, Kind, MappingSpec, PathMapping, Symlinks, Trigger
from agent.reconcile.clockset import wall_time
from agent.reconcile.context import Context
from agent.reconcile.queue import WHOLE, Hints
from agent.source.filters import Filter
from agent.source.watch import Dirty, Subscription, Watcher, WatchState

log = structlog.get_logger(__name__)

SPEC_TRIGGER = Trigger(settle=0.05)
CLOCK_CHECK = 10.0


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What one subscription is for; equal ones need no new watch."""

    mapping: str
    entry: PathMapping
    symlinks: Symlinks
    trigger: Trigger


@dataclass(slots=True)
class Sources:
    context: Context
    reload: Callable[[], None]
    _watcher: Watcher = field(init=False)
    _followed: dict[_Wanted, Subscription] = field(default_factory=dict)
    _of_mapping: dict[str, list[tuple[str, Subscription]]] = field(default_factory=dict)  # with the root
    _of_root: dict[str, set[str]] = field(default_factory=dict)  # the mappings
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _specs_changed: threading.Event = field(default_factory=threading.Event)
    _stopping: bool = False
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        canary = os.path.join(self.context.state_dir, "watch")
        self._watcher = Watcher(on_state=self._state_changed, canary=canary)

    def watch_specs(self, paths: tuple[str, ...]) -> None:
        """Reload a moment after a spec file changed; from a thread of its own, so that no event waits."""
        for path in paths:
            directory = path if os.path.isdir(path) else os.path.dirname(path)
            include = ("*.yaml", "*.yml") if directory == path else (os.path.basename(path),)
            self._watcher.subscribe(
                directory,
                lambda _root, _dirty: self.reload_soon(),
                filter_=Filter(include, ()),
                trigger=SPEC_TRIGGER,
            )
        self._thread = threading.Thread(target=self._reload_on_change, name="specs", daemon=True)
        self._thread.start()

    def reload_soon(self) -> None:
        """Read the specs again, from another thread."""
        self._specs_changed.set()

    def _reload_on_change(self) -> None:
        while True:
            changed = self._specs_changed.wait(CLOCK_CHECK)
            if self._stopping:
                return
            wall_time(self.context)
            if not changed:
                continue
            self._specs_changed.clear()
            try:
                self.reload()
            except Exception:
                log.exception("reading the specs failed")

    def follow(self, desired: DesiredState) -> None:
        """Watch what the mappings of this revision want watched, and nothing else."""
        wanted = {
            _Wanted(name, entry, mapping.symlinks, mapping.trigger)
            for name, mapping in desired.mappings.items()
            if mapping.trigger.watch and not self.context.refusal(mapping)
            for entry in mapping.paths
        }
        with self._lock:
            for gone in [w for w in self._followed if w not in wanted]:
                self._watcher.unsubscribe(self._followed.pop(gone))
            for new in wanted - self._followed.keys():
                self._followed[new] = self._subscribe(new)
                self.context.queue.add(Key(Kind.MAPPING, new.mapping), hints=WHOLE)
            self._of_mapping, self._of_root = {}, {}
            for followed, subscription in self._followed.items():
                root = followed.entry.source
                self._of_mapping.setdefault(followed.mapping, []).append((root, subscription))
                self._of_root.setdefault(root, set()).add(followed.mapping)

    def _subscribe(self, wanted: _Wanted) -> Subscription:
        key = Key(Kind.MAPPING, wanted.mapping)
        return self._watcher.subscribe(
            wanted.entry.source,
            lambda root, dirty: self.context.queue.add(key, hints=_hints(root, dirty), urgent=True),
            filter_=self.context.filter_of(wanted.entry),
            symlinks=wanted.symlinks,
            trigger=wanted.trigger,
        )

    def _state_changed(self, root: str, state: WatchState) -> None:
        if state.reason is not None:
            log.warning("watch degraded", root=root, reason=str(state.reason), message=state.message)
        with self._lock:
            names = list(self._of_root.get(root, ()))
        for name in names:
            self.context.queue.add(Key(Kind.MAPPING, name))

    def degraded(self, spec: MappingSpec) -> list[tuple[Reason, str]]:
        """How badly the roots of a mapping are watched; empty when every change is told at once."""
        return [(s.reason, s.message) for s in self._states(spec).values() if s.reason is not None]

    def document(self, spec: MappingSpec) -> list[dict[str, Any]]:
        """How each source is watched, for the status document."""
        return [
            {"source": root, "directories": state.directories, "pollSeconds": state.poll}
            for root, state in self._states(spec).items()
        ]

    def _states(self, spec: MappingSpec) -> dict[str, WatchState]:
        roots = [entry.source for entry in spec.paths] if spec.trigger.watch else []
        return {root: self._watcher.state(root) for root in roots}

    def settling(self, mapping: str) -> int:
        """How many files of a mapping are still being written."""
        return sum(len(self._watcher.waiting(subscription)) for _, subscription in self._mine(mapping))

    def waiting(self, mapping: str) -> set[tuple[str, str]]:
        """(source root, path) of the files of a mapping that are still being written."""
        return {(root, path) for root, sub in self._mine(mapping) for path in self._watcher.waiting(sub)}

    def _mine(self, mapping: str) -> list[tuple[str, Subscription]]:
        with self._lock:
            return self._of_mapping.get(mapping, [])

    def overdue(self, mapping: str) -> tuple[str, ...]:
        """Source paths of a mapping that have kept changing for longer than its `maxWait`."""
        mine = self._mine(mapping)
        found = ((root, path) for root, sub in mine for path in self._watcher.overdue(sub))
        return tuple(sorted(os.path.join(root, path) if path else root for root, path in found))

    @property
    def threads(self) -> tuple[threading.Thread, ...]:
        own = () if self._thread is None else (self._thread,)
        return (*self._watcher.threads, *own)

    def stop(self) -> None:
        self._stopping = True
        self._specs_changed.set()
        self._watcher.stop()


def _hints(root: str, dirty: Dirty) -> Hints:
    if dirty.whole:
        return WHOLE
    return Hints(paths=frozenset((root, path) for path in (*dirty.paths, *dirty.subtrees)))
