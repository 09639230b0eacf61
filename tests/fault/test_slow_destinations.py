"""Very much waits for a destination that takes next to nothing: others are served as ever, and memory does
not grow with what waits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from data_world import LANES, World, contents, wait_for, world
from hops import Hop
from rounds import FACTOR, limit, rounds

from agent.jetstream import constants

pytestmark = [pytest.mark.fault, limit(240)]

MIB, GIB = 1 << 20, 1 << 30
QUEUED = 8 * GIB
COUNT = min(8000, round(300 * FACTOR))  # transfers of the slow one
PROMISED = constants.DEFAULT_TRANSFER_FLAGS & ~constants.TRANSFER_FLAG_READ
"""Zeros go over the wire in the place of files that nobody reads."""


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def memory(pid: int) -> int:
    """Resident bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))


def pids(w: World) -> tuple[int, int]:
    assert w.sender is not None and w.receiver is not None
    return w.sender.process.pid, w.receiver.process.pid


def fast(w: World, ident: str) -> None:
    w.start(ident)
    assert w.finish(ident)["status"] == "complete", w.finished


def test_a_slow_destination_with_gibibytes_queued_costs_others_nothing(w: World) -> None:
    """A line that carries nothing any more, with a few frames in its buffers: what waits costs the memory of
    its names, and what others are sent arrives meanwhile."""
    (chance,) = rounds(1)
    for number in range(24):
        (w.source / f"f{number}").write_bytes(chance.randbytes(MIB))
    fast(w, "1")
    before = [memory(pid) for pid in pids(w)]
    hop = Hop(w.port)
    assert w.sender is not None
    w.sender.send({**w._destination, "id": "2", "port": hop.port, "lanes": LANES})
    size = QUEUED // COUNT
    for number in range(COUNT):
        entries = [(f"/slow{number}", b"/nowhere", 0, size, False)]
        w.start(str(100 + number), entries, destinationId="2", flags=PROMISED)
    wait_for(lambda: hop.carried > MIB, "the slow one is sent something")
    hop.stall()
    grown = [0, 0]
    for number in range(4):
        for path in w.source.iterdir():
            path.write_bytes(chance.randbytes(MIB))
        fast(w, str(2 + number))
        grown = [max(most, memory(pid) - was) for most, pid, was in zip(grown, pids(w), before, strict=True)]
    assert contents(w.root / "in") == contents(w.source)
    assert set(w.finished) <= {"1", "2", "3", "4", "5"}, "none of the slow ones has ended"
    sender, receiver = grown
    assert sender < 48 * MIB + COUNT * 16_000, f"the sender has grown by {sender >> 20} MiB"
    assert receiver < 48 * MIB, f"the receiver has grown by {receiver >> 20} MiB"
    hop.close()
