"""Which transfers of a link are open at its receiver."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.server.data import sessions
from agent.server.data.openings import MOST, OPEN_IN_LANE, UNANSWERED, Openings

MANY = OPEN_IN_LANE + 100


def opened(openings: Openings) -> list[str]:
    """All that are opened one after the other, each answered at once."""
    found = []
    while (ident := openings.next()) is not None:
        openings.answered(ident)
        found.append(ident)
    return found


def made(count: int, lane: str = "Low", priority: int = 100) -> Openings:
    openings = Openings()
    for number in range(count):
        openings.add(f"{lane}{number}", lane, priority, number)
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
    openings.add("urgent", "High", 100, MANY)
    assert opened(openings) == ["urgent"]
    openings.remove("Low7")
    assert opened(openings) == [f"Low{OPEN_IN_LANE}"]


def test_who_goes_before_all_that_are_open_in_its_lane_is_opened_at_once() -> None:
    openings = made(MANY)
    opened(openings)
    openings.add("same", "Low", 100, MANY)
    assert opened(openings) == []
    openings.add("before", "Low", 50, MANY + 1)
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


def test_the_lane_that_has_fewest_open_is_next() -> None:
    openings = made(MANY)
    for number in range(MANY):
        openings.add(f"High{number}", "High", 100, MANY + number)
    first = []
    for _ in range(20):
        first.append(ident := openings.next() or "")
        openings.answered(ident)
    assert Counter(ident[:3] for ident in first) == {"Low": 10, "Hig": 10}
    for ident in first[:12]:
        if ident.startswith("High"):
            openings.remove(ident)  # ended: that lane is served faster
    assert [(openings.next() or "")[:3] for _ in range(6)] == ["Hig"] * 6


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
    openings = Openings()
    for number in range(most + 50):
        openings.add(str(number), "Low", -number, number)
        opened(openings)
    assert sum(openings.asked(str(number)) for number in range(most + 50)) == most
    assert MOST + UNANSWERED < sessions.MAX_HANDLES


def test_who_comes_and_goes_leaves_nothing_behind() -> None:
    openings = made(MANY)
    opened(openings)
    for number in range(10_000):
        openings.add("other", "Low", 100, MANY + number)
        openings.remove("other")
    (lane,) = openings._lanes.values()
    assert len(lane.waiting) < 3 * MANY


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
    openings = Openings()
    known: dict[str, tuple[str, int, int]] = {}
    asked: set[str] = set()
    for verb, number, lane, priority in steps:
        ident = str(number)
        if verb == "add" and ident not in known:
            known[ident] = (lane, priority, number)
            openings.add(ident, lane, priority, number)
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
