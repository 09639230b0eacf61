"""A mapping that leaves the specs while it sends, and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from unit.reconcile_bench import Bench


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
