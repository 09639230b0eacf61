"""Which alerts' pings are due. Reconciling an alert makes its ping due: so it proves that the loop moves."""

from __future__ import annotations

import threading


class Heartbeats:
    """Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: set[str] = set()
        self._errors: dict[str, str] = {}

    def beat(self, alert: str) -> None:
        with self._lock:
            self._due.add(alert)

    def take(self) -> set[str]:
        """Those that are due, once each."""
        with self._lock:
            found, self._due = self._due, set()
            return found

    def result(self, alert: str, error: str) -> bool:
        """How the last ping went, empty when well; True when that is news."""
        with self._lock:
            before = self._errors.pop(alert, "")
            if error:
                self._errors[alert] = error
            return before != error

    def error(self, alert: str) -> str:
        with self._lock:
            return self._errors.get(alert, "")
