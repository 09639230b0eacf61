"""Which transfers of a link are open at its receiver."""

from __future__ import annotations

import heapq
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.lanes.scheduler import Grant, LaneScheduler
from agent.server.data import sessions
from agent.server.data.openings import ENDING, MOST, OPEN_IN_LANE, UNANSWERED, Openings
from agent.server.data.work import ENTRY_COST

MANY = OPEN_IN_LANE + 100
SHARES = [("High", 0.7), ("Low", 0.3), ("Idle", 0.0)]


def opened(openings: Openings) -> list[str]:
    """All that are opened one after the other, each answered at once."""
    found = []
    while (ident := openings.next()) is not None:
        openings.answered(ident)
        found.append(ident)
    return found


def made(count: int, lane: str = "Low", priority: int = 100) -> Openings:
    openings = Openings(SHARES)
    for number in range(count):
        openings.add(f"{lane}{number}", lane, priority, number, 0)
    return openings


def test_what_was_not_answered_holds_up_the_next() -> None:
    openings = made(MANY)
    asked = [openings.next() for _ in range(UNANSWERED)]
    assert None not in asked and openings.next() is None
    openings.answered("Low0")
    assert openings.next() == f"Low{UNANSWERED}"


def test_a_lane_has_a_bounded_number_open_and_another_lane_its_own() -> None:
    openings = made(MANY)
    assert opened(openings) == [f"Low{number}" for number in range(OPEN_IN_LANE)]
    openings.add("urgent", "High", 100, MANY, 0)
    assert opened(openings) == ["urgent"]
    openings.remove("Low7")
    assert opened(openings) == [f"Low{OPEN_IN_LANE}"]


def test_who_goes_before_all_that_are_open_in_its_lane_is_opened_at_once() -> None:
    openings = made(MANY)
    opened(openings)
    openings.add("same", "Low", 100, MANY, 0)
    assert opened(openings) == []
    openings.add("before", "Low", 50, MANY + 1, 0)
    assert opened(openings) == ["before"]
    openings.update("same", "Low", 10)
    assert opened(openings) == ["same"]


def test_a_change_of_lane_counts_where_it_leads() -> None:
    openings = made(MANY)
    opened(openings)
    openings.update("Low0", "High", 100)
    assert openings.asked("Low0") and opened(openings) == [f"Low{OPEN_IN_LANE}"]
    openings.update(f"Low{MANY - 1}", "High", 100)
    assert opened(openings) == [f"Low{MANY - 1}"]


def add(openings: Openings, count: int, lane: str, size: int, first: int = 0) -> None:
    for number in range(first, first + count):
        openings.add(f"{lane}{number}", lane, 100, number, size)


def test_lanes_take_turns_by_the_bytes_that_they_have_opened() -> None:
    openings = Openings(SHARES)
    add(openings, 2000, "High", 1000)
    add(openings, 2000, "Low", 3000)
    found = Counter[str]()
    while found.total() < 1000:
        ident = openings.next() or ""
        found[ident[:3]] += 1
        openings.remove(ident)  # it was opened, sent, and has ended
    high, low = found["Hig"] * 1064, found["Low"] * 3064
    assert high / (high + low) == pytest.approx(0.7, abs=0.01)


def test_who_has_much_to_send_keeps_no_other_of_its_lane_from_being_opened() -> None:
    openings = Openings(SHARES)
    add(openings, 1, "High", 1 << 40)
    add(openings, 5000, "Low", 1000)
    assert openings.next() == "High0"
    openings.add("urgent", "High", 1, 9000, 1000)
    found = []
    while "urgent" not in found:
        found.append(ident := openings.next() or "")
        openings.answered(ident)
        if ident.startswith("Low"):
            openings.remove(ident)
    assert len(found) < 800


def test_a_lane_that_comes_back_has_no_credit() -> None:
    openings = Openings(SHARES)
    add(openings, 2000, "Low", 1000)
    for _ in range(1000):
        openings.remove(openings.next() or "")
    add(openings, 100, "High", 1000, 5000)
    found = Counter[str]()
    for _ in range(100):
        found[(ident := openings.next() or "")[:3]] += 1
        openings.remove(ident)
    assert found["Hig"] == pytest.approx(70, abs=2)


def test_the_idle_lane_comes_after_all_others() -> None:
    openings = Openings(SHARES)
    add(openings, 3, "Idle", 10)
    add(openings, 3, "Low", 10, 3)
    assert opened(openings) == ["Low3", "Low4", "Low5", "Idle0", "Idle1", "Idle2"]


def test_new_shares_act_at_the_next_opening() -> None:
    openings = Openings(SHARES)
    add(openings, 2000, "Low", 1000)
    add(openings, 2000, "High", 1000, 3000)
    for _ in range(100):
        openings.remove(openings.next() or "")
    openings.set_lanes([("High", 0.1), ("Low", 0.9)])
    found = Counter[str]()
    for _ in range(100):
        found[(ident := openings.next() or "")[:3]] += 1
        openings.remove(ident)
    assert found["Low"] == pytest.approx(90, abs=2)


def test_those_that_have_nothing_left_to_send_make_room_until_too_many_of_them_have_not_ended() -> None:
    openings = made(3 * MANY)
    first = opened(openings)
    assert len(first) == OPEN_IN_LANE
    assert openings.ending("Low0", True) and not openings.ending("Low0", True)
    assert opened(openings) == [f"Low{OPEN_IN_LANE}"]
    assert len(first) == ENDING
    for ident in first[1:]:
        openings.ending(ident, True)
    assert openings.next() is None, "the receiver has enough that is to end"
    openings.add("alone", "High", 100, 9000, 0)
    assert opened(openings) == ["alone"], "a lane with nothing open waits for no other"
    openings.remove("Low0")
    assert openings.next() is not None


