"""Senders that wait for their receivers, by tokens that are good once and for a short time. Pure."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from agent.server.relay.protocol import RefusedError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[T]):
    receiver: Hashable
    until: float
    item: T


class Rendezvous(Generic[T]):
    """Tokens are kept as digests, so that looking one up tells nothing of others by its duration."""

    def __init__(self, limit: int, limit_each: int, seconds: float) -> None:
        self._limit = limit
        self._limit_each = limit_each
        self._seconds = seconds
        self._waiting: dict[bytes, _Waiting[T]] = {}
        self._each: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    def issue(self, receiver: Hashable, item: T, now: float) -> str:
        """A token for `item`. RefusedError when too many wait, in all or for this receiver."""
        for digest in [digest for digest, waiting in self._waiting.items() if waiting.until <= now]:
            self._drop(digest)
        if len(self._waiting) >= self._limit or self._each[receiver] >= self._limit_each:
            raise RefusedError("too many senders wait for their receivers; try again")
        token = secrets.token_hex(32)
        self._waiting[_digest(token)] = _Waiting(receiver, now + self._seconds, item)
        self._each[receiver] += 1
        return token

    def redeem(self, token: str, now: float) -> T | None:
        """What the token stands for, once and in time; else None."""
        waiting = self._drop(_digest(token))
        return waiting.item if waiting is not None and now < waiting.until else None

    def withdraw(self, token: str) -> None:
        self._drop(_digest(token))

    def _drop(self, digest: bytes) -> _Waiting[T] | None:
        waiting = self._waiting.pop(digest, None)
        if waiting is not None:
            self._each[waiting.receiver] -= 1
            if not self._each[waiting.receiver]:
                del self._each[waiting.receiver]
        return waiting


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
