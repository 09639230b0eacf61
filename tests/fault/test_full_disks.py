"""The receiver's storage fills up in mid-transfer: everything waits, nothing fails, and all goes on by itself
when there is room."""

from __future__ import annotations

import os
import random
import threading
from pathlib import Path

import pytest
from data_world import World, contents, wait_for, world
from disks import Disk, on_own_disks
from rounds import limit, rounds

from agent.jetstream import constants
from agent.server.data.directio import LEAST_SIZE
from agent.server.results import Outcome

pytestmark = [pytest.mark.fault, limit(300)]
MIB = 1 << 20
PLAIN = constants.DEFAULT_TRANSFER_FLAGS
STRICT = PLAIN | constants.TRANSFER_FLAG_STRICT
SET = PLAIN | constants.TRANSFER_FLAG_SET


def fill(w: World, chance: random.Random) -> None:
    for number in range(120):
        place = w.source / f"d{number % 5}"
        place.mkdir(exist_ok=True)
        (place / f"f{number}").write_bytes(chance.randbytes(chance.randrange(1, 60_000)))
    for number in range(3):
        (w.source / f"large{number}").write_bytes(chance.randbytes(3 * MIB + number))


def take(disk: Disk, left: int) -> Path:
    """Somebody else's file, which leaves so many bytes free."""
    path = disk.place / "ballast"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, disk.free - left)
    return path


def shut_out(w: World) -> list[str]:
    return [state["error"] for state in w.states if "storage is full" in state["error"]]


@pytest.mark.parametrize("flags", [PLAIN, STRICT, SET], ids=["plain", "strict", "set"])
@on_own_disks
def test_a_full_disk_makes_transfers_wait_and_loses_nothing(tmp_path: Path, flags: int) -> None:
    """It is told once for all files, again only while it lasts, and no file fails by it."""
    (chance,) = rounds(1)
    disk = Disk(tmp_path / "image", tmp_path / "received", 32)
    with world(tmp_path) as w:
        fill(w, chance)
        ballast = take(disk, chance.randrange(MIB, 9 * MIB))
        w.start("1", flags=flags, checkpointSeconds=0.2)
        wait_for(lambda: shut_out(w), "the full storage is told")
        wanted = contents(w.source)
        there = contents(w.root / "in") if (w.root / "in").exists() else {}
        assert {path for path, what in there.items() if wanted[path] != what} == set()
        assert "1" not in w.finished and w.errors == {}
        ballast.unlink()
        assert w.finish("1")["status"] == "complete", w.finished
        assert w.errors.get("1", {}) == {}
        assert {record.outcome for record in w.records["1"].values()} == {Outcome.DELIVERED}
        assert contents(w.root / "in") == wanted
        assert set(os.listdir(w.root)) <= {"in", "lost+found"}


@on_own_disks
def test_a_disk_that_fills_up_again_and_again_is_waited_for(tmp_path: Path) -> None:
    """The receiver is killed while it has no room, too; what comes late finds the same."""
    disk = Disk(tmp_path / "image", tmp_path / "received", 32)
    with world(tmp_path, rate=100_000) as w:
        for number, chance in enumerate(rounds(2), 1):
            fill(w, chance)
            ident = str(number)
            for left in (2 * MIB, 4 * MIB):
                ballast = take(disk, left)
                if left == 2 * MIB:
                    w.start(ident, checkpointSeconds=0.2)
                seen = len(shut_out(w))
                wait_for(lambda seen=seen: len(shut_out(w)) > seen, "the full storage is told")
                assert w.receiver is not None
                if chance.random() < 0.5:
                    w.receiver.kill()
                    w.start_receiver()
                ballast.unlink()
            assert w.finish(ident)["status"] == "complete", w.finished
            assert w.errors == {}
            assert contents(w.root / "in") == contents(w.source)
            assert set(os.listdir(w.root)) <= {"in", "lost+found"}
            disk.clear()


@on_own_disks
def test_a_file_that_is_written_directly_waits_for_room_like_any_other(tmp_path: Path) -> None:
    """What does not pass the page cache is refused by the disk itself, in the middle of a piece."""
    (chance,) = rounds(1)
    disk = Disk(tmp_path / "image", tmp_path / "received", 64)
    with world(tmp_path) as w:
        (w.source / "large").write_bytes(chance.randbytes(LEAST_SIZE + 5 * MIB + 1))
        ballast = take(disk, chance.randrange(MIB, LEAST_SIZE))
        w.start("1", checkpointSeconds=0.2)
        wait_for(lambda: shut_out(w), "the full storage is told")
        ballast.unlink()
        assert w.finish("1")["status"] == "complete", w.finished
        assert w.errors == {}
        assert contents(w.root / "in") == contents(w.source)


class Lowest:
    """The least that was ever free of a disk."""

    def __init__(self, disk: Disk) -> None:
        self._disk, self.free = disk, disk.free
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.001):
            self.free = min(self.free, self._disk.free)

    def __enter__(self) -> Lowest:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.mark.parametrize("flags", [PLAIN, SET], ids=["plain", "set"])
@on_own_disks
def test_a_reserve_stays_free_and_transfers_wait_for_room_above_it(tmp_path: Path, flags: int) -> None:
    """What the two streams have at hand, and names, may go into it: a frame each, and a little."""
    (chance,) = rounds(1)
    disk = Disk(tmp_path / "image", tmp_path / "received", 48)
    reserve = 10 * MIB
    with world(tmp_path) as w:
        w.receiving = ("--reserve", "10MiB")
        assert w.receiver is not None
        w.receiver.stop()
        w.start_receiver()
        fill(w, chance)
        ballast = take(disk, reserve + chance.randrange(MIB, 9 * MIB))
        with Lowest(disk) as lowest:
            w.start("1", flags=flags, checkpointSeconds=0.2)
            wait_for(lambda: shut_out(w), "the storage is told to be full")
            assert "10.0 MiB have to stay free there" in shut_out(w)[0]
            assert "1" not in w.finished and w.errors == {}
            ballast.unlink()
            assert w.finish("1")["status"] == "complete", w.finished
        assert reserve - 3 * MIB < lowest.free < reserve + MIB
        assert w.errors.get("1", {}) == {}
        assert contents(w.root / "in") == contents(w.source)
        assert set(os.listdir(w.root)) <= {"in", "lost+found"}


@on_own_disks
def test_a_reserve_stays_free_when_only_blocks_that_differ_are_sent(tmp_path: Path) -> None:
    """What is taken from the older version of a file needs room, too."""
    (chance,) = rounds(1)
    disk = Disk(tmp_path / "image", tmp_path / "received", 64)
    reserve = 10 * MIB
    with world(tmp_path) as w:
        w.receiving = ("--reserve", "10MiB")
        assert w.receiver is not None
        w.receiver.stop()
        w.start_receiver()
        large = w.source / "large"
        large.write_bytes(chance.randbytes(16 * MIB))
        w.start("1")
        assert w.finish("1")["status"] == "complete", w.finished
        with large.open("r+b") as file:
            file.seek(5 * MIB)
            file.write(chance.randbytes(9000))
        ballast = take(disk, reserve + 5 * MIB)
        with Lowest(disk) as lowest:
            w.start("2")
            wait_for(lambda: shut_out(w), "the storage is told to be full")
            ballast.unlink()
            assert w.finish("2")["status"] == "complete", w.finished
        assert lowest.free > reserve - 3 * MIB
        assert contents(w.root / "in") == contents(w.source)
