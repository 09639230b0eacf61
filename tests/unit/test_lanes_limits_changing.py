"""The limits of a transfer, a destination, a connection and the server, together, while they change: on
virtual time, as a stream asks for them."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.lanes import Grant, LaneScheduler
from agent.lanes.borrowing import Side, allowances
from agent.lanes.buckets import BURST_SECONDS, CHUNK_SECONDS, MAX_CHUNK, MIN_CHUNK
from agent.lanes.shares import Wait
from agent.server.data.governor import Governor, Portion
from agent.server.data.pacing import Pace

laws = settings(deadline=None, max_examples=40)
SECONDS = 4.0
SPEED = 1e9  # bytes/s of the line
START = 40_000.0  # kbit/s of each limit
TRANSFER, DESTINATION, CONNECTION, SERVER = KINDS = ("transfer", "destination", "connection", "server")

Change = tuple[float, str, float]
"""(seconds, whose limit, kbit/s)."""

changes = st.lists(
    st.tuples(st.floats(0.01, SECONDS - 0.01), st.sampled_from(KINDS), st.floats(500, 400_000)), max_size=12
).map(sorted)


class Stream:
    """Sends one transfer that never ends, as fast as it may."""

    def __init__(self) -> None:
        self.scheduler = LaneScheduler([("Only", 1.0)], START)
        self.scheduler.add("flow", "Only", 1, 0, START, 0.0)
        self.governor = Governor()
        self.governor.limit(START, 0.0)
        self.portion = Portion(self.governor)
        self.portion.place(Pace("1", rate_max=START), 0.0)
        self.now = 0.0
        self.log: list[tuple[float, int]] = []

    def set(self, kind: str, rate: float) -> None:
        if kind == TRANSFER:
            self.scheduler.update("flow", self.now, rate=rate)
        elif kind == DESTINATION:
            self.scheduler.set_rate(rate, self.now)
        elif kind == CONNECTION:
            self.portion.place(Pace("1", rate_max=rate), self.now)
        else:
            self.governor.limit(rate, self.now)

    def run(self, until: float) -> None:
        while self.now < until:
            step = self.scheduler.next(self.now)
            if not isinstance(step, Grant):
                self.portion.leave()
                assert step.until is not None
                self.now = min(until, step.until)
                continue
            taken = self.portion.take(step.max_bytes, self.now)
            if isinstance(taken, Wait):
                self.now = min(until, taken.until)
                continue
            self.portion.used(taken, taken, self.now)
            self.scheduler.sent(step.flow, taken, self.now)
            self.log.append((self.now, taken))
            self.now += taken / SPEED


def played(found: list[Change]) -> Stream:
    stream = Stream()
    for at, kind, rate in found:
        stream.run(at)
        stream.set(kind, rate)
    stream.run(SECONDS)
    return stream


def rates_of(kind: str, found: list[Change]) -> list[tuple[float, float, float]]:
    """(from, to, kbit/s) of one limit."""
    points = [(0.0, START), *((at, rate) for at, whose, rate in found if whose == kind), (SECONDS + 2, 0.0)]
    return [(begin, end, rate) for (begin, rate), (end, _) in pairwise(points)]


def chunk(rate: float) -> float:
    return min(MAX_CHUNK, max(MIN_CHUNK, rate * 125 * CHUNK_SECONDS))


def assert_kept(stream: Stream, rates: list[tuple[float, float, float]]) -> None:
    """No second carries more than what was allowed in it plus 2 % of a second or one chunk, of the highest
    rate of that second."""
    times = [at for at, _ in stream.log]
    sums = [0, *accumulate(size for _, size in stream.log)]
    for first, begin in enumerate(times):
        in_force = [(max(begin, low), min(begin + 1, high), rate) for low, high, rate in rates]
        in_force = [each for each in in_force if each[0] <= each[1]]
        allowed = sum((high - low) * rate * 125 for low, high, rate in in_force)
        slack = max(max(chunk(rate), rate * 125 * BURST_SECONDS) for _, _, rate in in_force)
        sent = sums[bisect_left(times, begin + 1)] - sums[first]
        assert sent <= allowed + slack + 2, (begin, sent, allowed, slack)


@laws
@given(changes)
def test_each_limit_is_kept_in_every_second_whatever_is_changed_when(found: list[Change]) -> None:
    stream = played(found)
    for kind in KINDS:
        assert_kept(stream, rates_of(kind, found))


@laws
@given(st.sampled_from(KINDS), st.floats(1000, 39_000), st.floats(1000, 39_000), st.floats(0.5, 2))
def test_a_change_of_any_limit_acts_at_once_in_both_directions(
    kind: str, before: float, after: float, at: float
) -> None:
    """From the change on it is the new rate that is used up, within 2 % of the second and two chunks: what
    is left of the old one, and what is under way."""
    stream = Stream()
    stream.set(kind, before)
    stream.run(at)
    stream.set(kind, after)
    stream.run(at + 1)
    sent = sum(size for when, size in stream.log if when >= at)
    assert abs(sent - after * 125) <= after * 125 * 0.02 + 2 * chunk(after)


@laws
@given(
    st.lists(st.tuples(st.floats(0, 80_000), st.booleans()), min_size=19, max_size=19),
    st.floats(1000, 60_000),
    st.floats(1000, 60_000),
)
def test_what_is_borrowed_is_kept_as_a_limit_and_the_two_never_exceed_their_sum(
    received: list[tuple[float, bool]], sending: float, receiving: float
) -> None:
    """Of the server's limit, five times a second, from what the other direction used."""
    found: list[Change] = [(0.0, kind, 400_000.0) for kind in KINDS if kind != SERVER]
    other = 0.0
    for tick, (used, short) in enumerate(received):
        theirs = Side(receiving, min(used, receiving), short, borrows=True)
        ours, other = allowances(Side(sending, sending, short=True, borrows=True), theirs)  # type: ignore[assignment]
        assert ours + other <= (sending + receiving) * (1 + 1e-9)
        found.append((tick * 0.2, SERVER, ours))
    assert_kept(played(found), rates_of(SERVER, found))
