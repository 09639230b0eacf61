"""What the sender does next with a transfer, decided without sockets."""

from __future__ import annotations

import sqlite3
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from data_world import TABLES

from agent.jetstream import constants
from agent.server import results
from agent.server.data.manifest import Entry, Manifest, Reader
from agent.server.data.order import Order
from agent.server.data.outgoing import Transfer
from agent.server.data.reading import ATTEMPTS, Identity
from agent.server.data.work import ChunkWork, LargeFile, OpenWork, PackWork
from agent.server.results import Outcome, Record

MIB = 1 << 20
START: dict[str, Any] = {
    "id": "5",
    "uid": "0" * 32,
    "destinationId": "1",
    "manifestId": "1",
    "destinationPath": "/in",
    "lane": "Normal",
    "priority": 100,
    "rate": None,
    "flags": 7,
    "overwriteMode": 4,
    "checkpointSeconds": 30,
    "timeResolutionUs": 0,
    "timeoutSeconds": 0,
}


def transfer(tmp_path: Path, sizes: list[int], done: list[Record] | None = None) -> Transfer:
    """A transfer of files with these size hints."""
    path = tmp_path / "server.db"
    db = sqlite3.connect(path)
    db.executescript(TABLES)
    rows = [(1, seq, b"/%d" % seq, b"/src/%d" % seq, 0, size, 0, None) for seq, size in enumerate(sizes)]
    db.executemany("INSERT INTO manifest_files VALUES(?,?,?,?,?,?,?,?)", rows)
    if done:
        db.execute("INSERT INTO transfer_results VALUES(5, 0, ?)", (results.pack(done),))
    db.commit()
    db.close()
    return Transfer(Order.parse(START), 1, Manifest(Reader(path), 1, 5))


def large(seq: int, size: int) -> LargeFile:
    entry = Entry(seq, b"/%d" % seq, b"/src", 0, size, False, None)
    return LargeFile(entry, -1, Identity(size, 1, 2, 3), 1, deque([(0, size, False)]))


def test_small_files_are_packed_up_to_the_grant(tmp_path: Path) -> None:
    """A pack takes what fits into the grant; larger files are opened, to go in chunks."""
    made = transfer(tmp_path, [1000, 1000, 100_000, 5 * MIB])
    made.resume([], [], same=False)
    work = made.claim(3000)
    assert work is not None and isinstance(work[0], PackWork) and [e.seq for e in work[0].entries] == [0, 1]
    work = made.claim(3000)
    assert work is not None and isinstance(work[0], OpenWork) and work[0].entry.seq == 2
    work = made.claim(MIB)
    assert work is not None and isinstance(work[0], OpenWork) and work[0].entry.seq == 3
    assert made.claim(MIB) is None and not made.all_final()


def test_chunks_are_no_larger_than_the_grant(tmp_path: Path) -> None:
    """A large file is cut as the scheduler grants it, in order and without gaps; holes go in one piece."""
    made = transfer(tmp_path, [])
    made.resume([], [], same=False)
    file = large(0, 10_000)
    file.todo.append((10_000, 900_000, True))
    made.files[0] = file
    spans = []
    while (work := made.claim(4096)) is not None:
        assert isinstance(work[0], ChunkWork)
        spans.append((work[0].start, work[0].end, work[0].hole))
    assert spans == [(0, 4096, False), (4096, 8192, False), (8192, 10_000, False), (10_000, 900_000, True)]


def test_what_earlier_runs_finished_is_not_sent_again(tmp_path: Path) -> None:
    """Delivered, skipped and vanished files are left out; failed ones are tried again."""
    done = [Record(0, Outcome.DELIVERED, 10), Record(1, Outcome.VANISHED), Record(2, Outcome.FAILED)]
    made = transfer(tmp_path, [10, 10, 10, 10], done)
    made.resume([], [], same=False)
    assert (made.counters.files_done, made.counters.bytes_done) == (2, 10)
    work = made.claim(MIB)
    assert work is not None and isinstance(work[0], PackWork) and [e.seq for e in work[0].entries] == [2, 3]


def test_nothing_published_is_sent_twice_to_the_same_receiver(tmp_path: Path) -> None:
    """After a lost connection, what the receiver says it published is taken as such, and the rest is sent."""
    made = transfer(tmp_path, [10, 10, 10])
    made.resume([], [], same=False)
    work = made.claim(MIB)
    assert work is not None and isinstance(work[0], PackWork)
    made.new_pack([(entry, Record(entry.seq, 1, 10)) for entry in work[0].entries])
    made.session_lost()
    made.resume([(0, 2, 1)], [], same=True)
    assert made.counters.files_done == 2
    work = made.claim(MIB)
    assert work is not None and isinstance(work[0], PackWork) and [e.seq for e in work[0].entries] == [2]


