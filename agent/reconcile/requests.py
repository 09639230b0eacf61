"""Requests of people: each has an id, and the objects it was for say when they acted on it.

A request is taken when a reconcile of its object begins, and handled when that has ended: what it asked for
was there before the reconcile looked. Requests live as long as the agent.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from agent.model.spec import Key

REMEMBERED = 1000
"""Requests whose fate is known; of older ones only the objects' own echo is left."""


@dataclass(slots=True)
class Requests:
    """Thread-safe."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: dict[Key, list[str]] = field(default_factory=dict)
    _open: dict[str, set[Key]] = field(default_factory=dict)  # what of a request is not handled yet
    _last: dict[Key, str] = field(default_factory=dict)

    def new(self, keys: Iterable[Key]) -> str:
        """To be called before the keys are enqueued."""
        name, keys = f"r-{secrets.token_hex(6)}", tuple(keys)
        with self._lock:
            self._open[name] = set(keys)
            for key in keys:
                self._waiting.setdefault(key, []).append(name)
            for oldest in list(self._open)[:-REMEMBERED]:
                del self._open[oldest]
        return name

    def take(self, key: Key) -> tuple[str, ...]:
        """What a reconcile that begins now acts on."""
        with self._lock:
            return tuple(self._waiting.pop(key, ()))

    def handled(self, key: Key, names: tuple[str, ...]) -> None:
        with self._lock:
            for name in names:
                self._last[key] = name
                self._open.get(name, set()).discard(key)

    def last(self, key: Key) -> str:
        """The newest request that this object has acted on; empty when there was none."""
        with self._lock:
            return self._last.get(key, "")

    def forget(self, key: Key) -> None:
        """The object is gone: nobody is to wait for it."""
        with self._lock:
            self._last.pop(key, None)
            for name in self._waiting.pop(key, ()):
                self._open.get(name, set()).discard(key)

    def open(self, name: str) -> tuple[Key, ...] | None:
        """What a request still waits for; None when it is not known (any more)."""
        with self._lock:
            keys = self._open.get(name)
            return None if keys is None else tuple(sorted(keys))
