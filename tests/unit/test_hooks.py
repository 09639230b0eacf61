"""Hooks are called at least once, in order, never twice at a time, and nothing waits for them."""

from __future__ import annotations

import fcntl
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unit.reconcile_bench import Bench

from agent.model.spec import Hooks
from agent.reconcile.hooks import LATEST, HookRunner
from agent.specs.policy import Command, Policy
from agent.specs.policy_rules import PathRule, parse_address
from agent.state import hooks as store


class Called(Bench):
    """The hook appends what it is told to a file, and ends with the number that another file holds."""

    def __init__(self, directory: Path) -> None:
        self.told = directory / "told"
        self.code = directory / "code"
        self.code.write_text("0")
        super().__init__(directory)
        self.change(hooks=Hooks("tell", "tell"))

    def open(self) -> None:
        super().open()
        script = (
            f"tr -d '\\n' >> {self.told}; echo >> {self.told}; echo not today >&2; exit $(cat {self.code})"
        )
        self.allow(Command(("/bin/sh", "-c", script), 10.0))

    def allow(self, command: Command) -> None:
        self.agent.context.policy = Policy(
            "p",
            sources=(PathRule("/"),),
            addresses=(parse_address({"host": "*"}),),
            hooks={"tell": command},
        )

    def call_hooks(self) -> None:
        """Make the calls that are due, to their ends."""
        runner = self.agent.hooks
        runner.start_due()
        while runner._running or runner._due()[0]:
            with runner._idle:
                runner._idle.wait_for(lambda: not runner._running)
            runner.start_due()
        self.settle()

    def calls(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.told.read_text().splitlines()] if self.told.exists() else []

    def reasons_of(self) -> set[str]:
        return {str(c.reason) for c in self.status().conditions}


@pytest.fixture
def bench(tmp_path: Path) -> Called:
    return Called(tmp_path)


def test_a_hook_is_told_what_was_delivered(bench: Called) -> None:
    """Mapping, destination, revision, paths, counts; once for all that went together."""
    for number in range(3):
        (bench.source / f"f{number}").write_text("x" * number)
    bench.converge()
    bench.call_hooks()
    [call] = bench.calls()
    assert (call["event"], call["mapping"], call["destination"]) == ("delivered", "m", "d")
    assert (call["files"], call["bytes"], call["pathsOmitted"], call["complete"]) == (3, 3, 0, True)
    assert (sorted(call["paths"]), call["revision"]) == (["/f0", "/f1", "/f2"], "r")
    bench.look()
    bench.call_hooks()
    assert len(bench.calls()) == 1