@settings(max_examples=10, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(500, 4000)] * 3),
    opening=st.sampled_from([0.0001, 0.001, 0.005]),
    ending=st.sampled_from([0.0001, 0.001, 0.005]),
    line=st.sampled_from([1e5, 1e7, 1e9]),
)
def test_lanes_share_by_bytes_whether_opening_or_sending_or_ending_takes_longest(
    sizes: tuple[int, ...], opening: float, ending: float, line: float
) -> None:
    """On virtual time, with a receiver that opens one after the other and ends one after the other."""
    sent = sent_by_lane(dict(zip(THREE, sizes, strict=True)), opening, ending, line)
    for lane, share in THREE.items():
        assert sent[lane] / sent.total() == pytest.approx(share, abs=0.02), sent


THREE = {"High": 0.7, "Normal": 0.25, "Low": 0.05}


def sent_by_lane(sizes: dict[str, int], opening: float, ending: float, line: float) -> Counter[str]:
    """Bytes of each lane, while all of them have more to open than they can. Seconds by which the receiver
    opens and ends one; bytes a second of the line."""
    openings = Openings(list(THREE.items()))
    scheduler = LaneScheduler(list(THREE.items()))
    number, events = 0, list[tuple[float, int, str, str]]()
    free, now, sent, before = {"opened": 0.0, "sent": 0.0, "ended": 0.0}, 0.0, Counter[str](), Counter[str]()
    lane_of, waiting = dict[str, str](), Counter[str]()

    def later(what: str, ident: str, seconds: float) -> None:
        free[what] = max(free[what], now) + seconds
        heapq.heappush(events, (free[what], len(lane_of) + len(events), what, ident))

    for step in range(20_000):
        for lane in THREE:
            while waiting[lane] < 2 * UNANSWERED:
                ident, number = str(number), number + 1
                lane_of[ident], waiting[lane] = lane, waiting[lane] + 1
                openings.add(ident, lane, 100, number, sizes[lane])
        while (ident := openings.next() or "") != "":
            waiting[lane_of[ident]] -= 1
            later("opened", ident, opening)
        while free["sent"] <= now and isinstance(grant := scheduler.next(now), Grant):
            lane = lane_of[grant.flow]
            sent[lane] += (size := sizes[lane] + ENTRY_COST)
            scheduler.sent(grant.flow, size, now)
            scheduler.remove(grant.flow)
            openings.ending(grant.flow, True)
            later("sent", grant.flow, size / line)
        if step == 8000:
            before = sent.copy()
        now, _, what, ident = heapq.heappop(events)
        if what == "opened":
            openings.answered(ident)
            scheduler.add(ident, lane_of[ident], 100, int(ident), None, now)
        elif what == "sent":
            later("ended", ident, ending)
        else:
            openings.remove(ident)
    return sent - before


def test_a_new_session_has_nothing_open() -> None:
    openings = made(3)
    assert opened(openings) == ["Low0", "Low1", "Low2"]
    openings.remove("Low1")
    openings.begin()
    assert not openings.asked("Low0") and opened(openings) == ["Low0", "Low2"]


def test_never_are_more_open_than_a_receiver_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are more urgent than all before."""
    most = OPEN_IN_LANE + 100
    monkeypatch.setattr("agent.server.data.openings.MOST", most)
    openings = Openings(SHARES)
    for number in range(most + 50):
        openings.add(str(number), "Low", -number, number, 0)
        opened(openings)
    assert sum(openings.asked(str(number)) for number in range(most + 50)) == most
    assert MOST + UNANSWERED < sessions.MAX_HANDLES


def test_who_comes_and_goes_leaves_nothing_behind() -> None:
    openings = made(MANY)
    opened(openings)
    for number in range(10_000):
        openings.add("other", "Low", 100, MANY + number, 0)
        openings.remove("other")
    assert len(openings._lanes["Low"].waiting) < 3 * MANY


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "update", "remove", "next", "begin", "answer"]),
        st.integers(0, 12),
        st.sampled_from(["High", "Low"]),
        st.integers(1, 3),
    ),
    max_size=60,
)


@given(STEPS)
def test_whoever_is_there_is_opened_once_and_in_its_turn(steps: list[tuple[str, int, str, int]]) -> None:
    """Against a plain list."""
    openings = Openings(SHARES)
    known: dict[str, tuple[str, int, int]] = {}
    asked: set[str] = set()
    for verb, number, lane, priority in steps:
        ident = str(number)
        if verb == "add" and ident not in known:
            known[ident] = (lane, priority, number)
            openings.add(ident, lane, priority, number, 0)
        elif verb == "update" and ident in known:
            known[ident] = (lane, priority, number)
            openings.update(ident, lane, priority)
        elif verb == "remove":
            known.pop(ident, None)
            asked.discard(ident)
            openings.remove(ident)
        elif verb == "begin":
            asked.clear()
            openings.begin()
        elif verb == "answer":
            openings.answered(ident)
        elif verb == "next":
            found = openings.next()
            waiting = {one for one in known if one not in asked}
            assert (found is None) == (not waiting)
            if found is not None:
                same = [one for one in waiting if known[one][0] == known[found][0]]
                assert known[found] == min(known[one] for one in same)
                asked.add(found)
        assert {one for one in known if openings.asked(one)} == asked
