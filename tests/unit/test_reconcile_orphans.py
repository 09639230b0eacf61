"""A mapping that leaves the specs while it sends: it comes back, has another name, or is gone for good."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from unit.reconcile_bench import Bench

from agent.model.observed import TransferState
from agent.model.spec import Key, Kind, MappingSpec, OnRemove


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.agent.context.state.close()


@pytest.mark.parametrize("restarted", [False, True])
def test_what_still_runs_of_a_mapping_that_comes_back_is_not_sent_twice(b: Bench, restarted: bool) -> None:
    """`onRemove: orphan` leaves its transfers to themselves; none of their paths is on its way twice."""
    b.destination = replace(b.destination, send_rate_max=8.0)
    b.take()
    (b.source / "a").write_bytes(bytes(50_000))
    b.settle()
    (before,) = b.transfers()
    kept, b.mapping = b.mapping, None  # type: ignore[assignment]
    b.agent._take(b.agent.context.desired, b.desired())
    b.settle()
    assert b.transfers() == [before], "it goes on"
    b.mapping = kept
    if restarted:
        b.crash()
        b.open()
    else:
        b.agent._take(b.agent.context.desired, b.desired())
    b.settle()
    b.pass_time(1.0)
    (after,) = b.transfers()
    assert after != before
    b.pass_time(60.0)
    b.converge()
    assert set(b.at_destination) == {"/a"}
    assert b.transfers() == []


def respec(b: Bench, mapping: MappingSpec | None) -> None:
    wanted = replace(b.desired(), mappings={} if mapping is None else {mapping.name: mapping})
    b.agent._take(b.agent.context.desired, wanted)
    b.settle()


def test_what_a_mapping_left_to_itself_is_cleared_away_when_it_has_ended(b: Bench) -> None:
    """`onRemove: orphan`: it goes on to its end, and then is no longer listed on the server."""
    b.destination = replace(b.destination, send_rate_max=8.0)
    b.take()
    (b.source / "a").write_bytes(bytes(5_000))
    b.settle()
    (left,) = b.transfers()
    respec(b, None)
    b.pass_time(1.0)
    assert b.transfers() == [left], "it goes on"
    b.pass_time(60.0)
    b.pass_time(60.0)
    assert set(b.at_destination) == {"/a"}
    assert b.transfers() == []


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("on_remove", list(OnRemove))
def test_a_renamed_mapping_takes_over_what_is_on_its_way(
    b: Bench, on_remove: OnRemove, restarted: bool
) -> None:
    """The same transfer goes on under the new name, obeys its spec, and what it brings is in its ledger;
    nothing is sent twice, whatever `onRemove` says of the old name."""
    b.change(on_remove=on_remove)
    b.destination = replace(b.destination, send_rate_max=8.0)
    b.take()
    (b.source / "a").write_bytes(bytes(5_000))
    (b.source / "b").write_bytes(bytes(5_000))
    b.settle()
    b.pass_time(6.0)
    (running,) = b.transfers()
    heir = replace(b.mapping, name="heir")
    if restarted:
        b.crash()
        b.mapping = heir
        b.desired = lambda: replace(Bench.desired(b), mappings={"heir": heir})  # type: ignore[method-assign]
        b.open()
        b.settle()
    else:
        respec(b, heir)
    b.pass_time(1.0)
    assert b.transfers() == [running] and b.engine.cancelled == {}
    respec(b, replace(heir, suspend=True))
    (held,) = b.engine.observe(b.agent.context.state.agent_id).transfers
    assert held.state is TransferState.SUSPENDED
    respec(b, heir)
    for _ in range(4):
        b.pass_time(5.0)
    assert b.status(Key(Kind.MAPPING, "heir")).ready
    assert set(b.at_destination) == {"/a", "/b"}
    state = b.agent.context.state
    assert (state.ledger.count("heir", "d"), state.ledger.count("m", "d")) == (2, 0)
    sent = [past for past in state.attempts.history() if past.operation == "transfer"]
    assert [(past.mapping, past.outcome) for past in sent] == [("heir", "complete")]
    assert b.transfers() == []
