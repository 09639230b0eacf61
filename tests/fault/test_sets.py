"""`publish: set` between two real workers: a set shows when all of it is there, whatever is killed."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from data_world import World, contents, wait_for, world
from servers import Server

from agent.jetstream import constants
from agent.server.data import sets
from agent.server.data.publish import Policy
from agent.server.data.received import ReceivedTransfer

pytestmark = pytest.mark.fault
MIB = 1 << 20
SET = constants.DEFAULT_TRANSFER_FLAGS | constants.TRANSFER_FLAG_SET
MARKER = "zz-complete"


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


class Observer:
    """A reader of the destination: while no receiver is publishing, it sees all of a version or nothing;
    a marker only with its set, always."""

    def __init__(self, w: World) -> None:
        self._w = w
        self.wrong: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        wanted = contents(self._w.source)
        while not self._stop.is_set():
            marked = (self._w.root / "in" / MARKER).exists()
            seen = contents(self._w.root / "in")
            if marked and seen != wanted:
                self.wrong.append(f"a marker with {len(seen)} of {len(wanted)}")
            for path, found in seen.items():
                if found[0] == "file" and found != wanted[path]:
                    self.wrong.append(f"{os.fsdecode(path)} is not whole")
            self._stop.wait(0.005)


def fill(w: World, small: int = 300, large: int = 3, seed: int = 1) -> None:
    chance = random.Random(seed)
    for number in range(small):
        folder = w.source / f"d{number % 11}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_bytes(chance.randbytes(chance.randrange(9_000)))
    for number in range(large):
        (w.source / f"large{number}").write_bytes(chance.randbytes(2 * MIB + number))
    (w.source / "empty").mkdir(exist_ok=True)
    (w.source / MARKER).write_bytes(b"done\n")


def entries(w: World) -> list[tuple[object, ...]]:
    """The marker last, as the agent has it."""
    return sorted(w.tree(), key=lambda entry: os.fsdecode(entry[0]) == f"/{MARKER}")


def test_a_set_arrives_whole_and_nothing_shows_before(w: World) -> None:
    fill(w)
    slow = 40_000.0  # kbit/s: the large ones take a second
    with Observer(w) as observer:
        w.start("1", entries(w), flags=SET, rate=slow, checkpointSeconds=0.1)
        wait_for(lambda: w.bytes_sent.get("1", 0) > 3 * MIB, "some of it is there")
        assert not (w.root / "in").exists(), "nothing shows"
        assert "1" not in w.records, "and nothing is reported"
        assert w.finish("1")["status"] == "complete"
    assert observer.wrong == []
    assert contents(w.source) == contents(w.root / "in")
    assert len(w.records["1"]) == len(entries(w))
    assert not (w.root / ".lanesync").exists()


@pytest.mark.parametrize("victim", ["receiver", "sender"])
def test_killed_workers_leave_no_half_set(w: World, victim: str) -> None:
    fill(w)
    chance = random.Random(victim)
    with Observer(w) as observer:
        w.start("1", entries(w), flags=SET, rate=60_000.0, checkpointSeconds=0.1)
        for _ in range(5):
            threading.Event().wait(chance.uniform(0.05, 0.7))  # the instant is the random part of the test
            if victim == "receiver":
                assert w.receiver is not None
                w.receiver.kill()
                w.start_receiver()
            else:
                assert w.sender is not None
                w.sender.kill()
                w.start_sender()
        assert w.finish("1")["status"] == "complete"
    assert observer.wrong == []
    assert contents(w.source) == contents(w.root / "in")
    wait_for(lambda: not (w.root / ".lanesync").exists(), "nothing is left in staging")


def test_a_file_that_changes_while_its_set_is_sent_goes_with_it_in_its_last_version(w: World) -> None:
    """All files of a set are what the source held at one moment: an early one that changed is sent anew."""
    fill(w)
    early = w.source / "d0" / "f0"
    large = w.source / "large0"
    w.start("1", entries(w), flags=SET, rate=30_000.0)
    wait_for(lambda: w.bytes_sent.get("1", 0) > 4 * MIB, "the small ones and a large one are there")
    early.write_bytes(b"another version")
    large.write_bytes(b"now small")
    assert w.finish("1")["status"] == "complete"
    assert contents(w.source) == contents(w.root / "in")
    assert {record.outcome for record in w.records["1"].values()} == {1}


def test_a_large_file_of_a_set_that_changes_stays_large(w: World) -> None:
    fill(w, small=40)
    w.start("1", entries(w), flags=SET, rate=30_000.0)
    wait_for(lambda: w.bytes_sent.get("1", 0) > 3 * MIB, "a large one is there")
    (w.source / "large0").write_bytes(random.Random(9).randbytes(3 * MIB))
    assert w.finish("1")["status"] == "complete"
    assert contents(w.source) == contents(w.root / "in")


def test_a_set_without_one_of_its_files_is_not_published(w: World) -> None:
    """The file is named; what was staged is removed; a later transfer brings the whole."""
    fill(w)
    listed = entries(w)
    (w.source / "d3" / "f3").unlink()
    w.start("1", listed, flags=SET)
    ended = w.finish("1")
    assert ended["status"] == "error"
    assert ended["message"].startswith("nothing was published:") and "d3/f3" in ended["message"]
    assert not (w.root / "in").exists() and not (w.root / ".lanesync").exists()
    assert all(record.outcome != 1 for record in w.records["1"].values())
    w.start("2", entries(w), flags=SET)
    assert w.finish("2")["status"] == "complete"
    assert contents(w.source) == contents(w.root / "in")


def test_what_is_in_the_way_of_one_file_stops_the_set(w: World) -> None:
    fill(w)
    (w.root / "in" / "d5" / "f5").mkdir(parents=True)
    w.start("1", entries(w), flags=SET)
    ended = w.finish("1")
    assert ended["status"] == "error" and "f5 is a directory at the destination" in ended["message"]
    assert contents(w.root / "in") == {b"/d5": ("directory",), b"/d5/f5": ("directory",)}
    assert not (w.root / ".lanesync").exists()


def test_a_paused_set_goes_on(w: World) -> None:
    fill(w)
    w.start("1", entries(w), flags=SET, rate=40_000.0)
    wait_for(lambda: w.bytes_sent.get("1", 0) > 3 * MIB, "some of it is there")
    w.stop("1")
    assert not (w.root / "in").exists() and "1" not in w.records
    w.again("1")
    assert w.finish("1")["status"] == "complete"
    assert contents(w.source) == contents(w.root / "in")


def test_renames_that_were_interrupted_are_finished_before_anything_else(tmp_path: Path) -> None:
    """A receiver died in the middle of the renames: the next one goes on when its roots are first looked at,
    and again however often that is interrupted."""
    root = tmp_path / "root"
    staging = root / ".lanesync" / ("0" * 32)
    staging.mkdir(parents=True)
    members = []
    for number in range(20):
        (staging / str(number)).write_bytes(b"%d" % number)
        members.append(
            sets.Member(number, b"%d" % number, (b"in", b"d%d" % (number % 3)), b"f%d" % number, 0)
        )
    members.append(sets.Member(20, b"", (b"in",), b"empty", 0))
    fd = os.open(staging, os.O_RDONLY)
    sets._write_journal(fd, Policy(as_set=True), members)
    for number in range(7):  # these got their names before the crash
        place = root / "in" / f"d{number % 3}"
        place.mkdir(parents=True, exist_ok=True)
        (staging / str(number)).rename(place / f"f{number}")
    sets.finish_all(os.fsencode(root))
    for number in range(20):
        assert (root / "in" / f"d{number % 3}" / f"f{number}").read_bytes() == b"%d" % number
    assert (root / "in" / "empty").is_dir()
    assert sets.was_published(fd) and sets._read_journal(fd) is None
    sets.finish_all(os.fsencode(root))  # nothing is left to do
    os.close(fd)


def test_the_last_of_a_set_is_held_back_when_another_failed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    staging = root / ".lanesync" / ("0" * 32)
    staging.mkdir(parents=True)
    for name in ("0", "1"):
        (staging / name).write_bytes(b"x")
    (root / "taken").mkdir()
    members = [sets.Member(0, b"0", (), b"taken", 0), sets.Member(1, b"1", (), b"marker", 0)]
    fd = os.open(staging, os.O_RDONLY)
    failed = sets._roll_forward(os.fsencode(root), fd, Policy(as_set=True), members)
    os.close(fd)
    assert [seq for seq, _ in failed] == [0, 1]
    assert not (root / "marker").exists()


def test_a_receiver_that_dies_in_the_middle_of_the_renames_finishes_them(w: World) -> None:
    """The next one goes on from the journal when somebody first comes to that root, and nothing is sent
    again to a sender that knows of all of it."""
    for number in range(4000):
        folder = w.source / f"d{number % 40}"
        folder.mkdir(exist_ok=True)
        (folder / f"f{number}").write_bytes(b"%d" % number)
    (w.source / MARKER).write_bytes(b"done\n")
    with Observer(w) as observer:
        w.start("1", entries(w), flags=SET)
        wait_for((w.root / "in").exists, "the renames have begun")
        assert w.receiver is not None
        w.receiver.kill()
        half = len(contents(w.root / "in"))
        sent = w.bytes_sent.get("1", 0)
        w.start_receiver()
        assert w.finish("1")["status"] == "complete"
    assert observer.wrong == []
    assert contents(w.source) == contents(w.root / "in")
    assert half == len(contents(w.source)) or w.finished["1"]["bytesSent"] <= sent + 60_000
    wait_for(lambda: not (w.root / ".lanesync").exists(), "nothing is left in staging")


def test_a_full_disk_publishes_nothing_of_a_set(tmp_path: Path) -> None:
    """Staging has no room for all: the set waits, nothing of it shows, and it goes on when there is room."""
    with world(tmp_path) as w:
        if os.system(f"mount -t tmpfs -o size=4m tmpfs {w.root} 2>/dev/null") != 0:
            pytest.skip("a small file system cannot be mounted here")
        try:
            fill(w)
            w.start("1", entries(w), flags=SET)
            wait_for(lambda: any("storage is full" in one["error"] for one in w.states), "it is told")
            assert not (w.root / "in").exists() and not w.finished
            os.system(f"mount -o remount,size=64m {w.root}")
            assert w.finish("1")["status"] == "complete", w.finished
            assert contents(w.source) == contents(w.root / "in")
            wait_for(lambda: not (w.root / ".lanesync").exists(), "its room is given back")
        finally:
            w.close()
            os.system(f"umount {w.root}")


def test_a_server_finishes_at_its_launch_what_a_crash_left_half_published(tmp_path: Path) -> None:
    """Nobody needs to come for it: a set is not left half visible until the next transfer."""
    root = tmp_path / "receiver" / "received"
    staging = root / ".lanesync" / ("0" * 32)
    staging.mkdir(parents=True)
    members = []
    for number in range(5):
        (staging / str(number)).write_bytes(b"x")
        members.append(sets.Member(number, b"%d" % number, (), b"f%d" % number, 0))
    fd = os.open(staging, os.O_RDONLY)
    sets._write_journal(fd, Policy(as_set=True), members)
    os.close(fd)
    with Server(tmp_path / "receiver", root, {}):
        wait_for(lambda: len(list(root.glob("f*"))) == 5, "the set is there")


def test_renames_that_storage_interrupts_go_on_before_anything_else_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full in the middle: what was begun stays written down, and goes on as soon as there is
    room, also when another transfer comes first."""
    root = tmp_path / "root"
    root.mkdir()
    transfer = ReceivedTransfer("0" * 32, os.fsencode(root))
    policy, fd = Policy(as_set=True), transfer.staging.fd
    for number in range(4):
        (root / ".lanesync" / transfer.uid / str(number)).write_bytes(b"x")
        transfer.staged.hold(sets.Member(number, b"%d" % number, (), b"f%d" % number, 0), fd)
    real, left = sets.publish, [2]

    def fills_up(*arguments: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "full")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sets, "publish", fills_up)
    with pytest.raises(OSError, match="full"):
        transfer.staged.publish(transfer.root, fd, policy, 4)
    assert len(list(root.glob("f*"))) == 2 and sets.interrupted(transfer.root)
    with pytest.raises(OSError, match="full"):
        sets.go_on_below(transfer.root, [((transfer.root, transfer.uid), transfer.staged)])
    left[0] = 10
    sets.go_on_below(transfer.root, [((transfer.root, transfer.uid), transfer.staged)])
    assert len(list(root.glob("f*"))) == 4 and not sets.interrupted(transfer.root)
    assert transfer.staged.published and transfer.staged.publish(transfer.root, fd, policy, 4) == []
    transfer.staging.remove()
