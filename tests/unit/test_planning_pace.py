"""Laws of how often everything is looked at, where nobody wrote it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.planning.pace import COMPARE_SHARE, DRIFT_SHARE, LONGEST, WHOLE_SHARE, spread, stretched
from agent.reconcile.pace import Pace

INTERVALS = st.floats(1.0, 7 * 86_400.0)
COSTS = st.floats(1e-5, 1e4)
LOOKS = st.integers(1, 100_000)
SHARES = st.sampled_from([WHOLE_SHARE, DRIFT_SHARE, COMPARE_SHARE])


@given(INTERVALS, LOOKS, COSTS, SHARES)
def test_looks_take_their_share_or_each_is_taken_every_six_hours(
    interval: float, looks: int, cost: float, share: float
) -> None:
    found = stretched(interval, looks, cost, share)
    assert found >= interval
    assert found <= max(interval, LONGEST)
    assert looks * cost / found <= share * 1.001 or found >= LONGEST


@given(INTERVALS, st.integers(1, 40))
def test_a_few_small_mappings_are_looked_at_as_ever(interval: float, looks: int) -> None:
    pace = Pace(WHOLE_SHARE, 0.002)
    assert pace.next(max(interval, 30.0), looks, first=False) == max(interval, 30.0)


@given(INTERVALS, st.floats(0.0, 1.0, exclude_max=True), st.booleans())
def test_a_look_is_never_later_than_its_interval(interval: float, chance: float, first: bool) -> None:
    assert 0.0 <= spread(interval, chance, first=first) <= interval


def test_ten_thousand_small_mappings_take_turns() -> None:
    pace = Pace(WHOLE_SHARE, 0.002)
    assert pace.interval(600.0, 10_000) == 10_000 * 0.002 / WHOLE_SHARE
    assert pace.interval(600.0, 500) == 600.0


def test_what_looks_have_cost_counts_from_the_first_one_on() -> None:
    pace = Pace(WHOLE_SHARE, 0.002)
    pace.note(0.004)
    assert pace.cost == 0.004
    for _ in range(5000):
        pace.note(0.001)
    assert abs(pace.cost - 0.001) < 1e-4
