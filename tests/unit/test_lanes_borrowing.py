"""Laws of lending between the two directions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.lanes.borrowing import RESERVE, Side, allowances

rates = st.floats(1, 1e7)
sides = st.builds(Side, rates, st.floats(0, 2e7), st.booleans(), st.booleans())


@given(one=sides, other=sides)
def test_together_they_never_have_more_than_both_limits(one: Side, other: Side) -> None:
    """Nor less; and each keeps enough to notice that it wants more."""
    first, second = allowances(one, other)
    assert one.limit is not None
    assert other.limit is not None
    assert first is not None
    assert second is not None
    assert abs(first + second - one.limit - other.limit) <= 1e-6 * (one.limit + other.limit)
    assert first >= RESERVE * one.limit * 0.999
    assert second >= RESERVE * other.limit * 0.999


@given(one=sides, other=sides)
def test_who_wants_its_own_limit_has_it(one: Side, other: Side) -> None:
    """Whatever the other borrowed is back at once."""
    first, _ = allowances(one._replace(short=True), other)
    assert one.limit is not None
    assert first is not None
    assert first >= one.limit


@given(one=sides, other=sides)
def test_nothing_is_lent_to_who_may_not_or_need_not_borrow(one: Side, other: Side) -> None:
    """Each has its own limit then."""
    for idle in (other._replace(borrows=False), other._replace(short=False, used=0.0)):
        first, second = allowances(one._replace(borrows=False), idle)
        assert (first, second) == (one.limit, idle.limit)


def test_what_is_left_is_lent() -> None:
    """All but a reserve."""
    busy, idle = Side(1000, 990, True, True), Side(2000, 500, False, False)
    assert allowances(busy, idle) == (1000 + 2000 * (1 - RESERVE) - 500, 500 + 2000 * RESERVE)
    assert allowances(idle, busy) == (500 + 2000 * RESERVE, 1000 + 2000 * (1 - RESERVE) - 500)


@given(side=sides)
def test_without_a_limit_there_is_nothing_to_lend(side: Side) -> None:
    """Nor to borrow."""
    free = Side(None, 5.0, False, True)
    assert allowances(side, free) == (side.limit, None)
    assert allowances(free, side) == (None, side.limit)
