"""What windows say at an instant: midnight, daylight saving, overlaps."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model.spec import Overrun, Window
from agent.planning.windows import InForce, in_force

EVERY_DAY = (0, 1, 2, 3, 4, 5, 6)
WEEKDAYS = (0, 1, 2, 3, 4)


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def window(start: str, end: str, **fields: object) -> Window:
    def minute(text: str) -> int:
        hours, minutes = text.split(":")
        return int(hours) * 60 + int(minutes)

    given: dict[str, object] = {"days": EVERY_DAY, "send_rate_max": 200.0, **fields}
    return Window(start=minute(start), end=minute(end), **given)  # type: ignore[arg-type]


def test_without_windows_nothing_is_limited_and_nothing_will_change() -> None:
    assert in_force((), at("2026-06-01T12:00")) == InForce()


@pytest.mark.parametrize(
    ("now", "rate"),
    [("07:59:59", None), ("08:00", 200.0), ("18:59:59", 200.0), ("19:00", None)],
)
def test_a_window_holds_from_its_start_to_its_end(now: str, rate: float | None) -> None:
    found = in_force((window("08:00", "19:00"),), at(f"2026-06-01T{now}"))
    assert found.send_rate_max == rate


def test_the_next_change_is_known() -> None:
    windows = (window("08:00", "19:00"),)
    assert in_force(windows, at("2026-06-01T07:00")).until == at("2026-06-01T08:00")
    assert in_force(windows, at("2026-06-01T08:00")).until == at("2026-06-01T19:00")
    assert in_force(windows, at("2026-06-01T19:00")).until == at("2026-06-02T08:00")


def test_days_are_those_on_which_a_window_begins() -> None:
    """Friday's night window still holds on Saturday morning; Saturday's does not begin."""
    windows = (window("22:00", "06:00", days=WEEKDAYS),)
    assert in_force(windows, at("2026-06-06T05:59")).send_rate_max == 200.0
    assert in_force(windows, at("2026-06-06T23:00")).send_rate_max is None
    assert in_force(windows, at("2026-06-06T23:00")).until == at("2026-06-08T22:00")


def test_equal_times_are_a_whole_day() -> None:
    windows = (window("09:00", "09:00", days=(0,)),)
    assert in_force(windows, at("2026-06-01T09:00")).send_rate_max == 200.0
    assert in_force(windows, at("2026-06-02T08:59")).send_rate_max == 200.0
    assert in_force(windows, at("2026-06-02T09:00")).send_rate_max is None


def test_a_day_may_end_at_24_hours() -> None:
    windows = (window("18:00", "24:00"),)
    assert in_force(windows, at("2026-06-01T23:59")).until == at("2026-06-02T00:00")


def test_the_strictest_of_overlapping_windows_holds() -> None:
    windows = (
        window("08:00", "20:00", send_rate_max=500.0),
        window("10:00", "12:00", send_rate_max=100.0),
        window("11:00", "11:30", send_rate_max=None, pause=True, overrun=Overrun.FINISH),
        window("11:15", "11:20", send_rate_max=None, pause=True, overrun=Overrun.SUSPEND),
    )
    seen = [
        in_force(windows, at(f"2026-06-01T{now}")) for now in ("09:00", "10:30", "11:05", "11:16", "13:00")
    ]
    assert [(s.send_rate_max, s.pause) for s in seen] == [
        (500.0, False), (100.0, False), (100.0, True), (100.0, True), (500.0, False)
    ]  # fmt: skip
    assert [s.overrun for s in seen[2:4]] == [Overrun.FINISH, Overrun.SUSPEND]


def test_times_are_of_the_windows_zone() -> None:
    windows = (window("08:00", "19:00", timezone="Europe/Paris"),)
    assert in_force(windows, at("2026-06-01T06:00")).send_rate_max == 200.0
    assert in_force(windows, at("2026-06-01T05:59")).send_rate_max is None
    assert in_force(windows, at("2026-12-01T06:30")).send_rate_max is None


def test_a_time_that_is_skipped_in_spring_is_later() -> None:
    """On 29 March 2026 Paris goes from 02:00 to 03:00: 02:30 is then 03:30."""
    windows = (window("02:30", "05:00", timezone="Europe/Paris"),)
    paris = "Europe/Paris"
    assert in_force(windows, at("2026-03-29T03:15", paris)).send_rate_max is None
    assert in_force(windows, at("2026-03-29T03:30", paris)).send_rate_max == 200.0
    assert in_force(windows, at("2026-03-29T04:59", paris)).send_rate_max == 200.0


def test_a_time_that_comes_twice_in_autumn_is_covered_both_times() -> None:
    """On 25 October 2026 Paris has 02:00 to 03:00 twice: a window to 02:30 ends at the second."""
    windows = (window("02:15", "02:30", timezone="Europe/Paris"),)
    paris = "Europe/Paris"
    assert in_force(windows, at("2026-10-25T02:20", paris, fold=0)).send_rate_max == 200.0
    assert in_force(windows, at("2026-10-25T02:45", paris, fold=0)).send_rate_max == 200.0
    assert in_force(windows, at("2026-10-25T02:20", paris, fold=1)).send_rate_max == 200.0
    assert in_force(windows, at("2026-10-25T02:30", paris, fold=1)).send_rate_max is None


MINUTES = st.integers(0, 24 * 60 - 1)
WINDOWS = st.lists(
    st.builds(
        Window,
        days=st.sets(st.integers(0, 6), min_size=1).map(tuple),
        start=MINUTES,
        end=st.integers(0, 24 * 60),
        timezone=st.sampled_from(
            ["UTC", "Europe/Paris", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kolkata"]
        ),
        send_rate_max=st.none() | st.floats(1, 1e6),
        pause=st.booleans(),
        overrun=st.sampled_from(Overrun),
    ),
    max_size=4,
)
NOW = st.floats(at("2026-01-01T00:00"), at("2027-12-31T00:00"))


@given(WINDOWS, NOW, st.floats(0, 0.999))
def test_nothing_changes_before_the_next_change(windows: list[Window], now: float, part: float) -> None:
    """Whoever sleeps until `until` misses nothing."""
    found = in_force(windows, now)
    later = now + part * ((found.until or now + 86_400) - now)
    assert in_force(windows, later) == found


@given(WINDOWS, NOW)
def test_another_window_never_loosens_a_limit(windows: list[Window], now: float) -> None:
    more = in_force(windows, now)
    for dropped in range(len(windows)):
        less = in_force(windows[:dropped] + windows[dropped + 1 :], now)
        assert more.pause >= less.pause
        assert less.send_rate_max is None or (more.send_rate_max or 0) <= less.send_rate_max
