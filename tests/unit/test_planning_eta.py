"""How long sending will take: what the lane scheduler would do, told as a range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.planning.eta import Estimate, Flow, Link, estimate
from agent.planning.totals import eta_text

LANES = (("High", 0.70), ("Normal", 0.25), ("Low", 0.05), ("Idle", 0.0))
MB = 1_000_000
MBIT = 1000.0  # kbit/s: 125,000 bytes a second


def flow(mapping: str, size: int, lane: str = "Normal", **more: object) -> Flow:
    fields = {"priority": 100, "rate": None, "planned": True} | more
    return Flow(mapping, lane, bytes=size, **fields)  # type: ignore[arg-type]


def test_alone_on_a_limited_link_it_is_bytes_by_rate() -> None:
    """10 MB at 8 Mbit/s are ten seconds, at best and at worst."""
    (found,) = estimate(LANES, Link(8 * MBIT), (flow("m", 10 * MB),)).values()
    assert found.best == pytest.approx(10.0, rel=0.01)
    assert found.worst == pytest.approx(10.0, rel=0.01)
    assert eta_text(found) == "10s (by limit)"


def test_nothing_is_known_without_a_limit_and_without_a_past() -> None:
    """It is said, not guessed."""
    (found,) = estimate(LANES, Link(None), (flow("m", MB),)).values()
    assert found == Estimate(None, None)
    assert eta_text(found).startswith("unknown")


def test_a_limit_of_its_own_on_an_unknown_link_is_only_a_lower_end() -> None:
    """The link may be slower."""
    (found,) = estimate(LANES, Link(None), (flow("m", 10 * MB, rate=8 * MBIT),)).values()
    assert found.best == pytest.approx(10.0, rel=0.02)
    assert found.worst is None
    assert eta_text(found).startswith("at least 10s")


def test_past_deliveries_give_a_range() -> None:
    """At best as fast as the fastest, at worst as the usual one, never above the limit."""
    link = Link(20 * MBIT, (8 * MBIT, 16 * MBIT, 40 * MBIT))
    (found,) = estimate(LANES, link, (flow("m", 10 * MB),)).values()
    assert found.best == pytest.approx(4.0, rel=0.01)
    assert found.worst == pytest.approx(5.0, rel=0.01)


def test_lanes_share_and_what_runs_already_is_in_the_way() -> None:
    """High has 70 of the 75 % that High and Low compete for; Low ends when all is sent."""
    flows = (
        flow("high", 70 * MB, "High"),
        flow("low", 10 * MB, "Low"),
        flow("running", 20 * MB, "High", planned=False),
    )
    found = estimate(LANES, Link(8 * MBIT), flows)
    assert set(found) == {"high", "low"}
    assert found["low"].best == pytest.approx(10.0, rel=0.01)
    assert found["low"].worst == pytest.approx(100.0, rel=0.01)
    assert found["high"].best == pytest.approx(70.0, rel=0.01)
    assert found["high"].worst is not None
    assert 72 < found["high"].worst < 100


def test_priority_within_a_lane_decides_who_waits() -> None:
    """The lower number goes first."""
    flows = (flow("second", 10 * MB, priority=20), flow("first", 10 * MB, priority=10))
    found = estimate(LANES, Link(8 * MBIT), flows)
    assert found["first"].worst == pytest.approx(10.0, rel=0.02)
    assert found["second"].worst == pytest.approx(20.0, rel=0.02)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["High", "Normal", "Low", "Idle"]),
            st.integers(0, 200),
            st.one_of(st.none(), st.floats(100, 1e6)),
            st.integers(0, 10**12),
            st.booleans(),
        ),
        min_size=1,
        max_size=12,
    ),
    st.one_of(st.none(), st.floats(100, 1e7)),
)
def test_a_range_is_never_upside_down_and_never_faster_than_the_link(
    entries: list[tuple[str, int, float | None, int, bool]], limit: float | None
) -> None:
    """Whatever is queued: best ≤ worst, and the last byte is not there before the link could carry all."""
    flows = tuple(
        Flow(f"m{number}", lane, priority, rate, size, planned)
        for number, (lane, priority, rate, size, planned) in enumerate(entries)
    )
    found = estimate(LANES, Link(limit), flows)
    assert set(found) == {f.mapping for f in flows if f.planned}
    for each in flows:
        if not each.planned or found[each.mapping].best is None:
            continue
        guess = found[each.mapping]
        assert guess.best is not None
        slowest = min(rate for rate in (limit, each.rate) if rate is not None)
        assert guess.best >= each.bytes / (slowest * 125.0) * 0.98 - 0.1
        assert guess.worst is None or guess.worst >= guess.best
    worst = [guess.worst for guess in found.values() if guess.worst is not None]
    if limit is not None and all(f.planned for f in flows):
        assert max(worst) >= sum(f.bytes for f in flows) / (limit * 125.0) * 0.98 - 0.1
