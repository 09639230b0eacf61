"""What the status page shows, told as changes since the last look.

However many look, the status document is made at most once a second, and while nobody looks never. A look
names the point up to which it knows everything (`next` of the answer before); the answer holds the objects
that changed since, so that a thousand mappings that stand still cost a page nothing.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from agent.api.traffic import Traffic

EVERY = 1.0
PACE = 10.0
"""Seconds for which a document serves, at least; and so many times as long as making it took."""
EVENTS = 200
"""Most events of one answer."""
FORGOTTEN = 1000
"""Objects that went, and are remembered as such; who asks for more gets everything anew."""
HEAD = ("inSync", "state", "message", "revision", "source", "agent", "time", "invalid", "lastDelivered")

Document = dict[str, Any]


class Watched(Protocol):
    """What of the service the page needs."""

    def status(self) -> Document: ...
    def events(self, after: int | None, limit: int, name: str = "", since: float = 0.0) -> Document: ...


class _Object(NamedTuple):
    document: Document
    text: str
    version: int  # at which it last changed


class _Point(NamedTuple):
    """Up to where somebody knows everything."""

    version: int = 0
    traffic: float = 0.0
    event: int = -1  # none so far


class Live:
    """Thread-safe."""

    def __init__(
        self, service: Watched, traffic: Traffic, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._service = service
        self._traffic = traffic
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._launch = secrets.token_hex(6)
        self._serves_until = -1.0
        self._version = 1
        self._head = ""
        self._objects: dict[str, _Object] = {}
        self._gone: deque[tuple[int, str]] = deque(maxlen=FORGOTTEN)

    def look(self, since: str = "") -> bytes:
        """JSON: `full` (the answer is everything there is), `head`, `objects[]` that changed, `gone[]`,
        `traffic`, `events[]`, and `next`. LaneSyncError when the state cannot be read."""
        self._traffic.looked()
        point = self._parse(since)
        with self._lock:
            self._refresh()
            full = point.version == 0 or self._too_old(point.version)
            version, head = self._version, self._head
            after = 0 if full else point.version
            changed = [each.text for each in self._objects.values() if each.version > after]
            gone = [] if full else [name for at, name in self._gone if at > after]
        traffic = self._traffic.since(point.traffic)
        newest = max((p[0] for t in traffic.values() for p in t["points"]), default=point.traffic)
        events = self._service.events(None if point.event < 0 else point.event, EVENTS)
        following = f"{self._launch}:{version}:{newest}:{events['next']}"
        return (
            f'{{"full":{_json(full)},"next":{_json(following)},"head":{head},"objects":[{",".join(changed)}],'
            f'"gone":{_json(gone)},"traffic":{_json(traffic)},"events":{_json(events["events"])}}}'
        ).encode("ascii")

    def _parse(self, since: str) -> _Point:
        """The beginning, for whoever comes from another life of the agent or makes something up."""
        launch, *parts = since.split(":")
        try:
            version, traffic, event = parts
            found = _Point(int(version), float(traffic), int(event))
        except ValueError:
            return _Point()
        known = launch == self._launch and 0 < found.version <= self._version
        return found if known and 0 <= found.event < 1 << 62 else _Point()

    def _too_old(self, version: int) -> bool:
        return len(self._gone) == FORGOTTEN and self._gone[0][0] > version

    def _refresh(self) -> None:
        begun = self._monotonic()
        if begun < self._serves_until:
            return
        document = self._service.status()
        self._head = _json({name: document[name] for name in HEAD})
        self._take({f"{each['kind']}/{each['name']}": each for each in document["objects"]})
        ended = self._monotonic()
        self._serves_until = max(begun + EVERY, ended + PACE * (ended - begun))

    def _take(self, found: dict[str, Document]) -> None:
        changed = {
            name: each
            for name, each in found.items()
            if name not in self._objects or self._objects[name].document != each
        }
        lost = [name for name in self._objects if name not in found]
        if changed or lost:
            self._version += 1
        for name, each in changed.items():
            self._objects[name] = _Object(each, _json(each), self._version)
        for name in lost:
            del self._objects[name]
            self._gone.append((self._version, name))


def _json(value: Any) -> str:
    """In ASCII, so that names which are not UTF-8 survive."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))
