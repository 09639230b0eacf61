"""A limit that several share: a tree of shares, each of which may have a limit for all that is below it.

The leaves ask for bytes. As long as there is enough for all, whoever asks is served. When a limit is short,
those below it take turns by bytes (start-time fair queueing): the one that has had least goes next, and one
that was absent comes back without credit. Nothing is set aside for a share that asks for nothing or that a
limit of its own holds back, so whatever a limit lets through is used. A share may be assured a rate: until
it has that, it goes before all others.

Not thread-safe. `now` is in seconds of any monotonic clock; rates are kbit/s.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from agent.lanes.buckets import TokenBucket

LEAD_CHUNKS = 4
"""How far an assured share may run ahead of its turn; else it would wait as long once it has no assurance."""

LEAST_WAIT = 0.0005
NEARLY = 0.75
"""Of the time until a bucket is full: then those who wait look whether the one ahead has come, so that who
wakes up late wastes nothing."""
ROUNDING = 1e-9
"""Seconds by which a bucket counts as full early. What is full is given to anybody who asks: time would only
waste it."""

_numbers = itertools.count()


class Wait(NamedTuple):
    """Nothing may be taken now; ask again at `until`, or after a change."""

    until: float


class Share:
    """The root of a tree (without parent), a branch, or a leaf."""

    __slots__ = (
        *("_assured", "_bucket", "_clock", "_number", "_parent", "_preferred", "_virtual", "_wanting"),
        "short",
    )

    def __init__(self, parent: Share | None = None) -> None:
        self._parent = parent
        self._bucket: TokenBucket | None = None
        self._assured: TokenBucket | None = None
        self._clock = 0.0  # bytes; where this one stands among its siblings
        self._virtual = 0.0  # of those below: where the one served last stood before it was served
        self._wanting: dict[Share, None] = {}  # those below that wait for their turn, or have some below
        self._number = next(_numbers)
        self._preferred: list[Share] = []  # on the way up: those whose assurance served the last take
        self.short = False
        """Its limit made somebody wait. For an observer to see and to clear."""

    def limit(self, rate: float | None, now: float) -> None:
        """For all that is below; acts at once, but those that wait hear of it only when they ask again.
        None = no limit. ValueError for a rate that is not positive."""
        self._bucket = _adjusted(self._bucket, rate, now)

    def assure(self, rate: float | None, now: float) -> None:
        """Let this share go before its siblings until it has `rate`. None = no assurance."""
        self._assured = _adjusted(self._assured, rate, now)

    def take(self, nbytes: int, now: float) -> int | Wait:
        """Take up to `nbytes` (at least one). What is refused waits for its turn: ask again, or `leave`."""
        self._want()
        granted, ready, turns, full = float(nbytes), now, 0.0, 0.0
        path = self._path()
        above: list[TokenBucket] = []
        for share, below in zip(reversed(path), [*reversed(path[:-1]), None], strict=True):
            bucket = share._bucket
            if bucket is not None:
                bucket.refill(now)
                above.append(bucket)
                granted = min(granted, bucket.tokens, bucket.chunk)
                full = max(full, (bucket.capacity - bucket.tokens) / bucket.rate - ROUNDING)
                if bucket.tokens < min(bucket.quantum, nbytes):
                    share.short = True
                    ready = max(ready, bucket.ready_at())
            if below is not None and full > 0:
                turns += _turns(above, below._ahead(now), granted)
        if ready > now or turns:
            return Wait(self._turn(path, ready, turns, full, now))
        taken = int(granted)
        self._account(path, taken, now)
        self.leave()
        return taken

    def correct(self, nbytes: int, now: float) -> None:
        """More (or, negative, less) was used than was taken last; what is too much is paid back over time."""
        for share in self._path():
            share._charge(nbytes, now, preferred=share in self._preferred)
            share._clock += nbytes

    def leave(self) -> None:
        """Nothing is wanted any more. Idempotent."""
        share = self
        while (parent := share._parent) is not None:
            parent._wanting.pop(share, None)
            if parent._wanting:
                return
            share = parent

    # --- inside -------------------------------------------------------------------------------------

    def _path(self) -> list[Share]:
        """From here to the root."""
        path = [self]
        while (parent := path[-1]._parent) is not None:
            path.append(parent)
        return path

    def _want(self) -> None:
        share = self
        while (parent := share._parent) is not None and share not in parent._wanting:
            share._clock = max(share._clock, parent._virtual)
            parent._wanting[share] = None
            share = parent

    def _ahead(self, now: float) -> int:
        """How many siblings go first."""
        mine = self._rank(now)
        siblings = () if self._parent is None else self._parent._wanting
        return sum(other._rank(now) < mine and other._able(now) for other in siblings if other is not self)

    def _rank(self, now: float) -> tuple[bool, float, int]:
        assured = self._assured
        if assured is None:
            return True, self._clock, self._number
        assured.refill(now)
        return assured.tokens < assured.quantum, self._clock, self._number

    def _able(self, now: float) -> bool:
        """Whether nothing of its own holds it back."""
        bucket = self._bucket
        if bucket is not None:
            bucket.refill(now)
            if bucket.tokens < bucket.quantum:
                return False
        return not self._wanting or any(share._able(now) for share in self._wanting)

    @staticmethod
    def _turn(path: list[Share], ready: float, turns: float, full: float, now: float) -> float:
        """When to ask again: after those ahead (`turns` seconds, if they take all they can), but early enough
        to take what they leave unused, and as soon as an assurance says so."""
        if ready > now:
            until = max(ready, now + min(ready - now + turns, max(full * NEARLY, turns / 2)))
        else:  # those ahead are due
            until = now + min(turns, full * NEARLY)
        for share in path:
            if share._assured is not None and share._assured.tokens < share._assured.quantum:
                until = min(until, max(ready, share._assured.ready_at()))
        return max(until, now + LEAST_WAIT)

    def _account(self, path: list[Share], nbytes: int, now: float) -> None:
        lead = LEAD_CHUNKS * max(nbytes, *(share._bucket.chunk for share in path if share._bucket), 0.0)
        self._preferred = [share for share in path if not share._rank(now)[0]]
        for share in path:
            share._charge(nbytes, now, preferred=share in self._preferred)
            parent = share._parent
            if parent is not None:
                parent._virtual = max(parent._virtual, min(other._clock for other in parent._wanting))
                share._clock = min(share._clock + nbytes, parent._virtual + lead)

    def _charge(self, nbytes: int, now: float, *, preferred: bool) -> None:
        """What came by turn uses up an assurance, too, but leaves no debt with it."""
        bucket, assured = self._bucket, self._assured
        if bucket is not None:
            bucket.refill(now)
            bucket.tokens = min(bucket.capacity, bucket.tokens - nbytes)
        if assured is not None:
            assured.refill(now)
            left = assured.tokens - nbytes
            if preferred:
                assured.tokens = min(assured.capacity, left)
            elif nbytes > 0:
                assured.tokens = max(min(assured.tokens, 0.0), left)


def _adjusted(bucket: TokenBucket | None, rate: float | None, now: float) -> TokenBucket | None:
    if rate is None:
        return None
    if bucket is None:
        return TokenBucket(rate, now)
    bucket.set_rate(rate, now)
    return bucket


def _turns(buckets: list[TokenBucket], ahead: int, nbytes: float) -> float:
    """Seconds that so many who go first take; 0 when there is enough for them as well."""
    return max(
        (ahead * b.quantum / b.rate for b in buckets if b.tokens < nbytes + ahead * b.chunk), default=0.0
    )
