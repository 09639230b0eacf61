"""Laws of shared limits, on virtual time: whoever asks is a thread that sends, sleeps, and wakes up late."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent.lanes import Grant, LaneScheduler
from agent.lanes.buckets import BURST_SECONDS, CHUNK_SECONDS, MAX_CHUNK, MIN_CHUNK, bytes_per_second
from agent.lanes.meters import Meter
from agent.lanes.shares import Share, Wait

laws = settings(deadline=None, max_examples=25)


def chunk_of(rate: float) -> float:
    return min(MAX_CHUNK, max(MIN_CHUNK, bytes_per_second(rate) * CHUNK_SECONDS))


def burst_of(rate: float) -> float:
    return max(chunk_of(rate), bytes_per_second(rate) * BURST_SECONDS)


@dataclass(eq=False)
class Asker:
    """Takes all it can get, or `demand` bytes/s; uses `part` of what it takes; sends at `speed` bytes/s."""

    share: Share
    demand: float | None = None
    part: float = 1.0
    speed: float = 1e10
    late: float = 0.0  # seconds that its thread wakes up late
    begins: float = 0.0
    ends: float = float("inf")
    log: list[tuple[float, int]] = field(default_factory=list)

    def step(self, now: float) -> float | None:
        """When to call again; None = never."""
        if now >= self.ends:
            self.share.leave()
            return None
        wanted: float = MAX_CHUNK
        if self.demand is not None:
            wanted = min(MAX_CHUNK, self.demand * (now - self.begins) - self.bytes())
            if wanted < 4096:
                self.share.leave()
                return now + 0.002
        taken = self.share.take(int(wanted), now)
        if isinstance(taken, Wait):
            assert taken.until > now
            return taken.until + self.late
        assert 1 <= taken <= wanted
        used = max(1, int(taken * self.part))
        if used != taken:
            self.share.correct(used - taken, now)
        self.log.append((now, used))
        return now + used / self.speed

    def bytes(self, since: float = 0.0, until: float = float("inf")) -> int:
        return sum(count for at, count in self.log if since <= at < until)


def play(askers: list[Asker], seconds: float) -> None:
    queue = [(asker.begins, number) for number, asker in enumerate(askers)]
    heapq.heapify(queue)
    while queue and queue[0][0] < seconds:
        now, number = heapq.heappop(queue)
        again = askers[number].step(now)
        if again is not None:
            heapq.heappush(queue, (again, number))


def limited(rate: float | None) -> Share:
    root = Share()
    root.limit(rate, 0.0)
    return root


rates = st.floats(2_000, 400_000) | st.sampled_from([1_000_000.0, 4_000_000.0])
sleepers = st.lists(
    st.tuples(st.floats(0.3, 1.0), st.floats(0, 0.004)).map(lambda pair: {"part": pair[0], "late": pair[1]}),
    min_size=1,
    max_size=6,
)


@laws
@given(rate=rates, kinds=sleepers, start=st.floats(0, 1), window=st.floats(0.1, 1))
def test_a_limit_is_never_exceeded(
    rate: float, kinds: list[dict[str, float]], start: float, window: float
) -> None:
    """No window carries more than the rate allows plus one burst, however many share it."""
    root = limited(rate)
    askers = [Asker(Share(root), **kind) for kind in kinds]
    play(askers, 2)
    total = sum(asker.bytes(start, start + window) for asker in askers)
    assert total <= bytes_per_second(rate) * window + burst_of(rate) + 1


@laws
@given(rate=rates, kinds=sleepers)
def test_a_limit_is_used_up_while_somebody_wants_it(rate: float, kinds: list[dict[str, float]]) -> None:
    """Work-conserving: nothing of the rate is lost, whoever wakes up late or uses less than granted."""
    root = limited(rate)
    askers = [Asker(Share(root), **kind) for kind in kinds]
    play(askers, 3)
    total = sum(asker.bytes() for asker in askers)
    assert total >= bytes_per_second(rate) * 3 * 0.98 - chunk_of(rate)


@laws
@given(rate=rates, kinds=sleepers, start=st.floats(0, 2))
def test_those_who_want_all_get_the_same(rate: float, kinds: list[dict[str, float]], start: float) -> None:
    """Fair by bytes within two chunks and 2 % over any time, whatever sizes they take; as long as waking up
    takes no longer than sending a chunk: who sleeps through its turn has left it to the others."""
    assume(all(kind["late"] * bytes_per_second(rate) <= chunk_of(rate) for kind in kinds))
    root = limited(rate)
    askers = [Asker(Share(root), **kind) for kind in kinds]
    play(askers, 4)
    got = [asker.bytes(start, 4) for asker in askers]
    assert max(got) - min(got) <= 2 * chunk_of(rate) + 2 * MIN_CHUNK + 0.02 * sum(got)


@laws
@given(rate=rates, modest=st.floats(0.05, 0.3), others=st.integers(1, 3))
def test_who_wants_little_gets_it_and_the_rest_is_for_the_others(
    rate: float, modest: float, others: int
) -> None:
    """Nobody's share is set aside."""
    root = limited(rate)
    speed = bytes_per_second(rate)
    little = Asker(Share(root), demand=speed * min(modest, 0.9 / (others + 1)))
    askers = [Asker(Share(root)) for _ in range(others)]
    play([little, *askers], 4)
    assert little.demand is not None
    assert little.bytes() >= little.demand * 4 * 0.95 - 2 * chunk_of(rate)
    assert little.bytes() + sum(asker.bytes() for asker in askers) >= speed * 4 * 0.98 - chunk_of(rate)