def test_many_paths_are_counted_and_the_first_are_named(
    bench: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MAX_PATHS", 5)
    for number in range(12):
        (bench.source / f"f{number}").write_text("x")
    bench.converge()
    bench.call_hooks()
    [call] = bench.calls()
    assert (call["files"], len(call["paths"]), call["pathsOmitted"]) == (12, 5, 7)


def test_names_that_are_no_text_reach_the_hook(bench: Called) -> None:
    with open(os.fsencode(bench.source) + b"/\xff", "wb") as file:
        file.write(b"x")
    bench.converge()
    bench.call_hooks()
    assert bench.calls()[0]["paths"] == ["/\udcff"]


def test_what_was_not_told_before_a_crash_is_told_after_it(bench: Called) -> None:
    """The delivery and the call that is owed are one transaction."""
    (bench.source / "f").write_text("x")
    bench.converge()
    bench.crash()
    bench.open()
    bench.settle()
    bench.call_hooks()
    assert [call["paths"] for call in bench.calls()] == [["/f"]]


def test_a_hook_that_fails_is_called_again_and_delivery_goes_on(bench: Called) -> None:
    """The status names it, and says nothing more once it succeeds; what came meanwhile is told next."""
    bench.code.write_text("3")
    (bench.source / "f").write_text("x")
    bench.converge()
    bench.call_hooks()
    [failed] = [c for c in bench.status().conditions if str(c.reason) == "HookFailed"]
    assert "hook tell: ended with 3: not today" in failed.message
    assert "HookFailed" in [event.reason for event in bench.agent.context.state.events.since(0)]
    (bench.source / "g").write_text("x")
    bench.look()
    bench.converge()
    bench.call_hooks()
    assert len(bench.calls()) == 1  # not yet: it waits longer each time
    bench.code.write_text("0")
    bench.pass_time(60)
    bench.call_hooks()
    assert [(call["paths"], call["attempt"]) for call in bench.calls()] == [
        (["/f"], 1),
        (["/f"], 2),
        (["/g"], 1),
    ]
    assert "HookFailed" not in bench.reasons_of()


def test_a_hook_that_keeps_failing_owes_no_more_than_two_calls(bench: Called) -> None:
    """What is delivered meanwhile is gathered in one."""
    bench.code.write_text("1")
    for number in range(5):
        (bench.source / f"f{number}").write_text("x")
        bench.look()
        bench.converge()
        bench.call_hooks()
    rows = bench.agent.context.state._db.rows("SELECT files, sealed FROM hook_calls ORDER BY number")
    assert [tuple(row) for row in rows] == [(1, 1), (4, 0)]


def test_a_mapping_that_is_stalled_calls_its_hook(bench: Called) -> None:
    """Once for each reason, with the words of the condition."""
    (bench.source / "f").write_text("x")
    bench.converge()
    bench.call_hooks()
    bench.source.rename(bench.directory / "away")
    bench.look()
    bench.pass_time(40)
    bench.call_hooks()
    stalled = [call for call in bench.calls() if call["event"] == "stalled"]
    assert [call["reason"] for call in stalled] == ["SourceSuspect"]
    assert "is missing" in stalled[0]["message"]


def test_a_standstill_is_told_once_however_often_the_agent_starts(bench: Called) -> None:
    """Until the mapping has moved; then the next one is told."""
    (bench.source / "f").write_text("x")
    bench.converge()
    for _ in range(2):
        bench.source.rename(bench.directory / "away")
        for _ in range(3):
            bench.look()
            bench.pass_time(40)
            assert bench.status().stalled is not None
            bench.call_hooks()
            bench.crash()
            bench.open()
            bench.settle()
        (bench.directory / "away").rename(bench.source)
        bench.look()
        bench.converge()
        bench.call_hooks()
    assert [call["event"] for call in bench.calls() if call["event"] != "delivered"] == ["stalled"] * 2


def test_a_standstill_of_another_reason_is_told(bench: Called) -> None:
    hooks = bench.agent.context.state.hooks
    assert hooks.stalled("m", "r", "SourceSuspect", "gone", 1.0)
    assert not hooks.stalled("m", "r", "SourceSuspect", "gone", 2.0)
    assert hooks.stalled("m", "r", "DeletionsHeld", "many", 3.0)
    assert hooks.stalled("m", "r", "SourceSuspect", "gone", 4.0)
    hooks.drop("m")
    assert hooks.stalled("m", "r", "SourceSuspect", "gone", 5.0)


def test_a_long_delivery_is_told_in_parts(bench: Called) -> None:
    """A destination that is never at rest does not keep its hook waiting for ever."""
    hooks, now = bench.agent.context.state.hooks, bench.clock.now
    hooks.gather("m", "d", "r", [("/a", 1)], now)
    assert not hooks.seal("m", "d", False, now + LATEST - 1, LATEST)
    assert hooks.seal("m", "d", False, now + LATEST, LATEST)
    bench.call_hooks()
    assert bench.calls()[0]["complete"] is False


def test_two_calls_of_a_mapping_never_run_together(bench: Called) -> None:
    """Not even beside one that an earlier agent left behind: it holds the lock."""
    (bench.source / "f").write_text("x")
    bench.converge()
    directory = Path(bench.agent.context.state_dir, "hooks")
    directory.mkdir()
    with open(directory / "m.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        bench.call_hooks()
        assert bench.calls() == []
        assert "HookFailed" in bench.reasons_of()
    bench.pass_time(60)
    bench.call_hooks()
    assert len(bench.calls()) == 1


def test_a_program_holds_the_lock_as_long_as_it_runs(bench: Called, tmp_path: Path) -> None:
    """The descriptor is handed on, so that the death of the agent does not release it."""
    seen = tmp_path / "seen"
    lock = f"{bench.agent.context.state_dir}/hooks/m.lock"
    bench.allow(Command(("/bin/sh", "-c", f"ls -l /proc/$$/fd > {seen}"), 10.0))
    (bench.source / "f").write_text("x")
    bench.converge()
    bench.call_hooks()
    assert lock in seen.read_text()


def test_a_hook_that_the_policy_no_longer_defines_waits(bench: Called) -> None:
    """It is not forgotten: it is called when a policy defines it again."""
    (bench.source / "f").write_text("x")
    bench.converge()
    policy = bench.agent.context.policy
    assert policy is not None
    bench.agent.context.policy = replace(policy, hooks={})
    bench.call_hooks()
    assert bench.calls() == []
    bench.agent.context.policy = policy
    bench.pass_time(60)
    bench.call_hooks()
    assert [call["paths"] for call in bench.calls() if call["event"] == "delivered"] == [["/f"]]


def test_a_mapping_that_wants_no_hook_any_more_owes_no_call(bench: Called) -> None:
    (bench.source / "f").write_text("x")
    bench.converge()
    bench.change(hooks=Hooks())
    bench.settle()
    bench.call_hooks()
    assert bench.calls() == []
    assert bench.agent.context.state.hooks.heads() == ()


def test_stopping_ends_a_program_and_keeps_its_call(bench: Called) -> None:
    """An agent that is stopped does not wait for a hook, and owes the call still."""
    bench.allow(Command(("/bin/sleep", "300"), 300.0))
    (bench.source / "f").write_text("x")
    bench.converge()
    runner: HookRunner = bench.agent.hooks
    runner.start_due()
    began = time.monotonic()
    runner.stop()
    assert time.monotonic() - began < 100
    [call] = bench.agent.context.state.hooks.heads()
    assert (call.tries, call.last_error) == (0, "")
