"""Large files of which the destination has an older version: what it has does not cross the wire again, and
whatever happens to the older version, the line or a worker meanwhile, the new one arrives whole."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import xxhash
from data_world import World, contents, wait_for, world
from hops import Hop
from servers import start_server

from agent.jetstream.constants import (
    OVERWRITE_IN_PLACE_ALWAYS,
    PERMISSION_UPLOAD,
    TRANSFER_FLAG_SET,
    TRANSFER_FLAG_STRICT,
)

pytestmark = pytest.mark.fault
MIB = 1 << 20
BLOCK = 4096
SIZE = 48 * MIB


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def hop(w: World) -> Iterator[Hop]:
    """In front of the receiver."""
    made = Hop(w.port)
    w.port = made.port
    w.destination()
    yield made
    made.close()


def content(size: int = SIZE, seed: int = 1) -> bytearray:
    return bytearray(random.Random(seed).randbytes(size))


def scatter(data: bytearray, share: int = 100, seed: int = 2) -> bytearray:
    """Another version, of which one block in `share` is new, wherever it lies."""
    chance, new = random.Random(seed), bytearray(data)
    for block in chance.sample(range(len(data) // BLOCK), len(data) // BLOCK // share):
        new[block * BLOCK : (block + 1) * BLOCK] = chance.randbytes(BLOCK)
    return new


def place(w: World, old: bytes, new: bytes, name: str = "large") -> Path:
    """The destination has `old`, the source `new`; returns the destination's file."""
    there = w.root / "in" / name
    there.parent.mkdir(exist_ok=True)
    there.write_bytes(old)
    (w.source / name).write_bytes(new)
    return there


def assert_arrived(w: World, ident: str = "1") -> None:
    assert w.finish(ident)["status"] == "complete", w.finished
    assert contents(w.source) == contents(w.root / "in")
    assert not (w.root / ".lanesync").exists()


def test_three_hundredths_cross_the_wire_when_one_changed(w: World, hop: Hop) -> None:
    """All bytes are counted, in frames and not. The digest of the whole is known as ever, and what was there
    counts as done."""
    old = content()
    there = place(w, old, scatter(old))
    inode = there.stat().st_ino
    w.start("1")
    assert_arrived(w)
    assert hop.carried < SIZE * 3 // 100
    told = w.finished["1"]
    assert told["bytesSent"] + told["bytesMatched"] == told["bytesDone"] == SIZE
    assert told["bytesSent"] < SIZE * 2 // 100
    assert w.records["1"][0].digest == xxhash.xxh3_64_intdigest((w.source / "large").read_bytes())
    assert there.stat().st_ino != inode, "it is replaced as a whole, as any other"


@pytest.mark.parametrize(
    ("change", "most"),
    [
        (lambda data: data, 0),
        (lambda data: data + content(3 * MIB + 5, seed=3), 3 * MIB + 5 + BLOCK),
        (lambda data: data[: SIZE - 5 * MIB - 77], 0),
        (lambda data: data[:BLOCK] + b"x" + data[BLOCK + 1 :], BLOCK),
        (lambda data: data[:-1], 0),
        (lambda data: data + b"x", BLOCK),
    ],
    ids=["same", "appended", "truncated", "one byte", "one byte less", "one byte more"],
)
def test_what_is_there_is_not_sent_again(
    w: World, change: Callable[[bytearray], bytearray], most: int
) -> None:
    old = content()
    place(w, old, change(old))
    w.start("1")
    assert_arrived(w)
    assert w.finished["1"]["bytesSent"] <= most


@pytest.mark.parametrize(
    "changes",
    [
        {"flags": 7 | TRANSFER_FLAG_SET},
        {"flags": 7 | TRANSFER_FLAG_STRICT},
        {"overwriteMode": OVERWRITE_IN_PLACE_ALWAYS},
    ],
    ids=["set", "strict", "in place"],
)
def test_in_every_mode(w: World, changes: dict[str, int]) -> None:
    old = content()
    there = place(w, old, scatter(old)[: SIZE - MIB])
    inode = there.stat().st_ino
    w.start("1", **changes)
    assert_arrived(w)
    assert w.finished["1"]["bytesSent"] < SIZE * 2 // 100
    assert (there.stat().st_ino == inode) == ("overwriteMode" in changes)