@laws
@given(rate=rates, absent=st.floats(0.5, 3))
def test_who_was_absent_comes_back_without_credit(rate: float, absent: float) -> None:
    """From its return on it gets its half, not what it missed."""
    root = limited(rate)
    always, back = Asker(Share(root)), Asker(Share(root), begins=absent)
    play([always, back], absent + 2)
    assert abs(always.bytes(absent) - back.bytes(absent)) <= 3 * chunk_of(rate)


@laws
@given(rate=rates, leaving=st.integers(1, 30))
def test_who_leaves_holds_up_nobody(rate: float, leaving: int) -> None:
    """When all but one end at once the one left has everything from then on."""
    root = limited(rate)
    last = Asker(Share(root))
    askers = [Asker(Share(root), ends=1.0) for _ in range(leaving)]
    play([last, *askers], 4)
    assert last.bytes(1.0) >= bytes_per_second(rate) * 3 * 0.95 - 2 * chunk_of(rate)


@laws
@given(
    rate=st.floats(20_000, 2_000_000),
    inner=st.floats(0.1, 0.8),
    many=st.integers(1, 4),
    few=st.integers(1, 4),
)
def test_limits_nest(rate: float, inner: float, many: int, few: int) -> None:
    """A server's limit over connections with limits of their own: each holds, what one leaves the other has,
    and destinations of one connection get the same."""
    root = limited(rate)
    narrow, wide = Share(root), Share(root)
    narrow.limit(rate * inner, 0.0)
    left = [Asker(Share(narrow)) for _ in range(many)]
    right = [Asker(Share(wide)) for _ in range(few)]
    play(left + right, 4)
    speed, slack = bytes_per_second(rate), 4 * chunk_of(rate)
    of_left, of_right = sum(a.bytes() for a in left), sum(a.bytes() for a in right)
    expected = speed * min(inner, 0.5) * 4
    assert abs(of_left - expected) <= expected * 0.03 + slack
    assert speed * 4 * 0.98 - slack <= of_left + of_right <= speed * 4 + burst_of(rate) + 1
    for group in (left, right):
        got = [asker.bytes() for asker in group]
        assert max(got) - min(got) <= slack


@laws
@given(rate=rates, others=st.integers(1, 12), floor=st.floats(0.05, 0.8))
def test_an_assured_rate_is_had_whoever_else_wants_to_send(rate: float, others: int, floor: float) -> None:
    """It has the larger of its assurance and its fair share, and no more."""
    root = limited(rate)
    share = Share(root)
    share.assure(rate * floor, 0.0)
    assured, rest = Asker(share), [Asker(Share(root)) for _ in range(others)]
    play([assured, *rest], 4)
    speed = bytes_per_second(rate)
    expected = speed * 4 * max(floor, 1 / (others + 1))
    assert abs(assured.bytes() - expected) <= expected * 0.05 + 6 * chunk_of(rate)
    assert assured.bytes() + sum(a.bytes() for a in rest) >= speed * 4 * 0.98 - chunk_of(rate)


