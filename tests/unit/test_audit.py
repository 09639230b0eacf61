"""The audit trail: what was done to which files, by whom, and how much of it is kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.reconcile_bench import Bench

from agent.state.audit import TRIM_EVERY, Act, FileAct, Retention
from agent.state.db import State, open_state


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.agent.context.state.close()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    made = open_state(str(tmp_path))
    yield made
    made.close()


def lines(state: State, **wanted: object) -> list[tuple[str, str]]:
    return [(line.file.action, line.file.path) for line in state.audit.files(**wanted)]  # type: ignore[arg-type]


def test_a_delivery_is_an_act_with_a_line_for_each_file(b: Bench) -> None:
    """What was new, what was changed, with size and attempt; by path also alone."""
    (b.source / "a").write_text("one")
    (b.source / "dir").mkdir()
    (b.source / "dir" / "b").write_text("three")
    b.converge()
    (b.source / "a").write_text("other")
    b.touch("a")
    b.converge()
    state = b.agent.context.state
    acts = [act for act in state.audit.acts(key="Mapping/m") if act.action == "deliver"]
    assert [(act.files, act.bytes, act.outcome, act.who) for act in acts] == [
        (2, 8, "complete", "agent"),
        (1, 5, "complete", "agent"),
    ]
    assert sorted(lines(state)) == [("create", "/a"), ("create", "/dir/b"), ("update", "/a")]
    assert lines(state, path="/a") == [("create", "/a"), ("update", "/a")]
    assert lines(state, path="/dir") == [("create", "/dir/b")]
    assert lines(state, path="/di") == []
    assert lines(state, attempt=acts[1].attempt) == [("update", "/a")]


def test_what_fails_is_in_the_trail_with_its_error(b: Bench) -> None:
    """An act counts what failed beside what was delivered."""
    (b.source / "good").write_text("x"), (b.source / "bad").write_text("x")
    b.settle()
    (b.source / "bad").unlink()
    (b.source / "bad").symlink_to("/dev/null")
    b.pass_time(0.1)
    state = b.agent.context.state
    (act,) = [act for act in state.audit.acts(key="Mapping/m") if act.action == "deliver"]
    assert (act.files, act.failed) == (1, 1)
    (failed,) = state.audit.files(path="/bad")
    assert failed.file.action == "fail"
    assert failed.file.error != ""


def test_deletions_are_in_the_trail(b: Bench) -> None:
    """With the paths, after the ledger has forgotten them."""
    b.change(prune=True)
    (b.source / "a").write_text("x"), (b.source / "b").write_text("x")
    b.converge()
    (b.source / "a").unlink()
    b.touch("a")
    b.converge()
    assert ("delete", "/a") in lines(b.agent.context.state, path="/a")
    assert "delete" in [act.action for act in b.agent.context.state.audit.acts(key="Destination/d")]


def test_names_that_are_not_utf8_survive(state: State) -> None:
    """A byte that is no text is found again by its path."""
    name = "/d/\udcff"
    state.audit.add_files("m", "d", 1, "r", [FileAct("create", name, 3)], 1.0)
    assert lines(state, path=name) == [("create", name)]
    assert lines(state, path="/d") == [("create", name)]


def test_a_rename_is_found_under_both_names(state: State) -> None:
    """The path before is the line's detail."""
    state.audit.add_files("m", "d", 1, "r", [FileAct("rename", "/new", 3, detail="/old")], 1.0)
    assert lines(state, path="/old") == lines(state, path="/new") == [("rename", "/new")]


def test_acts_are_bounded_by_number_and_age(state: State) -> None:
    """The oldest go first."""
    state.audit.retention = Retention(acts=5, age=1000.0)
    for number in range(10):
        state.audit.add(Act(float(number), "Mapping/m", "approve", who="ada"))
    state.audit.trim(10.0)
    assert [act.at for act in state.audit.acts()] == [5.0, 6.0, 7.0, 8.0, 9.0]
    state.audit.trim(1007.5)
    assert [act.at for act in state.audit.acts()] == [8.0, 9.0]


def test_lines_about_files_are_bounded_by_their_size_without_being_asked(state: State) -> None:
    """One-file pages included: they are the costliest."""
    state.audit.retention = Retention(bytes=50_000)
    for number in range(TRIM_EVERY + 10):
        state.audit.add_files("m", "d", number, "r", [FileAct("create", f"/f{number}")], float(number))
    kept = state.audit.files(limit=10_000)
    assert 50 < len(kept) < 300
    assert kept[-1].file.path == f"/f{TRIM_EVERY + 9}"


def test_who_asked_is_kept(state: State) -> None:
    """With the reason and the number of the request."""
    state.audit.add(Act(1.0, "Mapping/m", "suspend", who="ada", reason="disk swap", request="r1"))
    (act,) = state.audit.acts(key="Mapping/m")
    assert (act.who, act.reason, act.request) == ("ada", "disk swap", "r1")


def test_the_same_event_within_a_while_is_counted(state: State) -> None:
    """With the newest text, and a new number for those who follow; later it is an event of its own."""
    first = state.events.tell(0.0, None, "Warning", "Retrying", "in 5 s")
    second = state.events.tell(60.0, None, "Warning", "Retrying", "in 10 s")
    state.events.tell(61.0, None, "Normal", "InSync", "3 files")
    (event, other) = state.events.since(0)
    assert (event.seq, event.message, event.count, event.first) == (second, "in 10 s", 2, 0.0)
    assert second > first
    assert other.count == 1
    state.events.tell(5000.0, None, "Warning", "Retrying", "in 5 s")
    assert [e.count for e in state.events.since(0)] == [2, 1, 1]
