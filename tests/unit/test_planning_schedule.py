"""Cron expressions: which times they mean, around changes of the clock too, and how bad ones are refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.planning.schedule import ALIASES, is_due, next_time, schedule_problem

PARIS = "Europe/Paris"


def at(text: str, zone: str = PARIS, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def times(expression: str, start: float, end: float, zone: str = PARIS) -> list[str]:
    """Every time in (start, end], in UTC."""
    found, now = [], start
    while (coming := next_time(expression, zone, now)) is not None and coming <= end:
        found.append(datetime.fromtimestamp(coming, UTC).strftime("%d %H:%M"))
        now = coming
    return found


def test_a_time_of_day_is_meant_in_its_zone() -> None:
    """02:00 in Paris is 01:00 UTC in winter and 00:00 UTC in summer."""
    assert next_time("0 2 * * *", PARIS, at("2026-01-10 12:00")) == at("2026-01-11 01:00", "UTC")
    assert next_time("0 2 * * *", PARIS, at("2026-07-10 12:00")) == at("2026-07-11 00:00", "UTC")


def test_a_time_that_the_clock_skips_comes_right_after_the_gap() -> None:
    """On 29 March 2026 02:30 does not exist: once at 03:00 summer time, and never twice."""
    found = times("30 2 * * *", at("2026-03-28 12:00"), at("2026-03-31 00:00"))
    assert found == ["29 01:00", "30 00:30"]


def test_a_time_that_the_clock_shows_twice_comes_once() -> None:
    """On 25 October 2026 02:30 is at 00:30 and at 01:30 UTC."""
    found = times("30 2 * * *", at("2026-10-24 12:00"), at("2026-10-27 00:00"))
    assert found == ["25 00:30", "26 01:30"]


def test_within_the_second_of_two_equal_hours_the_next_time_is_tomorrow() -> None:
    """What is asked for is later than now, always."""
    second = at("2026-10-25 02:10", fold=1)
    assert next_time("30 2 * * *", PARIS, second) == at("2026-10-26 02:30")


def test_every_so_many_minutes_goes_by_elapsed_time() -> None:
    """A day of 23 or 25 hours has as many half hours as fit into it."""
    assert len(times("*/30 * * * *", at("2026-03-29 00:00"), at("2026-03-30 00:00"))) == 46
    assert len(times("*/30 * * * *", at("2026-10-25 00:00"), at("2026-10-26 00:00"))) == 50


@pytest.mark.parametrize("alias", ALIASES)
def test_names_stand_for_expressions(alias: str) -> None:
    """`@daily` and its like mean what cron says, in any case of letters."""
    assert schedule_problem(alias) == ""
    now = at("2026-05-05 05:05")
    assert next_time(alias.upper(), PARIS, now) == next_time(ALIASES[alias], PARIS, now)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("61 * * * *", "wrong minute"),
        ("0 2 * * funday", "wrong day of week"),
        ("0 2 * *", "has 4 fields"),
        ("", "has 0 fields"),
        ("*/5 * * * * *", "has 6 fields"),
        ("@reboot", "not one of @yearly"),
        ("0 0 31 2 *", "day of month"),
        ("* * */20 * 1L", "never comes"),
        ("* " * 500, "too long"),
    ],
)
def test_a_bad_expression_is_refused_with_what_to_write(expression: str, said: str) -> None:
    """The message names the field or shows an example."""
    assert re.search(said, schedule_problem(expression))


def test_missed_times_are_one() -> None:
    """After a week without an agent one look is due, and after it none."""
    looked = at("2026-06-01 02:00")
    now = at("2026-06-08 10:00")
    assert is_due("0 2 * * *", PARIS, looked, now)
    assert not is_due("0 2 * * *", PARIS, now, now)


FIELD = st.sampled_from(["*", "0", "1", "2", "*/2", "1-3", "2,3"])


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["*", "0", "30", "*/15", "5,35"]),
    FIELD,
    st.sampled_from(["*", "1", "28", "L"]),
    st.sampled_from(["*", "3", "10"]),
    st.sampled_from(["*", "0", "mon-fri", "7"]),
    st.sampled_from([PARIS, "UTC", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia"]),
    st.integers(1_700_000_000, 1_900_000_000),
)
def test_the_next_time_is_later_and_there_is_none_between(
    minute: str, hour: str, day: str, month: str, weekday: str, zone: str, now: int
) -> None:
    """Going on from any moment before a time leads to that time."""
    expression = f"{minute} {hour} {day} {month} {weekday}"
    coming = next_time(expression, zone, now)
    if coming is None:
        return
    assert coming > now
    between = (now + coming) / 2
    assert next_time(expression, zone, between) == coming
