"""`trigger.schedule` in a whole agent: looks by the clock, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from unit.reconcile_bench import MAPPING, Bench

from agent.model.spec import Trigger
from agent.reconcile.wallclock import WallClock

PARIS = "Europe/Paris"
NIGHTLY = Trigger(watch=False, interval=None, schedule="0 2 * * *", timezone=PARIS)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(PARIS)).timestamp()


class NightBench(Bench):
    """Its agent runs on, rather than making one pass."""

    def open(self) -> None:
        super().open()
        self.agent.mappings.once = False


@pytest.fixture
def b(tmp_path: Path) -> Iterator[NightBench]:
    bench = NightBench(tmp_path)
    bench.clock.now = at("2026-06-01 12:00")
    bench.change(trigger=NIGHTLY)
    (bench.source / "first").write_text("x")
    bench.converge()
    yield bench
    bench.agent.context.state.close()


def go_to(b: Bench, text: str) -> None:
    b.pass_time(at(text) - b.clock.now)
    b.settle()


def delivered(b: Bench) -> set[str]:
    b.converge()
    return set(b.at_destination)


def test_changes_wait_for_the_time_of_day(b: NightBench) -> None:
    """With `watch: false` and no interval, the schedule alone decides; the status says when it looks next."""
    (b.source / "second").write_text("x")
    assert "next look 2026-06-02 02:00 Europe/Paris" in b.status().conditions[0].message
    assert b.status().detail["schedule"]["next"] == at("2026-06-02 02:00")
    go_to(b, "2026-06-02 01:59")
    assert delivered(b) == {"/first"}
    go_to(b, "2026-06-02 02:00")
    assert delivered(b) == {"/first", "/second"}


def test_the_agent_wakes_up_by_itself(b: NightBench) -> None:
    """Nothing but the passing of time brings the look about, whether the day has 23 or 25 hours."""
    for day in range(2, 9):
        (b.source / str(day)).write_text("x")
        for _ in range(26):
            b.pass_time(3600.0)
        assert f"/{day}" in b.at_destination


def test_times_missed_while_no_agent_ran_are_made_up_for_once(b: NightBench) -> None:
    """After days without an agent, one look; a restart without a missed time looks at nothing."""
    (b.source / "second").write_text("x")
    b.crash()
    b.clock.now = at("2026-06-05 09:00")
    b.open()
    assert delivered(b) == {"/first", "/second"}
    (b.source / "third").write_text("x")
    b.crash()
    b.clock.now = at("2026-06-05 10:00")
    b.open()
    b.pass_time(60.0)
    assert delivered(b) == {"/first", "/second"}
    assert b.status().conditions[0].message.startswith("2 files at d")
    go_to(b, "2026-06-06 02:00")
    assert "/third" in delivered(b)


def test_what_was_begun_before_a_crash_is_looked_at_again(b: NightBench) -> None:
    """A transfer whose end nobody saw makes the next start a whole look."""
    (b.source / "second").write_text("x" * 3000)
    b.destination = b.destination.__class__("d", "receiver", 1, server="s", send_rate_max=8.0)
    b.take()
    go_to(b, "2026-06-02 02:00")
    assert b.transfers()
    b.engine.lose(b.transfers()[0])
    b.crash()
    b.open()
    for _ in range(10):
        b.pass_time(1.0)
    assert "/second" in delivered(b)


def test_a_time_that_passes_while_suspended_is_made_up_for(b: NightBench) -> None:
    """One look when it goes on."""
    (b.source / "second").write_text("x")
    state = b.agent.context.state
    state.overrides.set(MAPPING, "maintenance", "me", b.clock.now, None)
    go_to(b, "2026-06-02 03:00")
    assert set(b.at_destination) == {"/first"}
    state.overrides.clear(MAPPING)
    b.agent.context.queue.add(MAPPING)
    b.settle()
    assert delivered(b) == {"/first", "/second"}


def test_a_clock_that_is_set_back_costs_no_later_look(b: NightBench) -> None:
    """The agent looked last in a year that turned out wrong: from the correction on, times count as ever."""
    b.clock.now = at("2031-01-01 00:00")
    b.look()
    b.clock.now = at("2026-06-01 13:00")
    b.agent.context.queue._schedule._waiting.clear()
    b.agent.context.queue.add(MAPPING)
    b.settle()
    (b.source / "second").write_text("x")
    go_to(b, "2026-06-02 02:00")
    assert "/second" in delivered(b)


def test_a_schedule_is_further_to_the_interval(b: NightBench) -> None:
    """With an interval of its own, whole looks come by both."""
    b.change(trigger=Trigger(watch=False, interval=3600.0, schedule="0 2 * * *", timezone=PARIS))
    b.converge()
    (b.source / "second").write_text("x")
    b.pass_time(3601.0)
    assert "/second" in delivered(b)


def test_a_clock_that_was_set_is_noticed() -> None:
    """Both clocks going on together is nothing; one leaping, either way, is."""
    clock, found = WallClock(), list[float]()
    for wall, monotonic in ((1000.0, 5.0), (1010.0, 15.5), (4610.0, 25.0), (4620.0, 35.0), (1000.0, 45.0)):
        clock.look(wall, monotonic, found.append)
    assert found == [3590.5, -3630.0]
