"""When a request is sent again, and how long to wait before that."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from agent.fts3.errors import BadEndpoint, FTS3ClientException, Kind, NoAnswer

T = TypeVar("T")

# Statuses that say "not now". 500 is none of them: this service answers it to bad input, too.
_PASSING = frozenset({None, 408, 425, 429, 502, 503, 504})
_MAX_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class Retries:
    """attempts: how often a request is sent at most. interval, max_interval: seconds between them.

    budget: seconds since the first, after which no further one begins.
    """

    attempts: int = 4
    interval: float = 0.5
    max_interval: float = 10.0
    budget: float = 60.0


@dataclass(frozen=True, slots=True)
class Runtime:
    """Time and chance, so that a test can give its own."""

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    draw: Callable[[], float] = random.random


def pause(failures: int, policy: Retries, draw: float, retry_after: float | None = None) -> float:
    """Seconds to wait after the `failures`-th failure in a row (1 = the first).

    Exponential with full jitter: anything from 0 to interval * 2^(failures-1), never more than
    `max_interval`. `draw` in [0, 1) is the caller's random number. A server's own wish is a lower bound,
    itself held to `max_interval`.
    """
    doublings = min(max(failures - 1, 0), _MAX_DOUBLINGS)
    ceiling = min(policy.max_interval, policy.interval * 2.0**doublings)
    wished = min(max(retry_after or 0.0, 0.0), policy.max_interval)
    return max(wished, ceiling * draw)


def worth_repeating(error: FTS3ClientException, *, safe: bool) -> bool:
    """Whether to send the request again. safe: doing it twice is the same as doing it once.

    What never reached the server may be repeated whatever it is.
    """
    if error.kind is not Kind.RETRYABLE or error.status not in _PASSING:
        return False
    return safe or _never_left(error)


def _never_left(error: FTS3ClientException) -> bool:
    return isinstance(error, BadEndpoint) and not isinstance(error, NoAnswer)


def with_retries(once: Callable[[], T], *, safe: bool, policy: Retries, runtime: Runtime) -> T:
    """The result of `once()`, called again after failures that `worth_repeating` allows."""
    failures, may_have_happened, started = 0, False, runtime.monotonic()
    while True:
        try:
            return once()
        except FTS3ClientException as error:
            failures += 1
            error.sent_before = may_have_happened
            may_have_happened = may_have_happened or not _never_left(error)
            if failures >= policy.attempts or not worth_repeating(error, safe=safe):
                raise
            wait = pause(failures, policy, runtime.draw(), error.retry_after)
            if runtime.monotonic() - started + wait > policy.budget:
                raise
        runtime.sleep(wait)
