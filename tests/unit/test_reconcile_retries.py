"""What failed is tried again after a while, whoever has to remember it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.reconcile_bench import MAPPING, Bench

from agent.model.outcome import RetryableError, Stalled, Wait
from agent.model.spec import EngineKind, RetryPolicy, ServerSpec, key_of
from agent.reconcile.delivery import RETRY_SECONDS, Findings, judge
from agent.reconcile.embedded import EmbeddedServer, Listening
from agent.reconcile.report import Report
from agent.reconcile.servers import INTERVAL, PERSON_AFTER
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


def test_what_the_server_forgot_is_begun_again_at_once(b: Bench) -> None:
    """Somebody removed the transfer there: the file is not said to be in sync, and does not wait for the next
    whole look."""
    (b.source / "a").write_text("a")
    b.settle()
    (forgotten,) = b.transfers()
    b.engine.lose(forgotten)
    b.agent.context.queue.add(MAPPING)
    b.settle()
    assert not b.status().ready
    b.pass_time(1.0)
    b.pass_time(1.0)
    assert set(b.at_destination) == {"/a"} and b.status().ready


def test_a_deletion_that_the_server_forgot_is_begun_again_at_once(b: Bench) -> None:
    """It was restarted before it told what became of it."""
    b.change(prune=True)
    for name in "ab":
        (b.source / name).write_text(name)
    b.converge()
    (b.source / "a").unlink()
    b.touch("a")
    b.clock.now += 1.0  # it is no half of a renaming
    b.settle()
    (number,) = b.engine.asked
    b.engine._far.asked.pop(number)
    for _ in range(3):
        b.agent.context.queue.add(MAPPING)
        b.pass_time(1.0)
    assert set(b.at_destination) == {"/b"} and b.status().ready


def test_a_server_that_does_not_start_is_tried_ever_less_often(
    b: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the third failure on a person is asked to look; a short storm of failures is over in seconds all
    the same, and one that lasts costs a try every half a minute."""

    def fail(_self: EmbeddedServer) -> Listening:
        raise RetryableError("the port is taken")

    monkeypatch.setattr(EmbeddedServer, "start", fail)
    monkeypatch.setattr("agent.reconcile.servers.random.random", lambda: 0.9)
    spec = ServerSpec("own", EngineKind.EMBEDDED, "127.0.0.1", 0)
    b.agent.context.desired.servers["own"] = spec
    waits = []
    for number in range(12):
        if number < PERSON_AFTER - 1:
            with pytest.raises(RetryableError):
                b.agent.servers.reconcile("own", Report(key_of(spec)))
            continue
        outcome = b.agent.servers.reconcile("own", Report(key_of(spec)))
        assert isinstance(outcome, Stalled) and "the port is taken" in outcome.message
        waits.append(outcome.next_in or 0.0)
    assert waits[0] < 2.0
    assert waits == sorted(waits) and INTERVAL * 0.9 < waits[-1] <= INTERVAL
