"""Thousands of transfers wait in each lane of one destination: the lanes have their shares all the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from data_world import World, wait_for, world
from rounds import FACTOR, limit

from agent.jetstream import constants
from agent.server.data.work import ENTRY_COST

pytestmark = [pytest.mark.fault, limit(300)]

MIB = 1 << 20
SHARES = {"High": 0.7, "Normal": 0.25, "Low": 0.05}
SIZES = {100_000: 900, 1000: 2400}  # of each transfer, and how many; small ones wait to be opened
PROMISED = constants.DEFAULT_TRANSFER_FLAGS & ~constants.TRANSFER_FLAG_READ


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, rate=150_000) as made:
        yield made


def sent(w: World) -> dict[str, int]:
    """By lane, as told last."""
    told = [message["links"].get("1") for message in list(w.messages) if message["op"] == "lanes"]
    found = next((lanes for lanes in reversed(told) if lanes), {})
    return {name: found.get(name, 0) for name in SHARES}


@pytest.mark.parametrize("size", SIZES)
def test_lanes_share_by_bytes_with_thousands_of_transfers_in_each(w: World, size: int) -> None:
    """Between the first tenth and the last fifth of all that is sent, while each lane has work: within two
    points of what it is due, whether the line or the receiver is what they wait for."""
    assert w.sender is not None and w.receiver is not None
    w.receiver.kill()  # all wait when it comes
    ident, count = 0, min(10_000, round(SIZES[size] * FACTOR))
    for name, share in SHARES.items():
        for _ in range(round(count * share)):
            ident += 1
            entries = [(f"/f{ident}", b"/nowhere", 0, size, False)]
            w.start(str(ident), entries, lane=name, flags=PROMISED)
    w.start_receiver()
    total = ident * (size + ENTRY_COST)
    first = wait_for(lambda: sum((now := sent(w)).values()) > total // 10 and now, "a tenth is sent", 120)
    last = wait_for(lambda: sum((now := sent(w)).values()) > total * 4 // 5 and now, "most is sent", 240)
    moved = {name: last[name] - first[name] for name in SHARES}
    for name, share in SHARES.items():
        assert abs(moved[name] / sum(moved.values()) - share) < 0.02, moved
    wait_for(lambda: len(w.finished) == ident, "all of them", 240)
    assert {message["status"] for message in w.finished.values()} == {"complete"}
