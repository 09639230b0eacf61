"""Files that are written in place, over deaths and pauses of either worker, on two streams at once."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from data_world import World, contents, wait_for, world

from agent.jetstream.constants import OVERWRITE_IN_PLACE_ALWAYS
from agent.server.data.staging import JOURNAL

pytestmark = pytest.mark.fault
MIB = 1 << 20


def prepare(w: World, large: int) -> dict[str, int]:
    """Sources of several sizes, one sparse, and other content under their names; returns its inodes."""
    (w.root / "in").mkdir()
    inodes = {}
    for number in range(200):
        (w.source / f"small{number}").write_bytes(random.Random(number).randbytes(5_000))
    for number in range(large):
        (w.source / f"large{number}").write_bytes(random.Random(number).randbytes(12 * MIB))
    with (w.source / "sparse").open("wb") as file:
        file.truncate(30 * MIB)
        file.seek(17 * MIB)
        file.write(b"island" * 100_000)
    for source in w.source.iterdir():
        there = w.root / "in" / source.name
        there.write_bytes(random.Random(source.name).randbytes(source.stat().st_size + 777))
        inodes[source.name] = there.stat().st_ino
    return inodes


def assert_whole(w: World, inodes: dict[str, int]) -> None:
    assert contents(w.root / "in") == contents(w.source)
    assert {name: (w.root / "in" / name).stat().st_ino for name in inodes} == inodes
    assert not (w.root / ".lanesync").exists()


@pytest.mark.parametrize("victim", ["sender", "receiver"])
def test_killed_workers_leave_files_whole_in_the_end(tmp_path: Path, victim: str) -> None:
    """kill -9 in the middle, several times: every file ends with the source's content, as the same file."""
    with world(tmp_path, rate=250_000) as w:
        inodes = prepare(w, large=3)
        w.start("1", overwriteMode=OVERWRITE_IN_PLACE_ALWAYS, checkpointSeconds=1)
        for kill in range(1, 4):
            floor = kill * 7 * MIB
            wait_for(lambda least=floor: w.bytes_sent.get("1", 0) > least or "1" in w.finished, "bytes")
            worker = w.sender if victim == "sender" else w.receiver
            assert worker is not None
            worker.kill()
            w.start_sender() if victim == "sender" else w.start_receiver()
        assert w.finish("1")["status"] == "complete"
        assert_whole(w, inodes)


def test_a_pause_loses_nothing_that_was_written(tmp_path: Path) -> None:
    """Stopped in the middle, both workers ended and started again: nothing is sent twice."""
    with world(tmp_path, rate=160_000) as w:
        inodes = prepare(w, large=2)
        size = 24 * MIB + 200 * 5_000
        w.start("1", overwriteMode=OVERWRITE_IN_PLACE_ALWAYS, checkpointSeconds=0)
        wait_for(lambda: w.bytes_sent.get("1", 0) > 12 * MIB, "bytes")
        w.stop("1")
        w.starts["1"]["counters"] = next(m for m in reversed(w.messages) if m["op"] == "stopped")
        assert w.sender is not None and w.receiver is not None
        w.sender.stop()
        w.receiver.stop()
        w.start_receiver()
        w.start_sender()
        w.again("1")
        ended = w.finish("1")
        assert (ended["status"], ended["blocksResent"]) == ("complete", 0)
        assert size < ended["bytesSent"] <= size + MIB
        assert_whole(w, inodes)


def test_a_journal_that_lies_about_a_place_does_no_harm(tmp_path: Path) -> None:
    """What the journal says of a file in place is believed only of that very file, unwritten since."""
    with world(tmp_path, rate=80_000) as w:
        inodes = prepare(w, large=1)
        w.start("1", overwriteMode=OVERWRITE_IN_PLACE_ALWAYS, checkpointSeconds=0)
        wait_for(lambda: w.bytes_sent.get("1", 0) > 6 * MIB, "bytes")
        w.stop("1")
        (journal,) = (w.root / ".lanesync").glob(f"*/{os.fsdecode(JOURNAL)}")
        assert b'"place": [' in journal.read_bytes()
        for name in inodes:
            path = w.root / "in" / name
            with path.open("r+b") as file:
                file.write(b"mine")
        w.destination(rate=None)
        w.again("1")
        assert w.finish("1")["status"] == "complete"
        large = w.root / "in" / "large0"
        assert large.read_bytes() == (w.source / "large0").read_bytes()
        assert large.stat().st_ino == inodes["large0"]
