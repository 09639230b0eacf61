"""What failed is tried again after a while, whoever has to remember it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.reconcile_bench import Bench

from agent.model.outcome import Wait
from agent.model.spec import RetryPolicy
from agent.reconcile.delivery import RETRY_SECONDS, Findings, judge
from agent.state.attempts import Failures


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.agent.context.state.close()


def test_a_failure_that_was_over_before_its_time_is_over_at_its_time(b: Bench) -> None:
    """The agent that saw it fail was killed, the next one sent it at once. The back-off that it inherits ends
    in one look, and not in a worker that asks again and again until the next whole look is due."""
    b.change(retry=RetryPolicy(30.0, 30.0))
    (b.source / "a").write_text("a")
    b.engine.failing = {"/a"}
    b.settle()
    b.pass_time(0.1)
    assert "Retrying" in b.reasons()
    b.crash()
    b.engine.failing = set()
    b.open()
    b.settle()
    b.pass_time(0.1)
    assert set(b.at_destination) == {"/a"}
    for _ in range(8):
        b.pass_time(5.0)
    assert b.status().ready


def test_a_retry_that_is_due_and_has_nothing_to_send_is_not_asked_for_at_once_again() -> None:
    """Nothing is on its way and the time has come: the next turn is a while away all the same."""
    found = Findings("d", failures=Failures(1, 100.0, "/a: no space"))
    for now in (100.0, 5000.0):
        outcome = judge(found, now)
        assert isinstance(outcome, Wait) and outcome.next_in == RETRY_SECONDS
    early = judge(found, 98.0)
    assert isinstance(early, Wait) and early.next_in == pytest.approx(2.0)
