"""A consumer that believes the watcher's hints ends up with the truth."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import threading
import time
from pathlib import Path

import pytest

from agent.model.change import FileKind, FileStat
from agent.model.spec import Trigger
from agent.source.look import scan_paths
from agent.source.scan import scan_tree
from agent.source.watch import Dirty, Watcher


class Mirror:
    """A consumer that keeps its own picture of the tree up to date by the hints alone."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.lock = threading.Lock()
        self.seen: dict[str, FileStat] = {}

    def __call__(self, root: str, dirty: Dirty) -> None:
        with self.lock:
            if dirty.whole:
                self.scan("")
            for subtree in dirty.subtrees:
                self.scan(subtree)
            for found in scan_paths(self.root, dirty.paths):
                if found.is_directory:
                    self.scan(found.path)
                elif found.stat is None:
                    self.drop(found.path)
                else:
                    self.put(found.path, found.stat)

    def scan(self, start: str) -> None:
        self.drop(start)
        if not os.path.isdir(os.path.join(self.root, start)):
            return
        for found in scan_paths(self.root, [start] if start else []):
            if found.stat is not None:
                self.put(found.path, found.stat)
        for listing in scan_tree(self.root, start=start):
            for name, stat in listing.entries.items():
                self.put(os.path.join(listing.directory, name), stat)

    def put(self, path: str, stat: FileStat) -> None:
        parent = path.rpartition("/")[0]
        while parent:  # what is above cannot be empty any more
            self.seen.pop(parent, None)
            parent = parent.rpartition("/")[0]
        self.seen[path] = stat

    def drop(self, path: str) -> None:
        below = path + "/" if path else ""
        self.seen = {p: s for p, s in self.seen.items() if p != path and not p.startswith(below)}

    def files(self) -> dict[str, FileStat]:
        with self.lock:
            return {p: s for p, s in self.seen.items() if s.kind is FileKind.FILE}


def disturb(root: Path, outside: Path, chance: random.Random) -> None:
    """One random change of a random place; impossible ones are no change."""
    folders = [root, *(p for p in root.rglob("*") if p.is_dir())]
    folder, other = chance.choice(folders), chance.choice(folders)
    target = folder / chance.choice("abcd")
    spare = outside / str(chance.random())
    change = chance.choice(["write", "write", "mkdir", "remove", "move", "out", "in", "tree"])
    with contextlib.suppress(OSError, shutil.Error):
        if change == "write":
            target.write_text("x" * chance.randrange(50))
        elif change == "mkdir":
            (target / "n").mkdir(parents=True)
        elif change == "remove":
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        elif change == "move":
            target.rename(other / chance.choice("abcd"))
        elif change == "out":
            target.rename(spare)
        elif change == "in":
            chance.choice([*outside.iterdir(), target]).rename(target)
        else:
            (spare / "deep").mkdir(parents=True)
            (spare / "deep" / "f").write_text("x")
            shutil.copytree(spare, target)


@pytest.mark.parametrize("seed", range(6))
def test_hints_alone_keep_a_picture_true(tmp_path: Path, seed: int) -> None:
    """After any storm of changes, a consumer that looked only where it was told sees what a scan sees."""
    root, outside = tmp_path / "source", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    mirror = Mirror(root)
    watcher = Watcher()
    try:
        watcher.subscribe(str(root), mirror, trigger=Trigger(settle=0.05))
        chance = random.Random(seed)
        for _ in range(250):
            disturb(root, outside, chance)

        def truth() -> dict[str, FileStat]:
            return {
                os.path.join(listing.directory, name): stat
                for listing in scan_tree(str(root))
                for name, stat in listing.entries.items()
                if stat.kind is FileKind.FILE
            }

        deadline = time.monotonic() + 60
        while mirror.files() != truth():
            assert time.monotonic() < deadline, set(mirror.files().items()) ^ set(truth().items())
            time.sleep(0.02)
    finally:
        watcher.stop()
