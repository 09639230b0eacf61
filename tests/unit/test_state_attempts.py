"""Attempts: what is in flight is known, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.model.change import FileKind, FileStat
from agent.state.attempts import Failures
from agent.state.db import State, open_state

M, D = "dailies", "archive"
STAT = FileStat(FileKind.FILE, 5, 1, 2, 3, False)
NEWER = FileStat(FileKind.FILE, 6, 2, 3, 3, True)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = open_state(str(tmp_path))
    yield opened
    opened.close()


def test_an_attempt_is_remembered_before_it_has_an_id(tmp_path: Path, state: State) -> None:
    """A crash between writing it down and asking the server leaves an attempt without a transfer."""
    made = state.attempts.open(M, D, "transfer", "c", "r", [("/a", "/src/a", STAT)], now=7.0)
    state.close()
    again = open_state(str(tmp_path))
    assert again.attempts.pending() == (made,)
    assert made.transfer_id is None
    assert again.attempts.left(made.number) == {"/a": (STAT, "/src/a")}
    again.close()


def test_numbers_are_never_used_twice(tmp_path: Path) -> None:
    """Neither after an attempt was closed nor after a restart."""
    seen = []
    for _ in range(3):
        state = open_state(str(tmp_path))
        for _ in range(3):
            attempt = state.attempts.open(M, D, "transfer", "c", "r", [], now=1.0)
            state.attempts.finish(attempt.number, "complete", "", now=2.0)
            seen.append(attempt.number)
        state.close()
    assert len(set(seen)) == 9
    assert seen == sorted(seen)


def test_settled_paths_leave_flight_and_tell_what_was_planned(state: State) -> None:
    """Delivered paths give back version and source; failed ones only leave."""
    paths = [("/a", "/src/a", STAT), ("/b", "/src/\udcff", NEWER), ("/c", "/src/c", STAT)]
    attempt = state.attempts.open(M, D, "transfer", "c", "r", paths, now=1.0)
    delivered = state.attempts.settle(attempt.number, [("/b", True), ("/c", False), ("/x", True)], cursor=4)
    assert delivered == {"/b": (NEWER, "/src/\udcff")}
    assert state.attempts.in_flight(M, D) == {"/a": (STAT, attempt.number)}
    assert state.attempts.pending()[0].cursor == 4
    assert state.attempts.in_flight_count(M, D) == 1


def test_a_cursor_never_goes_back(state: State) -> None:
    """Results that are handed in out of order do not make the agent read old ones again."""
    attempt = state.attempts.open(M, D, "transfer", "c", "r", [], now=1.0)
    state.attempts.settle(attempt.number, [], cursor=9)
    state.attempts.settle(attempt.number, [], cursor=4)
    assert state.attempts.of(M)[0].cursor == 9


def test_a_deletion_in_flight_has_no_version(state: State) -> None:
    """Deletions are attempts too, told apart by the missing version."""
    attempt = state.attempts.open(M, D, "delete", "c", "r", [("/a/b", "", None)], now=1.0)
    assert state.attempts.in_flight(M, D, ["/a/b", "/other"]) == {"/a/b": (None, attempt.number)}
    assert state.attempts.in_flight_directory(M, D, "/a") == {"/a/b": (None, attempt.number)}
    assert state.attempts.in_flight_directory(M, D, "/") == {}


def test_the_newest_attempt_of_a_path_is_the_one_in_flight(state: State) -> None:
    """When two carry the same path, the later one says what will be there."""
    state.attempts.open(M, D, "transfer", "c", "r", [("/a", "/s", STAT)], now=1.0)
    second = state.attempts.open(M, D, "transfer", "c", "r", [("/a", "/s", NEWER)], now=2.0)
    assert state.attempts.in_flight(M, D, ["/a"]) == {"/a": (NEWER, second.number)}
    state.attempts.finish(second.number, "error", "gone", now=3.0)
    assert state.attempts.in_flight(M, D, ["/a"])["/a"][0] == STAT


def test_a_finished_attempt_is_history(state: State) -> None:
    """Nothing of it is in flight, and its outcome can be looked up."""
    attempt = state.attempts.open(M, D, "transfer", "c", "r", [("/a", "/s", STAT)], now=1.0)
    state.attempts.created(attempt.number, "17", "4")
    (found,) = state.attempts.by_transfer("17")
    assert found is not None and (found.number, found.manifest_id) == (attempt.number, "4")
    state.attempts.finish(attempt.number, "error", "no space", now=5.0)
    state.attempts.finish(attempt.number, "complete", "", now=6.0)
    assert state.attempts.pending() == ()
    assert state.attempts.in_flight_count(M, D) == 0
    (past,) = state.attempts.history(M)
    assert (past.outcome, past.error, past.finished_at, past.files) == ("error", "no space", 5.0, 1)


def test_failures_are_counted_per_revision(state: State) -> None:
    """A new revision begins without failures."""
    state.attempts.set_failures(M, D, "r1", Failures(3, 99.0, "refused"))
    assert state.attempts.failures(M, D, "r1") == Failures(3, 99.0, "refused")
    assert state.attempts.failures(M, D, "r2") == Failures()
    state.attempts.reset_failures(M, D)
    assert state.attempts.failures(M, D, "r1") == Failures()
