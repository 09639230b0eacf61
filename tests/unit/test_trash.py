"""`deletions.trash`: what would be deleted is moved out of the way at the destination."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from unit.reconcile_bench import Bench
from unit.test_renames import CannotRename, Odd, put

from agent.engines.memory_far import Deleting, Renaming
from agent.model.observed import FileOutcome, FileResult
from agent.model.spec import Deletions, OnRemove
from agent.planning.pruning import trash_path

RELAXED = Deletions(max_count=100, max_percent=1.0, trash=True)


def trashing(tmp_path: Path, *engine: object) -> Bench:
    bench = Bench(tmp_path, *engine)  # type: ignore[arg-type]
    bench.change(prune=True, deletions=RELAXED)
    return bench


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Bench]:
    bench = trashing(tmp_path)
    yield bench
    bench.agent.context.state.close()


def settle(b: Bench) -> None:
    for _ in range(5):
        b.pass_time(0.5)


def day(b: Bench) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(b.clock.now))


def test_a_deleted_file_is_found_in_the_trash_of_the_day(b: Bench) -> None:
    """Below the day with its whole path; the directory it left empty is deleted."""
    put(b, "d/e/a", "content"), put(b, "kept")
    b.converge()
    (b.source / "d/e/a").unlink()
    (b.source / "d/e").rmdir(), (b.source / "d").rmdir()
    b.look(), settle(b)
    assert b.status().ready
    assert set(b.at_destination) == {"/kept", f"/.lanesync-trash/{day(b)}/d/e/a"}
    asked = [request for _, request in b.engine.asked.values()]
    assert [r.files for r in asked if isinstance(r, Deleting)] == [()]
    assert [r.directories for r in asked if isinstance(r, Deleting)] == [("/d/e", "/d")]
    assert b.agent.context.state.ledger.count("m", "d") == 1


def test_the_same_file_twice_a_day_is_kept_twice(b: Bench) -> None:
    """The second one goes to a numbered day."""
    for content in ("one", "other", "third"):
        put(b, "a", content), put(b, "kept")
        b.look(), settle(b)
        (b.source / "a").unlink()
        b.look(), settle(b)
    sizes = {path: result.size for path, result in b.at_destination.items() if path != "/kept"}
    trash = f"/.lanesync-trash/{day(b)}"
    assert sizes == {f"{trash}/a": 3, f"{trash}.2/a": 5, f"{trash}.3/a": 5}
    assert b.status().ready


def test_a_file_that_was_replaced_by_a_directory_is_kept(b: Bench) -> None:
    """The one in the way goes to the trash, then the new one is sent."""
    put(b, "a", "content")
    b.converge()
    (b.source / "a").unlink()
    put(b, "a/b")
    b.look(), settle(b)
    assert set(b.at_destination) == {"/a/b", f"/.lanesync-trash/{day(b)}/a"}


def test_the_limits_hold_for_the_trash_too(b: Bench) -> None:
    """A mistake at the source does not empty the destination into its trash."""
    b.change(deletions=replace(RELAXED, max_count=0))
    put(b, "a"), put(b, "b")
    b.converge()
    (b.source / "a").unlink()
    b.look(), settle(b)
    assert "DeletionsHeld" in b.reasons()
    assert set(b.at_destination) == {"/a", "/b"}


def test_an_engine_that_cannot_rename_keeps_what_was_to_be_kept(tmp_path: Path) -> None:
    """Nothing is deleted, and a condition names the field."""
    b = trashing(tmp_path, CannotRename())
    put(b, "a"), put(b, "b")
    b.converge()
    (b.source / "a").unlink()
    b.look(), settle(b)
    assert set(b.at_destination) == {"/a", "/b"}
    (limited,) = [c for c in b.status().conditions if str(c.reason) == "Unsupported"]
    assert "deletions.trash" in limited.message


def test_what_cannot_be_moved_stays_and_is_said(tmp_path: Path) -> None:
    """A failure is a failure of the mapping, and is tried again; nothing is deleted instead."""
    engine = Odd()
    engine.outcome = FileOutcome.FAILED
    b = trashing(tmp_path, engine)
    put(b, "a"), put(b, "b")
    b.converge()
    (b.source / "a").unlink()
    b.look(), settle(b)
    assert set(b.at_destination) == {"/a", "/b"}
    assert not b.status().ready
    assert "so" in str([c.message for c in b.status().conditions])


def test_a_removed_mapping_moves_what_it_delivered_to_the_trash(b: Bench) -> None:
    """`onRemove: delete` with `trash: true` deletes nothing either."""
    b.change(on_remove=OnRemove.DELETE)
    put(b, "d/a")
    b.converge()
    before = b.agent.context.desired
    b.mapping = None  # type: ignore[assignment]
    b.agent._take(before, b.desired())
    settle(b), b.pass_time(10.0), settle(b)
    assert set(b.at_destination) == {f"/.lanesync-trash/{day(b)}/d/a"}


def test_a_place_in_the_trash_is_never_used_twice(b: Bench) -> None:
    """What somebody put there stays."""
    put(b, "a", "ours"), put(b, "kept")
    b.converge()
    (state,) = b.engine.observe(b.agent.context.state.agent_id).destinations
    theirs = trash_path("/a", b.clock.now)
    b.engine._trees[state.address, state.port][theirs] = FileResult(theirs, FileOutcome.DELIVERED, 99)
    (b.source / "a").unlink()
    b.look(), settle(b)
    assert b.at_destination[theirs].size == 99
    asked = [r for _, r in b.engine.asked.values() if isinstance(r, Renaming)]
    assert len(asked) == 2