def test_a_new_receiver_gets_again_what_was_not_durable(tmp_path: Path) -> None:
    """When the receiver died, what it published since the last checkpoint is sent again and uncounted."""
    made = transfer(tmp_path, [10, 10])
    made.resume([], [], same=False)
    work = made.claim(MIB)
    assert work is not None and isinstance(work[0], PackWork)
    made.new_pack([(entry, Record(entry.seq, 1, 10)) for entry in work[0].entries])
    made.done(0, 1)
    made.covered, made.published = made.published, bytearray()
    made.session_lost()
    made.resume([(0, 2, 1)], [], same=False)
    assert made.counters.files_done == 0 and not made.published
    assert made.counters.blocks_resent == 2  # what was published, and what was on its way
    work = made.claim(MIB)
    assert work is not None and isinstance(work[0], PackWork)
    assert sorted(entry.seq for entry in work[0].entries) == [0, 1]


def test_damage_is_repaired_a_bounded_number_of_times(tmp_path: Path) -> None:
    """A pack that arrives damaged is sent again; a file that always does fails with a reason."""
    made = transfer(tmp_path, [10])
    made.resume([], [], same=False)
    for _ in range(20):
        work = made.claim(MIB)
        if work is None:
            break
        assert isinstance(work[0], PackWork)
        number = made.new_pack([(entry, Record(entry.seq, 1, 10)) for entry in work[0].entries])
        made.reading = 0
        made.pack_damaged(number)
    assert made.failed == 1 and "damaged" in made.first_error and made.all_final()
    assert made.counters.blocks_resent == ATTEMPTS


def test_a_transfer_is_final_only_when_nothing_is_left(tmp_path: Path) -> None:
    """Files in hand, on their way, or not yet read from the manifest keep it open."""
    made = transfer(tmp_path, [10])
    assert not made.all_final()
    made.resume([], [], same=False)
    assert made.has_work() and not made.all_final()
    work = made.claim(MIB)
    assert work is not None and isinstance(work[0], PackWork) and not made.all_final()
    made.new_pack([(work[0].entries[0], Record(0, 1, 10))])
    made.reading -= 1
    assert not made.all_final()
    made.done(0, Outcome.DELIVERED)
    assert made.all_final() and not made.has_work()


@pytest.mark.parametrize("skip", [False, True])
def test_a_vanished_source_fails_the_transfer_unless_it_is_skipped(tmp_path: Path, skip: bool) -> None:
    """It is told as vanished either way; without the flag it is looked for again on a resume."""
    flags = START["flags"] | (constants.TRANSFER_FLAG_SKIP_VANISHED if skip else 0)
    made = transfer(tmp_path, [10])
    made.order = Order.parse({**START, "flags": flags})
    made.resume([], [], same=False)
    work = made.claim(MIB)
    assert work is not None and isinstance(work[0], PackWork)
    made.vanished(work[0].entries[0])
    assert list(results.unpack(bytes(made.settled))) == [Record(0, Outcome.VANISHED)]
    assert (made.failed, made.counters.files_done) == ((0, 1) if skip else (1, 0))
    assert skip or "/src/0 does not exist" in made.first_error
    with sqlite3.connect(tmp_path / "server.db") as database:
        database.execute("INSERT INTO transfer_results VALUES(5, 0, ?)", (bytes(made.settled),))
    again = Manifest(Reader(tmp_path / "server.db"), 1, 5, skip_vanished=skip)
    assert [entry.seq for entry in again.page()] == ([] if skip else [0])


def test_an_earlier_worker_s_bytes_that_are_not_there_count_as_lost(tmp_path: Path) -> None:
    """What was sent, less what is final and what the receiver kept of unfinished files."""
    made = transfer(tmp_path, [10_000, 100_000], [Record(0, Outcome.DELIVERED, 10_000)])
    order = Order.parse({**START, "counters": {"bytesSent": 60_000, "blocksResent": 10}})
    made = Transfer(order, 1, made.manifest)
    made.resume([], [[1, 1, [100_000, 1, 2, 3], [[0, 20_480]]]], same=False)
    lost = 60_000 - 10 * 256 - 10_000 - 20_480
    assert made.counters.blocks_resent == 10 + -(-lost // 256)


def test_malformed_orders_are_refused() -> None:
    """A start without one of its fields is an error, not a transfer with defaults."""
    for missing in START:
        with pytest.raises((KeyError, ValueError, TypeError)):
            Order.parse({key: value for key, value in START.items() if key != missing})
