"""Times of a transfer: the request's is the wall clock's, all others are exact durations after it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.server import states, structures
from agent.server.clock import since_request
from agent.server.core import Core, open_core
from agent.server.options import ServeOptions
from agent.server.reports import Reports
from agent.server.store import transfers
from agent.server.store.database import Database
from agent.server.store.transfers import Transfer

START = 1_700_000_000_000_000


@dataclass
class FakeClock:
    """A wall clock that an operator may set, and a steady one."""

    wall: int = START
    steady: int = 5_000_000

    def wall_us(self) -> int:
        return self.wall

    def steady_us(self) -> int:
        return self.steady

    def passes(self, seconds: int) -> None:
        self.wall += seconds * 1_000_000
        self.steady += seconds * 1_000_000


def _requested(core: Core) -> Transfer:
    """A transfer stored as createTransfer does."""
    now = core.clock.wall_us()
    row = Transfer(
        id=0,
        uid="0" * 32,
        destination_id=1,
        manifest_id=2,
        status=states.PENDING,
        owner="me",
        destination_path="/",
        lane="Normal",
        priority=100,
        rate_max=None,
        flags=7,
        overwrite=4,
        checkpoint_seconds=30,
        time_resolution_us=0,
        timeout_seconds=0,
        total_files=1,
        total_size=5,
        request_us=now,
        request_clock_us=core.clock.steady_us(),
        queue_us=now,
    )
    return core.database.submit(transfers.create, row).result()


@pytest.mark.parametrize("set_back_by", [-3600, 0, 7 * 86_400])
def test_a_clock_that_is_set_changes_no_time_of_a_transfer(tmp_path: Path, set_back_by: int) -> None:
    """Started after 2 s, ended after 5 s, looked at after 6 s, whatever the wall clock says meanwhile."""

    async def scenario() -> None:
        clock = FakeClock()
        database = Database(tmp_path / "server.db")
        try:
            core = await open_core(ServeOptions(tmp_path), database, clock)
            made, reports = _requested(core), Reports(core)
            clock.passes(2)
            await database.run(reports.sending, made.id)
            clock.wall -= set_back_by * 1_000_000
            clock.passes(3)
            await database.run(reports.finish, made.id, {"status": "complete"})
            clock.passes(1)
            row = await database.run(transfers.get, made.id)
            shown = structures.transfer(row, row.counters, clock, {})
        finally:
            database.close()
        names = ("requestTime", "queueTime", "startTime", "endTime", "snapshotTime")
        assert [(shown[name] - START) // 1_000_000 for name in names] == [0, 0, 2, 5, 6]

    asyncio.run(scenario())


@given(st.integers(0, 2**60), st.integers(0, 2**60), st.integers(0, 2**40), st.integers(0, 2**40))
def test_durations_are_exact(request: int, steady: int, first: int, second: int) -> None:
    """Differences between times of one transfer are those of the steady clock, and never negative."""
    clock = FakeClock(wall=0, steady=steady + first)
    earlier = since_request(request, steady, clock)
    clock.steady += second
    assert since_request(request, steady, clock) - earlier == second
    assert earlier == request + first
