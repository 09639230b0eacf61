"""Verifications that somebody asked for: which are wanted, how far they are, what they found."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from agent.reconcile.drift import Look

Document = dict[str, Any]

KEPT = 20
"""So many requests are remembered; older ones are forgotten with their results."""


@dataclass(slots=True)
class Wanted:
    """One delivery of a request."""

    mapping: str
    destination: str
    checksum: bool
    state: Literal["waiting", "looking", "done", "failed"] = "waiting"
    error: str = ""
    look: Look | None = None
    found: Document = field(default_factory=dict)

    def document(self) -> Document:
        progress = {}
        if self.look is not None:
            tally = self.look.tally
            progress = {"seen": self.look.listing.seen, "checked": tally.checked, "verified": tally.verified}
        return {
            "mapping": self.mapping,
            "destination": self.destination,
            "state": self.state,
            "error": self.error,
            "progress": progress,
            "found": self.found,
        }


@dataclass(slots=True)
class Verifications:
    """Thread-safe."""

    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    _requests: dict[str, list[Wanted]] = field(default_factory=dict)
    _open: dict[tuple[str, str], list[Wanted]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, deliveries: Iterable[tuple[str, str]], checksum: bool) -> str:
        """Returns the request's id."""
        with self._lock:
            number = str(next(self._numbers))
            self._requests[number] = [Wanted(*names, checksum) for names in deliveries]
            for wanted in self._requests[number]:
                self._open.setdefault((wanted.mapping, wanted.destination), []).append(wanted)
            for old in list(self._requests)[:-KEPT]:
                del self._requests[old]
        return number

    def document(self, request: str) -> Document | None:
        """None: never asked, or forgotten."""
        with self._lock:
            found = self._requests.get(request)
            if found is None:
                return None
            over = all(wanted.state in ("done", "failed") for wanted in found)
            return {"request": request, "over": over, "deliveries": [wanted.document() for wanted in found]}

    def wanted(self, mapping: str, destination: str) -> Wanted | None:
        """The oldest that has not begun."""
        with self._lock:
            return next(self._of(mapping, destination, "waiting"), None)

    def begun(self, mapping: str, destination: str, look: Look) -> None:
        with self._lock:
            for running in self._of(mapping, destination, "looking"):  # overtaken: it gets this one's result
                running.look = look
            first = next(self._of(mapping, destination, "waiting"), None)
            if first is not None:
                first.state, first.look = "looking", look

    def done(self, mapping: str, destination: str, found: Document) -> None:
        with self._lock:
            for wanted in self._of(mapping, destination, "looking"):
                wanted.state, wanted.look, wanted.found = "done", None, found
            self._tidy(mapping, destination)

    def failed(self, mapping: str, destination: str, error: str) -> None:
        with self._lock:
            for wanted in self._of(mapping, destination, "looking"):
                wanted.state, wanted.look, wanted.error = "failed", None, error
            self._tidy(mapping, destination)

    def refuse(self, mapping: str, destination: str, why: str) -> None:
        """It cannot be looked at now."""
        with self._lock:
            for wanted in self._open.pop((mapping, destination), ()):
                wanted.state, wanted.look, wanted.error = "failed", None, why

    def _of(self, mapping: str, destination: str, state: str) -> Iterator[Wanted]:
        return (w for w in self._open.get((mapping, destination), ()) if w.state == state)

    def _tidy(self, mapping: str, destination: str) -> None:
        left = [w for w in self._open.pop((mapping, destination), ()) if w.state == "waiting"]
        if left:
            self._open[mapping, destination] = left
