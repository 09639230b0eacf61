"""Faults on demand: rules for requests and for files, each counted down; and pausing."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any

HTML_ERROR = (
    '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n<html><head><title>Error</title></head>'
    "<body><h1>Internal Server Error</h1></body></html>\n"
)
REQUEST_ACTIONS = ("delay", "status", "drop_request", "drop_answer", "slow_body", "cut_body", "replace_body")
FILE_ACTIONS = ("fail", "stall", "slow", "corrupt")


@dataclass
class Rule:
    """One fault. Request rules match `method` and `path`, file rules `source` and `destination`, as globs.

    The first `skip` matches are let pass, then it acts `times` times (-1: for ever).
    """

    action: str
    method: str = "*"
    path: str = "*"
    source: str = "*"
    destination: str = "*"
    times: int = 1
    skip: int = 0
    seconds: float = 0.0
    status: int = 500
    body: str = HTML_ERROR
    content_type: str = "text/html; charset=iso-8859-1"
    rate: float = 0.0
    bytes: int = 0
    reason: str = ""
    recoverable: bool | None = None

    def take(self) -> bool:
        """Count one match; True when the rule acts on it."""
        if self.skip:
            self.skip -= 1
            return False
        if self.times > 0:
            self.times -= 1
        return True


class Faults:
    """The rules in force. Threads of requests and of copies ask it; the admin port changes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []
        self._running = threading.Event()
        self._running.set()

    def add(self, values: dict[str, Any]) -> None:
        """Put a rule in force; ValueError names what is wrong with it."""
        unknown = set(values) - {f.name for f in fields(Rule)}
        if unknown or values.get("action") not in REQUEST_ACTIONS + FILE_ACTIONS:
            raise ValueError(f"no such fault: {sorted(unknown) or values.get('action')}")
        with self._lock:
            self._rules.append(Rule(**values))

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def listing(self) -> list[dict[str, Any]]:
        with self._lock:
            return [asdict(rule) for rule in self._rules]

    def for_request(self, method: str, path: str) -> Rule | None:
        return self._first(
            REQUEST_ACTIONS, lambda r: fnmatchcase(method, r.method) and fnmatchcase(path, r.path)
        )

    def for_file(self, source: str, destination: str) -> Rule | None:
        return self._first(
            FILE_ACTIONS, lambda r: fnmatchcase(source, r.source) and fnmatchcase(destination, r.destination)
        )

    def _first(self, actions: tuple[str, ...], matches: Any) -> Rule | None:
        if not self._rules:
            return None
        with self._lock:
            for rule in self._rules:
                if rule.action in actions and rule.times and matches(rule) and rule.take():
                    return rule
        return None

    def pause(self, paused: bool) -> None:
        """While paused every request waits, as with a server that hangs."""
        if paused:
            self._running.clear()
        else:
            self._running.set()

    @property
    def paused(self) -> bool:
        return not self._running.is_set()

    def wait_while_paused(self) -> None:
        self._running.wait()
