"""The data path between two real worker processes: all arrives whole, whatever is killed or in the way."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash
from data_world import World, contents, wait_for, world

from agent.server.ipc import Channel, socketpair
from agent.server.results import Outcome

pytestmark = pytest.mark.fault
MIB = 1 << 20


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def fill(folder: Path, count: int, size: int, seed: int = 1) -> None:
    generator = random.Random(seed)
    for number in range(count):
        place = folder / f"d{number % 7}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"f{number}").write_bytes(generator.randbytes(generator.randrange(size)))


def assert_arrived(w: World) -> None:
    assert contents(w.source) == contents(w.root / "in")
    assert not (w.root / ".lanesync").exists()


def test_every_file_is_recorded_with_the_digest_of_its_content(w: World) -> None:
    """Small ones and those that go in pieces, sparse and empty ones."""
    fill(w.source, 20, 20_000)
    (w.source / "large").write_bytes(random.Random(2).randbytes(9 * MIB + 17))
    (w.source / "zero").write_bytes(b"")
    with open(w.source / "sparse", "wb") as file:
        file.write(b"head")
        file.seek(5 * MIB)
        file.write(b"tail" * MIB)
        file.truncate(12 * MIB)
    w.start("1", w.tree())
    assert w.finish("1")["status"] == "complete"
    for seq, (_, source, *_) in enumerate(w.tree()):
        content = Path(os.fsdecode(source)).read_bytes()
        assert w.records["1"][seq].digest == xxhash.xxh3_64_intdigest(content), source


def test_a_mixed_tree_arrives_identical(w: World) -> None:
    """Small, large, empty, executable and oddly named files and empty directories arrive as they are."""
    fill(w.source, 500, 20_000)
    (w.source / "large").write_bytes(random.Random(2).randbytes(5 * MIB + 17))
    (w.source / "zero").write_bytes(b"")
    (w.source / "empty" / "deeper").mkdir(parents=True)
    (w.source / "tool").write_bytes(b"#!/bin/sh\n")
    (w.source / "tool").chmod(0o755)
    (w.source / "largetool").write_bytes(random.Random(3).randbytes(MIB))
    (w.source / "largetool").chmod(0o755)
    Path(os.fsdecode(os.fsencode(w.source) + b"/caf\xc3\xa9-\xff\xfe")).write_bytes(b"name")
    os.utime(w.source / "large", ns=(1, 1_234_567_890_123_456_789))
    w.start("1")
    assert w.finish("1")["status"] == "complete"
    assert_arrived(w)
    assert (w.root / "in" / "large").stat().st_mtime_ns == 1_234_567_890_123_456_789
    outcomes = {record.outcome for record in w.records["1"].values()}
    assert outcomes == {Outcome.DELIVERED} and len(w.records["1"]) == w.finished["1"]["filesDone"]


def test_a_sparse_file_stays_sparse(w: World) -> None:
    """Holes do not cross the wire, and the file at the destination has them too."""
    with (w.source / "sparse").open("wb") as file:
        file.truncate(1 << 30)
        file.seek(300 * MIB)
        file.write(b"island" * 1000)
    w.start("1")
    result = w.finish("1")
    assert result["status"] == "complete" and result["bytesSent"] < MIB
    arrived = w.root / "in" / "sparse"
    assert arrived.stat().st_size == 1 << 30 and arrived.stat().st_blocks * 512 < MIB
    with arrived.open("rb") as file:
        file.seek(300 * MIB)
        assert file.read(6003) == b"island" * 1000 + b"\0" * 3


@pytest.mark.parametrize("victim", ["sender", "receiver"])
def test_killed_workers_leave_nothing_torn(tmp_path: Path, victim: str) -> None:
    """kill -9 of either worker, several times in mid-transfer, ends in identical trees, and no file is ever
    seen half written under its final name."""
    with world(tmp_path, rate=250_000) as w:
        fill(w.source, 3000, 10_000)
        for number in range(3):
            (w.source / f"large{number}").write_bytes(random.Random(number).randbytes(20 * MIB))
        wanted = contents(w.source)
        torn: list[bytes] = []
        over = threading.Event()

        def watch() -> None:
            while not over.is_set():
                if (w.root / "in").exists():
                    torn.extend(
                        path for path, what in contents(w.root / "in").items() if wanted.get(path) != what
                    )

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            w.start("1", checkpointSeconds=1)
            for kill in range(1, 5):
                wait_for(
                    lambda floor=kill * 6 * MIB: w.bytes_sent.get("1", 0) > floor or "1" in w.finished,
                    "bytes",
                )
                worker = w.sender if victim == "sender" else w.receiver
                assert worker is not None
                worker.kill()
                w.start_sender() if victim == "sender" else w.start_receiver()
            assert w.finish("1")["status"] == "complete"
        finally:
            over.set()
            watcher.join()
        assert torn == []
        assert_arrived(w)
        assert len(w.records["1"]) == len(w.tree())


def test_a_large_file_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    """After both workers were killed only what came after the last checkpoint is sent again."""
    with world(tmp_path, rate=160_000) as w:
        (w.source / "large").write_bytes(random.Random(5).randbytes(60 * MIB))
        w.start("1", checkpointSeconds=1)
        journal = w.root / ".lanesync" / w.starts["1"]["uid"] / "journal"
        wait_for(lambda: w.bytes_sent.get("1", 0) > 40 * MIB and journal.exists(), "a checkpoint")
        assert w.sender is not None and w.receiver is not None
        w.sender.kill()
        w.receiver.kill()
        w.bytes_sent.clear()
        w.start_receiver()
        w.start_sender()
        result = w.finish("1")
        assert result["status"] == "complete" and result["bytesSent"] < 50 * MIB
        assert_arrived(w)


def test_a_stop_in_the_middle_of_a_file_loses_no_progress(tmp_path: Path) -> None:
    """Without any periodic checkpoint, what arrived before a stop is neither sent nor counted again, also
    when both workers end in between."""
    size = 60 * MIB
    with world(tmp_path, rate=160_000) as w:
        (w.source / "large").write_bytes(random.Random(5).randbytes(size))
        w.start("1", checkpointSeconds=0)
        for floor, restart in ((20 * MIB, False), (40 * MIB, True)):
            wait_for(lambda least=floor: w.bytes_sent.get("1", 0) > least, "bytes")
            w.stop("1")
            told = next(message for message in reversed(w.messages) if message["op"] == "stopped")
            assert floor < told["bytesSent"] <= size and told["bytesDone"] == 0
            w.starts["1"]["counters"] = told
            if restart:
                assert w.sender is not None and w.receiver is not None
                w.sender.stop()
                w.receiver.stop()
                w.start_receiver()
                w.start_sender()
            w.again("1")
        result = w.finish("1")
        assert result["status"] == "complete" and result["bytesSent"] == size
        assert_arrived(w)


def test_a_receiver_that_ends_keeps_what_arrived(tmp_path: Path) -> None:
    """An orderly end of both sides at once, without a stop of the transfer, journals the file under way."""
    with world(tmp_path, rate=160_000) as w:
        (w.source / "large").write_bytes(random.Random(5).randbytes(60 * MIB))
        w.start("1", checkpointSeconds=0)
        wait_for(lambda: w.bytes_sent.get("1", 0) > 40 * MIB, "bytes")
        assert w.sender is not None and w.receiver is not None
        w.sender.stop()
        w.receiver.stop()
        w.start_receiver()
        w.start_sender()
        result = w.finish("1")
        assert result["status"] == "complete" and result["bytesSent"] < 30 * MIB
        assert_arrived(w)


def test_a_lost_connection_loses_nothing_published(tmp_path: Path) -> None:
    """Files that were published before the receiver went and came back as a session are not sent twice."""
    with world(tmp_path, rate=100_000) as w:
        fill(w.source, 2000, 20_000)
        w.start("1", checkpointSeconds=0)
        wait_for(lambda: w.bytes_sent.get("1", 0) > 5 * MIB, "bytes")
        w.stop("1")
        before = len(w.records["1"])
        assert before > 0
        first = sum(record.size for record in w.records["1"].values())
        w.again("1")
        result = w.finish("1")
        assert result["status"] == "complete"
        total = sum(record.size for record in w.records["1"].values())
        assert result["bytesSent"] == total and first < total
        assert_arrived(w)


def test_an_absent_receiver_is_waited_for(tmp_path: Path) -> None:
    """A destination that is down is no error; the transfer goes on by itself when it is up."""
    w = World(tmp_path)
    try:
        w.start_sender()
        w.destination()
        fill(w.source, 10, 1000)
        w.start("1")
        w.start("2", timeoutSeconds=0.5)
        assert w.finish("2")["status"] == "error"
        assert "no connection" in w.finished["2"]["message"]
        assert "1" not in w.finished
        w.start_receiver()
        assert w.finish("1")["status"] == "complete"
        assert_arrived(w)
    finally:
        w.close()


def test_discarding_removes_what_is_unfinished(tmp_path: Path) -> None:
    """A transfer that is given up leaves no partial file, also when it was suspended before."""
    with world(tmp_path, rate=50_000) as w:
        (w.source / "large").write_bytes(random.Random(5).randbytes(40 * MIB))
        for ident in ("1", "2"):
            w.start(ident)
            staged = w.root / ".lanesync" / w.starts[ident]["uid"]
            wait_for(staged.exists, "staging")
            wait_for(lambda key=ident: w.bytes_sent.get(key, 0) > MIB, "bytes")
            if ident == "2":
                w.stop(ident)
                assert staged.exists()
                w.stopped.clear()
            w.stop(ident, discard=True)
            wait_for(lambda place=staged: not place.exists(), "staging removed")
        wait_for(lambda: not (w.root / ".lanesync").exists(), "staging removed")
        assert not (w.root / "in" / "large").exists()


def test_sources_that_cannot_be_sent_fail_alone(w: World) -> None:
    """Vanished and unreadable files are told apart, and all others arrive."""
    fill(w.source, 20, 1000)
    entries = w.tree()
    entries.append(("/gone", str(w.source / "gone"), 0, 10, False))
    entries.append(("/gonelarge", str(w.source / "gonelarge"), 0, 10 * MIB, False))
    os.mkfifo(w.home / "pipe")
    entries.append(("/pipe", str(w.home / "pipe"), 0, 10, False))
    w.start("1", entries)
    result = w.finish("1")
    assert result["status"] == "error" and "does not exist" in result["message"]
    by_outcome = {seq: record.outcome for seq, record in w.records["1"].items()}
    count = len(entries)
    assert by_outcome[count - 3] == by_outcome[count - 2] == Outcome.VANISHED
    assert by_outcome[count - 1] == Outcome.FAILED and count - 1 in w.errors["1"]
    assert_arrived(w)


def test_a_hint_that_is_wrong_does_no_harm(w: World) -> None:
    """The size in the manifest is a hint: files that have grown, shrunk or are unknown arrive whole."""
    (w.source / "grown").write_bytes(random.Random(1).randbytes(3 * MIB))
    (w.source / "shrunk").write_bytes(b"small")
    (w.source / "emptied").write_bytes(b"")
    (w.source / "unknown").write_bytes(random.Random(2).randbytes(MIB))
    entries = [
        ("/grown", str(w.source / "grown"), 0, 10, False),
        ("/shrunk", str(w.source / "shrunk"), 0, 10 * MIB, False),
        ("/emptied", str(w.source / "emptied"), 0, 10 * MIB, False),
        ("/unknown", str(w.source / "unknown"), 0, -1, False),
    ]
    w.start("1", entries)
    assert w.finish("1")["status"] == "complete"
    assert_arrived(w)


def test_a_file_that_changes_while_it_is_sent_is_never_torn(tmp_path: Path) -> None:
    """What is published is one state of the source; one that never rests is a failure of that file alone."""
    with world(tmp_path, rate=100_000) as w:
        path = w.source / "restless"
        path.write_bytes(b"a" * (4 * MIB))
        over = threading.Event()

        def write() -> None:
            for byte in iter(lambda: over.is_set(), True):
                with path.open("r+b") as file:
                    file.seek(random.randrange(3 * MIB))
                    file.write(b"b" if byte else b"c")
                over.wait(0.02)

        writer = threading.Thread(target=write)
        writer.start()
        try:
            w.start("1")
            result = w.finish("1")
            assert result["status"] == "error" and "changed while it was sent" in result["message"]
            assert not (w.root / "in" / "restless").exists()
        finally:
            over.set()
            writer.join()
        w.start("2")
        assert w.finish("2")["status"] == "complete"
        assert_arrived(w)


def test_nothing_is_written_outside_the_root(w: World) -> None:
    """`..`, planted links and reserved names are failures of those files; nothing appears outside."""
    outside = w.home / "outside"
    outside.mkdir()
    (w.root / "in").mkdir()
    (w.root / "in" / "link").symlink_to(outside)
    (w.root / "in" / "filelink").symlink_to(outside / "victim")
    (w.source / "file").write_bytes(b"content")
    (w.source / "large").write_bytes(bytes(2 * MIB))
    small, large = str(w.source / "file"), str(w.source / "large")
    bad = ["/../up", "/a/../../up", "/link/x", "/" + "n" * 256, "/.."]
    entries = [(path, small, 0, 7, False) for path in bad]
    entries += [(path, large, 0, 2 * MIB, False) for path in bad]
    entries.append(("/filelink", small, 0, 7, False))
    w.start("1", entries)
    assert w.finish("1")["status"] == "error"
    assert sorted(w.errors["1"]) == list(range(len(bad) * 2))
    assert list(outside.iterdir()) == [] and sorted(os.listdir(w.home)) == sorted(
        ["outside", "state", "received", "source"]
    )
    assert (w.root / "in" / "filelink").read_bytes() == b"content"
    assert not (w.root / "in" / "filelink").is_symlink()
    w.start("2", [("/x", small, 0, 7, False)], destinationPath="/.lanesync/x")
    assert w.finish("2")["status"] == "error"
    w.start("3", [("/x", small, 0, 7, False)], destinationPath="/../x")
    assert w.finish("3")["status"] == "error"


@pytest.mark.parametrize("size", [7, 2 * MIB])
def test_overwrite_modes(w: World, size: int) -> None:
    """Never leaves the file and a part file beside it; backup keeps the old one; newer compares times."""
    (w.source / "f").write_bytes(b"n" * size)
    os.utime(w.source / "f", (1000, 1000))
    target = w.root / "in" / "f"
    target.parent.mkdir()

    def run(ident: str, **changes: int) -> int:
        target.write_bytes(b"old")
        os.utime(target, (2000, 2000))
        w.start(ident, **changes)
        assert w.finish(ident)["status"] == "complete"
        return w.records[ident][0].outcome

    assert run("1", overwriteMode=3) == Outcome.SKIPPED and target.read_bytes() == b"old"
    assert (w.root / "in" / "f.jetpart").read_bytes() == b"n" * size
    (w.root / "in" / "f.jetpart").unlink()
    assert run("2", flags=15) == Outcome.SKIPPED and target.read_bytes() == b"old"
    assert run("3", overwriteMode=5) == Outcome.DELIVERED and target.read_bytes() == b"n" * size
    assert (w.root / "in" / "f.jetbak").read_bytes() == b"old"
    assert run("4") == Outcome.DELIVERED and target.stat().st_mtime == 1000
    w.start("5", overwriteMode=3)
    assert w.finish("5")["status"] == "complete" and w.records["5"][0].outcome == Outcome.DELIVERED
    assert sorted(os.listdir(w.root / "in")) == ["f", "f.jetbak"]


def test_deleting_at_the_destination(w: World) -> None:
    """Files go, directories only when empty; what is absent, kept or outside is told apart."""
    fill(w.source, 14, 1000)
    w.start("1")
    w.finish("1")
    (w.home / "victim").write_bytes(b"x")
    (w.root / "in" / "link").symlink_to(w.home)
    files = ["/in/d0/f0", "/in/d0/f7", "/in/d1/f1", "/in/absent", "/in/link/victim", "/../victim"]
    answer = w.ask("delete", files=files, directories=["/in/d0", "/in/d1", "/in/d9", "/in/d0/deep"])
    states = {path: state for path, state, _ in answer["results"]}
    assert states == {
        "/in/d0/f0": "deleted",
        "/in/d0/f7": "deleted",
        "/in/d1/f1": "deleted",
        "/in/absent": "absent",
        "/in/link/victim": "failed",
        "/../victim": "failed",
        "/in/d0": "deleted",
        "/in/d1": "kept",
        "/in/d9": "absent",
        "/in/d0/deep": "absent",
    }
    assert (w.home / "victim").exists() and not (w.root / "in" / "d0").exists()
    assert w.ask("ping")["results"] == []
    assert "does not know" in w.ask("dance")["error"]


def test_a_tree_is_told_and_renamed_beside_transfers(w: World) -> None:
    """Pages of the size that was asked for, digests of the contents, renames told by the new path."""
    fill(w.source, 14, 1000)
    w.start("1")
    w.finish("1")
    told, after = [], ""
    while after is not None:
        page = w.ask("list", directory="/in", after=after, rows=4, checksum=True)
        assert len(page["results"]) <= 4
        told += page["results"]
        after = page["next"]
    expected = {f"/in/{p.relative_to(w.source)}": p for p in w.source.rglob("*") if p.is_file()}
    assert [row[0] for row in told] == sorted(expected)
    for path, kind, size, mtime_ns, _, digest in told:
        found = expected[path]
        assert (kind, size, mtime_ns) == ("file", found.stat().st_size, found.stat().st_mtime_ns)
        assert digest == xxhash.xxh3_64_hexdigest(found.read_bytes())
    answer = w.ask("rename", renames=["/in/d0/f0", "/in/new/f0", "/in/d0/f0", "/in/new/f1"])
    assert [row[:2] for row in answer["results"]] == [["/in/new/f0", "renamed"], ["/in/new/f1", "absent"]]
    assert "not accepted" in w.ask("list", directory="/../x")["error"]


def test_files_arrive_while_a_large_one_is_read_for_its_digest(w: World) -> None:
    """Digests are computed beside the streams, and given up when nobody waits for them any more."""
    fill(w.source, 14, 1000)
    w.root.mkdir(exist_ok=True)
    with (w.root / "huge").open("wb") as file:
        file.truncate(1 << 42)  # hours, were it read to its end
    assert w.sender is not None
    arguments = {"directory": "/", "checksum": True}
    w.sender.send({"op": "remote", "request": 7, "destinationId": "1", "verb": "list", "args": arguments})
    w.start("1")
    w.finish("1")
    assert_arrived(w)
    assert [row[0] for row in w.ask("list", directory="/huge")["results"]] == ["/huge"]
    assert 7 not in w.remote
    w.sender.process.kill()  # the receiver ends with the test, although its file has not been read


def test_rates_and_lanes_act_live(tmp_path: Path) -> None:
    """A running transfer's lane and rate change what goes out at once."""
    with world(tmp_path, rate=80_000) as w:
        (w.source / "large").write_bytes(bytes(200 * MIB))
        os.posix_fallocate(os.open(w.source / "large", os.O_RDWR), 0, 200 * MIB)
        w.start("1", lane="High")
        w.start("2", lane="Low")
        wait_for(lambda: w.bytes_sent.get("1", 0) > 8 * MIB, "bytes")
        assert w.bytes_sent["1"] / max(1, w.bytes_sent.get("2", 0)) > 5
        assert w.sender is not None
        w.sender.send({"op": "update", "id": "1", "lane": "Idle", "priority": 1, "rate": None})
        time.sleep(0.5)  # both directions of the change have settled
        before = dict(w.bytes_sent)
        wait_for(lambda: w.bytes_sent["2"] > before["2"] + 4 * MIB, "the other lane's bytes")
        assert w.bytes_sent["1"] - before["1"] < MIB
        w.destination(rate=None)
        assert w.finish("1")["status"] == w.finish("2")["status"] == "complete"


def test_workers_end_when_control_closes(w: World) -> None:
    """Both workers leave at the end of their stream."""
    assert w.sender is not None and w.receiver is not None
    w.sender.stop()
    w.receiver.stop()
    assert w.sender.process.returncode == 0 and w.receiver.process.returncode == 0


@pytest.mark.parametrize("role", ["sender", "receiver"])
def test_workers_die_with_their_parent(tmp_path: Path, role: str) -> None:
    """kill -9 of the process that started a worker ends it, even while its stream stays open."""
    ours, theirs = socketpair()
    command = [sys.executable, "-m", "agent.server.worker", role, "--ipc-fd", str(theirs.fileno())]
    command += ["--state-dir", str(tmp_path)]
    code = "import subprocess, sys; subprocess.Popen(sys.argv[2:], pass_fds=[int(sys.argv[1])]).wait()"
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(theirs.fileno()), *command], pass_fds=[theirs.fileno()]
    )
    theirs.close()
    channel = Channel(ours)
    received = channel.receive()
    assert received is not None and received[0] == {"op": "ready"}
    parent.kill()
    parent.wait()
    assert channel.receive() is None
    channel.close()
