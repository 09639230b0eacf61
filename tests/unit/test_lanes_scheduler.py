"""Laws of the lane scheduler, on virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.lanes import Grant, Idle, LaneScheduler
from agent.lanes.buckets import BURST_SECONDS, CHUNK_SECONDS, MAX_CHUNK, MIN_CHUNK

FOUR = [("High", 0.70), ("Normal", 0.25), ("Low", 0.05), ("Idle", 0.0)]

laws = settings(deadline=None, max_examples=40)


class Link:
    """A saturated link of `speed` bytes/s that carries whatever the scheduler says, on its own clock."""

    def __init__(self, scheduler: LaneScheduler, speed: float = 1e8) -> None:
        self.scheduler = scheduler
        self.speed = speed
        self.now = 0.0
        self.log: list[tuple[float, str, int]] = []

    def run(self, seconds: float, most: int | None = None) -> Link:
        """Send until `seconds` have passed; `most` caps the bytes taken of each grant."""
        end = self.now + seconds
        while self.now < end:
            step = self.scheduler.next(self.now)
            if isinstance(step, Idle):
                if step.until is None or step.until > end:
                    self.now = end
                    break
                assert step.until > self.now
                self.now = step.until
                continue
            count = step.max_bytes if most is None else min(step.max_bytes, most)
            self.scheduler.sent(step.flow, count, self.now)
            self.log.append((self.now, step.flow, count))
            self.now += count / self.speed
        return self

    def bytes_of(self, flow: str, since: float = 0.0, until: float = float("inf")) -> int:
        return sum(count for at, name, count in self.log if name == flow and since <= at < until)

    def total(self, since: float = 0.0, until: float = float("inf")) -> int:
        return sum(count for at, _, count in self.log if since <= at < until)


def busy(lanes: list[tuple[str, float]], rate: float | None = None) -> LaneScheduler:
    """A scheduler with one endless flow in each lane, named as the lane."""
    scheduler = LaneScheduler(lanes, rate)
    for order, (name, _) in enumerate(lanes):
        scheduler.add(name, name, 100, order, None, 0.0)
    return scheduler


shares = st.lists(st.integers(1, 100), min_size=1, max_size=6).map(
    lambda weights: [(f"lane{n}", w / sum(weights)) for n, w in enumerate(weights)]
)


@laws
@given(lanes=shares, most=st.none() | st.integers(20_000, MAX_CHUNK), start=st.floats(0, 5))
def test_saturated_lanes_hold_their_shares(
    lanes: list[tuple[str, float]], most: int | None, start: float
) -> None:
    """Over any five seconds under load, every lane gets its share of the bytes within two points."""
    link = Link(busy(lanes)).run(10, most)
    total = link.total(start, start + 5)
    for name, share in lanes:
        assert abs(link.bytes_of(name, start, start + 5) / total - share) < 0.02


@laws
@given(rate=st.floats(2_000, 10_000_000))
def test_shares_hold_under_a_rate_limit(rate: float) -> None:
    """A limit of the whole destination is shared in the same proportions."""
    link = Link(busy(FOUR, rate), speed=1e10).run(5)
    for name, share in FOUR:
        assert abs(link.bytes_of(name) / link.total() - share) < 0.02


def test_idle_lane_waits_for_all_others() -> None:
    """The idle lane gets not one byte while another lane has work, and everything once none has."""
    scheduler = busy(FOUR)
    link = Link(scheduler).run(2)
    assert link.bytes_of("Idle") == 0
    for name in ("High", "Normal", "Low"):
        scheduler.remove(name)
    before = link.now
    link.run(1)
    assert link.bytes_of("Idle", before) == link.total(before) > 9e7


@laws
@given(present=st.sets(st.sampled_from([name for name, _ in FOUR]), min_size=1))
def test_work_conserving(present: set[str]) -> None:
    """Whatever lanes have work, the link is never left unused, and the busy lanes split it by share."""
    scheduler = LaneScheduler(FOUR)
    for order, name in enumerate(sorted(present)):
        scheduler.add(name, name, 100, order, None, 0.0)
    link = Link(scheduler).run(5)
    assert link.total() >= 5 * link.speed
    weights = {name: share for name, share in FOUR if name in present}
    for name, share in weights.items():
        expected = share / sum(weights.values()) if sum(weights.values()) else 1.0
        assert abs(link.bytes_of(name) / link.total() - expected) < 0.02


def test_returning_lane_has_no_credit() -> None:
    """A lane that was empty for long gets its share when it returns, not what it missed."""
    scheduler = LaneScheduler(FOUR)
    scheduler.add("low", "Low", 100, 0, None, 0.0)
    link = Link(scheduler).run(60)
    scheduler.add("high", "High", 100, 1, None, link.now)
    before = link.now
    link.run(5)
    assert abs(link.bytes_of("low", before) / link.total(before) - 0.05 / 0.75) < 0.02


@laws
@given(
    priorities=st.lists(st.integers(0, 4294967295), min_size=2, max_size=20),
    sizes=st.integers(1, 5),
)
def test_strict_priority_within_a_lane(priorities: list[int], sizes: int) -> None:
    """Flows of a lane go one after the other: lowest priority value first, oldest first among equals."""
    scheduler = LaneScheduler([("Only", 1.0)])
    left = {}
    for order, priority in enumerate(priorities):
        scheduler.add(str(order), "Only", priority, order, None, 0.0)
        left[str(order)] = sizes
    finished = []
    while left:
        step = scheduler.next(0.0)
        assert isinstance(step, Grant)
        scheduler.sent(step.flow, step.max_bytes, 0.0)
        left[step.flow] -= 1
        if not left[step.flow]:
            del left[step.flow]
            scheduler.remove(step.flow)
            finished.append(int(step.flow))
    assert finished == sorted(range(len(priorities)), key=lambda n: (priorities[n], n))
    assert scheduler.next(0.0) == Idle(None)


@laws
@given(rate=st.floats(10, 20_000_000), window=st.floats(0.1, 1.0), start=st.floats(0, 1))
def test_destination_rate_holds(rate: float, window: float, start: float) -> None:
    """No window carries more than the rate allows plus one burst of 2 % of a second or one chunk."""
    link = Link(busy(FOUR, rate), speed=1e11).run(2)
    per_second = rate * 125
    burst = max(per_second * BURST_SECONDS, min(MAX_CHUNK, max(MIN_CHUNK, per_second * CHUNK_SECONDS)))
    assert link.total(start, start + window) <= per_second * window + burst + 1
    assert link.total() >= per_second * 2 - burst


@laws
@given(rate=st.floats(100, 1_000_000))
def test_flow_rate_holds_and_leaves_the_rest_to_others(rate: float) -> None:
    """A limited flow keeps to its own rate while the flow behind it takes what is left."""
    scheduler = LaneScheduler([("Only", 1.0)])
    scheduler.add("limited", "Only", 1, 0, rate, 0.0)
    scheduler.add("other", "Only", 2, 1, None, 0.0)
    link = Link(scheduler, speed=2e8).run(1)
    per_second = rate * 125
    assert link.bytes_of("limited") <= per_second * (1 + CHUNK_SECONDS) + MIN_CHUNK + 1
    assert link.bytes_of("limited") >= per_second * 0.9 - MIN_CHUNK - MAX_CHUNK
    assert link.total() >= link.speed


def test_idle_lane_uses_the_gaps_of_throttled_flows() -> None:
    """A flow that its own rate holds back counts as absent for that moment only."""
    scheduler = LaneScheduler(FOUR)
    scheduler.add("high", "High", 1, 0, 80_000.0, 0.0)
    scheduler.add("idle", "Idle", 1, 1, None, 0.0)
    link = Link(scheduler).run(4)
    assert abs(link.bytes_of("high") / 4 - 1e7) < 5e5
    assert link.bytes_of("idle") + link.bytes_of("high") >= 4e8


@laws
@given(rate=st.floats(1, 20_000_000))
def test_grants_are_short_at_low_rates(rate: float) -> None:
    """A grant is at most 1 MiB and 50 ms of the rate (or the least chunk): changes act soon."""
    grant = LaneScheduler([("Only", 1.0)], rate)
    grant.add("flow", "Only", 1, 0, None, 0.0)
    step = grant.next(0.0)
    assert isinstance(step, Grant)
    assert 0 < step.max_bytes <= min(MAX_CHUNK, max(MIN_CHUNK, rate * 125 * CHUNK_SECONDS))


def test_rate_change_acts_at_once() -> None:
    """After a change the new rate holds from the next moment on, in both directions, and also its removal."""
    scheduler = busy(FOUR, 8_000.0)
    link = Link(scheduler, speed=1e9).run(1)
    for rate, expected in ((80_000.0, 1e7), (800.0, 1e5), (8_000_000.0, 1e9)):
        before = link.now
        scheduler.set_rate(rate, link.now)
        link.run(1)
        assert expected * 0.94 <= link.total(before, before + 1) <= expected * 1.06 + MIN_CHUNK
    scheduler.set_rate(None, link.now)
    before = link.now
    link.run(1)
    assert link.total(before) >= 1e9


def test_flow_rate_change_wakes_a_throttled_flow() -> None:
    """A flow that waits for tokens at a low rate sends at once when its limit is lifted."""
    scheduler = LaneScheduler([("Only", 1.0)])
    scheduler.add("flow", "Only", 1, 0, 8.0, 0.0)
    scheduler.sent("flow", 1_000_000, 0.0)
    step = scheduler.next(0.1)
    assert isinstance(step, Idle)
    assert step.until is not None
    scheduler.update("flow", 0.1, rate=None)
    assert scheduler.next(0.1) == Grant("flow", MAX_CHUNK)


def test_priority_and_lane_changes_act_at_the_next_step() -> None:
    """A flow that is moved to another lane or priority is chosen by its new place at once."""
    scheduler = LaneScheduler(FOUR)
    scheduler.add("old", "Idle", 5, 0, None, 0.0)
    scheduler.add("new", "Idle", 9, 1, None, 0.0)
    assert scheduler.next(0.0) == Grant("old", MAX_CHUNK)
    scheduler.update("new", 0.0, priority=1)
    assert scheduler.next(0.0) == Grant("new", MAX_CHUNK)
    scheduler.update("old", 0.0, lane="High")
    assert scheduler.next(0.0) == Grant("old", MAX_CHUNK)


def test_share_changes_act_at_once() -> None:
    """New shares hold from the moment they are set."""
    scheduler = busy(FOUR)
    link = Link(scheduler).run(5)
    scheduler.set_lanes([("High", 0.1), ("Normal", 0.2), ("Low", 0.0), ("Idle", 0.7)], link.now)
    before = link.now
    link.run(5)
    for name, share in (("High", 0.1), ("Normal", 0.2), ("Low", 0.0), ("Idle", 0.7)):
        assert abs(link.bytes_of(name, before) / link.total(before) - share) < 0.02


def test_paused_flow_keeps_its_rate() -> None:
    """Pausing and continuing a flow gives it no fresh burst."""
    scheduler = LaneScheduler([("Only", 1.0)])
    scheduler.add("flow", "Only", 1, 0, 8_000.0, 0.0)
    scheduler.sent("flow", 100_000, 0.0)
    scheduler.set_ready("flow", False)
    assert scheduler.next(0.0) == Idle(None)
    scheduler.set_ready("flow", True)
    step = scheduler.next(0.0)
    assert isinstance(step, Idle)
    assert step.until == pytest.approx(0.075, abs=0.001)


def test_what_takes_longer_than_its_bytes_counts_among_lanes_alone() -> None:
    """A lane that compares has its share of the machine, while limits have what crosses the wire."""
    scheduler = busy([("Compares", 0.5), ("Sends", 0.5)], rate=8_000.0)
    turns = {"Compares": 0, "Sends": 0}
    for _ in range(100):
        step = scheduler.next(0.0)
        if isinstance(step, Idle):
            break
        turns[step.flow] += 1
        scheduler.sent(step.flow, 100 if step.flow == "Compares" else 1000, 0.0, turn=1000)
    assert abs(turns["Compares"] - turns["Sends"]) <= 1 and sum(turns.values()) > 10
    assert scheduler.lane_bytes() == {"Compares": turns["Compares"] * 100, "Sends": turns["Sends"] * 1000}
    assert isinstance(scheduler.next(1.0), Grant)


def test_what_is_refused() -> None:
    """Unknown lanes, doubled flows, impossible rates and negative counts are errors that change nothing."""
    scheduler = busy(FOUR)
    with pytest.raises(ValueError, match="no lane 'Fast'; the lanes are 'High'"):
        scheduler.add("x", "Fast", 1, 1, None, 0.0)
    with pytest.raises(ValueError, match="already"):
        scheduler.add("High", "High", 1, 1, None, 0.0)
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive number"):
            scheduler.add("x", "High", 1, 1, rate, 0.0)
    with pytest.raises(ValueError, match="no lane"):
        scheduler.update("High", 0.0, lane="Fast", priority=1)
    with pytest.raises(ValueError, match="cannot have sent"):
        scheduler.sent("High", -1, 0.0)
    with pytest.raises(ValueError, match="'Low' has transfers in progress"):
        scheduler.set_lanes([("High", 1.0), ("Normal", 0.0), ("Idle", 0.0)][:2], 0.0)
    assert len(scheduler) == 4
    assert "x" not in scheduler


def test_late_accounts_of_a_removed_flow_count_against_the_total() -> None:
    """What a flow sent before it was removed still uses up the destination's rate."""
    scheduler = LaneScheduler([("Only", 1.0)], 8_000.0)
    scheduler.add("gone", "Only", 1, 0, None, 0.0)
    scheduler.add("next", "Only", 1, 1, None, 0.0)
    scheduler.remove("gone")
    scheduler.remove("gone")
    scheduler.sent("gone", 1_000_000, 0.0)
    step = scheduler.next(0.0)
    assert isinstance(step, Idle)
    assert step.until == pytest.approx(0.975, abs=0.01)