def test_a_server_counts_as_sent_what_was_there(tmp_path: Path) -> None:
    """By its API: the bytes are those on the wire, the blocks say how far it is."""
    old = content(8 * MIB)
    root = tmp_path / "received"
    root.mkdir()
    (root / "large").write_bytes(old)
    with (
        start_server(tmp_path / "s") as sender,
        start_server(tmp_path / "r", root) as receiver,
        sender.api() as api,
    ):
        (tmp_path / "large").write_bytes(scatter(old))
        manifest = api.send.createManifest(mappings={"/large": str(tmp_path / "large")})["manifestId"]
        found = api.send.createDestination("127.0.0.1", destinationPort=receiver.port)
        api.send.waitForManifest(manifest)
        transfer = api.send.createTransfer(found["destinationId"], manifest)["transferId"]
        done = api.send.waitForTransfer(transfer)
        assert done["status"] == "complete" and (root / "large").read_bytes() == scatter(old)
        assert done["bytesSent"] < 8 * MIB * 2 // 100
        assert done["blocksSent"] == done["blocksAcked"] == done["totalBlocks"] == 8 * MIB // 256


def test_encrypted_sessions_compare_alike(tmp_path: Path) -> None:
    with world(tmp_path, min_cipher=2) as w:
        old = content()
        place(w, old, scatter(old))
        w.start("1")
        assert_arrived(w)
        assert w.finished["1"]["bytesSent"] < SIZE * 2 // 100


def test_a_file_of_which_all_has_changed_is_sent_once(w: World, hop: Hop) -> None:
    place(w, content(), content(seed=9))
    w.start("1")
    assert_arrived(w)
    told = w.finished["1"]
    assert told["bytesSent"] == SIZE and told["blocksResent"] == 0
    assert hop.carried < SIZE * 101 // 100


def test_many_files_of_every_kind_at_once(w: World) -> None:
    """New ones, changed ones, sparse ones, small ones, and some whose place has something else."""
    chance = random.Random(5)
    for number in range(12):
        old = content(6 * MIB + number * 1234, seed=number)
        place(w, old, scatter(old, share=chance.randrange(2, 60), seed=number), f"changed{number}")
        (w.source / f"new{number}").write_bytes(chance.randbytes(5 * MIB))
        (w.source / f"small{number}").write_bytes(chance.randbytes(5000))
    place(w, b"", content(5 * MIB), "was empty")
    (w.root / "in" / "was a link").symlink_to(w.root / "in" / "changed1")
    (w.source / "was a link").write_bytes((w.source / "changed2").read_bytes())
    os.mkfifo(w.root / "in" / "was a pipe")
    (w.source / "was a pipe").write_bytes(content(5 * MIB, seed=77))
    for top, island in ((w.source, 9 * MIB), (w.root / "in", 14 * MIB)):
        with (top / "sparse").open("wb") as file:
            file.truncate(40 * MIB)
            for at in (island, 20 * MIB, 39 * MIB):
                file.seek(at)
                file.write(b"island" * 100_000)
            file.truncate(40 * MIB)
    w.start("1")
    assert_arrived(w)
    assert (w.root / "in" / "sparse").stat().st_blocks * 512 < 10 * MIB
    assert w.finished["1"]["blocksResent"] == 0


