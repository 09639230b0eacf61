"""`ready: {sentinel: .done}` in a whole agent, with real files."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.reconcile_bench import Bench

from agent.model.condition import ConditionType
from agent.model.spec import PathMapping, Ready, Trigger
from agent.reconcile.status import State

SEALED = Trigger(ready=Ready.SENTINEL, sentinel=".done", settle=0.2, max_wait=600.0)


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    bench.clock.now = time.time()
    bench.change(trigger=SEALED)
    bench.settle()
    yield bench
    bench.agent.context.state.close()


def put(b: Bench, name: str, text: str = "x") -> None:
    """Later than whatever was done before: the kernel's clock has ticked."""
    before = time.time_ns()
    path = b.source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        path.write_text(text)
        if path.stat().st_ctime_ns > before:
            return


def finish(b: Bench) -> None:
    """Let everything end that can."""
    for _ in range(8):
        b.pass_time(0.5)


def test_files_wait_until_their_directory_has_its_sentinel(b: Bench) -> None:
    """What waits is told with its number and place; the sentinel is delivered when its files are."""
    put(b, "A001/clip1"), put(b, "A001/audio/take1"), put(b, "A002/clip1")
    b.look()
    assert b.at_destination == {}
    said = b.status().conditions[0]
    assert (said.reason, said.message) == (
        "AwaitingSentinel",
        f"3 files wait for .done in {b.source}/A001 (and 2 more directories)",
    )
    assert b.status().detail["deliveries"][0]["awaitingSentinel"] == 3
    put(b, "A001/.done", "")
    b.touch("A001/.done")
    first = {t.total_files for t in b.engine.observe(b.agent.context.state.agent_id).transfers}
    assert first == {2}, "the sentinel is not among the first to go"
    finish(b)
    assert set(b.at_destination) == {"/A001/clip1", "/A001/audio/take1", "/A001/.done"}
    assert b.status().conditions[0].message == f"1 file waits for .done in {b.source}/A002"


def test_a_file_that_comes_after_the_sentinel_waits_for_a_newer_one(b: Bench) -> None:
    """So does one that is changed; touching the sentinel lets them go, and it goes again after them."""
    put(b, "A001/clip1"), put(b, "A001/.done", "")
    b.look()
    b.converge()
    put(b, "A001/clip2"), put(b, "A001/clip1", "longer than before")
    b.touch("A001/clip2", "A001/clip1")
    finish(b)
    assert "2 files wait" in b.status().conditions[0].message
    assert b.at_destination["/A001/clip1"].size == 1 and "/A001/clip2" not in b.at_destination
    put(b, "A001/.done", "again")
    b.touch("A001/.done")
    b.converge()
    assert b.at_destination["/A001/clip1"].size == 18 and "/A001/clip2" in b.at_destination
    assert b.at_destination["/A001/.done"].size == 5


def test_a_sentinel_stands_for_all_below_it_also_at_the_root(b: Bench) -> None:
    """The newest one above a file counts; a directory that was moved in with its sentinel is ready."""
    outside = b.directory / "card"
    (outside / "x").mkdir(parents=True)
    (outside / "x" / "clip").write_text("x")
    (outside / ".done").write_text("")
    os.rename(outside, b.source / "card")
    put(b, "old/.done", ""), put(b, "old/late"), put(b, "loose")
    b.look()
    finish(b)
    assert set(b.at_destination) == {"/card/x/clip", "/card/.done"}
    put(b, ".done", "")
    b.look()
    b.converge()
    assert set(b.at_destination) >= {"/old/late", "/loose", "/old/.done", "/.done"}


def test_a_sentinel_does_not_go_while_a_file_of_its_directory_waits(b: Bench) -> None:
    """Whoever sees it at the destination has everything that it stands for."""
    put(b, "A001/clip1"), put(b, "A001/.done", ""), put(b, "A001/clip2")
    b.look()
    finish(b)
    assert set(b.at_destination) == {"/A001/clip1"}


def test_a_sentinel_that_the_filters_leave_out_counts_and_is_not_delivered(b: Bench) -> None:
    """Readiness has nothing to do with what is sent."""
    b.change(paths=(PathMapping("/", str(b.source), include=("*.mov",)),))
    put(b, "A001/clip.mov"), put(b, "A001/.done", "")
    b.look()
    b.converge()
    assert set(b.at_destination) == {"/A001/clip.mov"}


def test_nothing_is_deleted_in_a_directory_that_is_being_worked_on(b: Bench) -> None:
    """Without its sentinel a directory keeps at the destination what it had; one that is gone is gone."""
    b.change(prune=True)
    for name in ("A001", "A002"):
        put(b, f"{name}/clip1"), put(b, f"{name}/clip2"), put(b, f"{name}/.done", "")
    put(b, "stays/.done", "")
    b.look()
    b.converge()
    (b.source / "A001" / ".done").unlink()
    (b.source / "A001" / "clip1").unlink()
    for path in ("clip1", "clip2", ".done"):
        (b.source / "A002" / path).unlink()
    (b.source / "A002").rmdir()
    b.look()
    finish(b)
    assert set(b.at_destination) == {"/A001/clip1", "/A001/clip2", "/A001/.done", "/stays/.done"}
    put(b, "A001/.done", "")
    b.look()
    b.converge()
    assert set(b.at_destination) == {"/A001/clip2", "/A001/.done", "/stays/.done"}


def test_what_is_renamed_after_the_sentinel_stays_under_its_old_name_until_it_is_renewed(b: Bench) -> None:
    """The destination is never without it: the old name goes when the new one may come."""
    b.change(prune=True)
    put(b, "A001/clip1"), put(b, "A001/clip2"), put(b, "A001/.done", "")
    b.look()
    b.converge()
    time.sleep(0.03)  # longer than the tick within which names belong to the sentinel
    (b.source / "A001" / "clip1").rename(b.source / "A001" / "clip3")
    b.look()
    finish(b)
    assert set(b.at_destination) == {"/A001/clip1", "/A001/clip2", "/A001/.done"}
    put(b, "A001/.done", "")
    b.touch("A001/.done")
    b.converge()
    assert set(b.at_destination) == {"/A001/clip2", "/A001/clip3", "/A001/.done"}


def test_waiting_for_too_long_is_told_with_what_to_do(b: Bench) -> None:
    """After `maxWait` a condition says so, by itself; it goes when the sentinel comes."""
    put(b, "A001/clip1")
    b.look()
    assert b.status().condition(ConditionType.LIMITED) is None
    for _ in range(13):
        b.pass_time(60.0)
    limited = b.status().condition(ConditionType.LIMITED)
    assert limited is not None and "longer than 10m" in limited.message and "touch" in limited.message
    put(b, "A001/.done", "")
    b.touch("A001/.done")
    b.converge()
    assert b.status().condition(ConditionType.LIMITED) is None


def test_who_waits_for_a_sentinel_is_not_on_its_way(b: Bench) -> None:
    """Nothing that this agent does ends the waiting, so that a command which waits for the end has one."""
    put(b, "A001/clip1")
    b.look()
    found = b.agent.overall()
    assert (found.state, "1 file waits for .done" in found.message) == (State.BLOCKED, True)


def test_a_restart_goes_on_with_what_is_sealed(b: Bench) -> None:
    """Killed between the files and their sentinel, the next agent delivers the sentinel."""
    put(b, "A001/clip1"), put(b, "A001/.done", "")
    b.look()
    b.crash()
    b.open()
    b.converge()
    assert set(b.at_destination) == {"/A001/clip1", "/A001/.done"}
