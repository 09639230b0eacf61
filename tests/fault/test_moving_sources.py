"""Sources and destinations that change under a transfer: what can be sent is sent, what cannot is named, and
nothing torn is ever published."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from data_world import World, contents, wait_for, world
from disks import Disk, on_own_disks
from rounds import limit, rounds

pytestmark = [pytest.mark.fault, limit(300)]
MIB = 1 << 20


@pytest.fixture
def w(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path, rate=200_000) as made:
        yield made


class Versions:
    """Source files, and every content that each of them ever had as a whole."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self._chance = chance
        self.contents: dict[str, set[bytes]] = {}
        self.paths = [folder / f"f{number}" for number in range(12)]
        for path in self.paths:
            content = self._content()
            path.write_bytes(content)
            self.contents[path.name] = {content}

    def _content(self) -> bytes:
        return self._chance.randbytes(self._chance.choice([100, 20_000, 700_000, 2 * MIB]))

    def change(self) -> None:
        """Truncated, replaced, appended to or deleted: each in one step of the system."""
        path = self._chance.choice(self.paths)
        before = path.read_bytes() if path.exists() else b""
        how = self._chance.choice(["truncate", "replace", "append", "delete"])
        if how == "delete":
            path.unlink(missing_ok=True)
            return
        if how == "truncate":
            after = before[: self._chance.randrange(len(before) + 1)]
        else:
            after = (before if how == "append" else b"") + self._content()
        self.contents[path.name].add(after)
        if how == "truncate" and before:
            os.truncate(path, len(after))
        elif how == "append" and before:
            with path.open("ab", buffering=0) as file:
                file.write(after[len(before) :])
        else:
            new = path.with_name("new")
            new.write_bytes(after)
            new.rename(path)


def test_sources_that_change_while_they_are_read_arrive_in_one_of_their_states(w: World) -> None:
    for number, chance in enumerate(rounds(6), 1):
        versions = Versions(w.source, chance)
        torn: list[str] = []
        over = threading.Event()

        def watch(
            place: Path = w.root / f"in{number}",
            versions: Versions = versions,
            torn: list[str] = torn,
            over: threading.Event = over,
        ) -> None:
            while not over.is_set():
                for path in place.glob("*"):
                    if path.read_bytes() not in versions.contents[path.name]:
                        torn.append(path.name)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            ident, entries = str(number), w.tree()
            w.start(ident, entries, destinationPath=f"/in{number}", checkpointSeconds=0.2)
            while ident not in w.finished:
                versions.change()
                over.wait(chance.uniform(0, 0.05))
        finally:
            over.set()
            watcher.join()
        assert torn == []
        for seq, text in w.errors.get(ident, {}).items():
            assert os.fsdecode(entries[seq][1]) in text, "the file is named"
        again = f"{100 + number}"
        w.start(again, destinationPath=f"/in{number}")
        assert w.finish(again)["status"] == "complete"
        there = contents(w.root / f"in{number}")
        assert all(there[path] == what for path, what in contents(w.source).items())
        shutil.rmtree(w.source)
        w.source.mkdir()
        assert not (w.root / ".lanesync").exists()


def test_a_destination_that_is_removed_in_mid_transfer_is_made_again(w: World) -> None:
    """Directories that vanish under the receiver are made anew; in the end a second pass has everything."""
    for number, chance in enumerate(rounds(4), 1):
        for name in range(300):
            place = w.source / f"d{name % 7}"
            place.mkdir(exist_ok=True)
            (place / f"f{name}").write_bytes(chance.randbytes(chance.randrange(40_000)))
        ident = str(number)
        w.start(ident, checkpointSeconds=0.2)
        for at in sorted(chance.randrange(4 * MIB) for _ in range(5)):
            wait_for(
                lambda ident=ident, at=at: w.bytes_sent.get(ident, 0) > at or ident in w.finished, "bytes"
            )
            shutil.rmtree(w.root / "in", ignore_errors=True)
        assert w.finish(ident)["status"] == "complete", w.finished
        assert all(contents(w.source)[path] == what for path, what in contents(w.root / "in").items())
        w.start(f"{100 + number}")
        assert w.finish(f"{100 + number}")["status"] == "complete"
        assert contents(w.root / "in") == contents(w.source)
        assert not (w.root / ".lanesync").exists()


@on_own_disks
def test_storage_that_becomes_read_only_loses_nothing_and_goes_on(tmp_path: Path) -> None:
    """As a file system does after an error of its disk; not even root writes there."""
    (chance,) = rounds(1)
    disk = Disk(tmp_path / "image", tmp_path / "received", 64)
    with world(tmp_path, rate=100_000) as w:
        for number in range(6):
            (w.source / f"f{number}").write_bytes(chance.randbytes(2 * MIB))
        w.start("1", checkpointSeconds=0.2)
        wait_for(lambda: w.bytes_sent.get("1", 0) > 3 * MIB, "bytes")
        subprocess.run(["mount", "-o", "remount,ro,force", disk.place], check=False)
        subprocess.run(["mount", "-o", "remount,rw", disk.place], check=True)
        ended = w.finish("1")
        if ended["status"] != "complete":
            w.start("2")
            assert w.finish("2")["status"] == "complete"
        assert contents(w.root / "in") == contents(w.source)
