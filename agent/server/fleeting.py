"""Results of requests that are large and soon out of date: kept in memory for a moment, handed out once."""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import Any

KEEP_SECONDS = 300.0
MAX_BYTES = 64 << 20


class Fleeting:
    """Event loop only. `now` is monotonic seconds."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[int, tuple[bytes, float]] = OrderedDict()  # the oldest first
        self._bytes = 0

    def put(self, request_id: int, result: object, now: float) -> None:
        """The oldest make room, whether anybody has fetched them or not: they are asked for again."""
        text = json.dumps(result, separators=(",", ":")).encode("ascii")
        self._kept[request_id] = text, now + KEEP_SECONDS
        self._bytes += len(text)
        while self._bytes > self._max_bytes and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))

    def take(self, request_id: int) -> Any:
        """KeyError when it is not kept any more."""
        return json.loads(self._drop(request_id))

    def expire(self, now: float) -> None:
        while self._kept and next(iter(self._kept.values()))[1] < now:
            self._drop(next(iter(self._kept)))

    def _drop(self, request_id: int) -> bytes:
        text, _ = self._kept.pop(request_id)
        self._bytes -= len(text)
        return text