@laws
@given(rate=rates)
def test_an_assurance_that_ends_leaves_neither_credit_nor_debt(rate: float) -> None:
    """Soon after, all get the same."""
    root = limited(rate)
    share = Share(root)
    share.assure(rate * 0.8, 0.0)
    askers = [Asker(share), Asker(Share(root)), Asker(Share(root))]
    queue = [(0.0, number) for number in range(3)]
    ended = False
    while queue[0][0] < 6:
        now, number = heapq.heappop(queue)
        if now > 2 and not ended:
            share.assure(None, now)
            ended = True
        again = askers[number].step(now)
        assert again is not None
        heapq.heappush(queue, (again, number))
    got = [asker.bytes(3) for asker in askers]
    assert max(got) - min(got) <= 8 * chunk_of(rate)


@laws
@given(rate=st.floats(20_000, 400_000), others=st.integers(0, 3))
def test_lanes_keep_their_shares_of_what_a_limit_leaves_them(rate: float, others: int) -> None:
    """The scheduler orders what the destination gets; within two points, the idle lane nothing."""
    lanes = [("High", 0.70), ("Normal", 0.25), ("Low", 0.05), ("Idle", 0.0)]
    scheduler = LaneScheduler(lanes)
    for order, (name, _) in enumerate(lanes):
        scheduler.add(name, name, 100, order, None, 0.0)
    root = limited(rate)
    counts = dict.fromkeys((name for name, _ in lanes), 0)

    class Laned(Asker):
        def step(self, now: float) -> float | None:
            again = super().step(now)
            if self.log and self.log[-1][0] == now:
                grant = scheduler.next(now)
                assert isinstance(grant, Grant)
                scheduler.sent(grant.flow, self.log[-1][1], now)
                counts[grant.flow] += self.log[-1][1]
            return again

    laned = Laned(Share(root))
    play([laned, *(Asker(Share(root)) for _ in range(others))], 8)
    total = sum(counts.values())
    assert total >= bytes_per_second(rate) * 8 / (others + 1) * 0.95 - 3 * chunk_of(rate)
    slack = 2 * chunk_of(rate) / total
    for name, share in lanes:
        assert abs(counts[name] / total - share) < 0.02 + slack


def test_a_new_limit_acts_at_once() -> None:
    """In both directions, and when it is lifted."""
    root = limited(8_000)
    asker = Asker(Share(root))
    now = 0.0
    for rate, expected in ((8_000.0, 1e6), (80_000.0, 1e7), (800.0, 1e5)):
        root.limit(rate, now)
        end = now + 1
        begin = now
        while now < end:
            again = asker.step(now)
            assert again is not None
            now = again
        assert expected * 0.9 - MIN_CHUNK <= asker.bytes(begin, end) <= expected * 1.1 + MIN_CHUNK
    root.limit(None, now)
    assert asker.share.take(MAX_CHUNK, now) == MAX_CHUNK


def test_a_short_limit_says_so_until_it_was_heard() -> None:
    """`short` tells an observer that more was wanted than the limit lets through."""
    root = limited(8_000)
    leaf = Share(root)
    while not isinstance(leaf.take(MAX_CHUNK, 0.0), Wait):
        assert not root.short
    assert root.short
    root.short = False
    leaf.leave()
    assert isinstance(leaf.take(1024, 10.0), int)
    assert not root.short


def test_what_is_not_a_rate_is_refused() -> None:
    """A rate is positive; None is no limit."""
    root = Share()
    for rate in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="positive number"):
            root.limit(rate, 0.0)
        with pytest.raises(ValueError, match="positive number"):
            root.assure(rate, 0.0)


def test_without_limits_nobody_waits() -> None:
    """And who was absent has nothing to catch up with."""
    root = Share()
    branch = Share(root)
    leaves = [Share(branch), Share(root)]
    for _ in range(100):
        for leaf in leaves:
            assert leaf.take(MAX_CHUNK, 0.0) == MAX_CHUNK


@given(counts=st.lists(st.tuples(st.floats(0, 0.3), st.integers(0, 10**6)), max_size=50))
def test_a_meter_tells_the_last_second(counts: list[tuple[float, int]]) -> None:
    """Between what passed in the last 0.9 s and in the last 1.1 s; all of it in total."""
    meter, now, log = Meter(), 1e6, []
    for pause, count in counts:
        now += pause
        meter.add(count, now)
        log.append((now, count))
    rate = meter.rate(now) * 125
    present = int(now / 0.1) * 0.1
    low = sum(count for at, count in log if present - 0.99 < at < present - 0.01)
    high = sum(count for at, count in log if present - 1.01 <= at <= present + 0.01)
    assert low <= rate * 1.001 + 1
    assert rate <= high * 1.001 + 1
    assert meter.total == sum(count for _, count in counts)
    assert meter.rate(now + 1.2) == 0
