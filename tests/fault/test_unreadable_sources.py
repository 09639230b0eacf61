"""The disk of a source cannot be read in places."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from data_world import contents, world
from disks import Disk, on_own_disks
from rounds import limit, rounds

pytestmark = [pytest.mark.fault, limit(120)]


def is_readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("size", [20_000, 3 << 20], ids=["small", "large"])
@on_own_disks
def test_a_file_that_cannot_be_read_fails_alone_and_is_named(tmp_path: Path, size: int) -> None:
    """Among small files that travel with it, and in the middle of a large one. When it can be read again, it
    is sent like any other."""
    (chance,) = rounds(1)
    disk = Disk(tmp_path / "image", tmp_path / "source", 32)
    for number in range(40):
        (disk.place / f"f{number}").write_bytes(chance.randbytes(chance.randrange(1, 40_000)))
    disk.sync()
    bad = disk.place / "bad"
    bad.write_bytes(chance.randbytes(size))
    back = disk.lose(bad)
    files = [path for path in disk.place.iterdir() if path.is_file()]
    unreadable = {path for path in files if not is_readable(path)}
    assert bad in unreadable and len(unreadable) < len(files) // 2
    with world(tmp_path) as w:
        entries = [(os.fsencode(f"/{p.name}"), os.fsencode(p), 0, p.stat().st_size, False) for p in files]
        w.start("1", entries, checkpointSeconds=0.2)
        w.finish("1")
        told = {os.fsdecode(entries[seq][1]): text for seq, text in w.errors["1"].items()}
        assert set(told) == {str(path) for path in unreadable}
        assert all(path in text and "Input/output error" in text for path, text in told.items()), told
        arrived = {path.name for path in (w.root / "in").iterdir()}
        assert arrived == {path.name for path in files if path not in unreadable}
        back()
        w.start("2", entries)
        assert w.finish("2")["status"] == "complete", w.finished
        assert {p.name: p.read_bytes() for p in files} == {
            p.name: p.read_bytes() for p in (w.root / "in").iterdir()
        }
        assert contents(w.root).keys() == {b"/in", *(b"/in/" + os.fsencode(p.name) for p in files)}
