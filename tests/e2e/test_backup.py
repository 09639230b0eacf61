"""A copy of the state that is taken while everything moves is one from which an agent goes on."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents import World
from servers import eventually


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path)
    yield found
    if found.agent is not None and found.agent.poll() is None:
        found.stop()


def test_backups_taken_at_any_moment_restore_to_an_agent_that_goes_on(world: World) -> None:
    """While files arrive, change and go: each copy is sound, and from each of them all comes in sync."""
    chance = random.Random(3)
    world.write(world.mapping(more="prune: true\ndeletions: {maxCount: 1000, maxPercent: 100%}"))
    world.start()
    backups = []
    for turn in range(4):
        for number in range(60):
            (world.source / f"f{number:03}").write_text(f"{turn} {number} " * chance.randrange(1, 2000))
        if turn == 2:
            for number in range(0, 60, 3):
                (world.source / f"f{number:03}").unlink()
        target = world.directory / f"backup{turn}"
        answer = world.call("backup", str(target))
        assert answer.returncode == 0, answer.stderr
        backups.append(target)
    wanted = {file.name: file.read_bytes() for file in world.source.iterdir()}
    world.in_sync()
    assert world.stop() == 0
    for target in backups:
        assert not list(target.rglob("*-wal")) and not (target / "received").exists()
        for database in target.rglob("*.db"):
            assert sqlite3.connect(database).execute("PRAGMA integrity_check").fetchone() == ("ok",)
        received = world.directory / "kept"
        shutil.move(world.received, received)
        shutil.rmtree(world.state)
        shutil.copytree(target, world.state)
        shutil.move(received, world.received)
        done = world.once()
        assert done.returncode == 0, done.stdout + done.stderr
        there = {file.name: file.read_bytes() for file in (world.received / "paris").iterdir()}
        assert there == wanted
        assert world.call("plan", str(world.specs), "--exit-code").returncode == 0


def test_a_backup_is_whole_or_not_there(world: World) -> None:
    """What is in the way stays, and what is no state is not copied."""
    answer = world.call("backup", str(world.directory / "copy"))
    assert answer.returncode != 0
    assert "not the state directory of an agent" in answer.stderr
    world.write(world.mapping())
    world.start()
    eventually((world.state / "agent.db").exists, what="the state")
    (world.directory / "copy").mkdir()
    answer = world.call("backup", str(world.directory / "copy"))
    assert answer.returncode != 0
    assert "is there already" in answer.stderr
    assert list((world.directory / "copy").iterdir()) == []
    assert world.call("backup", str(world.directory / "second")).returncode == 0
    assert (world.directory / "second").stat().st_mode & 0o777 == 0o700
    assert not list(world.directory.glob("*.unfinished"))
