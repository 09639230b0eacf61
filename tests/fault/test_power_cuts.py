"""The power of the receiver's storage is cut at random instants: what was acknowledged is there and whole
when it is back, and the transfer ends with identical trees. The storage is an ext4 file system that writes
nothing any more from that instant on, and replays its journal from what it had written."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest
from data_world import World, contents, wait_for, world
from disks import Disk, on_own_disks
from rounds import limit, rounds

from agent.jetstream import constants
from agent.server.data.directio import LEAST_SIZE
from agent.server.results import Outcome

pytestmark = [pytest.mark.fault, limit(600)]
MIB = 1 << 20
PLAIN = constants.DEFAULT_TRANSFER_FLAGS
STRICT = PLAIN | constants.TRANSFER_FLAG_STRICT
NEWER = PLAIN | constants.TRANSFER_FLAG_WRITE_ONLY_NEWER


def fill(folder: Path, chance: random.Random, large: int) -> int:
    """Small files in a few directories and two large ones; their bytes."""
    shutil.rmtree(folder)
    total = 0
    for number in range(150):
        place = folder / f"d{number % 5}"
        place.mkdir(parents=True, exist_ok=True)
        total += (place / f"f{number}").write_bytes(chance.randbytes(chance.randrange(1, 30_000)))
    for number in range(2):
        total += (folder / f"large{number}").write_bytes(chance.randbytes(large))
    return total


def torn(w: World) -> set[bytes]:
    """Files under a final name that are not what the source has."""
    wanted = contents(w.source)
    there = contents(w.root / "in") if (w.root / "in").exists() else {}
    return {path for path, what in there.items() if wanted.get(path) != what}


def assert_acknowledged_is_there(w: World, ident: str) -> None:
    """Every file that was told as delivered, and every range that the journal names."""
    entries = w.tree()
    for seq, record in list(w.records.get(ident, {}).items()):
        assert record.outcome in (Outcome.DELIVERED, Outcome.SKIPPED), w.errors
        dest, source = entries[seq][:2]
        arrived = w.root / "in" / os.fsdecode(dest.lstrip(b"/"))
        assert arrived.read_bytes() == Path(os.fsdecode(source)).read_bytes(), f"{dest!r} was acknowledged"
    staging = w.root / ".lanesync" / w.starts[ident]["uid"]
    if not (staging / "journal").exists():
        return
    for partial in json.loads((staging / "journal").read_bytes()):
        source = Path(os.fsdecode(entries[partial["seq"]][1])).read_bytes()
        if not (staging / partial["name"]).exists():
            continue  # it has its name already
        written = (staging / partial["name"]).read_bytes()
        for start, end in partial["ranges"]:
            assert written[start:end] == source[start:end], f"{partial} was journaled"


def put_older(w: World, disk: Disk) -> dict[bytes, tuple[object, ...]]:
    """Have something under each name; what is to be there of it in the end."""
    for path in w.source.rglob("f*"):
        place = w.root / "in" / path.relative_to(w.source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"older than " + bytes(path))
    disk.sync()
    return {path + b".jetbak": what for path, what in contents(w.root / "in").items() if what[0] == "file"}


def cut(w: World, disk: Disk, ident: str) -> None:
    assert w.receiver is not None
    w.receiver.kill()  # so that it does not see its storage fail
    disk.cut_power()
    disk.back_after_cut()
    assert_acknowledged_is_there(w, ident)


def reached(w: World, ident: str, at: int) -> None:
    wait_for(lambda: w.bytes_sent.get(ident, 0) >= at or ident in w.finished, "bytes")


def cuts(
    tmp_path: Path,
    count: int,
    flags: int,
    mode: int = constants.OVERWRITE_ALWAYS,
    *,
    whole: bool = False,
    large: int = 4 * MIB + 7,
) -> None:
    """`whole`: nothing may have a final name that is not whole, acknowledged or not."""
    disk = Disk(tmp_path / "image", tmp_path / "received", 96)
    with world(tmp_path, rate=150_000) as w:
        for number, chance in enumerate(rounds(count), 1):
            ident = str(number)
            size = fill(w.source, chance, large)
            every = chance.choice([0.05, 0.2, 30])
            older = {} if mode != constants.OVERWRITE_BACKUP else put_older(w, disk)
            w.start(ident, flags=flags, overwriteMode=mode, checkpointSeconds=every)
            for at in sorted(chance.randrange(size) for _ in range(2)):
                reached(w, ident, at)
                if chance.random() < 0.7:
                    disk.commit()
                cut(w, disk, ident)
                if whole:
                    assert torn(w) == set()
                w.start_receiver()
            assert w.finish(ident)["status"] == "complete", w.finished[ident]
            assert w.receiver is not None
            w.receiver.kill()
            disk.cut_power()  # once more: complete means on storage
            disk.back_after_cut()
            assert contents(w.root / "in") == contents(w.source) | older
            disk.clear()
            w.start_receiver()


@on_own_disks
def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path) -> None:
    cuts(tmp_path, 4, PLAIN)


@on_own_disks
def test_what_was_acknowledged_of_files_that_are_written_directly_survives(tmp_path: Path) -> None:
    """Around the page cache, but for their ends."""
    cuts(tmp_path, 3, PLAIN, large=LEAST_SIZE + 3 * MIB + 7)


@on_own_disks
def test_strict_files_are_whole_wherever_they_have_a_name_after_a_power_cut(tmp_path: Path) -> None:
    cuts(tmp_path, 4, STRICT, whole=True)


@on_own_disks
def test_a_file_torn_by_a_power_cut_is_not_taken_for_a_newer_one(tmp_path: Path) -> None:
    """What a cut left under a final name has the source's time already."""
    cuts(tmp_path, 3, NEWER)


@on_own_disks
def test_a_file_torn_by_a_power_cut_is_not_taken_for_somebody_elses(tmp_path: Path) -> None:
    """With an overwrite mode that keeps what is there: nothing is left beside it, either."""
    cuts(tmp_path, 3, PLAIN, constants.OVERWRITE_NEVER)


@on_own_disks
def test_a_file_torn_by_a_power_cut_takes_no_backup_s_place(tmp_path: Path) -> None:
    """What was there before is in the backup, whatever happened between."""
    cuts(tmp_path, 3, PLAIN, constants.OVERWRITE_BACKUP)
