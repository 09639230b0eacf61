"""Very much waits for a destination that takes next to nothing: others are served as ever, and neither rate
nor memory go to what waits."""

from __future__ import annotations

import shutil
import time
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


LIMIT = 200_000.0  # kbit/s of all that is sent
CRAWL = 1e6  # bit/s
ENDLESS = [(f"/f{number}", b"/nowhere", 0, 32 * MIB, False) for number in range(60)]


def crawl(data: bytes) -> bytes:
    time.sleep(len(data) * 8 / CRAWL)
    return data


def moved(w: World) -> dict[str, int]:
    """Bytes sent so far, by destination."""
    found = dict.fromkeys(("1", "2", "3"), 0)
    for message in list(w.messages):
        if message["op"] == "lanes":
            found |= {ident: sum(lanes.values()) for ident, lanes in message["links"].items()}
    return found


def test_the_others_have_all_of_a_limit_that_slow_and_silent_destinations_do_not_use(w: World) -> None:
    """One takes 1 Mbit/s, another nothing any more. What is shared is the limit of the server, so that the
    machine is not what is measured."""
    assert w.sender is not None
    slow, silent = Hop(w.port), Hop(w.port)
    slow.alter = crawl
    w.sender.send({"op": "limit", "rate": LIMIT})
    for ident, hop in (("2", slow), ("3", silent)):
        w.sender.send({**w._destination, "id": ident, "port": hop.port, "lanes": LANES})
        w.start(f"1{ident}", ENDLESS, destinationId=ident, destinationPath=f"/{ident}", flags=PROMISED)
    wait_for(lambda: silent.carried > MIB, "something is sent")
    silent.stall()
    w.start("1", ENDLESS, flags=PROMISED)
    wait_for(lambda: moved(w)["1"] > MIB, "the fast one is sent something")

    def alone() -> bool:
        """Over 25 MB that the fast one gets: 95 % of all."""
        before = moved(w)
        wait_for(lambda: moved(w)["1"] - before["1"] > 25_000_000, "the fast one gets on")
        now = moved(w)
        return (now["1"] - before["1"]) / (sum(now.values()) - sum(before.values())) > 0.95

    wait_for(alone, "the lines of the others are full")
    begun = len(w.messages)
    wait_for(lambda: used_up(w, begun), "the limit is used up")
    assert not w.finished.keys() & {"12", "13"}
    slow.close()
    silent.close()
    shutil.rmtree(w.root, ignore_errors=True)


def used_up(w: World, begun: int) -> bool:
    """Whether five reports in a row have told 95 % of the limit or more for the second before, and none more
    than there is."""
    told = [message["sending"] for message in w.messages[begun:] if message["op"] == "rates"]
    assert max(told, default=0.0) <= LIMIT * 1.02 + (8 << 20) / 1000, told
    return any(min(told[at : at + 5]) >= 0.95 * LIMIT for at in range(len(told) - 4))
