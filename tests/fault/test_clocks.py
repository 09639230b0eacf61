"""The clock is set, forward and back, by hours and by years, while everything runs: transfers go on, nothing
is deleted by it, and nothing waits for a time that lies far ahead."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import World, world
from fakeclock import FakeClock, fake_clock
from rounds import limit, rounds
from servers import eventually

pytestmark = [pytest.mark.fault, limit(300)]

DAY = 86_400
JUMPS = [3600, -3 * 3600, DAY, -DAY, 400 * DAY, -400 * DAY]
SLOWLY = ", sendRateMax: 40Mbit/s, transferDefaults: {checkpointInterval: 1s}"
PRUNE = """\
prune: true
deletions: {grace: 2h}"""


@pytest.fixture
def clock(tmp_path: Path) -> Iterator[FakeClock]:
    with fake_clock(tmp_path) as made:
        yield made


@pytest.fixture
def w(tmp_path: Path, clock: FakeClock) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def delivery(w: World) -> dict[str, Any]:
    (found,) = w.object("Mapping", "dailies")["deliveries"]
    return dict(found)


def wait_for_grace(w: World) -> None:
    eventually(lambda: delivery(w)["deletionsInGrace"] == 1, what="the deletion waits")


def test_transfers_go_on_and_nothing_is_deleted_by_a_clock_that_is_set(w: World, clock: FakeClock) -> None:
    """Each jump comes while bytes flow. What was deleted at the source keeps its two hours, also when the
    agent is started again after all that."""
    (w.source / "doomed").write_text("deleted at the source, and kept for its grace")
    (w.source / "kept").write_text("so that the source is not empty")
    w.write(w.mapping(more=PRUNE), destination=SLOWLY)
    w.start()
    w.in_sync()
    (w.source / "doomed").unlink()
    wait_for_grace(w)
    ahead = 0
    for number, chance in enumerate(rounds(1)):
        for jump, seconds in enumerate(chance.sample(JUMPS, 4)):
            ahead = jump_while_sending(w, clock, f"{number}-{jump}", ahead, seconds, chance)
    w.in_sync()
    w.kill()
    w.start()
    w.in_sync()
    wait_for_grace(w)
    assert (w.target() / "doomed").exists()
    assert not w.leftovers()


def jump_while_sending(
    w: World, clock: FakeClock, name: str, ahead: int, seconds: int, chance: random.Random
) -> int:
    """Returns by how much the clock is ahead then."""
    reel, late = f"reel{name}", f"late{name}"
    content = chance.randbytes(3 << 20)
    (w.source / reel).write_bytes(content)
    eventually(lambda: w.leftovers() or (w.target() / reel).exists(), what="it is on its way")
    clock.set(ahead + seconds)
    (w.source / late).write_text("written after the jump")
    for path in (reel, late):
        eventually((w.target() / path).exists, what=f"{path}, after the clock was set by {seconds} s")
    assert (w.target() / reel).read_bytes() == content
    assert (w.target() / "doomed").exists()
    return ahead + seconds


def test_no_age_is_negative_when_the_clock_was_set_back(w: World, clock: FakeClock) -> None:
    """Nor anything else that is told of before and after."""
    (w.source / "first").write_text("before")
    w.write(w.mapping())
    w.start()
    w.in_sync()
    clock.set(-DAY)
    eventually(lambda: b"the clock was set" in w.log.read_bytes(), what="it is noticed")
    (w.source / "second").write_text("after")
    w.in_sync()
    for verb in (("status",), ("events",), ("history",), ("describe", "Mapping/dailies")):
        answer = w.call(*verb)
        assert answer.returncode == 0, answer.stderr
        assert not re.search(r"(^|[\s(])-\d", answer.stdout, re.M), answer.stdout
