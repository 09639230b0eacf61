"""How long the agent waits between tries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.planning.backoff import delay

jitters = st.floats(0, 1, exclude_max=True)


@given(
    attempt=st.integers(-1, 10**9), interval=st.floats(0.01, 100), factor=st.floats(0.5, 1000), jitter=jitters
)
def test_delays_are_bounded(attempt: int, interval: float, factor: float, jitter: float) -> None:
    """Never less than half the interval (or of the most), never more than the most, after any number."""
    most = interval * factor
    found = delay(attempt, interval, most, jitter)
    assert min(interval, most) / 2 <= found <= most


@given(attempt=st.integers(1, 30), jitter=jitters)
def test_delays_grow(attempt: int, jitter: float) -> None:
    """With the same luck the next wait is never shorter, and it doubles at its longest."""
    assert delay(attempt + 1, 5, 600, jitter) >= delay(attempt, 5, 600, jitter)
    assert abs(delay(attempt, 5, 1e12, 1.0) - 5 * 2 ** (attempt - 1)) < 1e-3


def test_jitter_spreads_over_the_whole_range() -> None:
    """Many who failed at the same moment do not come back at the same moment."""
    waits = {delay(5, 5, 600, n / 10) for n in range(10)}
    assert len(waits) == 10
    assert min(waits) == 2.5
    assert max(waits) > 70
