"""`deletions.grace`: a file is deleted at the destination when it has been gone for that long."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.reconcile_bench import Bench
from unit.test_renames import put, sent

from agent.model.change import Deletion, FileKind
from agent.model.spec import Deletions
from agent.planning.tombstones import due_at, split
from agent.reconcile.service import AgentService
from agent.state.attempts import Failures

GRACE = 1000.0


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.change(prune=True, deletions=Deletions(max_count=100, max_percent=1.0, grace=GRACE))
    for name in "abc":
        put(bench, name)
    bench.converge()
    yield bench
    bench.agent.context.state.close()


def settle(b: Bench) -> None:
    for _ in range(3):
        b.pass_time(0.5)
    b.converge()


def test_a_file_is_deleted_when_it_has_been_gone_for_the_grace(b: Bench) -> None:
    """Not a second earlier, without anybody asking; meanwhile everything is in sync."""
    (b.source / "a").unlink()
    b.look(), settle(b)
    b.pass_time(GRACE - 10.0)
    assert set(b.at_destination) == {"/a", "/b", "/c"}
    assert b.status().ready
    b.pass_time(120.0), settle(b)
    assert set(b.at_destination) == {"/b", "/c"}
    assert b.agent.context.state.tombstones.all("m", "d") == {}


def test_the_plan_and_the_status_say_what_waits_until_when(b: Bench) -> None:
    """A person sees what is going to be deleted, and when."""
    (b.source / "a").unlink()
    (b.source / "b").unlink()
    plan = AgentService(b.agent).plan([])
    assert b.agent.context.state.tombstones.all("m", "d") == {}, "asking for a plan changes nothing"
    assert plan["summary"] == "2 deletions in grace"
    b.look(), settle(b)
    (delivery,) = b.status().detail["deliveries"]
    assert delivery["deletionsInGrace"] == 2
    assert b.clock.now < delivery["nextDeletion"] <= b.clock.now + GRACE
    assert b.agent.context.state.tombstones.since("m", "d", "/a") is not None


def test_a_file_that_comes_back_is_neither_deleted_nor_sent(b: Bench) -> None:
    """Moved away and back, unchanged: the tombstone is dropped, and counts for nothing later."""
    away = b.directory / "away"
    before = sent(b)
    (b.source / "a").rename(away)
    b.touch("a"), settle(b)
    assert b.agent.context.state.tombstones.since("m", "d", "/a") is not None
    b.pass_time(GRACE * 0.9)
    away.rename(b.source / "a")
    b.touch("a"), settle(b)
    assert b.agent.context.state.tombstones.all("m", "d") == {}
    away_again = b.directory / "again"
    (b.source / "a").rename(away_again)
    b.touch("a"), settle(b)
    b.pass_time(GRACE * 0.5), settle(b)
    assert "/a" in b.at_destination
    assert sent(b) == before


def test_a_file_that_comes_back_changed_is_sent(b: Bench) -> None:
    """Only the one that was delivered needs no sending."""
    before = len(sent(b))
    away = b.directory / "away"
    (b.source / "a").rename(away)
    b.look(), settle(b)
    away.write_text("changed")
    away.rename(b.source / "a")
    b.look(), settle(b)
    assert len(sent(b)) == before + 1
    assert b.at_destination["/a"].size == len("changed")


def test_a_tombstone_survives_a_restart_and_a_lost_one_starts_again(b: Bench) -> None:
    """It is on disk; when it is not, the file stays longer, never shorter."""
    (b.source / "a").unlink()
    b.look(), settle(b)
    since = b.agent.context.state.tombstones.since("m", "d", "/a")
    b.crash()
    b.open()
    settle(b)
    b.pass_time(10.0)
    assert b.agent.context.state.tombstones.since("m", "d", "/a") == since
    b.agent.context.state.tombstones.clear("m")
    b.look(), settle(b)
    later = b.agent.context.state.tombstones.since("m", "d", "/a")
    assert since is not None and later is not None and later > since


def test_a_clock_that_was_set_back_deletes_nothing_early(b: Bench) -> None:
    """The grace starts again at the time that is now."""
    (b.source / "a").unlink()
    b.look(), settle(b)
    b.clock.time = lambda: b.clock.now - 5_000_000.0  # type: ignore[method-assign]
    b.look(), settle(b)
    since = b.agent.context.state.tombstones.since("m", "d", "/a")
    assert since is not None and since <= b.clock.time()
    b.pass_time(GRACE * 0.5), settle(b)
    assert "/a" in b.at_destination


def test_a_clock_that_was_set_forward_deletes_nothing_early(b: Bench) -> None:
    """What is left of the grace still has to pass, also when the agent is started again after that."""
    (b.source / "a").unlink()
    b.look(), settle(b)
    b.pass_time(GRACE * 0.5), settle(b)
    b.clock.time = lambda: b.clock.now + 50_000_000.0  # type: ignore[method-assign]
    b.look(), settle(b)
    assert "/a" in b.at_destination
    b.crash(), b.open(), settle(b)
    assert "/a" in b.at_destination
    b.pass_time(GRACE * 0.6 + 120.0), settle(b)
    assert "/a" not in b.at_destination


def test_what_waits_to_be_tried_again_moves_with_a_clock_that_is_set(b: Bench) -> None:
    """A clock that is set back by a month lengthens no pause."""
    state = b.agent.context.state
    state.attempts.set_failures("m", "d", "r", Failures(3, 1000.0, "no"))
    state.clock_was_set(-400.0)
    assert state.attempts.failures("m", "d", "r").next_retry_at == 600.0


def test_the_limits_are_checked_when_deletions_are_due_as_one_set(b: Bench) -> None:
    """While they wait nobody is asked; then all of them are one removal."""
    b.change(deletions=Deletions(max_count=1, grace=GRACE))
    for name in "ab":
        (b.source / name).unlink()
    b.look(), settle(b)
    assert "DeletionsHeld" not in b.reasons()
    b.pass_time(GRACE + 110.0)
    b.pass_time(1.0)
    assert "DeletionsHeld" in b.reasons()
    assert set(b.at_destination) == {"/a", "/b", "/c"}


def test_a_file_that_waits_can_still_be_renamed(b: Bench) -> None:
    """Moved out and, after a while, in again under another name: nothing is sent."""
    before = sent(b)
    away = b.directory / "away"
    (b.source / "a").rename(away)
    b.look(), settle(b)
    away.rename(b.source / "other")
    b.look(), settle(b)
    assert set(b.at_destination) == {"/b", "/c", "/other"}
    assert sent(b) == before


def test_what_is_replaced_by_another_kind_does_not_wait(b: Bench) -> None:
    """A file where an empty directory is wanted is in the way, not gone."""
    (b.source / "a").unlink()
    (b.source / "a").mkdir()
    b.look(), settle(b)
    assert b.agent.context.state.ledger.entry("m", "d", "/a").kind is FileKind.EMPTY_DIRECTORY  # type: ignore[union-attr]


def test_without_grace_tombstones_are_forgotten(b: Bench) -> None:
    """A spec that takes the grace back deletes at once what waited."""
    (b.source / "a").unlink()
    b.look(), settle(b)
    b.change(deletions=Deletions(max_percent=1.0))
    settle(b)
    assert set(b.at_destination) == {"/b", "/c"}
    assert b.agent.context.state.tombstones.all("m", "d") == {}


@given(st.floats(0, 1e9), st.floats(0, 1e9), st.floats(1, 1e7))
def test_nothing_is_due_before_the_grace_is_over(since: float, now: float, grace: float) -> None:
    """Whatever the clock says: due only when it shows the grace as over."""
    deletion = (Deletion("/a", FileKind.FILE),)
    due, later = split(("m", "d"), deletion, frozenset(), {"/a": since}, grace, now)
    assert bool(due) != bool(later)
    assert not due or now - since >= grace * 0.999999
    assert due_at(since, grace, now) <= max(now, since) + grace