@laws
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["add", "remove", "update", "ready", "rest", "lanes", "rate", "go", "wait"]),
            st.integers(0, 7),
            st.sampled_from(["High", "Normal", "Low", "Idle"]),
            st.integers(0, 3),
            st.none() | st.floats(1, 1e6),
        ),
        max_size=200,
    )
)
def test_any_sequence_of_changes_keeps_the_order(
    steps: list[tuple[str, int, str, int, float | None]],
) -> None:
    """Whatever is changed in whatever order, a grant goes to the first flow of its lane which may send, and
    nothing is granted only when nothing may."""
    scheduler = LaneScheduler(FOUR)
    model: dict[str, dict[str, object]] = {}
    now = 0.0
    for verb, number, lane, priority, rate in steps:
        flow = str(number)
        if verb == "add" and flow not in model:
            scheduler.add(flow, lane, priority, number, rate, now)
            model[flow] = {"lane": lane, "order": (priority, number), "rate": rate, "ready": True}
        elif verb == "remove":
            scheduler.remove(flow)
            model.pop(flow, None)
        elif verb == "update" and flow in model:
            scheduler.update(flow, now, lane=lane, priority=priority, rate=rate)
            model[flow] |= {"lane": lane, "order": (priority, number), "rate": rate}
        elif verb in ("ready", "rest") and flow in model:
            scheduler.set_ready(flow, verb == "ready")
            model[flow]["ready"] = verb == "ready"
        elif verb == "lanes":
            scheduler.set_lanes([("Low", 0.5), ("High", 0.25), ("Idle", 0.25), ("Normal", 0.0)], now)
        elif verb == "wait":
            now += 0.01 * number
        step = scheduler.next(now)
        assert len(scheduler) == len(model)
        unlimited = [m for m in model.values() if m["ready"] and m["rate"] is None]
        if isinstance(step, Idle):
            assert not unlimited
            assert step.until is None or step.until > now
            assert (step.until is None) == (not any(m["ready"] for m in model.values()))
        else:
            chosen = model[step.flow]
            assert chosen["ready"]
            peers = [m for m in unlimited if m["lane"] == chosen["lane"]]
            assert all(chosen["order"] <= peer["order"] for peer in peers)  # type: ignore[operator]
            if verb == "go":
                scheduler.sent(step.flow, step.max_bytes, now)