class Meddler(threading.Thread):
    """Does something to the destination's file until it is told to end, or the file was replaced."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._meddle, self.over, self.rounds = meddle, threading.Event(), 0
        self.start()

    def run(self) -> None:
        while not self.over.wait(0.001):
            self._meddle()
            self.rounds += 1


def test_an_older_version_that_changes_meanwhile_tears_nothing(tmp_path: Path) -> None:
    """Somebody writes to it, cuts it off and lets it grow again while it is compared."""
    size = 16 * MIB
    with world(tmp_path, rate=40_000) as w:
        old = content(size)
        there, chance = place(w, old, scatter(old, share=10)), random.Random(3)
        fd = os.open(there, os.O_RDWR)

        def meddle() -> None:
            os.pwrite(fd, chance.randbytes(10_000), chance.randrange(size))
            if chance.random() < 0.02:
                os.ftruncate(fd, chance.randrange(size // 2, size))

        meddler = Meddler(meddle)
        w.start("1")
        w.finish("1")
        meddler.over.set()
        meddler.join()
        os.close(fd)
        assert meddler.rounds and w.finished["1"]["bytesSent"] > size // 10
        assert_arrived(w)


def test_an_older_version_that_vanishes_is_of_use_nevertheless(tmp_path: Path) -> None:
    with world(tmp_path, rate=4_000) as w:
        old = content()
        there = place(w, old, scatter(old))
        w.start("1")
        wait_for(lambda: w.bytes_sent.get("1", 0) > 20 * BLOCK, "bytes")
        there.unlink()
        assert_arrived(w)
        assert w.finished["1"]["bytesSent"] < SIZE * 2 // 100


@pytest.mark.parametrize("victim", ["sender", "receiver"])
def test_killed_workers_leave_nothing_torn_and_little_is_sent_again(tmp_path: Path, victim: str) -> None:
    """The name shows the older version until the new one is whole, whoever is killed in between."""
    with world(tmp_path, rate=6_000) as w:
        old = content()
        new = scatter(old)
        there = place(w, old, new)
        versions, torn = {bytes(old), bytes(new)}, []
        w.start("1", checkpointSeconds=0.2)
        for kill in range(1, 4):
            w.bytes_sent.clear()
            wait_for(lambda: w.bytes_sent.get("1", 0) > 30 * BLOCK or "1" in w.finished, "bytes")
            worker = w.sender if victim == "sender" else w.receiver
            assert worker is not None
            worker.kill()
            torn += [kill] if there.read_bytes() not in versions else []
            w.start_sender() if victim == "sender" else w.start_receiver()
        assert_arrived(w)
        assert torn == []
        assert w.finished["1"]["bytesSent"] < SIZE * 8 // 100


def test_flipped_bits_are_noticed(w: World, hop: Hop) -> None:
    """In digests, in content, in what the receiver wants."""
    chance, flipped = random.Random(4), []

    def alter(data: bytes) -> bytes:
        if len(flipped) >= 6 or chance.random() > 0.05:
            return data
        flipped.append(hop.carried)
        spoilt = bytearray(data)
        spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
        return bytes(spoilt)

    old = content()
    place(w, old, scatter(old, share=20))
    hop.altering = lambda _forth: alter
    w.start("1", checkpointSeconds=0.2)
    assert_arrived(w)
    assert flipped


def test_a_source_that_changes_while_it_is_compared_arrives_in_one_version(tmp_path: Path) -> None:
    with world(tmp_path, rate=6_000) as w:
        old = content()
        place(w, old, scatter(old))
        w.start("1")
        wait_for(lambda: w.bytes_sent.get("1", 0) > 20 * BLOCK, "bytes")
        with (w.source / "large").open("r+b") as file:
            file.write(b"another beginning")
        assert_arrived(w)


def test_who_may_not_look_learns_nothing_of_what_is_there(w: World) -> None:
    """Somebody who may upload only: from what is wanted could be told whether a guess was right."""
    w.judge = lambda message: w.grant(message, permissions=PERMISSION_UPLOAD) is not None
    old = content(8 * MIB)
    place(w, old, scatter(old))
    w.start("1")
    assert_arrived(w)
    assert w.finished["1"]["bytesSent"] == 8 * MIB