def test_thousands_of_changes_leave_no_garbage() -> None:
    """Removing and re-ranking flows for ever does not grow the heaps."""
    scheduler = LaneScheduler(FOUR)
    scheduler.add("top", "High", 0, 0, None, 0.0)
    for number in range(5_000):
        scheduler.add(f"f{number}", "High", 1, number, 1.0, 0.0)
        scheduler.update(f"f{number}", 0.0, priority=2)
        scheduler.sent(f"f{number}", 10_000, 0.0)
        scheduler.update(f"f{number}", 0.0, priority=3)
        scheduler.remove(f"f{number}")
    held = sum(len(lane.heap) for lane in scheduler._lanes.values()) + len(scheduler._throttled)
    assert held < 1_000


def test_outdated_waiters_leave_no_garbage() -> None:
    """Changing the rate of a flow for ever, behind one that wakes up sooner, does not grow the list."""
    scheduler = LaneScheduler(FOUR)
    for flow, rate in (("soon", 8_000.0), ("late", 8.0)):
        scheduler.add(flow, "High", 0, 0, rate, 0.0)
        scheduler.sent(flow, 100_000, 0.0)
    for number in range(5_000):
        scheduler.update("late", 0.0, rate=8.0 + number % 2)
    assert len(scheduler._throttled) < 1_000


def test_virtual_time_keeps_its_precision() -> None:
    """After a lane with a tiny share sent alone for ages, the shares of two others are still exact."""
    lanes = [("Tiny", 1e-9), ("High", 0.75), ("Low", 0.25 - 1e-9)]
    scheduler = LaneScheduler(lanes)
    scheduler.add("Tiny", "Tiny", 1, 0, None, 0.0)
    for _ in range(10):
        scheduler.sent("Tiny", 10**12, 0.0)
    scheduler.remove("Tiny")
    scheduler.add("High", "High", 1, 1, None, 0.0)
    scheduler.add("Low", "Low", 1, 2, None, 0.0)
    link = Link(scheduler).run(1, 1_000)
    assert abs(link.bytes_of("High") / link.total() - 0.75) < 0.02
